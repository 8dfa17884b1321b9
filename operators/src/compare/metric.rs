//! What is compared: the metrics of an outcome, as integers that can be added up exactly.

use std::fmt;
use std::str::FromStr;

use records::{Branch, Outcome, Status};

/// A number of each outcome, whose mean over an arm is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The share of uploads that have metadata.
    SuccessRate,
    /// The share of uploads of which a round of attempts failed, whether or not a later one mended it.
    ErrorRate,
    /// The share of uploads that the paid model answered.
    FallbackRate,
    /// How sure the answering model was, over the answers that have a measure; in [0, 1].
    Confidence,
    /// Models' work on completed uploads that a model answered, in milliseconds.
    InferenceMs,
    /// From arrival to the outcome, in milliseconds, over uploads that were not redriven.
    TotalMs,
    /// Spent on calls, in US dollars, over all uploads.
    Cost,
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger value.
    Higher,
    /// The smaller value.
    Lower,
}

impl Metric {
    /// All, in the order they are shown.
    pub const ALL: [Self; 7] = [
        Self::SuccessRate,
        Self::ErrorRate,
        Self::FallbackRate,
        Self::Confidence,
        Self::InferenceMs,
        Self::TotalMs,
        Self::Cost,
    ];

    /// Its name in definitions and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SuccessRate => "success_rate",
            Self::ErrorRate => "error_rate",
            Self::FallbackRate => "fallback_rate",
            Self::Confidence => "confidence",
            Self::InferenceMs => "inference_ms",
            Self::TotalMs => "total_ms",
            Self::Cost => "cost",
        }
    }

    /// Which way it is better.
    pub fn better(self) -> Better {
        match self {
            Self::SuccessRate | Self::Confidence => Better::Higher,
            Self::ErrorRate | Self::FallbackRate | Self::InferenceMs | Self::TotalMs | Self::Cost => Better::Lower,
        }
    }

    /// How many of the integers of [`Self::of`] make one of the metric's unit.
    pub fn scale(self) -> u64 {
        match self {
            Self::SuccessRate | Self::ErrorRate | Self::FallbackRate | Self::InferenceMs | Self::TotalMs => 1,
            Self::Confidence | Self::Cost => 1_000_000,
        }
    }

    /// The largest of the integers of [`Self::of`], where there is one.
    pub(super) fn top(self) -> Option<u128> {
        match self {
            Self::SuccessRate | Self::ErrorRate | Self::FallbackRate | Self::Confidence => Some(self.scale().into()),
            Self::InferenceMs | Self::TotalMs | Self::Cost => None,
        }
    }

    /// The outcome's value; `None` where it has none.
    pub fn of(self, outcome: &Outcome) -> Option<u64> {
        match self {
            Self::SuccessRate => Some(u64::from(outcome.status == Status::Completed)),
            Self::ErrorRate => Some(u64::from(outcome.status == Status::DeadLettered || outcome.attempts > 1)),
            Self::FallbackRate => Some(u64::from(outcome.branch == Some(Branch::Fallback))),
            Self::Confidence => outcome.confidence.map(|sure| (sure.get() * 1e6).round() as u64),
            Self::InferenceMs => {
                let answered = outcome.status == Status::Completed && outcome.branch != Some(Branch::Cache);
                answered.then_some(outcome.inference_ms)
            }
            // Of a redriven upload it would tell how long somebody took to redrive it.
            Self::TotalMs => (outcome.version == 1).then_some(outcome.total_ms),
            Self::Cost => Some(outcome.cost_micro_usd.0),
        }
    }

    /// A mean in words.
    pub fn show(self, mean: f64) -> String {
        match self {
            Self::SuccessRate | Self::ErrorRate | Self::FallbackRate => format!("{:.2} %", mean * 100.0),
            Self::Confidence => format!("{mean:.4}"),
            Self::InferenceMs | Self::TotalMs => format!("{mean:.1} ms"),
            Self::Cost => format!("{mean:.6} dollars"),
        }
    }

    /// A difference's number, without its unit: points for a rate.
    pub fn number(self, difference: f64) -> String {
        match self {
            Self::SuccessRate | Self::ErrorRate | Self::FallbackRate => format!("{:.2}", difference * 100.0),
            Self::Confidence => format!("{difference:.4}"),
            Self::InferenceMs | Self::TotalMs => format!("{difference:.1}"),
            Self::Cost => format!("{difference:.6}"),
        }
    }

    /// What [`Self::number`] counts; empty for a confidence.
    pub fn counts(self) -> &'static str {
        match self {
            Self::SuccessRate | Self::ErrorRate | Self::FallbackRate => "points",
            Self::Confidence => "",
            Self::InferenceMs | Self::TotalMs => "ms",
            Self::Cost => "dollars",
        }
    }

    /// The size of a difference in words, without its sign.
    pub fn show_size(self, difference: f64) -> String {
        format!("{} {}", self.number(difference.abs()), self.counts()).trim_end().to_owned()
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str);
        let found = Self::ALL.into_iter().find(|metric| metric.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no metric: it is one of {}", names.join(", ")))
    }
}
