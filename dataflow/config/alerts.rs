//! `[[alerts]]`: what somebody is to be told of.

use std::time::Duration;

use connectors::webhook::Webhook;
use operators::alerts::{Filter, Limit, Metric, Rule};
use records::{Lane, Severity, Tier};
use serde::Deserialize;

use super::{Config, LanesConfig};

/// The widest window. Its outcomes are read again at each start.
const WIDEST_S: u32 = 3_600;

/// How long the answer of a webhook is waited for.
const WEBHOOK: Duration = Duration::from_secs(10);

/// The default alerts' window and hold.
const WINDOW_S: u32 = 300;
const HOLD_S: u32 = 60;

/// `[[alerts]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// Unique; 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What is watched.
    pub metric: Metric,
    /// Of this lane alone.
    pub lane: Option<Lane>,
    /// Of this tier alone.
    pub tier: Option<Tier>,
    /// Of uploads that the platform took in there alone.
    pub region: Option<String>,
    /// Of this model's answers alone.
    pub model: Option<String>,
    /// Of this experiment alone.
    pub experiment: Option<String>,
    /// Of this arm alone.
    pub arm: Option<String>,
    /// More than this is trouble.
    pub above: Option<f64>,
    /// Less than this is trouble.
    pub below: Option<f64>,
    /// Uploads that ended in the last so many seconds are looked at; 1 to 3,600. A queue is looked at as it is.
    pub window_s: Option<u32>,
    /// For how long it has to be so.
    #[serde(default = "hold_s")]
    pub hold_s: u32,
    /// How much it matters.
    #[serde(default)]
    pub severity: Severity,
}

fn hold_s() -> u32 {
    HOLD_S
}

impl AlertConfig {
    /// The rule, if it can be one.
    ///
    /// # Errors
    /// In words, with the key and the mend.
    fn rule(&self) -> Result<Rule, String> {
        let Self { name, metric, window_s, .. } = self;
        let wrong = |key: &str, reason: String| Err(format!("alerts: {name}: {key} {reason}"));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=64).contains(&name.len()) || !name.chars().all(is_plain) {
            return Err(format!("alerts: name {name:?} must be 1 to 64 characters of A-Z a-z 0-9 . _ -"));
        }
        let (key, value, limit) = match (self.above, self.below) {
            (Some(above), None) => ("above", above, Limit::Above(above)),
            (None, Some(below)) => ("below", below, Limit::Below(below)),
            (None, None) => return wrong("above", "or below is missing: set one of them to the limit".into()),
            (Some(_), Some(_)) => return wrong("below", "and above are both set: make two alerts of it".into()),
        };
        // What lies outside could never be passed, or always is.
        let is_possible = match limit {
            Limit::Above(limit) => limit >= 0.0 && (limit < 1.0 || !metric.is_at_most_1()),
            Limit::Below(limit) => limit > 0.0 && (limit <= 1.0 || !metric.is_at_most_1()),
        };
        if !is_possible || !value.is_finite() {
            let range = if metric.is_at_most_1() { "in [0, 1] (5 % is 0.05)" } else { "0 or more" };
            return wrong(key, format!("is {value}, which decides nothing: {metric} is {range}"));
        }
        if *metric == Metric::Queue {
            if let Some(key) = self.of_uploads() {
                return wrong(
                    key,
                    "means nothing to a queue, which is looked at as it is, by lane: leave it out".into(),
                );
            }
        } else if window_s.is_some_and(|width| !(1..=WIDEST_S).contains(&width)) {
            return wrong("window_s", format!("must be 1 to {WIDEST_S}"));
        }
        let [region, model, experiment, arm] =
            [&self.region, &self.model, &self.experiment, &self.arm].map(Clone::clone);
        Ok(Rule {
            name: name.clone(),
            metric: *metric,
            filter: Filter { lane: self.lane, tier: self.tier, region, model, experiment, arm },
            limit,
            window_s: window_s.unwrap_or(WINDOW_S),
            hold_s: self.hold_s,
            severity: self.severity,
        })
    }

    /// A key that is set and is about uploads that ended.
    fn of_uploads(&self) -> Option<&'static str> {
        let set = [
            ("window_s", self.window_s.is_some()),
            ("tier", self.tier.is_some()),
            ("region", self.region.is_some()),
            ("model", self.model.is_some()),
            ("experiment", self.experiment.is_some()),
            ("arm", self.arm.is_some()),
        ];
        set.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

impl Config {
    /// What somebody is told of. Where nothing is configured: more than 20 % of requests below a confidence of 0.70, more than 500
    /// uploads waiting, a lane whose 99th percentile is above its SLO, more than 5 % of requests dead-lettered.
    ///
    /// # Errors
    /// In words, with the key and the mend.
    pub fn alert_rules(&self) -> Result<Vec<Rule>, String> {
        self.alerts.as_deref().map_or_else(|| Ok(default_rules(&self.lanes)), rules)
    }

