//! `tidemark doctor`: says what is wrong with a set-up, and how to mend it.

use connectors::sink::Sink;
use connectors::store::{Store, StoreUrl};
use models::calibration::Calibration;
use models::qwen2_audio::Description;
use models::schema::MetadataSchema;
use serde_json::json;
use tidemark::config::{Config, DeviceChoice};
use tokio::net::TcpListener;

use super::{Common, Exit, show, start};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tidemark doctor --config /etc/tidemark.toml --data /var/lib/tidemark")]
pub(super) struct Doctor {}

/// One check: what, and how it went.
struct Check {
    what: String,
    found: Result<String, String>,
}

impl Check {
    fn of(what: impl Into<String>, found: Result<String, String>) -> Self {
        Self { what: what.into(), found }
    }
}

impl Doctor {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let mut checks = Vec::new();
        let config = Config::load(common.config.as_deref());
        let file =
            common.config.as_ref().map_or("./tidemark.toml, or the defaults".into(), |it| it.display().to_string());
        checks.push(Check::of("configuration", config.as_ref().map(|_| file).map_err(ToString::to_string)));
        if let Ok(config) = config {
            checks.push(Check::of("store", store(&config, common).await));
            checks.extend(model(&config, ""));
            for (name, named) in &config.models {
                checks.extend(model(&config.with_model(named), &format!("models.{name}: ")));
            }
            checks.push(Check::of("device", device(&config)));
            checks.push(Check::of("fallback", Ok(fallback(&config))));
            checks.push(Check::of("alerts", alerts(&config)));
            checks.push(Check::of("gateway", gateway(&config).await));
        }
        print(&checks, common.json)?;
        Ok(if checks.iter().all(|check| check.found.is_ok()) { Exit::Success } else { Exit::Failure })
    }
}

async fn store(config: &Config, common: &Common) -> Result<String, String> {
    let url = start::store_url(config, &common.data);
    if let StoreUrl::Sqlite(path) = &url
        && !path.exists()
    {
        return Ok(format!("{url} will be made by the first command that needs it"));
    }
    let store = Store::open(&url).await.map_err(|error| error.to_string())?;
    let tally = store.tally().await.map_err(|error| error.to_string())?;
    let outcomes: u64 = tally.iter().map(|(_, _, count)| count).sum();
    store.close().await;
    Ok(format!("{url}: {outcomes} outcomes"))
}

/// What belongs to the usual model of a configuration.
fn model(config: &Config, of: &str) -> [Check; 3] {
    let schema = MetadataSchema::load(&config.model.schema);
    let fields = schema.map(|it| it.fields().collect::<Vec<_>>().join(", ")).map_err(|it| it.to_string());
    [("checkpoint", checkpoint(config)), ("schema", fields), ("confidence", confidence(config))]
        .map(|(what, found)| Check::of(format!("{of}{what}"), found))
}

fn checkpoint(config: &Config) -> Result<String, String> {
    let dir = config.checkpoint().map_err(|error| error.to_string())?;
    let found = Description::read(&dir).map_err(|error| format!("{error}; set its `checkpoint`"))?;
    Ok(format!("{}: {} parameters in {}", dir.display(), found.parameters(), found.dtypes.join(", ")))
}

fn confidence(config: &Config) -> Result<String, String> {
    let schema = MetadataSchema::load(&config.model.schema).map_err(|error| error.to_string())?;
    let dir = config.checkpoint().map_err(|error| error.to_string())?;
    let calibration = Calibration::load(&dir, &schema).map_err(|error| error.to_string())?;
    Ok(match calibration {
        Some(calibration) => format!("calibrated on {} labels", calibration.overall().labels),
        None => "an uncalibrated score: `tidemark model calibrate` makes it a probability".into(),
    })
}

fn device(config: &Config) -> Result<String, String> {
    match (config.model.device, models::local::has_cuda()) {
        (DeviceChoice::Cuda, false) => {
            Err("model.device is \"cuda\", and libtorch sees no GPU: build with LIBTORCH set to a CUDA libtorch".into())
        }
        (DeviceChoice::Cpu, _) | (DeviceChoice::Auto, false) => Ok("CPU".into()),
        (DeviceChoice::Cuda | DeviceChoice::Auto, true) => Ok("GPU".into()),
    }
}

fn fallback(config: &Config) -> String {
    match std::env::var("OPENAI_API_KEY") {
        Ok(key) if !key.is_empty() => format!("{} at {}", config.fallback.model, config.fallback.base_url),
        _ => "none: without OPENAI_API_KEY, unsure answers are kept and marked below_threshold".into(),
    }
}

fn alerts(config: &Config) -> Result<String, String> {
    let (rules, webhooks) = (config.alert_rules()?, config.webhooks()?);
    let topic = config.pubsub.alerts_topic.as_ref().map(|topic| format!(", topic {topic}"));
    let told: String = webhooks.iter().map(|webhook| format!(", {}", webhook.name())).chain(topic).collect();
    Ok(format!("{}, told to the log{told}", rules.len()))
}

async fn gateway(config: &Config) -> Result<String, String> {
    let address = config.http.listen;
    match TcpListener::bind(address).await {
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) => Err(format!("{address}: {error}; set http.listen, or stop who listens there")),
    }
}

fn print(checks: &[Check], json: bool) -> std::io::Result<()> {
    let text = |check: &Check| check.found.clone().unwrap_or_else(|error| error);
    if json {
        let row = |check: &Check| json!({ "check": check.what, "ok": check.found.is_ok(), "found": text(check) });
        return show::json_lines(&checks.iter().map(row).collect::<Vec<_>>());
    }
    let mark = |check: &Check| if check.found.is_ok() { "ok" } else { "FAILED" };
    let row = |check: &Check| vec![check.what.clone(), mark(check).to_owned(), text(check)];
    show::table(&["check", "", "found"], checks.iter().map(row))
}
