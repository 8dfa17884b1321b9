//! The sections of the configuration, each key with its meaning and its default.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use connectors::store::StoreUrl;
use models::local::Dtype;
use operators::Unit;
use records::{Mode, Tier};
use serde::{Deserialize, Deserializer, Serialize};

/// `[model]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A Qwen2-Audio checkpoint in the hub's layout; without one, `nano`, which is in the program.
    pub checkpoint: Option<PathBuf>,
    /// `music-basic`, `music`, or a JSON Schema file.
    pub schema: String,
    /// What the model is asked.
    pub prompt: String,
    /// Below this confidence the fallback is asked; in [0, 1].
    pub threshold: f64,
    /// `auto` takes a GPU where there is one.
    pub device: DeviceChoice,
    /// Numbers to compute in; `auto` takes the faster ones.
    pub precision: Dtype,
    /// Clips that the model answers at once; urgent ones come on top, up to as many again.
    pub max_batch: NonZeroUsize,
    /// The most memory for keys and values, in MiB; without it, what `max_batch` of the longest clips and answers need, but
    /// at most half of the memory that is free, on a GPU nine tenths.
    pub kv_memory_mb: Option<NonZeroUsize>,
    /// Of longer audio, at most this many clips as long as the model hears, spread evenly, are described.
    pub max_segments: NonZeroUsize,
    /// Longer audio is dead-lettered.
    pub longest_audio_s: u64,
}

const MAX_BATCH: NonZeroUsize = NonZeroUsize::new(8).expect("more than 0");
const MAX_SEGMENTS: NonZeroUsize = NonZeroUsize::new(4).expect("more than 0");

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            checkpoint: None,
            schema: "music-basic".into(),
            prompt: "Describe this audio as JSON.".into(),
            threshold: 0.80,
            device: DeviceChoice::Auto,
            precision: Dtype::Auto,
            max_batch: MAX_BATCH,
            kv_memory_mb: None,
            max_segments: MAX_SEGMENTS,
            longest_audio_s: 7200,
        }
    }
}

/// `[models.NAME]`: a model that arms may ask in place of the usual one. What is not set is as in `[model]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamedModelConfig {
    /// In place of `model.checkpoint`.
    pub checkpoint: Option<PathBuf>,
    /// In place of `model.schema`.
    pub schema: Option<String>,
    /// In place of `model.max_batch`.
    pub max_batch: Option<NonZeroUsize>,
    /// In place of `model.kv_memory_mb`.
    pub kv_memory_mb: Option<NonZeroUsize>,
}

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A GPU where there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU; an error where there is none.
    Cuda,
}

/// `[lanes]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanesConfig {
    /// Tiers of the high lane.
    pub high_tiers: Vec<Tier>,
    /// Modes of the high lane.
    pub high_modes: Vec<Mode>,
    /// The high lane.
    #[serde(deserialize_with = "high_lane")]
    pub high: LaneConfig,
    /// The low lane.
    #[serde(deserialize_with = "low_lane")]
    pub low: LaneConfig,
}

pub(super) const HIGH: LaneConfig = LaneConfig { slo_ms: 1_000, max_in_flight: 64 };
pub(super) const LOW: LaneConfig = LaneConfig { slo_ms: 600_000, max_in_flight: 256 };

impl Default for LanesConfig {
    fn default() -> Self {
        Self { high_tiers: vec![Tier::Enterprise], high_modes: vec![Mode::Realtime], high: HIGH, low: LOW }
    }
}

/// `[lanes.high]`, `[lanes.low]`
#[derive(Clone, Debug, PartialEq)]
pub struct LaneConfig {
    /// From arrival to outcome.
    pub slo_ms: u64,
    /// Uploads pulled and not yet finished.
    pub max_in_flight: usize,
}

