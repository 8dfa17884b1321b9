//! Starts what commands share: the store, the models, a worker.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use connectors::kafka::{KafkaSink, KafkaSource};
use connectors::objects::Objects;
use connectors::parquet::ParquetExport;
use connectors::pubsub::{Connection, PubSub, PubSubSink};
use connectors::sink::{Sink, Topic};
use connectors::source::Source;
use connectors::store::{Store, StoreUrl};
use models::Annotator;
use models::calibration::Calibration;
use models::local::{LocalModel, LocalOptions};
use models::openai::{OpenAi, SecretString, Time};
use models::qwen2_audio::{Description, fingerprint};
use models::schema::MetadataSchema;
use tidemark::alerts::tell::Log;
use tidemark::cache::Cache;
use tidemark::clock::now;
use tidemark::config::{Config, SourceChoice};
use tidemark::health::Health;
use tidemark::metrics::Metrics;
use tidemark::worker::{ByArm, Parts};

use super::Common;

/// Below this a network has no room for what music is; a random one of the test data has 0.4 million.
const FEWEST_PARAMETERS: u64 = 1_000_000;

/// The models of a configuration.
pub(super) struct Models {
    pub(super) usual: Model,
    /// Those of `[models]`.
    pub(super) named: BTreeMap<String, Model>,
}

/// A self-hosted model, and the paid one as it is asked in its place.
pub(super) struct Model {
    pub(super) primary: Arc<LocalModel>,
    pub(super) fallback: Option<Arc<OpenAi>>,
    /// What tells their answers from other models'.
    pub(super) identity: Vec<u8>,
}

impl Models {
    fn all(&self) -> impl Iterator<Item = &Model> {
        [&self.usual].into_iter().chain(self.named.values())
    }

    /// A self-hosted model that works no longer.
    pub(super) fn broken(&self) -> Option<&LocalModel> {
        self.all().map(|model| &*model.primary).find(|model| !model.is_healthy())
    }
}

/// Where the store is.
pub(super) fn store_url(config: &Config, data: &Path) -> StoreUrl {
    config.store.url.clone().unwrap_or_else(|| StoreUrl::Sqlite(data.join("tidemark.db")))
}

/// Opens the store, which is made where it is missing, and so is the folder `data`.
pub(super) async fn store(config: &Config, data: &Path) -> anyhow::Result<Store> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the folder {}", data.display()))?;
    Ok(Store::open(store_url(config, data)).await?)
}

/// Opens the store, which must be there: whoever looks for outcomes in the wrong folder should hear of it.
pub(super) async fn existing_store(common: &Common) -> anyhow::Result<Store> {
    let config = Config::load(common.config.as_deref())?;
    let url = store_url(&config, &common.data);
    if let StoreUrl::Sqlite(path) = &url
        && !path.exists()
    {
        bail!("there is no store at {url}: name its folder with --data, or enqueue something first");
    }
    Ok(Store::open(url).await?)
}

/// The key of the paid model, where there is one.
pub(super) fn openai_key() -> Option<SecretString> {
    std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty()).map(SecretString::from)
}

/// Loads the checkpoints, and takes the paid model where there is a key for it.
pub(super) async fn models(config: &Config) -> anyhow::Result<Models> {
    models_with(config, openai_key()).await
}

/// Loads the checkpoints, and takes the paid model where `key` is one.
pub(super) async fn models_with(config: &Config, key: Option<SecretString>) -> anyhow::Result<Models> {
    let schema = Arc::new(MetadataSchema::load(&config.model.schema)?);
    let paid = |key| OpenAi::new(config.fallback.clone(), &key, Arc::clone(&schema), Time::real(now));
    let paid = key.map(paid).transpose()?.map(Arc::new);
    let usual = model(config, schema, paid.clone()).await?;
    let mut named = BTreeMap::new();
    for (name, of) in &config.models {
        let config = config.with_model(of);
        let cannot = || format!("cannot start models.{name}");
        let schema = Arc::new(MetadataSchema::load(&config.model.schema).with_context(cannot)?);
        let paid = paid.as_ref().map(|paid| Arc::new(paid.with_schema(Arc::clone(&schema))));
        named.insert(name.clone(), model(&config, schema, paid).await.with_context(cannot)?);
    }
    Ok(Models { usual, named })
}

/// Loads the checkpoint of a configuration's usual model.
async fn model(config: &Config, schema: Arc<MetadataSchema>, fallback: Option<Arc<OpenAi>>) -> anyhow::Result<Model> {
    let options = config.local_model(schema)?;
    let dir = &options.checkpoint;
    if !dir.is_dir() {
        bail!("the checkpoint {} is no folder: set it to a Qwen2-Audio checkpoint", dir.display());
    }
    let description = Description::read(dir)?;
    if description.parameters() < FEWEST_PARAMETERS {
        tracing::warn!(
            checkpoint = %dir.display(), parameters = description.parameters(),
            "this checkpoint is too small to know anything: its answers are noise"
        );
    }
    let identity = identity(config, &options, fallback.as_deref())?;
    let primary = tokio::task::spawn_blocking(move || LocalModel::start(options, Arc::new(now))).await??;
    Ok(Model { primary: Arc::new(primary), fallback, identity })
}