    /// The receivers of alerts.
    ///
    /// # Errors
    /// In words, without the address, where it is none, or its variable is not in the environment.
    pub fn webhooks(&self) -> Result<Vec<Webhook>, String> {
        let open = |(name, address): (&String, _)| {
            Webhook::new(name, address, WEBHOOK).map_err(|reason| format!("alert_webhooks.{name} {reason}"))
        };
        self.alert_webhooks.iter().map(open).collect()
    }
}

/// The rules of a file's definitions.
///
/// # Errors
/// In words, with the key and the mend.
fn rules(alerts: &[AlertConfig]) -> Result<Vec<Rule>, String> {
    for (place, alert) in alerts.iter().enumerate() {
        if alerts[..place].iter().any(|other| other.name == alert.name) {
            return Err(format!("alerts: two are called {}: give one of them another name", alert.name));
        }
    }
    alerts.iter().map(AlertConfig::rule).collect()
}

/// Those that hold where a file defines none.
fn default_rules(lanes: &LanesConfig) -> Vec<Rule> {
    let rule = |name: &str, metric: &str, limit: f64, severity| Rule {
        name: name.to_owned(),
        metric: metric.parse().expect("the tests make all of these"),
        filter: Filter::default(),
        limit: Limit::Above(limit),
        window_s: WINDOW_S,
        hold_s: HOLD_S,
        severity,
    };
    let slow = |name, lane, slo_ms: u64| Rule {
        filter: Filter { lane: Some(lane), ..Filter::default() },
        ..rule(name, "total_p99_ms", slo_ms as f64, Severity::Warning)
    };
    vec![
        rule("low-confidence", "low_confidence_rate", 0.20, Severity::Warning),
        rule("queue", "queue", 500.0, Severity::Warning),
        slow("slow-high", Lane::High, lanes.high.slo_ms),
        slow("slow-low", Lane::Low, lanes.low.slo_ms),
        rule("errors", "error_rate", 0.05, Severity::Critical),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new(""))
    }

    #[test]
    fn the_commented_configuration_shows_the_default_alerts() {
        let commented = include_str!("../../tidemark.toml");
        let begin = commented.find("# [[alerts]]").expect("they are shown");
        let lines = commented[begin..].lines().take_while(|line| line.starts_with("# "));
        let shown: String = lines.map(|line| format!("{}\n", &line[2..])).collect();
        let shown = parse(&shown).expect("valid").alert_rules().expect("valid");
        assert_eq!(shown, Config::default().alert_rules().expect("valid"));
        assert_eq!(shown.len(), 5);
    }

    #[test]
    fn processing_time_is_measured_by_what_the_lanes_promise() {
        let rules = parse("[lanes.high]\nslo_ms = 2000").expect("valid").alert_rules().expect("valid");
        let slow = rules.iter().find(|rule| rule.name == "slow-high").expect("a default");
        assert_eq!(slow.limit.to_string(), "above 2000");
        assert_eq!(parse("alerts = []").expect("valid").alert_rules(), Ok(Vec::new()), "none at all, if so asked");
    }

    #[test]
    fn what_cannot_be_an_alert_is_refused_with_its_key_and_the_mend() {
        let good = "[[alerts]]\nname = \"a\"\nmetric = \"error_rate\"\nabove = 0.1\nwindow_s = 60\n";
        assert!(parse(good).is_ok());
        for (from, to, names) in [
            ("\"a\"", "\"a b\"", "name \"a b\""),
            ("error_rate", "beauty", "line 3, metric: \"beauty\" is no metric: it is one of queue, requests"),
            ("above = 0.1", "", "a: above or below is missing"),
            ("above = 0.1", "above = 0.1\nbelow = 0.1", "two alerts"),
            ("above = 0.1", "above = 5", "5 % is 0.05"),
            ("above = 0.1", "below = 0", "decides nothing"),
            ("above = 0.1", "above = nan", "above is NaN"),
            ("error_rate", "requests", ""),
            ("above = 0.1", "below = -1", "below is -1"),
            ("window_s = 60", "window_s = 0", "window_s must be 1 to 3600"),
            ("window_s = 60", "window_s = 86400", "window_s must be 1 to 3600"),
            ("window_s = 60", "window = \"5m\"", "window"),
            ("window_s = 60", "severity = \"page\"", "severity"),
            ("window_s = 60", "lane = \"middle\"", "middle"),
            ("error_rate", "queue", "window_s means nothing to a queue"),
            ("window_s = 60", "[[alerts]]\nname = \"a\"\nmetric = \"queue\"\nabove = 1", "two are called a"),
        ] {
            let text = good.replacen(from, to, 1);
            match parse(&text) {
                Ok(_) => assert!(names.is_empty(), "{text} was taken"),
                Err(error) => assert!(!names.is_empty() && error.contains(names), "{text}: {error}"),
            }
        }
    }
}
