//! A real broker of Kafka's protocol, and whoever else talks to it: the producer of uploads, the reader of results.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::script::Script;

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A broker that ends with the process, or when it is dropped.
pub(crate) struct Broker {
    /// Where it can be reached.
    pub(crate) address: String,
    pid: String,
    /// None where somebody else started it.
    _script: Option<Script>,
}

/// The broker of this test binary, which the first one to ask starts; one of your own where TIDEMARK_TEST_KAFKA names it,
/// as `host:port`, which has none of the tests' topics and groups yet.
pub(crate) fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| std::env::var("TIDEMARK_TEST_KAFKA").map_or_else(|_| Broker::start(None), Broker::at))
}

/// What a reader finds in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Broker {
    /// With a folder and a port it is the one that was there before.
    pub(crate) fn start(again: Option<(&Path, &str)>) -> Self {
        let again: Vec<&str> =
            again.iter().flat_map(|(folder, port)| [folder.to_str().expect("UTF-8"), *port]).collect();
        let (script, [address, pid]) = Script::run("kafka.sh", &again);
        Self { address, pid, _script: Some(script) }
    }

    /// One that somebody else started.
    pub(crate) fn at(address: String) -> Self {
        Self { address, pid: String::new(), _script: None }
    }

    /// Its port.
    pub(crate) fn port(&self) -> &str {
        self.address.rsplit_once(':').expect("an address has a port").1
    }

    /// Stops it as an operator would, and waits until it is gone.
    pub(crate) fn stop(&self) {
        self.end("-TERM");
    }

    /// Kills it with -9, and waits until it is gone.
    #[allow(dead_code, reason = "not every test binary does")]
    pub(crate) fn kill(&self) {
        self.end("-9");
    }

    fn end(&self, signal: &str) {
        let kill = |signal: &str| {
            let mut command = Command::new("kill");
            command.args([signal, &self.pid]).stderr(Stdio::null()).status().expect("kill runs").success()
        };
        assert!(kill(signal), "it runs");
        until("the broker is gone", || !kill("-0"));
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    /// Makes a topic.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await.expect("answered");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Sends events: partition, payload.
    pub(crate) async fn send(&self, topic: &str, events: &[(i32, Vec<u8>)]) {
        self.send_compressed(topic, "none", events).await;
    }

    /// Sends events, compressed.
    pub(crate) async fn send_compressed(&self, topic: &str, codec: &str, events: &[(i32, Vec<u8>)]) {
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("compression.type", codec);
        let producer: FutureProducer = config.create().expect("a client");
        let record = |(partition, payload): &(i32, Vec<u8>)| {
            let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(*partition).payload(payload);
            producer.send_result(record).map_err(|(error, _)| error).expect("taken")
        };
        // The report is waited for in each future.
        for report in events.iter().map(record).collect::<Vec<_>>() {
            report.await.expect("reported").map_err(|(error, _)| error).expect("delivered");
        }
    }

    /// Sends events in a transaction that is committed, or not.
    pub(crate) async fn send_in_transaction(&self, topic: &str, events: &[(i32, Vec<u8>)], commits: bool) {
        let mut config = self.config();
        let producer: FutureProducer = config.set("transactional.id", topic).create().expect("a client");
        let done = tokio::task::spawn_blocking(move || {
            producer.init_transactions(PATIENCE).expect("begun");
            producer.begin_transaction().expect("begun");
            producer
        });
        let producer = done.await.expect("done");
        for (partition, payload) in events {
            let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(*partition).payload(payload);
            let report = producer.send_result(record).map_err(|(error, _)| error).expect("taken");
            report.await.expect("reported").map_err(|(error, _)| error).expect("delivered");
        }
        let ended = tokio::task::spawn_blocking(move || match commits {
            true => producer.commit_transaction(PATIENCE),
            false => producer.abort_transaction(PATIENCE),
        });
        ended.await.expect("done").expect("ended");
    }

    /// What a group has committed of a topic, by partition; 0 where nothing.
    pub(crate) fn committed(&self, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, PATIENCE).expect("told");
        let offset = |offset: Offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
        committed.elements().iter().map(|element| offset(element.offset())).collect()
    }

    /// The ends of a topic's partitions.
    #[allow(dead_code, reason = "not every test binary does")]
    pub(crate) fn ends(&self, topic: &str, partitions: i32) -> Vec<i64> {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let end = |partition| consumer.fetch_watermarks(topic, partition, PATIENCE).expect("told").1;
        (0..partitions).map(end).collect()
    }

    /// How many members a group has.
    pub(crate) fn members(&self, group: &str) -> usize {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let told = consumer.fetch_group_list(Some(group), PATIENCE).expect("told");
        told.groups().iter().map(|group| group.members().len()).sum()
    }

    /// The first `count` messages of a topic, in the order of each partition.
    pub(crate) fn read(&self, topic: &str, partitions: i32, count: usize) -> Vec<Found> {
        let consumer: BaseConsumer =
            self.config().set("group.id", "reader").set("enable.auto.commit", "false").create().expect("a client");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("assigned");
        let mut found = Vec::new();
        until(&format!("{topic} has {count} messages"), || {
            if found.len() < count
                && let Some(Ok(message)) = consumer.poll(Duration::from_millis(100))
            {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                found.push(Found {
                    key: text(message.key().unwrap_or_default()),
                    payload: message.payload().unwrap_or_default().to_vec(),
                    headers: headers.map(|it| (it.key.to_owned(), text(it.value.unwrap_or_default()))).collect(),
                });
            }
            found.len() >= count
        });
        found
    }
}

/// Looks again and again until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let latest = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < latest, "in {PATIENCE:?} it did not come true that {what}");
        std::thread::yield_now();
    }
}
