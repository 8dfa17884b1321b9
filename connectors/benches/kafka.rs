//! How fast uploads come from Kafka, beside a bare client of the same library that only polls and commits, on the same broker
//! in one run: `cargo bench --workspace --bench kafka`.

#![expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]

#[path = "../tests/support/script.rs"]
mod script;
#[path = "../tests/kafka/broker.rs"]
#[allow(dead_code, reason = "the broker's own tests need more of it")]
mod broker;

use std::time::{Duration, Instant};

use broker::Broker;
use connectors::kafka::{KafkaOptions, KafkaSource};
use connectors::source::Source;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use records::Lane;

const MESSAGES: usize = 200_000;
const PARTITIONS: i32 = 4;
/// Messages that are acknowledged at once, as a worker's group commit does.
const GROUP: usize = 256;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let broker = Broker::start(None);
    for topic in ["bench", "unused"] {
        broker.topic(topic, PARTITIONS).await;
    }
    let event =
        r#"{"upload_id":"u-00000000","customer_id":"acme","tier":"pro","audio_uri":"/uploads/2026/01/01/song.mp3"}"#;
    let events: Vec<_> = (0..MESSAGES).map(|number| (number as i32 % PARTITIONS, event.as_bytes().to_vec())).collect();
    for page in events.chunks(10_000) {
        broker.send("bench", page).await;
    }
    let [mut bare_rates, mut our_rates] = [Vec::new(), Vec::new()];
    println!("{:<8} {:>14} {:>14}", "round", "bare client", "Tidemark");
    for round in 0..ROUNDS {
        let address = broker.address.clone();
        let bare = tokio::task::spawn_blocking(move || bare(&address, &format!("bare-{round}"))).await.expect("ended");
        let ours = ours(&broker.address, &format!("ours-{round}")).await;
        let [bare, ours] = [bare, ours].map(|taken| MESSAGES as f64 / taken.as_secs_f64());
        println!("{round:<8} {bare:>14.0} {ours:>14.0}");
        bare_rates.push(bare);
        our_rates.push(ours);
    }
    let [bare, ours] = [bare_rates, our_rates].map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    println!("median   {bare:>14.0} {ours:>14.0}   ratio {:.2}", ours / bare);
}

/// From the first message on: joining a group takes as long for both.
fn bare(address: &str, group: &str) -> Duration {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("group.id", group).set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest").set("queued.max.messages.kbytes", "8192");
    let consumer: BaseConsumer = config.create().expect("a client");
    consumer.subscribe(&["bench"]).expect("subscribed");
    let (mut read, mut bytes, mut begun) = (0, 0, None);
    while read < MESSAGES {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        begun.get_or_insert_with(Instant::now);
        bytes += message.expect("read").payload().map_or(0, <[u8]>::len);
        read += 1;
        if read.is_multiple_of(GROUP) || read == MESSAGES {
            consumer.commit_consumer_state(CommitMode::Sync).expect("committed");
        }
    }
    assert!(bytes > MESSAGES * 50, "all was read");
    begun.expect("some").elapsed()
}

async fn ours(address: &str, group: &str) -> Duration {
    let options = KafkaOptions {
        brokers: address.to_owned(),
        group: group.to_owned(),
        high_topic: "unused".to_owned(),
        low_topic: "bench".to_owned(),
        ..KafkaOptions::default()
    };
    let source = KafkaSource::start(&options).expect("options that can work");
    let (mut read, mut bytes, mut begun) = (0, 0, None);
    while read < MESSAGES {
        let pulled = source.pull(Lane::Low, GROUP).await.unwrap_or_default();
        if pulled.is_empty() {
            // Whoever reads may want this core.
            std::thread::yield_now();
            continue;
        }
        begun.get_or_insert_with(Instant::now);
        bytes += pulled.iter().map(|delivery| delivery.payload.len()).sum::<usize>();
        let leases: Vec<_> = pulled.iter().map(|delivery| delivery.lease).collect();
        source.acknowledge(&leases).await.expect("committed");
        read += pulled.len();
    }
    assert!(bytes > MESSAGES * 50, "all was read");
    let taken = begun.expect("some").elapsed();
    source.close().await;
    taken
}
