//! Temperature scaling: one number that makes a model less, or more, sure of everything.

use records::Confidence;
use serde::{Deserialize, Serialize};

use super::logit::{STEEPEST, labelled, logistic, logit, root};
use super::{FitError, Scored, check, confidence};

/// p ↦ σ(logit(p) / T), with the T > 0 under which the labels are likeliest (Guo, Pleiss, Sun and Weinberger, "On
/// Calibration of Modern Neural Networks", ICML 2017; there on the logits of classes, here on a probability's). 0.5 stays
/// 0.5: it mends too much or too little confidence, not a bias.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Temperature(f64);

impl Temperature {
    /// The likeliest temperature, between 1/100 and 100.
    ///
    /// # Errors
    /// [`FitError`] without a right and a wrong answer.
    pub fn fit(scored: &[Scored]) -> Result<Self, FitError> {
        check(scored)?;
        let labelled = labelled(scored);
        // The negative log-likelihood is convex in 1/T; this is its derivative.
        let slope = root(1.0 / STEEPEST, STEEPEST, |slope| {
            labelled.iter().map(|(odds, right)| (logistic(slope * odds) - right) * odds).sum()
        });
        Ok(Self(1.0 / slope))
    }

    /// T.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The calibrated score.
    pub fn apply(self, score: Confidence) -> Confidence {
        confidence(logistic(logit(score) / self.0))
    }
}

impl TryFrom<f64> for Temperature {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        if number.is_finite() && number > 0.0 {
            Ok(Self(number))
        } else {
            Err(format!("a temperature is above 0, not {number}"))
        }
    }
}

impl From<Temperature> for f64 {
    fn from(temperature: Temperature) -> f64 {
        temperature.0
    }
}
