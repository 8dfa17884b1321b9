//! Asks the primary model.

use std::sync::Arc;

use records::{Annotation, Attempt, Branch, Fault, Lane, Upload, UtcMicros};
use timely::dataflow::StreamVec;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use crate::bridge::{Link, bridge};
use crate::{Arm, Flight};

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The upload.
    pub upload: Arc<Upload>,
    /// Its priority.
    pub lane: Lane,
    /// When its answer is due.
    pub deadline: UtcMicros,
    /// Its arm: the prompt.
    pub arm: Arc<Arm>,
    /// 1 for the first round.
    pub round: u32,
}

/// What came back, and when.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whose answer it is: the model's that was asked, or the cache's, where none had to be.
    pub branch: Branch,
    /// The model that was asked.
    pub model: String,
    /// When it was asked.
    pub asked_at: UtcMicros,
    /// When it answered.
    pub answered_at: UtcMicros,
    /// What it said.
    pub result: Result<Annotation, Fault>,
}

/// Asks the primary model.
pub trait Infer {
    /// Each upload with the primary's answer and the attempt it was, or with the cache's answer.
    fn infer(self, model: Link<Question, Answer>) -> Self;
}

impl<T: Timestamp + TotalOrder> Infer for StreamVec<'_, T, Box<Flight>> {
    fn infer(self, model: Link<Question, Answer>) -> Self {
        bridge(
            self,
            "Infer",
            model,
            |_, flight| (question(&flight), flight),
            |mut flight: Box<Flight>, answer| {
                match (answer.branch, record(&mut flight, answer)) {
                    (Branch::Cache, Ok(annotation)) => flight.cached = Some(annotation),
                    (_, said) => flight.primary = Some(said),
                }
                flight
            },
        )
    }
}

pub(crate) fn question(flight: &Flight) -> Question {
    Question {
        upload: Arc::clone(&flight.upload),
        lane: flight.lane,
        deadline: flight.deadline,
        arm: Arc::clone(&flight.arm),
        round: flight.round,
    }
}

/// Notes the call among the upload's attempts and adds up its time. The cache is no model, and costs none.
pub(crate) fn record(flight: &mut Flight, answer: Answer) -> Result<Annotation, Fault> {
    let (inference_ms, cost) = match &answer.result {
        Ok(annotation) => (annotation.inference_ms, annotation.cost),
        Err(fault) => (0, fault.cost),
    };
    let waited_ms = answer.answered_at.ms_since(flight.arrived_at).saturating_sub(inference_ms);
    flight.queued_ms.get_or_insert(waited_ms);
    if answer.branch == Branch::Cache {
        return answer.result;
    }
    flight.inference_ms += inference_ms;
    flight.attempts.push(Attempt {
        number: flight.round,
        branch: answer.branch,
        model: answer.model,
        started_at: answer.asked_at,
        duration_ms: answer.answered_at.ms_since(answer.asked_at),
        cost,
        fault: answer.result.as_ref().err().cloned(),
    });
    answer.result
}
