//! `tidemark alerts`: what somebody is told of, and how it stands.

use connectors::store::Store;
use operators::alerts::{Metric, Reading, Rule};
use records::{Alert, AlertPhase, Lane};
use serde_json::{Map, Value, json};
use tidemark::alerts::watch::Watch;
use tidemark::clock::now;
use tidemark::config::{AckChoice, Config, SourceChoice};

use super::{Common, Exit, show, start};

#[derive(clap::Args)]
#[command(after_help = "\
How an alert stands, and since when, is what `tidemark serve` wrote. Its value is that of this moment; a broker's queue has
none here.

Examples:
  tidemark alerts
  tidemark alerts --json | jq -r 'select(.state == \"firing\") | .name'")]
pub(super) struct Alerts {}

impl Alerts {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let config = Config::load(common.config.as_deref())?;
        let store = start::existing_store(common).await?;
        let queue = queue(&config, &store).await?;
        let mut watch = Watch::open(store.clone(), config.alert_rules().map_err(anyhow::Error::msg)?, now()).await?;
        let alerts = watch.read(queue, now()).await?;
        if common.json {
            let objects: Vec<Value> =
                alerts.into_iter().map(|(rule, alert, reading)| object(rule, alert, reading)).collect();
            show::json_lines(&objects)?;
        } else {
            show::table(
                &["alert", "severity", "state", "since", "value", "fires"],
                alerts.into_iter().map(|(rule, alert, reading)| row(rule, alert, reading)),
            )?;
        }
        store.close().await;
        Ok(Exit::Success)
    }
}

/// What waits, where all that waits is in the store.
async fn queue(config: &Config, store: &Store) -> anyhow::Result<Option<[u64; 2]>> {
    if config.source.kind != SourceChoice::Spool && config.source.ack != AckChoice::Admission {
        return Ok(None);
    }
    let [high, low] = Lane::ALL.map(|lane| store.pending(lane, now()));
    Ok(Some([high.await?.ready, low.await?.ready]))
}

fn object(rule: &Rule, alert: Option<&Alert>, reading: Option<Reading>) -> Value {
    let mut object = Map::from_iter([
        ("name".to_owned(), json!(rule.name)),
        ("severity".to_owned(), json!(rule.severity)),
        ("state".to_owned(), json!(phase(alert))),
        ("since".to_owned(), json!(alert.map(|alert| alert.since))),
        ("value".to_owned(), json!(reading.and_then(|it| it.value))),
        ("metric".to_owned(), json!(rule.metric)),
    ]);
    object.extend(rule.filter.labels().map(|(name, value)| (name.to_owned(), json!(value))));
    let (side, limit) = rule.limit.parts();
    object.insert(side.to_owned(), json!(limit));
    if rule.metric != Metric::Queue {
        object.insert("window_s".to_owned(), json!(rule.window_s));
        object.insert("requests".to_owned(), json!(reading.map(|it| it.requests)));
    }
    object.insert("hold_s".to_owned(), json!(rule.hold_s));
    Value::Object(object)
}

fn row(rule: &Rule, alert: Option<&Alert>, reading: Option<Reading>) -> Vec<String> {
    let of: Vec<String> = rule.filter.labels().map(|(name, value)| format!(" of {name} {value}")).collect();
    let over = if rule.metric == Metric::Queue { String::new() } else { format!(" over {} s", rule.window_s) };
    vec![
        rule.name.clone(),
        rule.severity.to_string(),
        phase(alert).to_string(),
        alert.map_or(String::new(), |alert| alert.since.to_string()[..19].replace('T', " ")),
        reading.and_then(|it| it.value).map_or(String::new(), |value| {
            format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }),
        format!("{}{} {}{over}, for {} s", rule.metric, of.concat(), rule.limit, rule.hold_s),
    ]
}

fn phase(alert: Option<&Alert>) -> AlertPhase {
    alert.map_or(AlertPhase::Inactive, |alert| alert.phase)
}
