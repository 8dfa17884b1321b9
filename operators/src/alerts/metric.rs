//! What an alert can watch: every number of a window's row, shares of its requests, and the queue.

use std::fmt;
use std::str::FromStr;

use records::ErrorType::{self, *};
use records::{CONFIDENCE_BINS, FallbackReason, WindowRow};
use serde::{Deserialize, Serialize};

/// A number to watch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Metric {
    /// Uploads that wait in the source.
    Queue,
    /// A number of a window.
    Window(&'static WindowMetric),
}

/// A number of a window: its name, what kind it is of, and how it is read.
#[derive(Debug)]
pub struct WindowMetric {
    name: &'static str,
    kind: Kind,
    of: fn(&WindowRow) -> Option<f64>,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count or a sum: what it says, it says of one request as of many.
    Count,
    /// A share of the requests, or the mean confidence: in [0, 1].
    Share,
    /// A quantile, in milliseconds, or a mean, in millionths of a US dollar.
    Measure,
}

/// Below this confidence an answer counts in `low_confidence_rate`: the first bin of the histogram that does not.
const LOW_CONFIDENCE_BIN: usize = CONFIDENCE_BINS * 7 / 10;

const fn metric(name: &'static str, kind: Kind, of: fn(&WindowRow) -> Option<f64>) -> WindowMetric {
    WindowMetric { name, kind, of }
}

#[rustfmt::skip]
static METRICS: [WindowMetric; 40] = [
    metric("requests", Kind::Count, |row| count(row.requests)),
    metric("completed", Kind::Count, |row| count(row.completed)),
    metric("dead_lettered", Kind::Count, |row| count(row.dead_lettered)),
    metric("fallbacks", Kind::Count, |row| count(row.fallbacks)),
    metric("fallbacks_unsure", Kind::Count, |row| count(unsure(row))),
    metric("fallbacks_failed", Kind::Count, |row| count(row.fallback_reasons.values().sum::<u64>() - unsure(row))),
    metric("cache_hits", Kind::Count, |row| count(row.cache_hits)),
    metric("below_threshold", Kind::Count, |row| count(row.below_threshold)),
    metric("cost_micro_usd", Kind::Count, |row| count(row.cost_micro_usd.0)),
    metric("success_rate", Kind::Share, |row| share(row.completed, row)),
    metric("error_rate", Kind::Share, |row| share(row.dead_lettered, row)),
    metric("fallback_rate", Kind::Share, |row| share(row.fallbacks, row)),
    metric("cache_hit_rate", Kind::Share, |row| share(row.cache_hits, row)),
    metric("below_threshold_rate", Kind::Share, |row| share(row.below_threshold, row)),
    metric("low_confidence_rate", Kind::Share, |row| {
        share(row.confidence_histogram.iter().take(LOW_CONFIDENCE_BIN).sum(), row)
    }),
    metric("confidence_mean", Kind::Share, |row| row.confidence_mean),
    metric("cost_per_request_micro_usd", Kind::Measure, |row| row.cost_per_request_micro_usd),
    metric("queued_p50_ms", Kind::Measure, |row| row.queued_p50_ms.and_then(count)),
    metric("queued_p90_ms", Kind::Measure, |row| row.queued_p90_ms.and_then(count)),
    metric("queued_p95_ms", Kind::Measure, |row| row.queued_p95_ms.and_then(count)),
    metric("queued_p99_ms", Kind::Measure, |row| row.queued_p99_ms.and_then(count)),
    metric("inference_p50_ms", Kind::Measure, |row| row.inference_p50_ms.and_then(count)),
    metric("inference_p90_ms", Kind::Measure, |row| row.inference_p90_ms.and_then(count)),
    metric("inference_p95_ms", Kind::Measure, |row| row.inference_p95_ms.and_then(count)),
    metric("inference_p99_ms", Kind::Measure, |row| row.inference_p99_ms.and_then(count)),
    metric("total_p50_ms", Kind::Measure, |row| row.total_p50_ms.and_then(count)),
    metric("total_p90_ms", Kind::Measure, |row| row.total_p90_ms.and_then(count)),
    metric("total_p95_ms", Kind::Measure, |row| row.total_p95_ms.and_then(count)),
    metric("total_p99_ms", Kind::Measure, |row| row.total_p99_ms.and_then(count)),
    metric("errors_invalid_event", Kind::Count, |row| errors(InvalidEvent, row)),
    metric("errors_audio_unreachable", Kind::Count, |row| errors(AudioUnreachable, row)),
    metric("errors_audio_undecodable", Kind::Count, |row| errors(AudioUndecodable, row)),
    metric("errors_audio_too_long", Kind::Count, |row| errors(AudioTooLong, row)),
    metric("errors_audio_too_short", Kind::Count, |row| errors(AudioTooShort, row)),
    metric("errors_model", Kind::Count, |row| errors(Model, row)),
    metric("errors_rate_limited", Kind::Count, |row| errors(RateLimited, row)),
    metric("errors_timeout", Kind::Count, |row| errors(Timeout, row)),
    metric("errors_would_miss_deadline", Kind::Count, |row| errors(WouldMissDeadline, row)),
    metric("errors_unavailable", Kind::Count, |row| errors(Unavailable, row)),
    metric("errors_refused", Kind::Count, |row| errors(Refused, row)),
];

