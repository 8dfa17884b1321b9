//! Kafka as a sink: messages by the idempotent producer, keyed by upload, their attributes as headers.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use records::Fault;

use super::fault::fault;
use super::options::{KafkaOptions, OptionsError};
use crate::sink::{Message, Sink, Topic};

/// Topics for outcomes.
pub struct KafkaSink {
    options: KafkaOptions,
    producer: Mutex<Arc<FutureProducer>>,
}

impl KafkaSink {
    /// A sink for the topics that the options name. A broker that is away is no error: publishing tells of it.
    ///
    /// # Errors
    /// [`OptionsError`], where something in the options can never work.
    pub fn new(options: &KafkaOptions) -> Result<Self, OptionsError> {
        options.check()?;
        let producer = Mutex::new(Arc::new(options.producer()?.create()?));
        Ok(Self { options: options.clone(), producer })
    }

    fn topic(&self, topic: Topic) -> Option<&str> {
        match topic {
            Topic::Results => self.options.results_topic.as_deref(),
            Topic::DeadLetters => self.options.dead_letters_topic.as_deref(),
            Topic::Alerts => None,
        }
    }

    /// One that works: librdkafka's idempotent producer says that it is over where it can no longer keep its promise.
    fn producer(&self) -> Result<Arc<FutureProducer>, Fault> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if producer.client().fatal_error().is_some() {
            let anew = self.options.producer().and_then(|config| Ok(config.create()?));
            *producer = Arc::new(anew.map_err(|error| {
                Fault::retryable(records::ErrorType::Unavailable, format!("cannot begin to publish anew: {error}"))
            })?);
        }
        Ok(Arc::clone(&producer))
    }
}

fn headers(message: &Message) -> OwnedHeaders {
    let all = OwnedHeaders::new_with_capacity(message.attributes.len());
    message.attributes.iter().fold(all, |all, (key, value)| all.insert(Header { key, value: Some(value) }))
}

impl Sink for KafkaSink {
    fn name(&self) -> &str {
        "kafka"
    }

    fn takes(&self, topic: Topic) -> bool {
        self.topic(topic).is_some()
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let producer = self.producer()?;
            let mut reports = Vec::with_capacity(messages.len());
            for message in messages {
                let Some(topic) = self.topic(message.topic) else { continue };
                let failed = move |error: &KafkaError| fault(&format!("publish {} to {topic}", message.key), error);
                let record =
                    FutureRecord::to(topic).key(&message.key).payload(&message.payload).headers(headers(message));
                let sent = producer.send_result(record).map_err(|(error, _)| failed(&error))?;
                reports.push(sent.map(move |report| match report {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((error, _))) => Err(failed(&error)),
                    Err(_) => Err(failed(&KafkaError::Canceled)),
                }));
            }
            join_all(reports).await.into_iter().collect()
        }
        .boxed()
    }
}
