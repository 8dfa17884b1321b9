//! Workers that end, by order or by force: nothing is lost, nothing is done twice, everything is published.

use std::collections::BTreeSet;

use super::{Platform, SETTINGS, Settings, until};

#[tokio::test]
async fn setup_says_what_it_made_and_finds_it_a_second_time() {
    let platform = Platform::on_a_file(SETTINGS);
    let second = platform.set_up();
    assert_eq!(second.lines().filter(|line| line.starts_with("is there")).count(), 8, "{second}");
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
