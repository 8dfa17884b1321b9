//! How Kafka is reached: `[kafka]` of the configuration, and what of it librdkafka is told.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use records::Lane;
use serde::Deserialize;

/// `[kafka]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaOptions {
    /// Brokers to begin with, as `host:port`, comma-separated.
    pub brokers: String,
    /// The consumer groups are this and the lane, so that a rebalance of one lane does not stop the other.
    pub group: String,
    /// The high lane's topic.
    pub high_topic: String,
    /// The low lane's topic.
    pub low_topic: String,
    /// Where outcomes are published; nowhere where it is not set.
    pub results_topic: Option<String>,
    /// Where events that ended as dead letters are published; nowhere where it is not set.
    pub dead_letters_topic: Option<String>,
    /// What librdkafka is told beside that, by its own names: `"security.protocol" = "SASL_SSL"`.
    pub options: BTreeMap<String, Setting>,
}

/// A value of librdkafka's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// As it stands.
    Text(String),
    /// As it stands.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
    /// `{ env = "NAME" }`: what that variable of the environment holds. Otherwise the rest of a name with dots, which TOML
    /// reads as tables where it is not quoted.
    Table(BTreeMap<String, Setting>),
}

/// Why Kafka cannot be asked at all. Never says a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Something has to be set.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// Both lanes would read one topic.
    #[error("kafka.high_topic and kafka.low_topic are both {0:?}: each lane needs a topic of its own")]
    SameTopic(String),
    /// It decides about promises of ours.
    #[error("kafka.options.{0:?} cannot be set: {1}")]
    Owned(String, &'static str),
    /// A secret in a file.
    #[error("kafka.options.{0:?} is a secret: put it in the environment, and write {{ env = \"NAME\" }} here")]
    Secret(String),
    /// A variable is not there.
    #[error("kafka.options.{0:?} is to come from the environment, where {1} is not set")]
    NoVariable(String, String),
    /// librdkafka's own reason.
    #[error("kafka: {0}")]
    Refused(String),
}

/// What a message's journey hangs on, and who decides about it.
const OWNED: [(&str, &str); 15] = [
    ("bootstrap.servers", "it is kafka.brokers"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("group.id", "it is kafka.group and the lane"),
    ("group.protocol", "partitions are handed over by the classic protocol"),
    ("partition.assignment.strategy", "it is cooperative-sticky, so that a rebalance moves only what has to move"),
    ("enable.auto.commit", "an offset is committed when its upload has its outcome, and only then"),
    ("auto.commit.enable", "an offset is committed when its upload has its outcome, and only then"),
    ("enable.auto.offset.store", "an offset is committed when its upload has its outcome, and only then"),
    ("auto.offset.reset", "it is earliest, so that nothing is left out"),
    ("enable.partition.eof", "the worker has to know when it is idle"),
    ("enable.idempotence", "outcomes are published by the idempotent producer"),
    ("acks", "outcomes are published with acks=all"),
    ("request.required.acks", "outcomes are published with acks=all"),
    ("transactional.id", "the store is the one place where an upload ends, not a transaction of Kafka's"),
    ("test.mock.num.brokers", "it would put a broker of no substance in the place of yours"),
];

/// What stands in the environment alone.
const SECRETS: [&str; 8] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            group: "tidemark".into(),
            high_topic: "uploads-high".into(),
            low_topic: "uploads-low".into(),
            results_topic: None,
            dead_letters_topic: None,
            options: BTreeMap::new(),
        }
    }
}

impl KafkaOptions {
    /// Whether anything is published here.
    pub fn publishes(&self) -> bool {
        self.results_topic.is_some() || self.dead_letters_topic.is_some()
    }

    /// Says what is wrong before anything is begun.
    ///
    /// # Errors
    /// [`OptionsError`], which names the key.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.brokers.trim().is_empty() {
            return Err(OptionsError::Missing("kafka.brokers", "name a broker or more, as \"host:9092\""));
        }
        for (key, value) in
            [("kafka.group", &self.group), ("kafka.high_topic", &self.high_topic), ("kafka.low_topic", &self.low_topic)]
        {
            if value.is_empty() {
                return Err(OptionsError::Missing(key, "it must have a name"));
            }
        }
        if self.high_topic == self.low_topic {
            return Err(OptionsError::SameTopic(self.high_topic.clone()));
        }
        self.settings().map(|_| ())
    }

    /// The topic of a lane.
    pub(super) fn topic(&self, lane: Lane) -> &str {
        match lane {
            Lane::High => &self.high_topic,
            Lane::Low => &self.low_topic,
        }
    }

    /// The consumer group of a lane.
    pub(super) fn group(&self, lane: Lane) -> String {
        format!("{}-{lane}", self.group)
    }

    /// What a lane's consumer is told. Up to 8 MiB are read ahead of whoever pulls. It asks the group all the time, so that
    /// others need not wait the usual 5 minutes for one that does not.
    pub(super) fn consumer(&self, lane: Lane) -> Result<ClientConfig, OptionsError> {
        self.client(&[
            ("group.id", &self.group(lane)),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
            ("max.poll.interval.ms", "60000"),
            ("queued.max.messages.kbytes", "8192"),
        ])
    }

    /// What the producer is told. Who waits for a broker that is away hears of it after 30 s.
    pub(super) fn producer(&self) -> Result<ClientConfig, OptionsError> {
        self.client(&[("enable.idempotence", "true"), ("acks", "all"), ("message.timeout.ms", "30000")])
    }

    fn client(&self, ours: &[(&str, &str)]) -> Result<ClientConfig, OptionsError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "tidemark");
        for (key, value) in ours {
            config.set(*key, *value);
        }
        // Those that decide are not among these.
        for (key, value) in self.settings()? {
            config.set(key, value);
        }
        Ok(config)
    }

    /// The options by their full names, with what the environment holds in its places.
    fn settings(&self) -> Result<BTreeMap<String, String>, OptionsError> {
        let mut settings = BTreeMap::new();
        for (key, setting) in &self.options {
            setting.lay_out(key, &mut settings)?;
        }
        Ok(settings)
    }
}