impl LaneConfig {
    /// Reads what a file sets, over the lane's own defaults.
    fn over<'de, D: Deserializer<'de>>(self, file: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Set {
            slo_ms: Option<u64>,
            max_in_flight: Option<usize>,
        }
        let Set { slo_ms, max_in_flight } = Set::deserialize(file)?;
        Ok(Self { slo_ms: slo_ms.unwrap_or(self.slo_ms), max_in_flight: max_in_flight.unwrap_or(self.max_in_flight) })
    }
}

fn high_lane<'de, D: Deserializer<'de>>(file: D) -> Result<LaneConfig, D::Error> {
    HIGH.over(file)
}

fn low_lane<'de, D: Deserializer<'de>>(file: D) -> Result<LaneConfig, D::Error> {
    LOW.over(file)
}

/// `[experiment]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExperimentConfig {
    /// Another salt draws anew.
    pub salt: String,
    /// What is drawn as one.
    pub unit: UnitChoice,
    /// The arms.
    pub arms: Vec<ArmConfig>,
}

impl Default for ExperimentConfig {
    fn default() -> Self {
        let arm =
            |name: &str, weight| ArmConfig { name: name.into(), weight, model: None, prompt: None, threshold: None };
        let arms = vec![arm("primary", 90), arm("experimental", 10)];
        Self { salt: "tidemark".into(), unit: UnitChoice::Customer, arms }
    }
}

/// What is drawn into an arm as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitChoice {
    /// All uploads of a customer.
    Customer,
    /// Each upload.
    Upload,
}

impl From<UnitChoice> for Unit {
    fn from(choice: UnitChoice) -> Self {
        match choice {
            UnitChoice::Customer => Self::Customer,
            UnitChoice::Upload => Self::Upload,
        }
    }
}

/// `[[experiment.arms]]`, and `[[arms]]` of an experiment's definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmConfig {
    /// Its name in outcomes.
    pub name: String,
    /// Its share, relative to the other arms' weights.
    pub weight: u32,
    /// A model of `[models]`, in place of the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// In place of the model's prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// In place of the model's threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// `[retry]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Failed attempts before the dead letter.
    pub max_attempts: u32,
    /// The pause after the first; it doubles with each.
    pub base_ms: u64,
    /// The longest pause.
    pub max_ms: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { max_attempts: 3, base_ms: 1_000, max_ms: 60_000 }
    }
}

/// `[store]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// A file, or a database on a Postgres server; without it, `tidemark.db` in the data folder.
    pub url: Option<StoreUrl>,
}

/// `[source]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Which system brings uploads. What is redriven or enqueued by hand waits in the embedded queue, which is worked in
    /// any case.
    pub kind: SourceChoice,
    /// When a broker's message is acknowledged.
    pub ack: AckChoice,
}

/// Which system brings uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceChoice {
    /// The embedded queue alone.
    #[default]
    Spool,
    /// Google Cloud Pub/Sub.
    #[serde(rename = "pubsub")]
    PubSub,
    /// Two topics of Kafka.
    Kafka,
}

/// When a broker's message is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckChoice {
    /// When its upload has its outcome.
    #[default]
    Outcome,
    /// When it is in the embedded queue, in a database that outlives this machine; every worker may take it from there.
    Admission,
}

/// `[spool]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// How long a worker that died keeps its uploads from others.
    pub lease_ms: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { lease_ms: 30_000 }
    }
}

/// `[parquet]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetConfig {
    /// `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX`; without it, the data folder.
    pub url: Option<String>,
    /// How often committed outcomes are written out.
    pub interval_s: u64,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self { url: None, interval_s: 30 }
    }
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Whether answers are given again.
    pub enabled: bool,
    /// Whether a customer may be given the answer to another one's upload.
    pub share_between_customers: bool,
    /// How long an answer is given again.
    pub ttl_days: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { enabled: true, share_between_customers: false, ttl_days: 30 }
    }
}

/// `[report]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// How wide windows are.
    pub window_s: u32,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { window_s: 60 }
    }
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// `/metrics`, `/healthz`, `/readyz`.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}
