//! Streams that break: what is said while they are broken, and that they go on.

use std::collections::BTreeSet;

use connectors::pubsub::PubSub;
use connectors::source::Source;
use records::{ErrorType, FaultClass, Lane};

use crate::emulator::{Emulator, Project, emulator, layout, plain};
use crate::wire::Wire;
use crate::{event, id, open, options, pull, until};

/// Waits until a lane says what is wrong with it.
async fn trouble(source: &PubSub, lane: Lane) -> records::Fault {
    let mut trouble = None;
    until("a lane without a stream says so", async || {
        trouble = source.pull(lane, 1).await.err();
        trouble.is_some()
    })
    .await;
    trouble.expect("just seen")
}

#[tokio::test]
async fn an_emulator_that_was_killed_is_found_again_when_it_is_back() {
    let emulator = Emulator::start(None);
    let project = emulator.new_project();
    project.set_up(&layout()).await;
    let source = open(&project, 10).await;
    project.publish("uploads-low", [plain(event("before"))]).await;
    let before = pull(&source, Lane::Low, 1).await;

    let address = emulator.killed();
    let lost = trouble(&source, Lane::High).await;
    assert_eq!(lost.class, FaultClass::Retryable, "{lost}");
    let emulator = Emulator::start(address.rsplit_once(':').map(|(_, port)| port));
    // It has forgotten all subscriptions, which is a mistake of somebody's, and says so.
    until("the lane says what is missing", async || {
        source.pull(Lane::High, 1).await.is_err_and(|fault| fault.message.contains("tidemark pubsub setup"))
    })
    .await;
    project.set_up(&layout()).await;
    for lane in Lane::ALL {
        project.publish(&format!("uploads-{lane}"), [plain(event("after"))]).await;
        let mut after = Vec::new();
        until("the lane goes on", async || {
            after.extend(source.pull(lane, 1).await.unwrap_or_default());
            !after.is_empty()
        })
        .await;
        assert_eq!(id(&after[0]), "after");
    }
    source.acknowledge(&[before[0].lease]).await.expect("an acknowledgement that nobody knows of is no error");
    drop(emulator);
}

#[tokio::test]
async fn a_network_that_was_cut_loses_nothing() {
    let wire = Wire::to(&emulator().address).await;
    let direct = emulator().new_project();
    let through = Project { id: direct.id.clone(), endpoint: format!("http://{}", wire.address) };
    direct.set_up(&layout()).await;
    let source = open(&through, 10).await;
    direct.publish("uploads-high", [plain(event("before"))]).await;
    let before = pull(&source, Lane::High, 1).await;
    wire.cut();
    let lost = trouble(&source, Lane::Low).await;
    assert_eq!((lost.class, lost.error_type), (FaultClass::Retryable, ErrorType::Timeout), "{lost}");
    direct.publish("uploads-high", (0..20).map(|n| plain(event(&format!("u-{n}"))))).await;
    wire.mend();
    let mut seen = BTreeSet::new();
    until("the lane goes on", async || {
        let deliveries = source.pull(Lane::High, 10).await.unwrap_or_default();
        let leases: Vec<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
        seen.extend(deliveries.iter().map(id));
        source.acknowledge(&leases).await.expect("acknowledged");
        (0..20).all(|n| seen.contains(&format!("u-{n}")))
    })
    .await;
    assert_eq!(source.extend(&[before[0].lease]).await, Ok(1), "what was in work still is");
}

#[tokio::test]
async fn a_subscription_that_is_not_there_is_told_at_the_start_with_its_mend() {
    let project = emulator().new_project();
    let error = PubSub::open(&project.connection(), options(1)).await.map(|_| ()).expect_err("nothing is there");
    assert_eq!(error.class, FaultClass::Permanent);
    assert!(error.message.contains("tidemark-high") && error.message.contains("tidemark pubsub setup"), "{error}");
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_at_the_start_is_waited_for() {
    let emulator = Emulator::start(None);
    let project = emulator.new_project();
    let address = emulator.killed();
    let source = open(&project, 10).await;
    let lost = trouble(&source, Lane::Low).await;
    assert_eq!(lost.class, FaultClass::Retryable, "{lost}");
    let emulator = Emulator::start(address.rsplit_once(':').map(|(_, port)| port));
    project.set_up(&layout()).await;
    project.publish("uploads-low", [plain(event("u"))]).await;
    let mut found = Vec::new();
    until("the lane goes on", async || {
        found.extend(source.pull(Lane::Low, 1).await.unwrap_or_default());
        !found.is_empty()
    })
    .await;
    drop(emulator);
}
