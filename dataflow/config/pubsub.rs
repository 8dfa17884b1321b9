//! `[pubsub]`: Google Cloud Pub/Sub as the source, and topics that outcomes are published to.

use connectors::pubsub::{Connection, LaneOptions, Layout, PubSubOptions};
use connectors::sink::Topic;
use records::{Mode, ObjectDefaults, Tier};
use serde::Deserialize;

use super::LanesConfig;

/// `[pubsub]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PubSubConfig {
    /// The Google Cloud project.
    pub project: Option<String>,
    /// Another place than Google's global one; an `http://` address is an emulator.
    pub endpoint: Option<String>,
    /// The subscription of each lane.
    pub high_subscription: String,
    /// The low lane's.
    pub low_subscription: String,
    /// The topic of each lane, which only `tidemark pubsub setup` wants to know.
    pub high_topic: String,
    /// The low lane's.
    pub low_topic: String,
    /// Where Pub/Sub itself puts what it delivered a hundred times: messages that kill whoever works on them.
    pub undeliverable_topic: String,
    /// Outcomes are published here; without it, nowhere.
    pub results_topic: Option<String>,
    /// The events of dead letters are published here; without it, nowhere.
    pub dead_letters_topic: Option<String>,
    /// Alerts are published here; without it, nowhere.
    pub alerts_topic: Option<String>,
    /// How long a message stays with a process that died; 10 to 600.
    pub lease_s: u64,
    /// Set up subscriptions with exactly-once delivery.
    pub exactly_once: bool,
    /// Set up subscriptions that keep the order of ordering keys, and publish outcomes under the upload's id as such a key.
    pub ordering: bool,
    /// Notifications of buckets.
    pub bucket: BucketConfig,
}

impl Default for PubSubConfig {
    fn default() -> Self {
        Self {
            project: None,
            endpoint: None,
            high_subscription: "tidemark-high".into(),
            low_subscription: "tidemark-low".into(),
            high_topic: "uploads-high".into(),
            low_topic: "uploads-low".into(),
            undeliverable_topic: "tidemark-undeliverable".into(),
            results_topic: None,
            dead_letters_topic: None,
            alerts_topic: None,
            lease_s: 60,
            exactly_once: false,
            ordering: false,
            bucket: BucketConfig::default(),
        }
    }
}

/// `[pubsub.bucket]`: what an object's custom metadata may say, and what is taken where it does not.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BucketConfig {
    /// The customer; without it, the first segment of the object's name.
    pub customer_id: Option<String>,
    /// The tier.
    pub tier: Tier,
    /// The mode.
    pub mode: Mode,
}

impl Default for BucketConfig {
    fn default() -> Self {
        Self { customer_id: None, tier: Tier::Free, mode: Mode::Bulk }
    }
}

impl PubSubConfig {
    pub(super) fn check(&self, is_source: bool) -> Result<(), String> {
        if !(10..=600).contains(&self.lease_s) {
            return Err(format!("pubsub.lease_s is {}, and has to be 10 to 600", self.lease_s));
        }
        if self.project.is_none() && (is_source || self.published().next().is_some()) {
            return Err("pubsub.project is not set: set it to the id of your Google Cloud project".to_owned());
        }
        Ok(())
    }

    /// Where it is; the emulator's address (`PUBSUB_EMULATOR_HOST`), if there is one, goes before the file's.
    ///
    /// # Errors
    /// In words, where no project is named.
    pub fn connection(&self, emulator: Option<String>) -> Result<Connection, String> {
        self.check(true)?;
        let emulator = emulator.filter(|host| !host.is_empty()).map(|host| format!("http://{host}"));
        Ok(Connection::new(self.project.clone().unwrap_or_default(), emulator.or_else(|| self.endpoint.clone())))
    }

    /// How the source reads, holding no more than its lanes may have in flight.
    pub fn source(&self, lanes: &LanesConfig) -> PubSubOptions {
        let lane = |subscription: &String, max_outstanding| LaneOptions {
            subscription: subscription.clone(),
            max_outstanding,
        };
        let BucketConfig { customer_id, tier, mode } = self.bucket.clone();
        PubSubOptions {
            lanes: [
                lane(&self.high_subscription, lanes.high.max_in_flight),
                lane(&self.low_subscription, lanes.low.max_in_flight),
            ],
            lease_s: self.lease_s,
            objects: ObjectDefaults { customer_id, tier, mode },
        }
    }

    /// The topics that outcomes are published to.
    pub fn topics(&self) -> Vec<(Topic, String)> {
        [(Topic::Results, &self.results_topic), (Topic::DeadLetters, &self.dead_letters_topic)]
            .into_iter()
            .filter_map(|(topic, name)| Some((topic, name.clone()?)))
            .collect()
    }

    /// All topics that are published to.
    fn published(&self) -> impl Iterator<Item = &String> {
        [&self.results_topic, &self.dead_letters_topic, &self.alerts_topic].into_iter().flatten()
    }

    /// What `tidemark pubsub setup` makes.
    pub fn layout(&self) -> Layout {
        Layout {
            lanes: [
                (self.high_topic.clone(), self.high_subscription.clone()),
                (self.low_topic.clone(), self.low_subscription.clone()),
            ],
            published: self.published().cloned().collect(),
            undeliverable: self.undeliverable_topic.clone(),
            lease_s: self.lease_s,
            exactly_once: self.exactly_once,
            ordering: self.ordering,
        }
    }
}
