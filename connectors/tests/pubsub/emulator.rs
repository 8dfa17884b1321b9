//! Google's emulator of Pub/Sub: one for a test binary, a project for a test, gone with the process.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use connectors::pubsub::{Connection, Layout, setup};
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::{Publisher, Subscriber, SubscriptionAdmin};
use google_cloud_pubsub::model::{self, Subscription};
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;

use crate::script::Script;

/// How long a test waits for what has to come. The emulator may give a message to a stream that was closed, and again each time that
/// its lease of ten seconds has run out.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// An emulator.
pub(crate) struct Emulator {
    /// Host and port.
    pub(crate) address: String,
    pid: String,
    script: Script,
}

static PROJECTS: AtomicU32 = AtomicU32::new(0);

/// The emulator that tests share, which the first one to ask starts.
pub(crate) fn emulator() -> &'static Emulator {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    EMULATOR.get_or_init(|| Emulator::start(None))
}

impl Emulator {
    /// One of its own, on a port that is free or on this one.
    pub(crate) fn start(port: Option<&str>) -> Self {
        let (script, [address, pid]) = Script::run("pubsub-emulator.sh", port.as_slice());
        Self { address, pid, script }
    }

    /// Kills it with -9, and starts another one at the same address, which has nothing of what this one had.
    #[allow(dead_code, reason = "not every test binary does")]
    pub(crate) fn restarted(self) -> Self {
        let address = self.killed();
        Self::start(address.rsplit_once(':').map(|(_, port)| port))
    }

    /// Kills it with -9; where it was.
    #[allow(dead_code, reason = "not every test binary does")]
    pub(crate) fn killed(self) -> String {
        let killed = Command::new("kill").args(["-9", &self.pid]).status().expect("kill runs");
        assert!(killed.success(), "the emulator was running");
        drop(self.script);
        self.address
    }

    /// A project that nobody else has.
    pub(crate) fn new_project(&self) -> Project {
        let id = format!("project-{}", PROJECTS.fetch_add(1, Ordering::Relaxed));
        Project { endpoint: format!("http://{}", self.address), id }
    }
}

/// A project of the emulator.
#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) endpoint: String,
}

/// What `tidemark pubsub setup` makes where nothing is configured.
pub(crate) fn layout() -> Layout {
    let lane = |name: &str| (format!("uploads-{name}"), format!("tidemark-{name}"));
    Layout {
        lanes: [lane("high"), lane("low")],
        published: vec!["results".into(), "dead-letters".into()],
        undeliverable: "undeliverable".into(),
        lease_s: 60,
        exactly_once: false,
        ordering: false,
    }
}

/// A message to publish: its payload, its attributes, its ordering key.
pub(crate) type Event = (Vec<u8>, Vec<(String, String)>, String);

/// An event without anything beside it.
pub(crate) fn plain(payload: impl Into<Vec<u8>>) -> Event {
    (payload.into(), Vec::new(), String::new())
}

impl Project {
    pub(crate) fn connection(&self) -> Connection {
        Connection::new(&self.id, Some(self.endpoint.clone()))
    }

    pub(crate) async fn set_up(&self, layout: &Layout) {
        setup(&self.connection(), layout).await.expect("set up");
    }

    /// Publishes, until all of it is in the emulator.
    pub(crate) async fn publish(&self, topic: &str, events: impl IntoIterator<Item = Event>) {
        let publisher = Publisher::builder(self.connection().topic(topic)).with_endpoint(&self.endpoint);
        let publisher =
            publisher.with_credentials(anonymous::Builder::new().build()).build().await.expect("a publisher");
        let message = |(payload, attributes, key): Event| {
            model::Message::new().set_data(payload).set_attributes(attributes).set_ordering_key(key)
        };
        let sent: Vec<_> = events.into_iter().map(|event| publisher.publish(message(event))).collect();
        for sent in sent {
            sent.await.expect("published");
        }
    }

    /// Another subscription on a topic, for a test to look at.
    #[allow(dead_code, reason = "not every test binary does")]
    pub(crate) async fn watch(&self, topic: &str) -> Watch {
        let admin = SubscriptionAdmin::builder().with_endpoint(&self.endpoint);
        let admin = admin.with_credentials(anonymous::Builder::new().build()).build().await.expect("a client");
        let name = self.connection().subscription(&format!("watch-{topic}"));
        let wanted = Subscription::new().set_name(&name).set_topic(self.connection().topic(topic));
        admin.create_subscription().with_request(wanted).send().await.expect("subscribed");
        self.stream(&name, Duration::from_secs(3600)).await
    }

    /// A bare client on a subscription, which keeps messages no longer than told.
    pub(crate) async fn stream(&self, subscription: &str, longest_lease: Duration) -> Watch {
        let subscriber = Subscriber::builder().with_endpoint(&self.endpoint);
        let subscriber =
            subscriber.with_credentials(anonymous::Builder::new().build()).build().await.expect("a client");
        let stream = subscriber.subscribe(self.connection().subscription(subscription)).set_max_lease(longest_lease);
        Watch { stream: stream.set_max_lease_extension(Duration::from_secs(10)).build() }
    }
}

/// What a test sees of a subscription.
pub(crate) struct Watch {
    stream: MessageStream,
}

#[allow(dead_code, reason = "not every test binary needs all of it")]
impl Watch {
    /// The next message, which has to come.
    pub(crate) async fn next(&mut self) -> (model::Message, Handler) {
        let next = tokio::time::timeout(DEADLINE, self.stream.next()).await;
        next.expect("a message in time").expect("the stream goes on").expect("the stream works")
    }

    /// Messages until each of `count` uploads was seen, by the attribute `upload_id`, with how often each came.
    pub(crate) async fn uploads(&mut self, count: usize) -> BTreeMap<String, Vec<model::Message>> {
        let mut seen = BTreeMap::<String, Vec<model::Message>>::new();
        while seen.len() < count {
            let (message, handler) = self.next().await;
            handler.ack();
            seen.entry(message.attributes["upload_id"].clone()).or_default().push(message);
        }
        seen
    }
}
