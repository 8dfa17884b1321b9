//! Uploads, outcomes and attempts for tests.

use std::collections::BTreeMap;

use records::{
    Attempt, Branch, Confidence, ErrorType, FallbackReason, Fault, Lane, MicroUsd, Outcome, Status, Tier, UploadId,
    UtcMicros,
};

/// 2026-09-21T14:13:20Z.
pub(crate) const START: UtcMicros = UtcMicros(1_790_000_000_000_000);

pub(crate) fn id(number: u64) -> UploadId {
    UploadId::try_from(format!("upload-{number}")).expect("in the alphabet")
}

/// An outcome with metadata. The upload's number decides on its values, so that no two are alike.
pub(crate) fn completed(number: u64, version: u32, arrived_at: UtcMicros) -> Outcome {
    let sure = Confidence::try_from(number as f64 / (number as f64 + 3.0)).expect("in [0, 1)");
    let metadata =
        serde_json::json!({ "genre": "jazz \"fusion\"", "tempo_bpm": number, "instruments": ["cello", "ü"] });
    Outcome {
        upload_id: id(number),
        version,
        customer_id: Some(format!("customer-{}", number % 7)),
        source: Some(format!("/audio/{number}.wav")),
        lane: Lane::ALL[number as usize % 2],
        tier: Some(Tier::Pro),
        region: (!number.is_multiple_of(4)).then(|| format!("region-{}", number % 3)),
        status: Status::Completed,
        branch: Some(Branch::Primary),
        fallback_reason: match number % 3 {
            0 => None,
            1 => Some(FallbackReason::Unsure),
            _ => Some(FallbackReason::Failed(ErrorType::Timeout)),
        },
        model: Some("qwen2-audio".into()),
        experiment: number.is_multiple_of(5).then(|| "prompt-2".into()),
        arm: Some("control".into()),
        confidence: Some(sure),
        below_threshold: number.is_multiple_of(2),
        metadata: metadata.as_object().cloned().expect("an object"),
        field_confidence: BTreeMap::from([("genre".into(), Confidence::ZERO)]),
        attempts: 1,
        error: None,
        error_type: None,
        queued_ms: number,
        inference_ms: 40 + number,
        total_ms: 50 + number,
        cost_micro_usd: MicroUsd(number),
        arrived_at,
        completed_at: arrived_at.plus_ms(50 + number),
        training_consent: number.is_multiple_of(3),
    }
}

/// An outcome without metadata.
pub(crate) fn dead_lettered(number: u64, version: u32, arrived_at: UtcMicros) -> Outcome {
    Outcome {
        status: Status::DeadLettered,
        branch: None,
        model: None,
        confidence: None,
        metadata: Default::default(),
        field_confidence: BTreeMap::new(),
        error: Some("no model answered".into()),
        error_type: Some(ErrorType::Timeout),
        ..completed(number, version, arrived_at)
    }
}

/// The attempts of an outcome: as many as it says, all but an answer's own failed.
pub(crate) fn attempts(outcome: &Outcome) -> Vec<Attempt> {
    let answered = outcome.status == Status::Completed;
    let attempt = |number| Attempt {
        number,
        branch: Branch::Primary,
        model: "qwen2-audio".into(),
        started_at: outcome.arrived_at,
        duration_ms: 40,
        cost: outcome.cost_micro_usd,
        fault: (!answered || number < outcome.attempts).then(|| Fault::indeterminate(ErrorType::Timeout, "no answer")),
    };
    (1..=outcome.attempts).map(attempt).collect()
}

/// The event of an upload, as its source delivers it.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = format!("event of {}", id(number)).into_bytes();
    bytes.push(0xff);
    bytes
}
