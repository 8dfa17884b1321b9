//! The source beside a bare client of the same library that only pulls and acknowledges, in turns against one emulator:
//! `cargo bench -p connectors --profile dev --bench pubsub`, with `-- MESSAGES` for another number than 20,000.

#![expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]

#[path = "../tests/support/script.rs"]
mod script;
#[path = "../tests/pubsub/emulator.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod emulator;

use std::time::{Duration, Instant};

use connectors::pubsub::{LaneOptions, PubSub, PubSubOptions};
use connectors::source::Source;
use emulator::{Project, emulator, layout, plain};
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Subscriber;
use records::{Lane, Mode, ObjectDefaults, Tier};

const ROUNDS: usize = 5;
const MAX_OUTSTANDING: usize = 1000;
/// As a worker pulls: so many at a time, and after a pause where there was nothing.
const BATCH: usize = 256;
const POLL: Duration = Duration::from_millis(20);

/// A project whose low lane has messages waiting.
async fn filled(messages: usize) -> Project {
    let project = emulator().new_project();
    project.set_up(&layout()).await;
    let event =
        |n| format!(r#"{{"upload_id":"u-{n}","customer_id":"c","tier":"free","audio_uri":"/uploads/{n}.wav"}}"#);
    project.publish("uploads-low", (0..messages).map(|n| plain(event(n)))).await;
    project
}

async fn bare(project: &Project, messages: usize) {
    let client = Subscriber::builder().with_endpoint(&project.endpoint);
    let client = client.with_credentials(anonymous::Builder::new().build()).build().await.expect("a client");
    let stream = client.subscribe(project.connection().subscription("tidemark-low"));
    let mut stream = stream.set_max_outstanding_messages(MAX_OUTSTANDING as i64).build();
    for _ in 0..messages {
        let (_, handler) = stream.next().await.expect("the stream goes on").expect("the stream works");
        handler.ack();
    }
    stream.shutdown_token().shutdown().await;
}

async fn source(project: &Project, messages: usize) {
    let lane = |name: &str| LaneOptions { subscription: format!("tidemark-{name}"), max_outstanding: MAX_OUTSTANDING };
    let objects = ObjectDefaults { customer_id: None, tier: Tier::Free, mode: Mode::Bulk };
    let options = PubSubOptions { lanes: [lane("high"), lane("low")], lease_s: 60, objects };
    let source = PubSub::open(&project.connection(), options).await.expect("opens");
    let mut left = messages;
    while left > 0 {
        let deliveries = source.pull(Lane::Low, BATCH).await.expect("pulled");
        if deliveries.is_empty() {
            tokio::time::sleep(POLL).await;
            continue;
        }
        left -= deliveries.len();
        let leases: Vec<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
        source.acknowledge(&leases).await.expect("acknowledged");
    }
    source.close().await;
}

#[tokio::main]
async fn main() {
    let messages = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    // The emulator is slower while it is young.
    bare(&filled(messages).await, messages).await;
    let mut rates = Vec::new();
    for round in 1..=ROUNDS {
        let (one, other) = (filled(messages).await, filled(messages).await);
        let begin = Instant::now();
        bare(&one, messages).await;
        let between = Instant::now();
        source(&other, messages).await;
        let rate = |took: Duration| messages as f64 / took.as_secs_f64();
        let (bare, source) = (rate(between - begin), rate(between.elapsed()));
        println!("round {round}: bare client {bare:.0} a second, source {source:.0}, ratio {:.2}", source / bare);
        rates.push(source / bare);
    }
    rates.sort_by(f64::total_cmp);
    println!("median ratio over {ROUNDS} rounds of {messages} messages: {:.2}", rates[ROUNDS / 2]);
}
