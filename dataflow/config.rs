//! The configuration: one TOML file, every key with a default. `tidemark.toml` at the root of the repository shows them all.

mod alerts;
mod bigquery;
mod pubsub;
mod sections;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connectors::kafka::KafkaOptions;
use connectors::objects::ObjectsOptions;
use connectors::store::StoreUrl;
use connectors::webhook::WebhookAddress;
use models::local::{Device, LocalOptions, has_cuda};
use models::openai::OpenAiOptions;
use models::schema::MetadataSchema;
use models::{ModelError, nano};
use operators::{Arm, Experiment, LaneRules, RetryPolicy};
use serde::Deserialize;

use crate::cache::{CacheRules, Sharing};
use crate::process::Rules;

pub use alerts::AlertConfig;
pub use bigquery::BigQueryConfig;
pub use pubsub::{BucketConfig, PubSubConfig};
pub use sections::{
    AckChoice, ArmConfig, CacheConfig, DeviceChoice, ExperimentConfig, HttpConfig, LaneConfig, LanesConfig,
    ModelConfig, NamedModelConfig, ParquetConfig, ReportConfig, RetryConfig, SourceChoice, SourceConfig, SpoolConfig,
    StoreConfig, UnitChoice,
};

const MIB: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("more than 0");

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long what is in flight may take after a signal to stop; then it is given back.
    pub drain_timeout_s: u64,
    /// The self-hosted model.
    pub model: ModelConfig,
    /// Other models, which arms may ask, by names of the user's.
    pub models: BTreeMap<String, NamedModelConfig>,
    /// The two priorities.
    pub lanes: LanesConfig,
    /// The arms that uploads are drawn into.
    pub experiment: ExperimentConfig,
    /// The paid model. It is asked only where `OPENAI_API_KEY` is set in the environment.
    pub fallback: OpenAiOptions,
    /// What happens to an upload that failed.
    pub retry: RetryConfig,
    /// Where outcomes and the embedded queue are.
    pub store: StoreConfig,
    /// Where uploads come from.
    pub source: SourceConfig,
    /// The embedded queue.
    pub spool: SpoolConfig,
    /// Google Cloud Pub/Sub.
    pub pubsub: PubSubConfig,
    /// Kafka, where uploads come from there or outcomes are published there.
    pub kafka: KafkaOptions,
    /// Audio in buckets.
    pub objects: ObjectsOptions,
    /// Answers that are given again.
    pub cache: CacheConfig,
    /// Files of outcomes.
    pub parquet: ParquetConfig,
    /// Windows of outcomes.
    pub report: ReportConfig,
    /// Tables for analysts.
    pub bigquery: BigQueryConfig,
    /// What somebody is to be told of; without it, what [`Self::alert_rules`] says.
    pub alerts: Option<Vec<AlertConfig>>,
    /// Where that is told beside the log, by names of the user's.
    pub alert_webhooks: BTreeMap<String, WebhookAddress>,
    /// Metrics and health.
    pub http: HttpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            drain_timeout_s: 30,
            model: ModelConfig::default(),
            models: BTreeMap::new(),
            lanes: LanesConfig::default(),
            experiment: ExperimentConfig::default(),
            fallback: OpenAiOptions::default(),
            retry: RetryConfig::default(),
            store: StoreConfig::default(),
            source: SourceConfig::default(),
            spool: SpoolConfig::default(),
            pubsub: PubSubConfig::default(),
            kafka: KafkaOptions::default(),
            objects: ObjectsOptions::default(),
            cache: CacheConfig::default(),
            parquet: ParquetConfig::default(),
            report: ReportConfig::default(),
            bigquery: BigQueryConfig::default(),
            alerts: None,
            alert_webhooks: BTreeMap::new(),
            http: HttpConfig::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The file is no valid configuration.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key that is wrong, and why.
        reason: String,
    },
}

