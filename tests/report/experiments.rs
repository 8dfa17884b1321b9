//! Reports of experiments that are kept: now and then while one runs, and a last one that nothing can follow.

use connectors::store::{ArmStop, Store, StoredExperiment};
use records::{ExperimentReport, Operation, Outcome, UtcMicros};
use tempfile::TempDir;
use tidemark::experiments::{keep_report, look};

use crate::make::{START, attempts, completed, payload};

const MINUTE_MS: u64 = 60_000;

async fn started(more: &str) -> (Store, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
    let definition = format!(
        r#"{{"name":"e","smallest_difference":0.03,"arms":[{{"name":"control","weight":1}},{{"name":"b","weight":1}}]{more}}}"#
    );
    let (starts_at, ends_at) = (START, Some(START.plus_ms(25 * MINUTE_MS)));
    let experiment =
        StoredExperiment { name: "e".into(), definition, starts_at, ends_at, stopped_at: None, stops: Vec::new() };
    store.start_experiment(&experiment, START).await.expect("started");
    (store, folder)
}

async fn admit(store: &Store, outcome: &Outcome) {
    store.admit(&[(outcome.upload_id.clone(), outcome.lane, outcome.arrived_at)]).await.expect("admitted");
}

async fn commit(store: &Store, outcome: &Outcome) {
    let write = (outcome.clone(), attempts(outcome), payload(0).into());
    assert_eq!(store.commit(&[write]).await.expect("committed"), [true]);
}

/// An upload of an arm, by its number, that arrived so many minutes after the beginning.
fn ended(number: u64, arm: &str, minutes: u64, cost: u64) -> Outcome {
    Outcome {
        customer_id: Some(format!("customer-{number}")),
        experiment: Some("e".into()),
        arm: Some(arm.into()),
        cost_micro_usd: records::MicroUsd(cost),
        ..completed(number, 1, START.plus_ms(minutes * MINUTE_MS))
    }
}

/// The last report's moment, and what it is complete up to, in minutes.
async fn last(store: &Store) -> Option<(u64, u64)> {
    let minutes = |moment: UtcMicros| moment.ms_since(START) / MINUTE_MS;
    let last = store.last_experiment_report("e").await.expect("read");
    last.map(|last| (minutes(last.reported_at), minutes(last.complete_until)))
}

async fn look_at(store: &Store, minutes: u64) {
    look(store, START.plus_ms(minutes * MINUTE_MS)).await.expect("looked");
}

#[tokio::test]
async fn reports_are_kept_every_ten_minutes_and_a_last_one_once_all_has_ended() {
    let (store, _folder) = started("").await;
    look_at(&store, 9).await;
    assert_eq!(last(&store).await, None);
    look_at(&store, 10).await;
    assert_eq!(last(&store).await, Some((10, 10)), "without a guardrail, too");
    look_at(&store, 19).await;
    assert_eq!(last(&store).await, Some((10, 10)));
    let slow = ended(1, "b", 24, 0);
    admit(&store, &slow).await;
    look_at(&store, 24).await;
    assert_eq!(last(&store).await, Some((24, 24)));
    // It is over, and one upload of it is not.
    look_at(&store, 26).await;
    assert_eq!(last(&store).await, Some((24, 24)));
    look_at(&store, 40).await;
    assert_eq!(last(&store).await, Some((40, 24)), "and goes on while it is not complete");
    commit(&store, &slow).await;
    look_at(&store, 41).await;
    assert_eq!(last(&store).await, Some((41, 41)), "the last one, at once");
    let report = store.last_experiment_report("e").await.expect("read").expect("one");
    assert_eq!((report.arm_uploads, report.control_uploads), (1, 0), "with the last upload");
    look_at(&store, 80).await;
    assert_eq!(last(&store).await, Some((41, 41)), "nothing follows");
}

#[tokio::test]
async fn a_report_at_a_stop_is_followed_by_the_last_one() {
    let (store, _folder) = started("").await;
    let stopped = START.plus_ms(3 * MINUTE_MS);
    assert!(store.stop_experiment("e", stopped).await.expect("stopped"));
    let stored = store.experiments().await.expect("read").remove(0);
    keep_report(&store, &stored, stopped).await.expect("kept");
    assert_eq!(last(&store).await, Some((3, 3)));
    look_at(&store, 4).await;
    assert_eq!(last(&store).await, Some((4, 4)), "workers draw uploads for a moment after it");
    look_at(&store, 15).await;
    assert_eq!(last(&store).await, Some((4, 4)));
}

#[tokio::test]
async fn an_arm_that_a_guardrail_stops_is_reported_as_it_was_and_noted_once() {
    let (store, _folder) = started(r#","expected_uploads":200,"guardrails":[{"metric":"cost","limit":0.0}]"#).await;
    for number in 0..400 {
        let is_control = number % 2 == 0;
        let cost = if is_control { 1_000 } else { 900_000 } + number;
        let outcome = ended(number, if is_control { "control" } else { "b" }, 0, cost);
        admit(&store, &outcome).await;
        commit(&store, &outcome).await;
    }
    for minutes in [1, 2] {
        look_at(&store, minutes).await;
    }
    let stored = store.experiments().await.expect("read").remove(0);
    let [ArmStop { arm, stopped_at, reason }] = &stored.stops[..] else { panic!("{:?}", stored.stops) };
    let log = store.audit_log(9).await.expect("read");
    let stops: Vec<_> = log.iter().filter(|entry| entry.operation == Operation::StopArm).collect();
    let detail = serde_json::json!({ "arm": arm, "reason": reason });
    assert_eq!((stops.len(), &*stops[0].actor, &stops[0].detail), (1, "guardrail", &detail));

    let report: ExperimentReport = store.last_experiment_report("e").await.expect("read").expect("one");
    assert_eq!(last(&store).await, Some((1, 1)));
    assert_eq!((report.stopped_at, report.stop_reason.as_ref()), (Some(*stopped_at), Some(reason)));
    let (difference, low) = (report.difference.expect("known"), report.low.expect("known"));
    assert_eq!(report.metric, "cost", "the last of the metrics");
    assert!(difference > 0.85 && low > 0.0 && low < difference, "{report:?}");
    assert_eq!((report.arm_uploads, report.arm_units, report.is_decisive), (200, 200, false));
}