/// All that an answer and its confidence come from beside the audio and the arm: weights, schema, calibration, how much is
/// heard, and who is asked in doubt.
fn identity(config: &Config, options: &LocalOptions, fallback: Option<&OpenAi>) -> anyhow::Result<Vec<u8>> {
    let calibration = match std::fs::read_to_string(options.checkpoint.join(Calibration::FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        read => Some(read?),
    };
    let parts = serde_json::json!({
        "weights": fingerprint(&options.checkpoint)?,
        "schema": options.schema.json(),
        "calibration": calibration,
        "max_segments": config.model.max_segments,
        "fallback": fallback.map(|model| (model.model(), &config.fallback.base_url)),
    });
    Ok(serde_json::to_vec(&parts)?)
}

/// The system that brings uploads, where it is another one than the store.
pub(super) async fn broker(config: &Config) -> anyhow::Result<Option<Arc<dyn Source>>> {
    match config.source.kind {
        SourceChoice::Spool => Ok(None),
        SourceChoice::PubSub => {
            Ok(Some(Arc::new(PubSub::open(&pubsub(config)?, config.pubsub.source(&config.lanes)).await?)))
        }
        SourceChoice::Kafka => Ok(Some(Arc::new(KafkaSource::start(&config.kafka)?))),
    }
}

/// Where outcomes are published.
pub(super) async fn sinks(config: &Config) -> anyhow::Result<Vec<Arc<dyn Sink>>> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    let topics = config.pubsub.topics();
    if !topics.is_empty() {
        sinks.push(Arc::new(PubSubSink::open(&pubsub(config)?, topics, config.pubsub.ordering).await?));
    }
    if config.kafka.publishes() {
        sinks.push(Arc::new(KafkaSink::new(&config.kafka)?));
    }
    Ok(sinks)
}

/// Who is told of alerts.
pub(super) async fn alert_targets(config: &Config) -> anyhow::Result<Vec<Arc<dyn Sink>>> {
    let mut targets: Vec<Arc<dyn Sink>> = vec![Arc::new(Log)];
    let webhooks = config.webhooks().map_err(anyhow::Error::msg)?;
    targets.extend(webhooks.into_iter().map(|webhook| Arc::new(webhook) as Arc<dyn Sink>));
    if let Some(topic) = &config.pubsub.alerts_topic {
        let topics = [(Topic::Alerts, topic.clone())];
        targets.push(Arc::new(PubSubSink::open(&pubsub(config)?, topics, config.pubsub.ordering).await?));
    }
    Ok(targets)
}

/// Where Pub/Sub is.
pub(super) fn pubsub(config: &Config) -> anyhow::Result<Connection> {
    config.pubsub.connection(std::env::var("PUBSUB_EMULATOR_HOST").ok()).map_err(anyhow::Error::msg)
}

/// Where audio comes from, and Parquet files may go; what is fetched lies in `data/tmp`.
pub(super) fn objects(config: &Config, data: &Path) -> Arc<Objects> {
    Arc::new(Objects::new(config.objects.clone(), data.join("tmp")))
}

/// Where Parquet files of outcomes and of windows go.
pub(super) fn parquet(
    config: &Config,
    store: &Store,
    (objects, data): (&Objects, &Path),
) -> anyhow::Result<(ParquetExport, ParquetExport)> {
    let Some(url) = &config.parquet.url else {
        return Ok((ParquetExport::new(store.clone(), data), ParquetExport::windows(store.clone(), data)));
    };
    let opened = ParquetExport::into_bucket(store.clone(), objects, url)
        .and_then(|outcomes| Ok((outcomes, ParquetExport::windows_into_bucket(store.clone(), objects, url)?)));
    opened.map_err(|reason| anyhow::anyhow!("parquet.url: {reason}"))
}

/// What a worker on `source` is made of.
pub(super) fn parts(
    config: &Config,
    source: Arc<dyn Source>,
    store: &Store,
    objects: &Arc<Objects>,
    models: &Models,
) -> anyhow::Result<Parts> {
    let named = || models.named.iter().map(|(name, model)| (name.clone(), model));
    let primary = |model: &Model| Arc::clone(&model.primary) as Arc<dyn Annotator>;
    let fallback = |model: &Model| model.fallback.clone().map(|paid| paid as Arc<dyn Annotator>);
    let metrics = Arc::new(Metrics::new());
    let identities = named().map(|(name, model)| (Some(name), model.identity.clone()));
    let cache = config.cache_rules(identities.chain([(None, models.usual.identity.clone())]).collect());
    let cache = cache.map(|rules| Arc::new(Cache::new(store.clone(), Arc::clone(&metrics), rules)));
    Ok(Parts {
        source,
        store: store.clone(),
        objects: Arc::clone(objects),
        primary: ByArm {
            usual: primary(&models.usual),
            named: named().map(|(name, model)| (name, primary(model))).collect(),
        },
        fallback: fallback(&models.usual).map(|usual| ByArm {
            usual,
            named: named().filter_map(|(name, model)| Some((name, fallback(model)?))).collect(),
        }),
        rules: config.rules().map_err(anyhow::Error::msg)?,
        max_in_flight: [config.lanes.high.max_in_flight, config.lanes.low.max_in_flight],
        metrics,
        cache,
        health: Arc::new(Health::default()),
        clock: now,
    })
}
