//! Pub/Sub as a sink: a topic of results, and one of dead letters.

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model;
use records::{ErrorType, Fault};

use super::connection::{Connection, fault};
use crate::sink::{Message, Sink, Topic};

/// The longest value of an attribute, in bytes (<https://cloud.google.com/pubsub/quotas>).
const LONGEST_ATTRIBUTE: usize = 1024;
/// The longest payload; a message of 10 MB has room for its attributes beside it.
const LONGEST_PAYLOAD: usize = 9_000_000;

/// Topics of Pub/Sub.
pub struct PubSubSink {
    topics: Vec<(Topic, String, Publisher)>,
    is_ordered: bool,
}

impl PubSubSink {
    /// Opens topics, by what they are about; on tasks of the runtime that this is called on. Where it `is_ordered`, messages
    /// carry their key as ordering key.
    ///
    /// # Errors
    /// A permanent one where there are no credentials. Whether the topics are there shows when something is published.
    pub async fn open(
        connection: &Connection,
        topics: impl IntoIterator<Item = (Topic, String)>,
        is_ordered: bool,
    ) -> Result<Self, Fault> {
        let mut open = Vec::new();
        for (topic, name) in topics {
            open.push((topic, connection.topic(&name), connection.publisher(&name).await?));
        }
        Ok(Self { topics: open, is_ordered })
    }

    fn message(&self, message: &Message) -> model::Message {
        let mut sent = model::Message::new();
        let attributes = message.attributes.iter().map(|(key, value)| (*key, cut(value).to_owned()));
        if message.payload.len() > LONGEST_PAYLOAD {
            // It can never be published, and nothing behind it may wait for it. The store has it.
            let omitted = [("payload_omitted_bytes", message.payload.len().to_string())];
            sent = sent.set_attributes(attributes.chain(omitted));
        } else {
            sent = sent.set_attributes(attributes).set_data(message.payload.clone());
        }
        if self.is_ordered { sent.set_ordering_key(&message.key) } else { sent }
    }
}

/// The beginning that fits into an attribute.
fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(LONGEST_ATTRIBUTE)]
}

impl Sink for PubSubSink {
    fn name(&self) -> &str {
        "pubsub"
    }

    fn takes(&self, topic: Topic) -> bool {
        self.topics.iter().any(|(takes, ..)| *takes == topic)
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let topic_of = |message: &Message| self.topics.iter().find(|(topic, ..)| *topic == message.topic);
            let sent = messages.iter().filter_map(|message| Some((message, topic_of(message)?))).map(
                |(message, (_, name, publisher))| {
                    let published = publisher.publish(self.message(message));
                    async move { published.await.map_err(|error| (message, name, publisher, error)) }
                },
            );
            let failures: Vec<_> = join_all(sent).await.into_iter().filter_map(Result::err).collect();
            for (message, _, publisher, _) in &failures {
                // A key that failed once takes nothing more until it is told to.
                publisher.resume_publish(&message.key);
            }
            match failures.into_iter().next() {
                None => Ok(()),
                Some((_, name, _, PublishError::Rpc(error))) => Err(fault(name, &error)),
                Some((_, name, _, error)) => {
                    Err(Fault::indeterminate(ErrorType::Unavailable, format!("{name}: {error}")))
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("x{}", "ü".repeat(1000));
        assert_eq!(cut(&long).len(), 1023);
    }
}
