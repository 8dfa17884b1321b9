//! Decides how a round ends: pure, so that every case can be read and tested in one place.

use std::sync::Arc;

use records::{
    Annotation, Branch, ErrorType, FallbackReason, Fault, FaultClass, InvalidEvent, MicroUsd, Outcome, Status,
    UtcMicros,
};

use crate::split::is_hopeless;
use crate::{Ending, Flight, Ticket};

/// How a round ended.
pub enum Conclusion {
    /// In an outcome.
    Ended(Box<Ending>),
    /// In nothing: to be tried again.
    Again(Box<Flight>),
}

/// The best answer of the round becomes the outcome: the cache's, else the fallback's, else the primary's (marked where it
/// was below the threshold). Without an answer the round has failed: dead letter where no repetition can help or `max_attempts` rounds
/// have failed, else again.
pub fn conclude(mut flight: Box<Flight>, max_attempts: u32, now: UtcMicros) -> Conclusion {
    if let Some(annotation) = flight.cached.take() {
        // Of this round, no model was asked.
        flight.round -= 1;
        return Conclusion::Ended(completed(*flight, annotation, Branch::Cache, false, now));
    }
    let fallback_reason = flight.fallback.as_ref().map(|_| match &flight.primary {
        Some(Err(fault)) => FallbackReason::Failed(fault.error_type),
        Some(Ok(_)) | None => FallbackReason::Unsure,
    });
    let last_fault = match (&flight.primary, &flight.fallback) {
        (_, Some(Err(fault))) | (Some(Err(fault)), None) => Some(fault.clone()),
        _ => None,
    };
    let threshold = flight.arm.threshold;
    let answer = match (flight.primary.take(), flight.fallback.take()) {
        (_, Some(Ok(annotation))) => Some((annotation, Branch::Fallback, false)),
        (Some(Ok(annotation)), _) => {
            let below = annotation.confidence.is_none_or(|sure| sure.get() < threshold);
            Some((annotation, Branch::Primary, below))
        }
        _ => None,
    };
    if let Some((annotation, branch, below_threshold)) = answer {
        let mut ending = completed(*flight, annotation, branch, below_threshold, now);
        ending.outcome.fallback_reason = fallback_reason;
        return Conclusion::Ended(ending);
    }
    let fault = last_fault.expect("a round without an answer has a fault");
    let hopeless = is_hopeless(&fault) || flight.attempts.iter().filter(|a| a.number == flight.round).all(is_permanent);
    if hopeless || flight.round >= max_attempts {
        let mut ending = dead_lettered(*flight, &fault, now);
        ending.outcome.fallback_reason = fallback_reason;
        Conclusion::Ended(ending)
    } else {
        flight.round += 1;
        Conclusion::Again(flight)
    }
}

fn is_permanent(attempt: &records::Attempt) -> bool {
    attempt.fault.as_ref().is_some_and(|fault| fault.class == FaultClass::Permanent)
}

fn completed(flight: Flight, answer: Annotation, branch: Branch, below_threshold: bool, now: UtcMicros) -> Box<Ending> {
    let outcome = Outcome {
        status: Status::Completed,
        branch: Some(branch),
        model: Some(answer.model),
        confidence: answer.confidence,
        below_threshold,
        metadata: answer.metadata,
        field_confidence: answer.field_confidence,
        ..blank(&flight, None, now)
    };
    ending(flight, outcome)
}

fn dead_lettered(flight: Flight, fault: &Fault, now: UtcMicros) -> Box<Ending> {
    let outcome = blank(&flight, Some(fault), now);
    ending(flight, outcome)
}

fn ending(flight: Flight, outcome: Outcome) -> Box<Ending> {
    Box::new(Ending { outcome, attempts: flight.attempts, payload: flight.payload, ticket: flight.ticket })
}