impl Config {
    /// Reads `file`; without one, `./tidemark.toml` where it exists, else the defaults. Relative paths in a file are
    /// relative to it.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new("tidemark.toml");
        let Some(path) = file.or_else(|| default.exists().then_some(default)) else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
            .map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| at_its_key(text, &error))?;
        config.check()?;
        config.store.url = config.store.url.map(|url| url.within(folder));
        let named = config.models.values_mut().map(|model| (&mut model.checkpoint, model.schema.as_mut()));
        for (checkpoint, schema) in named.chain([(&mut config.model.checkpoint, Some(&mut config.model.schema))]) {
            *checkpoint = checkpoint.take().map(|checkpoint| folder.join(checkpoint));
            if let Some(schema) = schema.filter(|schema| schema.ends_with(".json")) {
                *schema = folder.join(&*schema).to_string_lossy().into_owned();
            }
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let positive = [
            ("model.longest_audio_s", self.model.longest_audio_s),
            ("lanes.high.max_in_flight", self.lanes.high.max_in_flight as u64),
            ("lanes.low.max_in_flight", self.lanes.low.max_in_flight as u64),
            ("retry.max_attempts", u64::from(self.retry.max_attempts)),
            ("spool.lease_ms", self.spool.lease_ms / 1000),
            ("parquet.interval_s", self.parquet.interval_s),
            ("report.window_s", u64::from(self.report.window_s)),
            ("bigquery.interval_s", self.bigquery.interval_s),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} is too small: it must be at least 1 (spool.lease_ms at least 1000)"));
        }
        let thresholds = self.experiment.arms.iter().filter_map(|arm| arm.threshold);
        if let Some(threshold) = thresholds.chain([self.model.threshold]).find(|it| !(0.0..=1.0).contains(it)) {
            return Err(format!("a threshold is a confidence in [0, 1], not {threshold}"));
        }
        if self.source.ack == AckChoice::Admission && !matches!(self.store.url, Some(StoreUrl::Postgres(_))) {
            return Err(
                "source.ack is \"admission\", which wants a store that outlives this machine: set store.url to a \
                        postgres:// address, or source.ack to \"outcome\""
                    .to_owned(),
            );
        }
        self.pubsub.check(self.source.kind == SourceChoice::PubSub)?;
        if self.source.kind == SourceChoice::Kafka || self.kafka.publishes() {
            self.kafka.check().map_err(|error| error.to_string())?;
        }
        if let Some(url) =
            self.parquet.url.as_ref().filter(|url| !url.starts_with("gs://") && !url.starts_with("s3://"))
        {
            return Err(format!("parquet.url is {url:?}, and must begin with gs:// or s3://"));
        }
        self.objects.check().map_err(|error| format!("objects.{error}"))?;
        self.bigquery.check()?;
        self.alert_rules()?;
        self.fallback.check().map_err(|error| format!("fallback: {error}"))?;
        self.experiment().map(|_| ())
    }

    /// How uploads are drawn where no experiment runs.
    ///
    /// # Errors
    /// In words, where the arms have no weight.
    pub fn experiment(&self) -> Result<Experiment, String> {
        let arms = self.experiment.arms.iter().map(|arm| self.arm(arm, None)).collect::<Result<_, _>>();
        arms.and_then(|arms| Experiment::new(self.experiment.salt.clone(), self.experiment.unit.into(), arms))
            .map_err(|error| format!("experiment.arms: {error}"))
    }

    /// An arm as the graph takes it, with the usual model, prompt and threshold where it has none of its own.
    ///
    /// # Errors
    /// In words, where its model is none of the configuration's.
    pub fn arm(&self, arm: &ArmConfig, experiment: Option<&str>) -> Result<Arm, String> {
        if let Some(model) = arm.model.as_ref().filter(|model| !self.models.contains_key(*model)) {
            return Err(format!(
                "the arm {} asks the model {model}, which the configuration lacks: add a [models.{model}]",
                arm.name
            ));
        }
        Ok(Arm {
            experiment: experiment.map(str::to_owned),
            name: arm.name.clone(),
            weight: arm.weight,
            model: arm.model.clone(),
            prompt: arm.prompt.as_ref().unwrap_or(&self.model.prompt).as_str().into(),
            threshold: arm.threshold.unwrap_or(self.model.threshold),
        })
    }

    /// The configuration with a model of `[models]` as the usual one.
    pub fn with_model(&self, named: &NamedModelConfig) -> Self {
        let mut config = self.clone();
        let NamedModelConfig { checkpoint, schema, max_batch, kv_memory_mb } = named.clone();
        config.model.checkpoint = checkpoint.or(config.model.checkpoint);
        config.model.schema = schema.unwrap_or(config.model.schema);
        config.model.max_batch = max_batch.unwrap_or(config.model.max_batch);
        config.model.kv_memory_mb = kv_memory_mb.or(config.model.kv_memory_mb);
        config
    }

    /// Who is served first.
    pub fn lane_rules(&self) -> LaneRules {
        LaneRules {
            high_tiers: self.lanes.high_tiers.clone(),
            high_modes: self.lanes.high_modes.clone(),
            high_slo_ms: self.lanes.high.slo_ms,
            low_slo_ms: self.lanes.low.slo_ms,
        }
    }

    /// What the graph decides by.
    ///
    /// # Errors
    /// In words, where the arms have no weight.
    pub fn rules(&self) -> Result<Rules, String> {
        Ok(Rules {
            lanes: self.lane_rules(),
            experiment: self.experiment()?.into(),
            retry: RetryPolicy {
                max_attempts: self.retry.max_attempts,
                base_ms: self.retry.base_ms,
                max_ms: self.retry.max_ms,
            },
        })
    }

    /// How answers are given again, where they are. `models`: what tells the answers of the usual models and of each named one
    /// from others'.
    pub fn cache_rules(&self, models: BTreeMap<Option<String>, Vec<u8>>) -> Option<CacheRules> {
        self.cache.enabled.then(|| CacheRules {
            sharing: match self.cache.share_between_customers {
                true => Sharing::BetweenCustomers,
                false => Sharing::WithinCustomer,
            },
            ttl_ms: u64::from(self.cache.ttl_days) * 86_400_000,
            models,
            longest_audio: Duration::from_secs(self.model.longest_audio_s),
        })
    }

    /// The folder of the checkpoint: `nano` is laid into the user's cache.
    ///
    /// # Errors
    /// [`ModelError::Write`] where the cache cannot be written.
    pub fn checkpoint(&self) -> Result<PathBuf, ModelError> {
        let cache = || {
            let folder = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
            let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
            cache.unwrap_or_else(std::env::temp_dir).join("tidemark")
        };
        self.model.checkpoint.clone().map_or_else(|| nano::unpack(&cache()), Ok)
    }

    /// The self-hosted model, with answers of `schema`.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub fn local_model(&self, schema: Arc<MetadataSchema>) -> Result<LocalOptions, ModelError> {
        let device = match self.model.device {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda => Device::Cuda,
            DeviceChoice::Auto if has_cuda() => Device::Cuda,
            DeviceChoice::Auto => Device::Cpu,
        };
        Ok(LocalOptions {
            checkpoint: self.checkpoint()?,
            name: None,
            device,
            dtype: self.model.precision,
            schema,
            max_batch: self.model.max_batch,
            kv_bytes: self.model.kv_memory_mb.map(|mb| mb.saturating_mul(MIB)),
            max_segments: self.model.max_segments,
            longest_audio: Duration::from_secs(self.model.longest_audio_s),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        })
    }
}

