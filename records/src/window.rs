//! What became of the uploads of a window of time, by what one compares them by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ErrorType, FallbackReason, Lane, MicroUsd, Tier, UtcMicros};

/// Bins of a confidence histogram, of equal width over [0, 1]; 1 itself is in the last.
pub const CONFIDENCE_BINS: usize = 20;

/// Which moment of an upload decides on its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// Its arrival, in windows that follow one another: complete, as the row is written once all its uploads have ended.
    Arrival,
    /// Its end, in the window that ends at present: never waits.
    Completion,
}

crate::upload::text_form!(WindowKind { Arrival = "arrival", Completion = "completion" });

/// What uploads are compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    /// The experiment that the arm is of; `None` outside of experiments.
    pub experiment: Option<String>,
    /// The arm; `None` where the event could not be read.
    pub arm: Option<String>,
    /// The model whose answers these are; `None` for those without one.
    pub model: Option<String>,
    /// The priority they ran under.
    pub lane: Lane,
    /// `None` where the event could not be read.
    pub tier: Option<Tier>,
    /// Where the platform took them in; `None` where their events do not say so.
    pub region: Option<String>,
}

/// Outcomes of a window under one key. Of an upload's outcomes the one of the largest version counts.
///
/// Quantiles are off by 1 % of the value at most, and exact below 128 ms; they are `None` where nothing was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowRow {
    /// By arrival or by completion.
    pub kind: WindowKind,
    /// The first moment.
    pub start: UtcMicros,
    /// The first moment behind it.
    pub end: UtcMicros,
    /// From start to end.
    pub width_s: u32,
    /// Whose outcomes.
    #[serde(flatten)]
    pub key: WindowKey,
    /// 1, and one more each time that the row is corrected: of a window's rows of a key, the largest version counts.
    pub version: u32,
    /// Uploads: completed and dead-lettered.
    pub requests: u64,
    /// Those that have metadata.
    pub completed: u64,
    /// Those that have none.
    pub dead_lettered: u64,
    /// Why those have none, by type.
    pub errors: BTreeMap<ErrorType, u64>,
    /// Those that have the fallback's answer.
    pub fallbacks: u64,
    /// Why those were asked of the paid model; outcomes of before there were reasons say none.
    #[serde(default)]
    pub fallback_reasons: BTreeMap<FallbackReason, u64>,
    /// Those that have an earlier answer to the same audio.
    pub cache_hits: u64,
    /// Those that have the primary's answer although it was less sure than the threshold.
    pub below_threshold: u64,
    /// From arrival to the first work of a model: half waited no longer. Redriven uploads, which waited for a person, do
    /// not count here.
    pub queued_p50_ms: Option<u64>,
    /// 90 in 100 waited no longer.
    pub queued_p90_ms: Option<u64>,
    /// 95 in 100 waited no longer.
    pub queued_p95_ms: Option<u64>,
    /// 99 in 100 waited no longer.
    pub queued_p99_ms: Option<u64>,
    /// Models' work on an upload that has a model's answer of its own: half took no longer.
    pub inference_p50_ms: Option<u64>,
    /// 90 in 100 took no longer.
    pub inference_p90_ms: Option<u64>,
    /// 95 in 100 took no longer.
    pub inference_p95_ms: Option<u64>,
    /// 99 in 100 took no longer.
    pub inference_p99_ms: Option<u64>,
    /// From arrival to outcome: half took no longer. Redriven uploads do not count here.
    pub total_p50_ms: Option<u64>,
    /// 90 in 100 took no longer.
    pub total_p90_ms: Option<u64>,
    /// 95 in 100 took no longer.
    pub total_p95_ms: Option<u64>,
    /// 99 in 100 took no longer.
    pub total_p99_ms: Option<u64>,
    /// Uploads by confidence, those without a measure left out: bin `i` of [`CONFIDENCE_BINS`] begins at `i / 20`.
    pub confidence_histogram: Vec<u64>,
    /// Of those in the histogram; each is counted in whole millionths, so that the order of addition does not matter.
    pub confidence_mean: Option<f64>,
    /// Spent on calls.
    pub cost_micro_usd: MicroUsd,
    /// Spent on calls, by upload.
    pub cost_per_request_micro_usd: Option<f64>,
}

impl WindowRow {
    /// What names the row, whatever its version: a window's rows are in this order.
    pub fn name(&self) -> (WindowKind, u32, UtcMicros, &WindowKey) {
        (self.kind, self.width_s, self.start, &self.key)
    }
}
