//! Makes what Tidemark needs in Pub/Sub: topics, and subscriptions that keep what nobody has worked on yet.

use std::fmt;
use std::time::Duration;

use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy, Subscription};
use records::{ErrorType, Fault};

use super::connection::{Connection, code, fault};

/// How long a message waits for a worker.
const RETENTION_S: i64 = 7 * 24 * 3600;
/// A message that was delivered so often kills whoever works on it: three attempts are counted by Tidemark, and none of those
/// that ended with a process.
const MAX_DELIVERY_ATTEMPTS: i32 = 100;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The topic and the subscription of each lane: high, low.
    pub lanes: [(String, String); 2],
    /// Topics that outcomes are published to.
    pub published: Vec<String>,
    /// The topic, and the subscription of the same name, for what was delivered too often.
    pub undeliverable: String,
    /// How long a message stays with a process that died.
    pub lease_s: u64,
    /// Whether lanes have exactly-once delivery.
    pub exactly_once: bool,
    /// Whether lanes keep the order of ordering keys.
    pub ordering: bool,
}

/// What became of one topic or subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is new.
    Made(String),
    /// It was there, as it should be.
    There(String),
    /// It was there, and is left as it was; how it differs.
    Differs(String, Vec<String>),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(name) => write!(f, "made     {name}"),
            Self::There(name) => write!(f, "is there {name}"),
            Self::Differs(name, how) => write!(f, "differs  {name}: {}", how.join("; ")),
        }
    }
}

/// Makes what is missing, and changes nothing that is there.
///
/// # Errors
/// Pub/Sub's; then the next call goes on.
pub async fn setup(connection: &Connection, layout: &Layout) -> Result<Vec<Found>, Fault> {
    let (topics, subscriptions) = (connection.topics().await?, connection.subscriptions().await?);
    let undeliverable = connection.topic(&layout.undeliverable);
    let mut found = vec![
        topic(&topics, undeliverable.clone()).await?,
        subscription(&subscriptions, kept(connection.subscription(&layout.undeliverable), undeliverable.clone()))
            .await?,
    ];
    for (topic_name, subscription_name) in &layout.lanes {
        let of = connection.topic(topic_name);
        found.push(topic(&topics, of.clone()).await?);
        let lane = kept(connection.subscription(subscription_name), of)
            .set_ack_deadline_seconds(i32::try_from(layout.lease_s).unwrap_or(600))
            .set_enable_exactly_once_delivery(layout.exactly_once)
            .set_enable_message_ordering(layout.ordering)
            .set_dead_letter_policy(
                DeadLetterPolicy::new()
                    .set_dead_letter_topic(&undeliverable)
                    .set_max_delivery_attempts(MAX_DELIVERY_ATTEMPTS),
            );
        found.push(subscription(&subscriptions, lane).await?);
    }
    for name in &layout.published {
        found.push(topic(&topics, connection.topic(name)).await?);
    }
    Ok(found)
}

/// A subscription that keeps messages for a week, and itself for ever.
fn kept(name: String, topic: String) -> Subscription {
    Subscription::new()
        .set_name(name)
        .set_topic(topic)
        .set_ack_deadline_seconds(60)
        .set_message_retention_duration(google_cloud_wkt::Duration::clamp(RETENTION_S, 0))
        .set_expiration_policy(ExpirationPolicy::new())
}

async fn topic(admin: &TopicAdmin, name: String) -> Result<Found, Fault> {
    match answer(&name, admin.create_topic().set_name(&name).send()).await? {
        Ok(_) => Ok(Found::Made(name)),
        Err(error) if code(&error) == "ALREADY_EXISTS" => Ok(Found::There(name)),
        Err(error) => Err(fault(&name, &error)),
    }
}

async fn subscription(admin: &SubscriptionAdmin, wanted: Subscription) -> Result<Found, Fault> {
    let name = wanted.name.clone();
    let made = admin.create_subscription().with_request(wanted.clone()).send();
    match answer(&name, made).await? {
        Ok(_) => return Ok(Found::Made(name)),
        Err(error) if code(&error) == "ALREADY_EXISTS" => {}
        Err(error) => return Err(fault(&name, &error)),
    }
    let there = answer(&name, admin.get_subscription().set_subscription(&name).send()).await?;
    let how = differences(&wanted, &there.map_err(|error| fault(&name, &error))?);
    Ok(if how.is_empty() { Found::There(name) } else { Found::Differs(name, how) })
}

async fn answer<T>(name: &str, answer: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .map_err(|_| Fault::retryable(ErrorType::Timeout, format!("{name}: Pub/Sub does not answer")))
}

/// In what a subscription is not as it should be. Pub/Sub leaves out what has its default.
fn differences(wanted: &Subscription, there: &Subscription) -> Vec<String> {
    let policy = |it: &Subscription| it.dead_letter_policy.clone().unwrap_or_default();
    let expiry = |it: &Subscription| match it.expiration_policy.as_ref().map(|policy| &policy.ttl) {
        Some(None) => "never".to_owned(),
        Some(Some(ttl)) => format!("after {} s unused", ttl.seconds()),
        None => "after 31 days unused".to_owned(),
    };
    let retention = |it: &Subscription| it.message_retention_duration.map_or(RETENTION_S, |it| it.seconds());
    let pairs = [
        ("its topic", there.topic.clone(), wanted.topic.clone()),
        ("ack_deadline_seconds", there.ack_deadline_seconds.to_string(), wanted.ack_deadline_seconds.to_string()),
        ("message_retention_duration, in s,", retention(there).to_string(), retention(wanted).to_string()),
        ("expiration", expiry(there), expiry(wanted)),
        (
            "enable_exactly_once_delivery",
            there.enable_exactly_once_delivery.to_string(),
            wanted.enable_exactly_once_delivery.to_string(),
        ),
        (
            "enable_message_ordering",
            there.enable_message_ordering.to_string(),
            wanted.enable_message_ordering.to_string(),
        ),
        ("dead_letter_topic", policy(there).dead_letter_topic, policy(wanted).dead_letter_topic),
        (
            "max_delivery_attempts",
            policy(there).max_delivery_attempts.to_string(),
            policy(wanted).max_delivery_attempts.to_string(),
        ),
    ];
    let differ = pairs.into_iter().filter(|(_, there, wanted)| there != wanted);
    differ.map(|(what, there, wanted)| format!("{what} is {there:?}, not {wanted:?}")).collect()
}
