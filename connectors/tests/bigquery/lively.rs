//! Outcomes in which there is something to find: of many customers, arms and models, doubtful, redriven, dead; and windows,
//! reports, alerts and operations beside them.

use connectors::store::{Store, Write};
use records::{
    Attempt, Branch, Confidence, ErrorType, FallbackReason, Fault, Lane, MicroUsd, Outcome, Status, Tier, UploadId,
    UtcMicros,
};
use serde_json::json;

use crate::logs::{window, write_logs, write_windows};
use crate::make::{START, completed, dead_lettered, id, payload};

/// Uploads of [`commit_lively`].
pub(crate) const UPLOADS: u64 = 400;

const ERRORS: [ErrorType; 3] = [ErrorType::Timeout, ErrorType::AudioUndecodable, ErrorType::Model];

fn of<T: Copy>(dice: &mut fastrand::Rng, items: &[T]) -> T {
    items[dice.usize(..items.len())]
}

/// A call of a model.
fn call(branch: Branch, number: u32, at: UtcMicros, cost: u64, error: Option<ErrorType>) -> Attempt {
    let model = if branch == Branch::Primary { "nano" } else { "gpt-audio" };
    Attempt {
        number,
        branch,
        model: model.into(),
        started_at: at,
        duration_ms: 30 + cost % 11,
        cost: MicroUsd(cost),
        fault: error.map(|error| Fault::retryable(error, format!("no answer: {error}"))),
    }
}

/// An upload's end, by the dice. Its values belong together as the graph's do, as far as queries look.
fn ending(dice: &mut fastrand::Rng, number: u64, version: u32) -> Write {
    let arrived = START.plus_ms(number * 577_000);
    let doubtful = dice.f64() < 0.3;
    let fails = version == 1 && dice.f64() < 0.15;
    let mut calls = Vec::new();
    let primary_error = (fails || dice.f64() < 0.1).then(|| of(dice, &ERRORS));
    calls.push(call(Branch::Primary, 1, arrived.plus_ms(5), 0, primary_error));
    let asks = doubtful || primary_error.is_some();
    if asks {
        let error = fails.then(|| of(dice, &ERRORS));
        calls.push(call(Branch::Fallback, 1, arrived.plus_ms(50), dice.u64(100..9_000), error));
    }
    let base = if fails { dead_lettered } else { completed }(number, version, arrived);
    let branch = if asks { Branch::Fallback } else { Branch::Primary };
    let genre = of(dice, &["jazz", "blues", "rock 'n' roll", "polka", "Ländler"]);
    let metadata = json!({ "genre": genre, "tempo_bpm": dice.u32(60..180), "instruments": ["cello"] });
    let customer = dice.u64(0..17).min(dice.u64(0..17));
    let outcome = Outcome {
        customer_id: Some(format!("customer-{customer}")),
        lane: of(dice, &Lane::ALL),
        tier: Some([Tier::Enterprise, Tier::Pro, Tier::Free][customer as usize % 3]),
        arm: Some(if customer < 5 { "experimental" } else { "primary" }.into()),
        branch: (!fails).then_some(branch),
        fallback_reason: asks.then(|| primary_error.map_or(FallbackReason::Unsure, FallbackReason::Failed)),
        model: (!fails).then(|| if asks { "gpt-audio" } else { "nano" }.into()),
        confidence: (!fails).then(|| Confidence::try_from(dice.f64()).expect("in [0, 1)")),
        below_threshold: !fails && !asks && dice.bool(),
        metadata: if fails { base.metadata.clone() } else { metadata.as_object().cloned().expect("an object") },
        error_type: fails.then(|| of(dice, &ERRORS)),
        queued_ms: dice.u64(0..500),
        inference_ms: dice.u64(20..900),
        total_ms: dice.u64(500..5_000),
        cost_micro_usd: MicroUsd(calls.iter().map(|call| call.cost.0).sum()),
        completed_at: arrived.plus_ms(dice.u64(500..5_000)),
        training_consent: dice.bool(),
        ..base
    };
    (outcome, calls, payload(number).into())
}

/// Commits [`UPLOADS`] uploads, and redrives half of the dead ones, which then end well; writes rows of each other log, and
/// corrects some windows.
pub(crate) async fn commit_lively(store: &Store) {
    let mut dice = fastrand::Rng::with_seed(6);
    let uploads: Vec<(UploadId, Lane, UtcMicros)> = (0..UPLOADS)
        .map(|number| (id(number), Lane::ALL[number as usize % 2], START.plus_ms(number * 577_000)))
        .collect();
    store.admit(&uploads).await.expect("admitted");
    let endings: Vec<Write> = (0..UPLOADS).map(|number| ending(&mut dice, number, 1)).collect();
    store.commit(&endings).await.expect("committed");
    let dead = (0..UPLOADS).filter(|number| endings[*number as usize].0.status == Status::DeadLettered);
    let again: Vec<u64> = dead.step_by(2).collect();
    assert!(again.len() > 10, "{} dead", again.len());
    let ids: Vec<UploadId> = again.iter().map(|number| id(*number)).collect();
    store.redrive(&ids, START).await.expect("redriven");
    let endings: Vec<Write> = again.iter().map(|number| ending(&mut dice, *number, 2)).collect();
    store.commit(&endings).await.expect("committed");
    write_logs(store, 0..41).await;
    write_windows(store, &[4, 9, 30].map(|number| window(number, 2))).await;
}
