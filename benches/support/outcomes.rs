//! Outcomes for benchmarks, the same from the same seed.

use records::{
    Branch, Confidence, ErrorType, FallbackReason, Lane, MicroUsd, Outcome, Status, Tier, UploadId, UtcMicros,
};

/// From one arrival to the next: 1,000 uploads a second, of which an hour is 60 windows.
const GAP_US: u64 = 1_000;

/// The outcome of a number, with latencies, answers and faults as dice fall.
pub(crate) fn outcome(number: u64, dice: &mut fastrand::Rng) -> Outcome {
    let arrived_at = UtcMicros(1_790_000_000_000_000 + number * GAP_US);
    let lane = if dice.u8(0..10) == 0 { Lane::High } else { Lane::Low };
    let is_dead = dice.u8(0..100) == 0;
    let is_paid = !is_dead && dice.u8(0..10) == 0;
    // Latencies of four decades, most of them short.
    let inference_ms = (50.0 * (1.0 - dice.f64()).powf(-0.7)).min(60_000.0) as u64;
    let queued_ms = (4.0 * (1.0 - dice.f64()).powf(-1.1)).min(500_000.0) as u64;
    let confidence = Confidence::try_from(1.0 - dice.f64().powi(3)).expect("in [0, 1]");
    let genre = ["jazz", "blues", "rock", "techno", "waltz"][dice.usize(0..5)];
    let metadata = serde_json::json!({
        "genre": genre, "tempo_bpm": dice.u8(60..200), "key": "A minor", "instruments": ["piano", "double bass", "drums"],
    });
    Outcome {
        upload_id: UploadId::try_from(format!("{:016x}-{number:x}", dice.u64(..))).expect("in the alphabet"),
        version: 1,
        customer_id: Some(format!("customer-{}", dice.u16(0..2_000))),
        source: Some(format!("gs://uploads/2026/09/21/{number:09}.flac")),
        lane,
        tier: Some(if lane == Lane::High { Tier::Enterprise } else { [Tier::Pro, Tier::Free][dice.usize(0..2)] }),
        region: Some(["eu-west", "us-east"][dice.usize(0..2)].to_owned()),
        status: if is_dead { Status::DeadLettered } else { Status::Completed },
        branch: (!is_dead).then_some(if is_paid { Branch::Fallback } else { Branch::Primary }),
        fallback_reason: is_paid.then_some(FallbackReason::Unsure),
        model: (!is_dead).then(|| if is_paid { "gpt-audio-1.5" } else { "nano" }.to_owned()),
        experiment: None,
        arm: Some(if dice.u8(0..10) == 0 { "experimental" } else { "primary" }.to_owned()),
        confidence: (!is_dead).then_some(confidence),
        below_threshold: !is_dead && confidence.get() < 0.8,
        metadata: if is_dead { Default::default() } else { metadata.as_object().cloned().expect("an object") },
        field_confidence: ["genre", "instruments", "key", "tempo_bpm"]
            .map(|field| (field.to_owned(), confidence))
            .into(),
        attempts: 1,
        error: is_dead.then(|| "no answer in time".to_owned()),
        error_type: is_dead.then_some(ErrorType::Timeout),
        queued_ms,
        inference_ms,
        total_ms: queued_ms + inference_ms + 3,
        cost_micro_usd: MicroUsd(if is_paid { 1_200 + dice.u64(0..800) } else { 0 }),
        arrived_at,
        completed_at: arrived_at.plus_ms(queued_ms + inference_ms + 3),
        training_consent: false,
    }
}
