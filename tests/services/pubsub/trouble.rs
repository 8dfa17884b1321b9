//! What a source does at its worst: events that are none, twice the same one, workers that die, an emulator that dies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use records::{ErrorType, Lane, Outcome, Status, UtcMicros};

use super::{Platform, SETTINGS, Settings, until};
use crate::emulator::{Emulator, plain};
use crate::harness::{clip, event};
use crate::server::server;

#[tokio::test]
async fn what_is_no_upload_is_dead_lettered_with_its_reason_and_the_lane_goes_on() {
    let platform = Platform::on_a_file(SETTINGS);
    let mut published = platform.project.watch("dead-letters").await;
    let good = event("good", "free", &clip("swing-f-major-160.ogg"));
    let bad = [
        "this is no event".to_owned(),
        r#"{"specversion": "0.3", "id": "1", "source": "s", "type": "t", "data": {}}"#.to_owned(),
        good.replace("good", "no-tier").replace("\"tier\":\"free\",", ""),
        event("no-file", "free", Path::new("/no/such/file.wav")),
        event("no-bucket-name", "free", Path::new("gs://bucket")),
    ];
    let worker = platform.serve("data");
    worker.says(1, " serving ").await;
    let count = bad.len() + 1;
    platform.project.publish("uploads-low", bad.into_iter().chain([good]).map(plain)).await;
    until("all have an outcome", async || platform.outcomes().await.len() == count).await;
    let outcomes = platform.outcomes().await;
    let is_good = |outcome: &&Outcome| outcome.status == Status::Completed;
    let completed: Vec<&str> = outcomes.iter().filter(is_good).map(|outcome| outcome.upload_id.as_str()).collect();
    assert_eq!(completed, ["good"]);
    let by_id: BTreeMap<&str, &Outcome> =
        outcomes.iter().map(|outcome| (outcome.upload_id.as_str(), outcome)).collect();
    for id in ["no-file", "no-bucket-name"] {
        assert_eq!(by_id[id].error_type, Some(ErrorType::AudioUnreachable), "{:?}", by_id[id]);
    }
    let reasons: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome.error.as_deref()).collect();
    for reason in ["invalid upload event: expected", "specversion \"0.3\"", "tier", "/no/such/file.wav"] {
        assert!(reasons.iter().any(|it| it.contains(reason)), "{reason}: {reasons:?}");
    }
    // Each is published as a dead letter, with its reason beside it.
    for message in published.uploads(count - 1).await.values().flatten() {
        assert!(message.attributes.contains_key("reason"), "{:?}", message.attributes);
    }
    worker.end();
}

#[tokio::test]
async fn an_event_that_comes_twice_has_one_outcome() {
    let platform = Platform::on_a_file(SETTINGS);
    let first = platform.publish("u", 20).await;
    assert_eq!(platform.publish("u", 20).await, first);
    let worker = platform.serve("data");
    worker.says(20, "completed").await;
    // A third time, when they have their outcome already; and one more, which shows that the third ones were pulled.
    platform.publish("u", 20).await;
    let last = platform.publish("last", 3).await;
    worker.says(23, "completed").await;
    worker.end();
    platform.has_one_outcome_each(&first.union(&last).cloned().collect()).await;
}

#[tokio::test]
async fn three_workers_of_which_one_is_killed_end_each_upload_once() {
    let platform = Platform::on_postgres(Settings { lease_s: 10, ..SETTINGS });
    let mut uploads = platform.publish("u", 90).await;
    // The emulator may give all there is to whoever comes first, so the others come before that one dies.
    let killed = platform.serve("one");
    killed.says(1, "completed").await;
    let others = [platform.serve("two"), platform.serve("three")];
    for other in &others {
        other.says(1, " serving ").await;
    }
    uploads.extend(platform.publish("late", 30).await);
    killed.kill();
    until("the others do the rest", async || platform.outcomes().await.len() == 120).await;
    for worker in others {
        worker.end();
    }
    platform.has_one_outcome_each(&uploads).await;
}

#[tokio::test]
async fn what_one_worker_took_over_another_one_does_once_that_is_dead() {
    let platform = Platform::on_postgres(Settings { ack: "admission", ..SETTINGS });
    let uploads = platform.publish("u", 90).await;
    let dead = platform.serve("one");
    dead.says(1, "completed").await;
    let store = platform.store().await;
    until("all are taken over", async || {
        let mut known = platform.outcomes().await.len() as u64;
        for lane in Lane::ALL {
            let pending = store.pending(lane, UtcMicros(0)).await.expect("counted");
            known += pending.ready + pending.leased;
        }
        known >= 90
    })
    .await;
    dead.kill();
    let other = platform.serve("two");
    until("the other one does the rest", async || platform.outcomes().await.len() == 90).await;
    other.end();
    store.close().await;
    platform.has_one_outcome_each(&uploads).await;
}

#[tokio::test]
async fn uploads_in_order_and_delivered_exactly_once_outlive_a_worker_that_is_killed() {
    let platform = Platform::on_a_file(Settings { lease_s: 10, exactly_once_and_ordering: true, ..SETTINGS });
    let ids: Vec<String> = (0..30).map(|n| format!("u-{n}")).collect();
    let song = clip("rock-e-minor-120.wav");
    // Some keys the emulator never delivers again, to no client: benches/peers/pubsub_ordering.py.
    let events = ids.iter().map(|id| {
        let (payload, attributes, _) = plain(event(id, "free", &song));
        (payload, attributes, "customer-1".to_owned())
    });
    platform.project.publish("uploads-low", events).await;
    let killed = platform.serve("data");
    killed.says(3, "completed").await;
    killed.kill();
    let last = platform.serve("data");
    until("all have an outcome", async || platform.outcomes().await.len() == ids.len()).await;
    last.end();
    platform.has_one_outcome_each(&ids.into_iter().collect()).await;
}

#[tokio::test]
async fn what_is_given_back_in_a_drain_is_done_by_the_next() {
    // No drain gives anything the time to end. The emulator sends more than it was asked for, and sends that anew only when
    // its lease has run out.
    let platform = Platform::on_a_file(Settings { lease_s: 10, drain_timeout_s: 0, ..SETTINGS });
    let uploads = platform.publish("u", 60).await;
    for drains in 1..3 {
        let worker = platform.serve("data");
        worker.says(drains, " serving ").await;
        worker.says(worker.count("completed") + 3, "completed").await;
        worker.end();
    }
    let last = platform.serve("data");
    last.says(60, "completed").await;
    last.end();
    platform.has_one_outcome_each(&uploads).await;
}

#[tokio::test]
async fn a_worker_outlives_its_emulator_and_works_on_with_the_next() {
    let emulator = Emulator::start(None);
    let platform = Platform::new(emulator.new_project(), Some(server().new_database()), SETTINGS);
    let worker = platform.serve("data");
    let before = platform.publish("before", 20).await;
    until("some have an outcome", async || platform.outcomes().await.len() > 5).await;
    // It keeps nothing on disk, so what it had is announced again, as a publisher does that had no answer.
    let _emulator = emulator.restarted();
    platform.set_up();
    platform.publish("before", 20).await;
    let after = platform.publish("after", 20).await;
    until("all have an outcome", async || platform.outcomes().await.len() == 40).await;
    worker.end();
    let all: BTreeSet<String> = before.union(&after).cloned().collect();
    platform.has_one_outcome_each(&all).await;
}
