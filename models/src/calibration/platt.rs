//! Platt's method: a slope for too much confidence and an offset for bias.

use records::Confidence;
use serde::{Deserialize, Serialize};

use super::logit::{STEEPEST, labelled, logistic, logit, root};
use super::{FitError, Scored, check, confidence};

/// p ↦ σ(a · logit(p) + b), with the a ≥ 0 and b under which the labels are likeliest (Platt, "Probabilistic Outputs for
/// Support Vector Machines", 1999; his smoothing of the labels is left out). Scores that say the opposite of the truth
/// get a = 0, the share of right answers for all, so that the order is never turned round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Numbers", into = "Numbers")]
pub struct Platt {
    slope: f64,
    offset: f64,
}

/// What stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    slope: f64,
    offset: f64,
}

impl Platt {
    /// The likeliest slope, at most 100, and offset.
    ///
    /// # Errors
    /// [`FitError`] without a right and a wrong answer.
    pub fn fit(scored: &[Scored]) -> Result<Self, FitError> {
        check(scored)?;
        let labelled = labelled(scored);
        let widest = labelled.iter().map(|(odds, _)| odds.abs()).fold(1.0, f64::max);
        let excess = |slope: f64, offset: f64, weight: fn(f64) -> f64| -> f64 {
            labelled.iter().map(|(odds, right)| (logistic(slope * odds + offset) - right) * weight(*odds)).sum()
        };
        // The negative log-likelihood is convex in both. The best offset of a slope is where its derivative by the offset
        // is 0; along those the derivative by the slope rises.
        let offset = |slope: f64| {
            let reach = slope * widest + 50.0;
            root(-reach, reach, |offset| excess(slope, offset, |_| 1.0))
        };
        let same = labelled.iter().all(|(odds, _)| *odds == labelled[0].0);
        let slope = if same { 0.0 } else { root(0.0, STEEPEST, |slope| excess(slope, offset(slope), |odds| odds)) };
        Ok(Self { slope, offset: offset(slope) })
    }

    /// a.
    pub fn slope(self) -> f64 {
        self.slope
    }

    /// b.
    pub fn offset(self) -> f64 {
        self.offset
    }

    /// The calibrated score.
    pub fn apply(self, score: Confidence) -> Confidence {
        confidence(logistic(self.slope * logit(score) + self.offset))
    }
}

impl TryFrom<Numbers> for Platt {
    type Error = String;

    fn try_from(Numbers { slope, offset }: Numbers) -> Result<Self, String> {
        if slope.is_finite() && slope >= 0.0 && offset.is_finite() {
            Ok(Self { slope, offset })
        } else {
            Err(format!("a slope is 0 or more and an offset finite, not {slope} and {offset}"))
        }
    }
}

impl From<Platt> for Numbers {
    fn from(Platt { slope, offset }: Platt) -> Self {
        Self { slope, offset }
    }
}
