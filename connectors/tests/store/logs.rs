//! Rows of the store's logs beside outcomes, for tests: one in each log by its number, no two alike.

use std::collections::BTreeMap;

use connectors::store::{AlertChange, Store, WrittenWindow};
use records::{
    Alert, ExperimentReport, Lane, MicroUsd, Notice, Operation, Tier, UtcMicros, WindowKey, WindowKind, WindowRow,
};
use serde_json::json;

use crate::make::START;

const MINUTE_MS: u64 = 60_000;

/// Operations that are noted of themselves.
const OPERATIONS: [Operation; 2] = [Operation::Process, Operation::Replay];

/// Odd numbers are a day later.
pub(crate) fn at(number: u64) -> UtcMicros {
    START.plus_ms(number * MINUTE_MS + number % 2 * 86_400_000)
}

/// A window with `number + version` requests.
pub(crate) fn window(number: u64, version: u32) -> WrittenWindow {
    let start = at(number);
    let requests = number + u64::from(version);
    let dead_lettered = number.min(number % 3);
    let some = |ms: u64| (!number.is_multiple_of(5)).then_some(ms);
    let row = WindowRow {
        kind: WindowKind::Arrival,
        start,
        end: start.plus_ms(MINUTE_MS),
        width_s: 60,
        key: WindowKey {
            experiment: number.is_multiple_of(3).then(|| "prompts".into()),
            arm: Some(["control", "short"][number as usize % 2].into()),
            model: (!number.is_multiple_of(4)).then(|| "qwen2-audio".into()),
            lane: Lane::ALL[number as usize % 2],
            tier: Some(Tier::Pro),
            region: number.is_multiple_of(2).then(|| "eu-west".into()),
        },
        version,
        requests,
        completed: requests - dead_lettered,
        dead_lettered,
        errors: BTreeMap::from([(records::ErrorType::Timeout, dead_lettered)]),
        fallbacks: number / 2,
        fallback_reasons: BTreeMap::from([(records::FallbackReason::Unsure, number / 2)]),
        cache_hits: 0,
        below_threshold: number / 3,
        queued_p50_ms: some(number),
        queued_p90_ms: some(number + 1),
        queued_p95_ms: some(number + 2),
        queued_p99_ms: some(number + 3),
        inference_p50_ms: some(number + 4),
        inference_p90_ms: some(number + 5),
        inference_p95_ms: some(number + 6),
        inference_p99_ms: some(number + 7),
        total_p50_ms: some(number + 8),
        total_p90_ms: some(number + 9),
        total_p95_ms: some(number + 10),
        total_p99_ms: some(number + 11),
        confidence_histogram: (0..20).map(|bin| bin * number).collect(),
        confidence_mean: some(1).map(|_| number as f64 / 100.0),
        cost_micro_usd: MicroUsd(number * 7),
        cost_per_request_micro_usd: Some(number as f64 * 7.0 / requests as f64),
    };
    WrittenWindow { row, totals: "[]".to_owned() }
}

/// The beginning of an alert for an even number, and its end for the next one.
pub(crate) fn alert_change(number: u64) -> AlertChange {
    let begun = number - number % 2;
    let (name, is_over) = (format!("alert-{}", number / 2), number % 2 == 1);
    let labels = [("alertname", name.as_str()), ("severity", ["critical", "info"][number as usize / 2 % 2])];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let annotations = BTreeMap::from([("summary".to_owned(), format!("\"{number}\" is too many"))]);
    let ends_at = is_over.then(|| at(number));
    let notice = Notice { labels: labels.into(), annotations, starts_at: at(begun), ends_at };
    let after = Alert { name, phase: notice.phase(), since: at(number), notice: Some(notice) };
    AlertChange { before: is_over.then(|| at(begun)), after }
}

/// A report of one row, with as many uploads as its number says.
pub(crate) fn report(number: u64) -> ExperimentReport {
    let is_known = number > 2;
    let stopped_at = (number % 3 == 2).then(|| at(number));
    ExperimentReport {
        reported_at: at(number),
        complete_until: START.plus_ms(number),
        experiment: "prompt-2".into(),
        arm: format!("arm-{}", number % 3),
        control: "control".into(),
        metric: ["success_rate", "total_ms"][number as usize / 3 % 2].into(),
        is_decisive: (number / 3).is_multiple_of(2),
        arm_units: number / 2,
        control_units: number,
        arm_uploads: number,
        control_uploads: number * 9,
        arm_value: is_known.then_some(0.75),
        control_value: is_known.then_some(0.5),
        difference: is_known.then_some(0.25),
        low: is_known.then_some(-1.0 / number as f64),
        high: is_known.then_some(0.25 + 1.0 / number as f64),
        confidence_level: 0.95,
        verdict: if is_known { "undecided" } else { "too_early" }.into(),
        mismatch_p_value: 0.5,
        stopped_at,
        stop_reason: stopped_at.map(|_| "worse in \"cost\"".into()),
    }
}

/// Writes the rows of these numbers into each log.
pub(crate) async fn write_logs(store: &Store, numbers: std::ops::Range<u64>) {
    write_windows(store, &numbers.clone().map(|number| window(number, 1)).collect::<Vec<_>>()).await;
    store.change_alerts(&numbers.clone().map(alert_change).collect::<Vec<_>>(), &[]).await.expect("changed");
    store.add_experiment_report(&numbers.clone().map(report).collect::<Vec<_>>()).await.expect("added");
    for number in numbers {
        let (operation, target) = (OPERATIONS[number as usize % 2], format!("run-{number}"));
        let actor = store.acting_as(&format!("user-{}@desk", number % 3));
        actor.note_operation(operation, &target, &json!({ "uploads": number }), at(number)).await.expect("noted");
    }
}

/// Writes rows of windows.
pub(crate) async fn write_windows(store: &Store, windows: &[WrittenWindow]) {
    let from = store.report_progress(60).await.expect("read");
    let to = connectors::store::Progress { applied_seq: from.applied_seq + 1, ..from };
    store.write_windows(60, windows, from, to).await.expect("written");
}