/// The outcome of an upload that has no answer.
fn blank(flight: &Flight, error: Option<&Fault>, now: UtcMicros) -> Outcome {
    Outcome {
        upload_id: flight.upload.upload_id.clone(),
        version: flight.version,
        customer_id: Some(flight.upload.customer_id.clone()),
        source: Some(flight.upload.audio_uri.clone()),
        lane: flight.lane,
        tier: Some(flight.upload.tier),
        region: flight.upload.region.clone(),
        status: Status::DeadLettered,
        branch: None,
        fallback_reason: None,
        model: None,
        experiment: flight.arm.experiment.clone(),
        arm: Some(flight.arm.name.clone()),
        confidence: None,
        below_threshold: false,
        metadata: Default::default(),
        field_confidence: Default::default(),
        attempts: flight.round,
        error: error.map(|fault| fault.message.clone()),
        error_type: error.map(|fault| fault.error_type),
        queued_ms: flight.queued_ms.unwrap_or(0),
        inference_ms: flight.inference_ms,
        total_ms: now.ms_since(flight.arrived_at),
        cost_micro_usd: flight.attempts.iter().fold(MicroUsd(0), |sum, attempt| sum + attempt.cost),
        arrived_at: flight.arrived_at,
        completed_at: now,
        training_consent: flight.upload.training_consent,
    }
}

/// The ending of an event that is no upload.
pub(crate) fn rejected(
    invalid: &InvalidEvent,
    payload: Arc<[u8]>,
    ticket: Ticket,
    arrived_at: UtcMicros,
    version: u32,
    now: UtcMicros,
) -> Box<Ending> {
    let outcome = Outcome {
        upload_id: invalid.upload_id.clone(),
        version,
        customer_id: None,
        source: None,
        lane: ticket.lane,
        tier: None,
        region: None,
        status: Status::DeadLettered,
        branch: None,
        fallback_reason: None,
        model: None,
        experiment: None,
        arm: None,
        confidence: None,
        below_threshold: false,
        metadata: Default::default(),
        field_confidence: Default::default(),
        attempts: 0,
        error: Some(invalid.to_string()),
        error_type: Some(ErrorType::InvalidEvent),
        queued_ms: 0,
        inference_ms: 0,
        total_ms: now.ms_since(arrived_at),
        cost_micro_usd: MicroUsd(0),
        arrived_at,
        completed_at: now,
        training_consent: false,
    };
    Box::new(Ending { outcome, attempts: Vec::new(), payload, ticket })
}

#[cfg(test)]
mod tests {
    use records::{Attempt, Confidence, Lane, Upload};

    use super::*;
    use crate::Arm;

    type Said = Result<Annotation, Fault>;

    fn answer(model: &str, confidence: Option<f64>) -> Said {
        Ok(Annotation {
            model: model.to_owned(),
            metadata: Default::default(),
            confidence: confidence.map(|sure| Confidence::try_from(sure).expect("in range")),
            field_confidence: Default::default(),
            inference_ms: 1,
            cost: MicroUsd(1),
        })
    }

    fn retryable() -> Said {
        Err(Fault::retryable(ErrorType::Unavailable, "down"))
    }

    fn permanent() -> Said {
        Err(Fault::permanent(ErrorType::Model, "NaN"))
    }

    fn unreadable() -> Said {
        Err(Fault::permanent(ErrorType::AudioUndecodable, "no sound"))
    }

    /// An upload in its round, with the calls that led there.
    fn flight(round: u32, primary: Said, fallback: Option<Said>) -> Flight {
        let event = br#"{"upload_id":"u","customer_id":"c","tier":"pro","audio_uri":"/a"}"#;
        let attempt = |branch, said: &Said| Attempt {
            number: round,
            branch,
            model: "m".to_owned(),
            started_at: UtcMicros(0),
            duration_ms: 1,
            cost: MicroUsd(3),
            fault: said.as_ref().err().cloned(),
        };
        let mut attempts = vec![attempt(Branch::Primary, &primary)];
        attempts.extend(fallback.as_ref().map(|said| attempt(Branch::Fallback, said)));
        Flight {
            upload: Arc::new(Upload::from_event(event).expect("valid")),
            payload: event.as_slice().into(),
            ticket: Ticket { delivery: 1, lane: Lane::Low, permit: Arc::new(()) },
            arrived_at: UtcMicros(0),
            delivered_at: UtcMicros(0),
            version: 1,
            lane: Lane::Low,
            deadline: UtcMicros(1),
            arm: Arc::new(Arm { threshold: 0.8, ..Arm::default() }),
            round,
            attempts,
            inference_ms: 1,
            queued_ms: Some(1),
            cached: None,
            primary: Some(primary),
            fallback,
        }
    }

