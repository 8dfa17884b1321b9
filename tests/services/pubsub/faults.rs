//! An emulator that is killed under a worker: what `/readyz` says, and that the worker goes on when there is another one.

use std::collections::BTreeSet;

use super::{Platform, SETTINGS, until};
use crate::emulator::Emulator;

#[tokio::test]
async fn a_worker_goes_on_after_its_emulator_was_killed() {
    let emulator = Emulator::start(None);
    let platform = Platform::new(emulator.new_project(), None, SETTINGS);
    let first = platform.publish("first", 20).await;
    let worker = platform.serve("data");
    worker.says(20, "completed").await;
    assert_eq!(worker.readiness().await.0, 200);
    let emulator = emulator.restarted();
    // The other one has forgotten every subscription.
    until("/readyz tells what is missing", async || {
        let (status, said) = worker.readiness().await;
        status == 503 && said.contains("pull from the source") && said.contains("tidemark pubsub setup")
    })
    .await;
    platform.set_up();
    let mut results = platform.results().await;
    let second = platform.publish("second", 20).await;
    let seen = results.uploads(20).await;
    assert!(second.iter().all(|id| seen.contains_key(id)), "{seen:?}");
    until("/readyz is well again", async || worker.readiness().await.0 == 200).await;
    worker.end();
    platform.has_one_outcome_each(&first.union(&second).cloned().collect::<BTreeSet<_>>()).await;
    drop(emulator);
}