/// The error with its line and key, and without the value, which may hold a password.
pub(crate) fn at_its_key(text: &str, error: &toml::de::Error) -> String {
    let begin = error.span().map_or(0, |span| span.start);
    let before = text.get(..begin).unwrap_or_default();
    let line = text.lines().nth(before.matches('\n').count()).unwrap_or_default();
    let key = line.split_once('=').map_or("", |(key, _)| key).trim();
    let number = before.matches('\n').count() + 1;
    format!("line {number}, {key}: {}", error.message()).replace(", :", ":")
}

#[cfg(test)]
mod tests {
    use super::sections::{HIGH, LOW};
    use super::*;

    /// The file that a newcomer edits. Keys without a default are commented out in it.
    const COMMENTED: &str = include_str!("../tidemark.toml");

    #[test]
    fn the_commented_configuration_shows_every_key_at_its_default() {
        assert_eq!(Config::parse(COMMENTED, Path::new("")), Ok(Config::default()));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_line() {
        let error =
            Config::parse("drain_timeout_s = 5\n[model]\ncheckpiont = \"x\"\n", Path::new("")).expect_err("refused");
        assert!(error.contains("checkpiont") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_by_key() {
        for (text, names) in [
            ("[model]\nmax_batch = 0", "max_batch"),
            ("[model]\nthreshold = 1.5", "1.5"),
            ("[model]\ndevice = \"tpu\"", "tpu"),
            ("[lanes]\nhigh_tiers = [\"gold\"]", "gold"),
            ("[lanes.high]\nslo = 1000", "slo"),
            ("[fallback]\nmodel = \"gpt-9\"", "fallback: "),
            ("[[experiment.arms]]\nname = \"a\"\nweight = 0", "experiment.arms"),
            ("[retry]\nmax_attempts = 0", "retry.max_attempts"),
            ("[spool]\nlease_ms = 10", "spool.lease_ms"),
            ("[report]\nwindow_s = 0", "report.window_s"),
            ("[http]\nlisten = \"9464\"", "listen"),
            ("[parquet]\nurl = \"/data\"", "parquet.url"),
            ("[objects]\nlargest_mb = 0", "objects.largest_mb"),
            ("[objects]\nmax_disk_mb = 10", "objects.max_disk_mb"),
            ("[objects]\ngcs_endpoint = \"127.0.0.1:4443\"", "objects.gcs_endpoint"),
            ("[store]\nurl = \"mysql://t@db/t\"", "url"),
            ("[source]\nkind = \"rabbit\"", "kind"),
            ("[source]\nack = \"admission\"", "store.url"),
            ("[source]\nkind = \"pubsub\"", "pubsub.project"),
            ("[pubsub]\nresults_topic = \"results\"", "pubsub.project"),
            ("[pubsub]\nalerts_topic = \"alerts\"", "pubsub.project"),
            ("[pubsub]\nlease_s = 5", "pubsub.lease_s"),
            ("[pubsub.bucket]\ntier = \"gold\"", "gold"),
            ("[bigquery]\nwrite = \"insert_all\"", "insert_all"),
            ("[bigquery]\nproject = \"p\"\ninterval_s = 30", "1,500 load jobs"),
            ("[bigquery]\nproject = \"My Project\"", "bigquery.project"),
            ("[bigquery]\nproject = \"p\"\ndataset = \"a-b\"", "bigquery.dataset"),
        ] {
            let error = Config::parse(text, Path::new("")).expect_err(text);
            assert!(error.contains(names), "{text}: {error}");
        }
    }

    #[test]
    fn a_lane_that_is_set_in_part_keeps_its_other_defaults() {
        let config = Config::parse("[lanes.high]\nslo_ms = 2000\n[lanes.low]\nmax_in_flight = 7", Path::new(""));
        let lanes = config.expect("valid").lanes;
        assert_eq!(lanes.high, LaneConfig { slo_ms: 2_000, ..HIGH });
        assert_eq!(lanes.low, LaneConfig { max_in_flight: 7, ..LOW });
    }

    #[test]
    fn a_password_in_the_file_is_never_shown() {
        for wrong in [
            "url = \"postgres://t:hidden@db:port/t\"",
            "url = \"postgres://t:hidden@db/t?sslmod=require\"",
            "url = postgres://t:hidden@db/t",
            "uri = \"postgres://t:hidden@db/t\"",
        ] {
            let error = Config::parse(&format!("[store]\n{wrong}"), Path::new("")).expect_err(wrong);
            assert!(error.contains("line 2, ur") && !error.contains("hidden"), "{wrong}: {error}");
        }
        let config = Config::parse("[store]\nurl = \"postgres://t:hidden@db/t\"", Path::new("")).expect("valid");
        let shown = format!("{config:?}");
        assert!(shown.contains("postgres://t@db:5432/t") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn paths_in_a_file_are_relative_to_it() {
        let text = "[model]\ncheckpoint = \"nano\"\nschema = \"s.json\"\n[store]\nurl = \"sqlite://s.db\"";
        let config = Config::parse(text, Path::new("/etc/tidemark")).expect("valid");
        assert_eq!(config.store.url, Some("/etc/tidemark/s.db".parse().expect("a path")));
        assert_eq!(config.model.checkpoint, Some("/etc/tidemark/nano".into()));
        assert_eq!(config.model.schema, "/etc/tidemark/s.json");
    }
}