fn count(count: u64) -> Option<f64> {
    Some(count as f64)
}

fn share(part: u64, row: &WindowRow) -> Option<f64> {
    (row.requests > 0).then(|| part as f64 / row.requests as f64)
}

fn errors(kind: ErrorType, row: &WindowRow) -> Option<f64> {
    count(row.errors.get(&kind).copied().unwrap_or(0))
}

/// Those that the paid model answered because the primary was not sure.
fn unsure(row: &WindowRow) -> u64 {
    row.fallback_reasons.get(&FallbackReason::Unsure).copied().unwrap_or(0)
}

impl Metric {
    /// Its name in definitions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Window(metric) => metric.name,
        }
    }

    /// What its number is.
    pub fn kind(self) -> Kind {
        match self {
            Self::Queue => Kind::Count,
            Self::Window(metric) => metric.kind,
        }
    }

    /// Whether it is in [0, 1].
    pub fn is_at_most_1(self) -> bool {
        self.kind() == Kind::Share
    }
}

impl WindowMetric {
    /// Its value in a window; `None` where nothing was measured.
    pub(super) fn of(&self, row: &WindowRow) -> Option<f64> {
        (self.of)(row)
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Metric> for &'static str {
    fn from(metric: Metric) -> Self {
        metric.as_str()
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || std::iter::once(Self::Queue).chain(METRICS.iter().map(Self::Window));
        all().find(|metric| metric.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = all().map(Self::as_str).collect();
            format!("{text:?} is no metric: it is one of {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::windows::Totals;

    #[test]
    fn every_number_of_a_row_can_be_watched_under_its_own_name() {
        let key = records::WindowKey {
            experiment: None,
            arm: None,
            model: None,
            lane: records::Lane::Low,
            tier: None,
            region: None,
        };
        let empty = Totals::default().row(records::WindowKind::Completion, records::UtcMicros(0), 60, &key);
        let row = serde_json::to_value(&empty).expect("JSON");
        let fields = row.as_object().expect("an object").keys().map(String::as_str);
        let about =
            ["kind", "start", "end", "width_s", "experiment", "arm", "model", "lane", "tier", "region", "version"];
        let taken_apart = ["errors", "fallback_reasons", "confidence_histogram"];
        let numbers = fields.filter(|name| !about.contains(name) && !taken_apart.contains(name));
        let watched: Vec<Metric> = numbers.map(|name| name.parse().expect(name)).collect();
        assert!(watched.len() > 20, "{watched:?}");
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "each once");
    }

    #[test]
    fn a_metric_is_its_name_and_no_other_name_is_one() {
        for name in METRICS.iter().map(|metric| metric.name).chain(["queue"]) {
            let metric: Metric = serde_json::from_value(Value::from(name)).expect(name);
            assert_eq!(serde_json::to_value(metric).expect("JSON"), Value::from(name));
        }
        let error = "beauty".parse::<Metric>().expect_err("none");
        assert!(error.contains("beauty") && error.contains("queue, ") && error.contains("error_rate"), "{error}");
    }
}