    fn outcome(round: u32, primary: Said, fallback: Option<Said>) -> Option<Outcome> {
        match conclude(Box::new(flight(round, primary, fallback)), 3, UtcMicros(5_000)) {
            Conclusion::Ended(ending) => Some(ending.outcome),
            Conclusion::Again(flight) => {
                assert_eq!(flight.round, round + 1);
                assert!(flight.primary.is_none() && flight.fallback.is_none(), "the next round begins anew");
                None
            }
        }
    }

    #[test]
    fn the_best_answer_becomes_the_outcome_and_doubt_is_marked() {
        for (primary, fallback, branch, below) in [
            (answer("p", Some(0.8)), None, Branch::Primary, false),
            (answer("p", Some(0.79)), None, Branch::Primary, true),
            (answer("p", None), None, Branch::Primary, true),
            (answer("p", Some(0.5)), Some(answer("f", None)), Branch::Fallback, false),
            (answer("p", Some(0.5)), Some(retryable()), Branch::Primary, true),
            (answer("p", Some(0.5)), Some(permanent()), Branch::Primary, true),
            (retryable(), Some(answer("f", None)), Branch::Fallback, false),
            (permanent(), Some(answer("f", None)), Branch::Fallback, false),
        ] {
            let outcome = outcome(1, primary, fallback).expect("ended");
            assert_eq!((outcome.status, outcome.branch), (Status::Completed, Some(branch)));
            assert_eq!((outcome.below_threshold, outcome.error), (below, None));
        }
    }

    #[test]
    fn why_the_paid_model_was_asked_is_told_whether_or_not_it_answered() {
        let (unsure, failed) = (FallbackReason::Unsure, FallbackReason::Failed(ErrorType::Model));
        for (primary, fallback, reason) in [
            (answer("p", Some(0.5)), Some(answer("f", None)), Some(unsure)),
            (answer("p", Some(0.5)), Some(retryable()), Some(unsure)),
            (permanent(), Some(answer("f", None)), Some(failed)),
            (permanent(), Some(permanent()), Some(failed)),
            (answer("p", Some(0.5)), None, None),
            (permanent(), None, None),
        ] {
            assert_eq!(outcome(1, primary, fallback).expect("ended").fallback_reason, reason);
        }
    }

    #[test]
    fn a_round_without_an_answer_is_repeated_until_the_last() {
        for (primary, fallback) in [
            (retryable(), None),
            (retryable(), Some(retryable())),
            (permanent(), Some(retryable())),
            (retryable(), Some(permanent())),
        ] {
            assert!(outcome(1, primary.clone(), fallback.clone()).is_none());
            assert!(outcome(2, primary.clone(), fallback.clone()).is_none());
            let ended = outcome(3, primary, fallback).expect("ended");
            assert_eq!((ended.status, ended.attempts, ended.branch), (Status::DeadLettered, 3, None));
            assert!(ended.error.is_some() && ended.error_type.is_some());
        }
    }

    #[test]
    fn what_no_repetition_mends_is_dead_lettered_at_once() {
        for (primary, fallback) in [(unreadable(), None), (permanent(), None), (permanent(), Some(permanent()))] {
            let ended = outcome(1, primary, fallback).expect("ended");
            assert_eq!((ended.status, ended.attempts), (Status::DeadLettered, 1));
        }
    }

    #[test]
    fn an_answer_from_the_cache_is_an_outcome_however_sure_its_model_was_and_is_no_attempt() {
        let cached = answer("f", None).ok();
        let flight = Flight { cached, primary: None, attempts: Vec::new(), ..flight(1, retryable(), None) };
        let Conclusion::Ended(ending) = conclude(Box::new(flight), 3, UtcMicros(5_000)) else {
            panic!("it has an answer")
        };
        let outcome = ending.outcome;
        assert_eq!((outcome.status, outcome.branch), (Status::Completed, Some(Branch::Cache)));
        assert_eq!((outcome.model.as_deref(), outcome.below_threshold), (Some("f"), false));
        assert_eq!((outcome.attempts, outcome.cost_micro_usd, ending.attempts.len()), (0, MicroUsd(0), 0));
    }

    #[test]
    fn an_outcome_costs_what_all_its_calls_cost() {
        let outcome = outcome(1, retryable(), Some(answer("f", None))).expect("ended");
        assert_eq!((outcome.cost_micro_usd, outcome.total_ms), (MicroUsd(6), 5));
    }
}
