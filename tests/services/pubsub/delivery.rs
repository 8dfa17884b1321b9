//! Workers that end, by order or by force: nothing is lost, nothing is done twice, everything is published.

use std::collections::BTreeSet;

use records::Status;

use super::{Platform, SETTINGS, Settings, until};
use crate::server::server;

#[tokio::test]
async fn setup_says_what_it_made_and_finds_it_a_second_time() {
    let platform = Platform::on_a_file(SETTINGS);
    let second = platform.set_up();
    assert_eq!(second.lines().filter(|line| line.starts_with("is there")).count(), 8, "{second}");
}

#[tokio::test]
async fn a_worker_killed_among_three_loses_nothing_and_doubles_nothing() {
    let platform = Platform::on_postgres(Settings { lease_s: 10, ..SETTINGS });
    let mut results = platform.results().await;
    let uploads = platform.publish("u", 200).await;
    let workers = ["one", "two", "three"].map(|data| platform.serve(data));
    let [doomed, others @ ..] = workers;
    doomed.says(10, "completed").await;
    doomed.kill();
    let published = results.uploads(200).await;
    for other in others {
        let said = other.end();
        assert!(said.contains("completed"), "each has its part: {said}");
    }
    platform.has_one_outcome_each(&uploads).await;
    assert!(platform.outcomes().await.iter().all(|outcome| outcome.status == Status::Completed));
    assert!(published.keys().eq(&uploads), "each outcome is published");
}

#[tokio::test]
async fn a_worker_killed_after_it_took_uploads_over_leaves_them_to_another() {
    let platform = Platform::on_postgres(Settings { ack: "admission", lease_s: 600, ..SETTINGS });
    let mut results = platform.results().await;
    let uploads = platform.publish("u", 120).await;
    let doomed = platform.serve("one");
    let database = platform.database.clone().expect("a database");
    let ever_queued = "SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('messages', 'id')), 0)";
    until("all are taken over", async || server().sql(&database, ever_queued) == "120").await;
    doomed.says(5, "completed").await;
    doomed.kill();
    assert!(platform.outcomes().await.len() < 120, "it was at work");
    // Pub/Sub delivers nothing again within ten minutes: what is left is in the database alone.
    let second = platform.serve("two");
    results.uploads(120).await;
    second.end();
    platform.has_one_outcome_each(&uploads).await;
}

#[tokio::test]
async fn a_worker_whose_leases_ran_out_while_it_was_held_up_doubles_nothing() {
    let platform = Platform::on_postgres(Settings { lease_s: 10, ..SETTINGS });
    let uploads = platform.publish("u", 60).await;
    let held_up = platform.serve("one");
    held_up.says(5, "completed").await;
    held_up.signal("-STOP");
    let other = platform.serve("two");
    // Once all of them have an outcome, what the first one has in work was delivered to the second one as well.
    until("another one does them all", async || platform.outcomes().await.len() == 60).await;
    held_up.signal("-CONT");
    let said = held_up.end();
    assert!(said.contains("Finished"), "it went on with what it had: {said}");
    other.end();
    platform.has_one_outcome_each(&uploads).await;
}

#[tokio::test]
async fn what_a_drained_worker_did_not_finish_is_delivered_to_the_next_one_at_once() {
    let platform = Platform::on_a_file(Settings { lease_s: 600, drain_timeout_s: 0, ..SETTINGS });
    let mut results = platform.results().await;
    let uploads = platform.publish("u", 100).await;
    let first = platform.serve("data");
    first.says(5, "completed").await;
    let said = first.end();
    assert!(said.contains("gave back what was in flight"), "{said}");
    let finished = platform.outcomes().await.len();
    assert!(finished < 100, "it was at work");
    let second = platform.serve("data");
    results.uploads(100).await;
    second.end();
    platform.has_one_outcome_each(&uploads).await;
}

#[tokio::test]
async fn duplicates_in_any_order_and_exactly_once_subscriptions_give_one_outcome_each() {
    for exactly_once_and_ordering in [false, true] {
        let platform = Platform::on_a_file(Settings { exactly_once_and_ordering, ..SETTINGS });
        let mut results = platform.results().await;
        let uploads = platform.publish("u", 30).await;
        let again = platform.publish("u", 30).await;
        let worker = platform.serve("data");
        results.uploads(30).await;
        let others: BTreeSet<String> = platform.publish("u", 60).await;
        results.uploads(30).await;
        worker.end();
        assert!(again == uploads && others.is_superset(&uploads));
        platform.has_one_outcome_each(&others).await;
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_publishes_leaves_no_outcome_unpublished() {
    let platform = Platform::on_a_file(Settings { lease_s: 10, ..SETTINGS });
    let mut results = platform.results().await;
    let uploads = platform.publish("u", 60).await;
    let mut published = BTreeSet::new();
    for kills in 1..4 {
        let worker = platform.serve("data");
        worker.says(kills * 5, "completed").await;
        worker.kill();
    }
    let last = platform.serve("data");
    while published != uploads {
        published.extend(results.uploads(1).await.into_keys());
    }
    last.end();
    platform.has_one_outcome_each(&uploads).await;
}
