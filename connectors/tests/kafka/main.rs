//! Kafka as a source and as a sink, on a real broker; what no real one does when it is asked to, on librdkafka's own mock.
//! `make test-services` runs it.

#[path = "../support/script.rs"]
mod script;
mod broker;
mod faults;
mod rebalance;
mod sink;
mod source;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use connectors::kafka::{KafkaOptions, KafkaSource, Setting};
use connectors::source::{Delivery, Lease, Source};
use records::Lane;

use broker::{Broker, PATIENCE};

/// Two topics of a name, in a group of it.
fn options(address: &str, name: &str) -> KafkaOptions {
    let quick = [("session.timeout.ms", 6000), ("max.poll.interval.ms", 8000), ("heartbeat.interval.ms", 200)];
    KafkaOptions {
        brokers: address.to_owned(),
        group: name.to_owned(),
        high_topic: format!("{name}.high"),
        low_topic: format!("{name}.low"),
        results_topic: None,
        dead_letters_topic: None,
        options: quick.map(|(key, ms)| (key.to_owned(), Setting::Number(ms))).into_iter().collect(),
    }
}

/// Topics of a name, and a source that reads them.
async fn topics(broker: &Broker, name: &str, partitions: i32) -> KafkaOptions {
    let options = options(&broker.address, name);
    broker.topic(&options.high_topic, partitions).await;
    broker.topic(&options.low_topic, partitions).await;
    options
}

fn start(options: &KafkaOptions) -> KafkaSource {
    KafkaSource::start(options).expect("options that can work")
}

/// Numbered events, over the partitions in turn.
fn events(numbers: std::ops::Range<usize>, partitions: usize) -> Vec<(i32, Vec<u8>)> {
    numbers.map(|number| ((number % partitions) as i32, number.to_string().into_bytes())).collect()
}

fn number(delivery: &Delivery) -> usize {
    String::from_utf8_lossy(&delivery.payload).parse().expect("a number")
}

/// Pulls until `count` messages came.
async fn pull(source: &dyn Source, lane: Lane, count: usize) -> Vec<Delivery> {
    let latest = Instant::now() + PATIENCE;
    let mut pulled: Vec<Delivery> = Vec::new();
    while pulled.len() < count {
        assert!(Instant::now() < latest, "{} of {count} came", pulled.len());
        match source.pull(lane, count - pulled.len()).await {
            Ok(more) => pulled.extend(more),
            // The group is not found yet, or a broker is away.
            Err(fault) => assert!(fault.class != records::FaultClass::Permanent, "{fault}"),
        }
        look_again().await;
    }
    pulled
}

/// Lets the others work for a moment.
async fn look_again() {
    tokio::time::interval_at(tokio::time::Instant::now() + Duration::from_millis(5), PATIENCE).tick().await;
}

/// Waits until it holds.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let latest = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < latest, "in {PATIENCE:?} it did not come true that {what}");
        look_again().await;
    }
}

/// Acknowledges as a worker does: again, where the group is just being arranged anew.
async fn end(source: &dyn Source, deliveries: &[Delivery]) {
    eventually("the commit is taken", async || match source.acknowledge(&leases(deliveries)).await {
        Ok(()) => true,
        Err(fault) => {
            assert!(fault.class != records::FaultClass::Permanent, "{fault}");
            false
        }
    })
    .await;
}

fn leases(deliveries: &[Delivery]) -> Vec<Lease> {
    deliveries.iter().map(|delivery| delivery.lease).collect()
}

/// How often each number came.
fn counted(deliveries: &[Delivery]) -> BTreeMap<usize, usize> {
    deliveries.iter().fold(BTreeMap::new(), |mut counted, delivery| {
        *counted.entry(number(delivery)).or_default() += 1;
        counted
    })
}
