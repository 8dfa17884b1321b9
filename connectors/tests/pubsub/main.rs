//! Pub/Sub as a source and as a sink, against Google's emulator: `make test-services` runs it.

#[path = "../support/script.rs"]
mod script;
mod emulator;
mod faults;
mod setup;
mod sink;
mod source;
mod wire;

use std::time::Duration;

use connectors::pubsub::{LaneOptions, PubSub, PubSubOptions};
use connectors::source::{Delivery, Source};
use emulator::{DEADLINE, Project};
use records::{Lane, Mode, ObjectDefaults, Tier};

/// What the configuration says where it says nothing, with few messages at once.
fn options(max_outstanding: usize) -> PubSubOptions {
    let lane = |name: &str| LaneOptions { subscription: format!("tidemark-{name}"), max_outstanding };
    let objects = ObjectDefaults { customer_id: None, tier: Tier::Free, mode: Mode::Bulk };
    PubSubOptions { lanes: [lane("high"), lane("low")], lease_s: 10, objects }
}

async fn open(project: &Project, max_outstanding: usize) -> PubSub {
    PubSub::open(&project.connection(), options(max_outstanding)).await.expect("opens")
}

/// An upload event.
fn event(id: &str) -> Vec<u8> {
    format!(r#"{{"upload_id":"{id}","customer_id":"c","tier":"free","audio_uri":"/a.wav"}}"#).into_bytes()
}

/// The upload of a delivery.
fn id(delivery: &Delivery) -> String {
    records::Upload::from_event(&delivery.payload).expect("an upload").upload_id.to_string()
}

/// Exactly `count` deliveries of a lane, which have to come.
async fn pull(source: &dyn Source, lane: Lane, count: usize) -> Vec<Delivery> {
    let mut pulled = Vec::new();
    until("they come", async || {
        pulled.extend(source.pull(lane, count - pulled.len()).await.expect("pulled"));
        pulled.len() == count
    })
    .await;
    pulled
}

/// Looks until something is so, which has to be soon.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let all = async {
        while !is_so().await {
            looks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Asserts that nothing is left of lanes that nobody reads any more: a message that is published here and not acknowledged is
/// the clock, and when it comes again, what was not acknowledged before has come again as well.
async fn nothing_is_left(project: &Project, lanes: &[Lane]) {
    let left = lanes.iter().map(async |lane| {
        project.publish(&format!("uploads-{lane}"), [emulator::plain(event("clock"))]).await;
        let mut stream = project.stream(&format!("tidemark-{lane}"), Duration::from_secs(1)).await;
        let (first, _unanswered) = stream.next().await;
        let (again, _unanswered) = stream.next().await;
        assert_eq!([first.data, again.data], [event("clock"), event("clock")], "the {lane} lane");
    });
    futures::future::join_all(left).await;
}