impl Setting {
    fn lay_out(&self, key: &str, into: &mut BTreeMap<String, String>) -> Result<(), OptionsError> {
        let value = match self {
            Self::Table(table) => match (table.len(), table.get("env")) {
                (1, Some(Self::Text(variable))) => {
                    std::env::var(variable).map_err(|_| OptionsError::NoVariable(key.to_owned(), variable.clone()))?
                }
                _ => return table.iter().try_for_each(|(name, rest)| rest.lay_out(&format!("{key}.{name}"), into)),
            },
            _ if SECRETS.contains(&key) => return Err(OptionsError::Secret(key.to_owned())),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        };
        if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == key) {
            return Err(OptionsError::Owned(key.to_owned(), reason));
        }
        into.insert(key.to_owned(), value);
        Ok(())
    }
}

impl From<KafkaError> for OptionsError {
    /// librdkafka's reason without the value, which may be a secret.
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, reason, key, value) => {
                // A secret may be anywhere in it; what is none stands in quotes, and "SSL" is a part of OpenSSL's name.
                let hidden = match SECRETS.contains(&key.as_str()) {
                    true => value,
                    false => format!("\"{value}\""),
                };
                let reason = if hidden.is_empty() { reason } else { reason.replace(&hidden, "…") };
                Self::Refused(with_mend(&format!("{key}: {reason}")))
            }
            KafkaError::ClientCreation(reason) => Self::Refused(with_mend(&reason)),
            other => Self::Refused(other.to_string()),
        }
    }
}

fn with_mend(reason: &str) -> String {
    if reason.contains("OpenSSL") || reason.contains("SASL") && reason.contains("not") {
        format!("{reason}; build with --features kafka-tls for TLS, SCRAM and OAUTHBEARER")
    } else {
        reason.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> KafkaOptions {
        toml::from_str(text).expect("TOML")
    }

    #[test]
    fn names_with_dots_need_no_quotes_and_secrets_come_from_the_environment() {
        let kafka = parse(
            "brokers = \"b:9092\"\n[options]\nsecurity.protocol = \"SASL_PLAINTEXT\"\n\"socket.timeout.ms\" = 5\n\
             api.version.request = true\nsasl.username = \"$ConnectionString\"\nsasl.password = { env = \"PATH\" }",
        );
        let settings = kafka.settings().expect("valid");
        let get = |key: &str| settings.get(key).map(String::as_str);
        assert_eq!(get("security.protocol"), Some("SASL_PLAINTEXT"));
        assert_eq!((get("socket.timeout.ms"), get("api.version.request")), (Some("5"), Some("true")));
        assert_eq!(get("sasl.username"), Some("$ConnectionString"));
        assert_eq!(get("sasl.password"), std::env::var("PATH").ok().as_deref());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_mend_and_no_secret_is_said() {
        for (text, names) in [
            ("group = \"g\"", "kafka.brokers"),
            ("brokers = \"b\"\nlow_topic = \"uploads-high\"", "kafka.low_topic"),
            ("brokers = \"b\"\n[options]\nenable.auto.commit = true", "enable.auto.commit"),
            ("brokers = \"b\"\n[options]\n\"group.id\" = \"x\"", "kafka.group"),
            ("brokers = \"b\"\n[options]\nsasl.password = \"hidden\"", "sasl.password"),
            ("brokers = \"b\"\n[options]\nsasl.password = { env = \"TIDEMARK_NO_SUCH\" }", "TIDEMARK_NO_SUCH"),
        ] {
            let error = parse(text).check().expect_err(text).to_string();
            assert!(error.contains(names) && !error.contains("hidden"), "{text}: {error}");
        }
    }

    #[test]
    fn librdkafka_s_reasons_keep_the_key_and_drop_the_value() {
        let kafka = parse("brokers = \"b:9092\"\n[options]\nno.such.key = 1");
        let error = kafka.producer().expect("names are librdkafka's").create_native_config().err().expect("refused");
        assert!(OptionsError::from(error).to_string().contains("no.such.key"));
        let hidden = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value \"hidden\"".into(),
            "sasl.password".into(),
            "hidden".into(),
        );
        assert!(!OptionsError::from(hidden).to_string().contains("hidden"));
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn tls_is_refused_with_its_mend_where_librdkafka_has_no_openssl() {
        for protocol in ["SSL", "ssl", "SASL_SSL"] {
            let kafka = parse(&format!("brokers = \"b:9093\"\n[options]\nsecurity.protocol = \"{protocol}\""));
            let config = kafka.consumer(Lane::Low).expect("names are librdkafka's");
            let error = OptionsError::from(config.create_native_config().err().expect("refused")).to_string();
            for part in ["security.protocol", "OpenSSL not available", "--features kafka-tls"] {
                assert!(error.contains(part), "{protocol}: {error}");
            }
        }
    }
}
