//! Calibration: from how sure a model says it is to how often it is right, learned from labelled audio.
//!
//! A raw score ([`crate::confidence`]) sorts answers; it is no probability. [`Evidence`] collects raw scores with whether
//! the answer was right, [`Curve`] is the rising function from one to the other, and [`Calibration`] is a curve for each
//! field and one for the whole answer, kept as `calibration.json` beside the checkpoint it was fitted on. All curves rise,
//! so a calibration never turns an order round. Without a calibration a confidence is an uncalibrated score.

mod curve;
mod evidence;
mod file;
mod held_out;
mod isotonic;
mod judge;
mod logit;
mod metrics;
mod platt;
pub mod plot;
mod temperature;

use records::Confidence;

pub use curve::{Curve, Method};
pub use evidence::Evidence;
pub use file::{Calibration, Fitted};
pub use held_out::held_out;
pub use isotonic::Isotonic;
pub use metrics::{Accepted, Bin, Metrics, reliability};
pub use platt::Platt;
pub use temperature::Temperature;

/// An answer that was judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// How sure the model was of it.
    pub score: Confidence,
    /// Whether it is right.
    pub right: bool,
}

/// Why no curve can be fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// There is nothing to learn from.
    #[error("no answer was judged")]
    Empty,
    /// Every answer was right, or every one wrong: no score tells the two apart.
    #[error("all {labels} judged answers are {}: label some that are {}", verdict(*right), verdict(!right))]
    OneSided {
        /// How many.
        labels: usize,
        /// What they all are.
        right: bool,
    },
}

fn verdict(right: bool) -> &'static str {
    if right { "right" } else { "wrong" }
}

/// Refuses what no curve can be learned from.
fn check(scored: &[Scored]) -> Result<(), FitError> {
    let Some(first) = scored.first() else { return Err(FitError::Empty) };
    if scored.iter().all(|it| it.right == first.right) {
        return Err(FitError::OneSided { labels: scored.len(), right: first.right });
    }
    Ok(())
}

/// The nearest confidence; rounding may leave a number just outside.
fn confidence(number: f64) -> Confidence {
    Confidence::try_from(number.clamp(0.0, 1.0)).unwrap_or(Confidence::ZERO)
}

#[cfg(test)]
mod tests;
