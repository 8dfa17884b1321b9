//! What is counted. Every metric's name is declared here, once.

mod windows;

use operators::alerts::Rule;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use records::{Alert, AlertPhase, Attempt, Confidence, Lane, Outcome, UtcMicros, WindowRow};

use windows::WindowGauges;

/// From a tiny model's answer to the low lane's promise.
const SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const TENTHS: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// How a look into the cache went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheLookup {
    /// The same bytes were described before.
    Content,
    /// The same sound was.
    Fingerprint,
    /// Neither was.
    Miss,
}

/// A process's metrics.
pub struct Metrics {
    registry: Registry,
    outcomes: IntCounterVec,
    response_seconds: HistogramVec,
    queued_seconds: HistogramVec,
    call_seconds: HistogramVec,
    confidence: HistogramVec,
    attempts: IntCounterVec,
    errors: IntCounterVec,
    cost_micro_usd: IntCounter,
    redeliveries: IntCounterVec,
    cache_lookups: IntCounterVec,
    backlog: IntGaugeVec,
    alerts_firing: IntGaugeVec,
    skipped: IntCounterVec,
    windows: WindowGauges,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Panics
    /// Where two metrics share a name, which a test would show.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name");
            registry.register(Box::new(counters.clone())).expect("a name of its own");
            counters
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let histograms = HistogramVec::new(options, labels).expect("a valid name");
            registry.register(Box::new(histograms.clone())).expect("a name of its own");
            histograms
        };
        let cost_micro_usd =
            IntCounter::new("tidemark_cost_micro_usd_total", "Spent on paid models, in millionths of a US dollar.")
                .expect("a valid name");
        registry.register(Box::new(cost_micro_usd.clone())).expect("a name of its own");
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name");
            registry.register(Box::new(gauges.clone())).expect("a name of its own");
            gauges
        };
        Self {
            outcomes: counters(
                "tidemark_outcomes_total",
                "Outcomes committed.",
                &["lane", "status", "branch", "below_threshold"],
            ),
            response_seconds: histograms("tidemark_response_seconds", "From arrival to outcome.", &["lane"], SECONDS),
            queued_seconds: histograms(
                "tidemark_queued_seconds",
                "From arrival to a model's work.",
                &["lane"],
                SECONDS,
            ),
            call_seconds: histograms(
                "tidemark_call_seconds",
                "Calls of models, with the wait for their turn.",
                &["branch"],
                SECONDS,
            ),
            confidence: histograms("tidemark_confidence", "Confidence of outcomes.", &["branch"], TENTHS),
            attempts: counters("tidemark_attempts_total", "Calls of models.", &["branch"]),
            errors: counters(
                "tidemark_errors_total",
                "Failed calls of models by branch, and dead letters (branch none).",
                &["branch", "error_type"],
            ),
            redeliveries: counters(
                "tidemark_redeliveries_total",
                "Deliveries of uploads that had their outcome already.",
                &["lane"],
            ),
            skipped: counters(
                "tidemark_skipped_events_total",
                "Messages of the source that were about something else than an upload.",
                &["lane"],
            ),
            cache_lookups: counters(
                "tidemark_cache_lookups_total",
                "Looks into the cache: found by the same bytes, by the same sound, or not.",
                &["result"],
            ),
            cost_micro_usd,
            backlog: gauges(
                "tidemark_backlog",
                "Uploads in the source, by state: ready to be pulled, or leased to a worker.",
                &["lane", "state"],
            ),
            alerts_firing: gauges(
                "tidemark_alerts_firing",
                "Alerts that fire (1) or do not (0), shown by the one worker that watches for them.",
                &["alert", "severity"],
            ),
            windows: WindowGauges::new(&registry),
            registry,
        }
    }

    /// Counts an outcome that is durable.
    pub fn committed(&self, outcome: &Outcome, attempts: &[Attempt]) {
        let (lane, branch) = (outcome.lane.as_str(), outcome.branch.map_or("none", |branch| branch.as_str()));
        let below = if outcome.below_threshold { "true" } else { "false" };
        self.outcomes.with_label_values(&[lane, outcome.status.as_str(), branch, below]).inc();
        // A redriven upload's times run from its first arrival: they would tell how long somebody took to redrive it.
        if outcome.version == 1 {
            self.response_seconds.with_label_values(&[lane]).observe(seconds(outcome.total_ms));
            self.queued_seconds.with_label_values(&[lane]).observe(seconds(outcome.queued_ms));
        }
        if let Some(confidence) = outcome.confidence {
            self.confidence.with_label_values(&[branch]).observe(Confidence::get(confidence));
        }
        self.cost_micro_usd.inc_by(outcome.cost_micro_usd.0);
        for attempt in attempts {
            self.attempts.with_label_values(&[attempt.branch.as_str()]).inc();
            self.call_seconds.with_label_values(&[attempt.branch.as_str()]).observe(seconds(attempt.duration_ms));
            if let Some(fault) = &attempt.fault {
                self.errors.with_label_values(&[attempt.branch.as_str(), fault.error_type.as_str()]).inc();
            }
        }
        if let Some(error_type) = outcome.error_type {
            self.errors.with_label_values(&["none", error_type.as_str()]).inc();
        }
    }

    /// Counts a delivery that came too late to matter.
    pub fn redelivered(&self, lane: Lane) {
        self.redeliveries.with_label_values(&[lane.as_str()]).inc();
    }

    /// Notes how many messages were no uploads so far.
    pub fn skipped(&self, lane: Lane, so_far: u64) {
        let counter = self.skipped.with_label_values(&[lane.as_str()]);
        counter.inc_by(so_far.saturating_sub(counter.get()));
    }

    /// Counts a look into the cache.
    pub fn cache_lookup(&self, result: CacheLookup) {
        let result = match result {
            CacheLookup::Content => "content",
            CacheLookup::Fingerprint => "fingerprint",
            CacheLookup::Miss => "miss",
        };
        self.cache_lookups.with_label_values(&[result]).inc();
    }

    /// Notes what waits in the source.
    pub fn backlog(&self, lane: Lane, ready: u64, leased: u64) {
        for (state, count) in [("ready", ready), ("leased", leased)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.backlog.with_label_values(&[lane.as_str(), state]).set(count);
        }
    }

    /// Notes which alerts fire.
    pub fn alerts<'a>(&self, alerts: impl Iterator<Item = (&'a Rule, Option<&'a Alert>)>) {
        for (rule, alert) in alerts {
            let fires = alert.is_some_and(|alert| alert.phase == AlertPhase::Firing);
            self.alerts_firing.with_label_values(&[rule.name.as_str(), rule.severity.as_str()]).set(fires.into());
        }
    }

    /// Shows no alerts any more: another process watches for them.
    pub fn forget_alerts(&self) {
        self.alerts_firing.reset();
    }

    /// Notes what ended in the window that ends at present, and the arrival before which everything has ended.
    pub fn windows(&self, rows: &[WindowRow], closed_until: UtcMicros) {
        self.windows.set(rows, closed_until);
    }

    /// The exposition in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.expect("metrics that were registered can be written");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
