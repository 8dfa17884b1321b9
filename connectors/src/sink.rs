//! What every sink of messages can do: take them until they are durable somewhere else.

use futures::future::BoxFuture;
use records::Fault;

/// What a message is about; each has a topic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Outcomes, as JSON.
    Results,
    /// The events that ended in the dead letter queue, as they came.
    DeadLetters,
    /// Alerts that fire or are resolved, as Alertmanager tells webhooks of them.
    Alerts,
}

/// One message for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub topic: Topic,
    /// What has the same key keeps its order: the upload's id, or the alert's fingerprint.
    pub key: String,
    /// The body.
    pub payload: Vec<u8>,
    /// What a consumer can filter by without reading the body.
    pub attributes: Vec<(&'static str, String)>,
}

/// A sink of messages. Every call may fail and be repeated, so that a message may be there twice; its `upload_id` and
/// `version` are the same then, or an alert's `fingerprint`, `status` and `starts_at`.
pub trait Sink: Send + Sync {
    /// Under which the store keeps how far this sink has come, and what it is still to be told.
    fn name(&self) -> &str;

    /// Whether messages about this go anywhere.
    fn takes(&self, topic: Topic) -> bool;

    /// Publishes messages, all of them durably when this returns. Those about what it does not take are passed over.
    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), Fault>>;
}
