//! The live view as gauges: what ended in the window that ends at present, by experiment, arm, model, lane, tier and region.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec, Opts, Registry};
use records::{Tier, UtcMicros, WindowKey, WindowRow};

const KEY: [&str; 6] = ["experiment", "arm", "model", "lane", "tier", "region"];

/// A gauge's name, help, and value of a row; without one the gauge is not shown.
type Definition = (&'static str, &'static str, fn(&WindowRow) -> Option<f64>);

const GAUGES: [Definition; 11] = [
    ("tidemark_window_requests", "Uploads that ended in the window.", |row| Some(row.requests as f64)),
    ("tidemark_window_dead_lettered", "Those without metadata.", |row| Some(row.dead_lettered as f64)),
    ("tidemark_window_fallbacks", "Those with the fallback's answer.", |row| Some(row.fallbacks as f64)),
    ("tidemark_window_cache_hits", "Those answered from the cache.", |row| Some(row.cache_hits as f64)),
    ("tidemark_window_below_threshold", "Those below their arm's threshold.", |row| Some(row.below_threshold as f64)),
    ("tidemark_window_confidence_mean", "Their mean confidence.", |row| row.confidence_mean),
    ("tidemark_window_cost_micro_usd", "Their cost, in millionths of a US dollar.", |row| {
        Some(row.cost_micro_usd.0 as f64)
    }),
    ("tidemark_window_response_p50_seconds", "From arrival to outcome, the median.", |row| seconds(row.total_p50_ms)),
    ("tidemark_window_response_p99_seconds", "From arrival to outcome, 99 in 100.", |row| seconds(row.total_p99_ms)),
    ("tidemark_window_queued_p99_seconds", "From arrival to a model's work, 99 in 100.", |row| {
        seconds(row.queued_p99_ms)
    }),
    ("tidemark_window_inference_p99_seconds", "A model's work, 99 in 100.", |row| seconds(row.inference_p99_ms)),
];

fn seconds(ms: Option<u64>) -> Option<f64> {
    ms.map(|ms| ms as f64 / 1000.0)
}

/// The gauges, and the labels that they have at present.
pub(super) struct WindowGauges {
    gauges: Vec<GaugeVec>,
    closed_until: Gauge,
    shown: Mutex<BTreeSet<(usize, [String; 6])>>,
}

impl WindowGauges {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |(name, help, _): &Definition| {
            let gauge = GaugeVec::new(Opts::new(*name, *help), &KEY).expect("a valid name");
            registry.register(Box::new(gauge.clone())).expect("a name of its own");
            gauge
        };
        let closed_until = Gauge::new(
            "tidemark_report_closed_until_seconds",
            "The moment, since 1970, before whose arrivals every upload has its outcome: what windows wait for.",
        )
        .expect("a valid name");
        registry.register(Box::new(closed_until.clone())).expect("a name of its own");
        Self { gauges: GAUGES.iter().map(gauge).collect(), closed_until, shown: Mutex::default() }
    }

    pub(super) fn set(&self, rows: &[WindowRow], closed_until: UtcMicros) {
        self.closed_until.set(closed_until.0 as f64 / 1e6);
        let mut set = BTreeSet::new();
        for row in rows {
            let labels = labels(&row.key);
            for (number, (gauge, (.., of))) in self.gauges.iter().zip(&GAUGES).enumerate() {
                if let Some(value) = of(row) {
                    gauge.with_label_values(&labels).set(value);
                    set.insert((number, labels.clone()));
                }
            }
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, labels) in shown.difference(&set) {
            // It was set before, and nobody else takes it away.
            self.gauges[*number].remove_label_values(labels).ok();
        }
        *shown = set;
    }
}

fn labels(key: &WindowKey) -> [String; 6] {
    let text = |text: Option<&str>| text.unwrap_or("none").to_owned();
    [
        text(key.experiment.as_deref()),
        text(key.arm.as_deref()),
        text(key.model.as_deref()),
        key.lane.to_string(),
        text(key.tier.map(Tier::as_str)),
        text(key.region.as_deref()),
    ]
}
