//! A curve from raw to calibrated scores, and which kind the labels are enough for.

use records::Confidence;
use serde::{Deserialize, Serialize};

use super::{FitError, Isotonic, Metrics, Platt, Scored, Temperature};

/// From so many labels on, steps that follow the labels beat a curve of one or two numbers.
const ENOUGH_FOR_STEPS: usize = 1000;

/// Which kind of curve to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// From 1000 labels isotonic; below, temperature, or Platt's method where the labels pay for its second number.
    Auto,
    /// [`Temperature`].
    Temperature,
    /// [`Platt`].
    Platt,
    /// [`Isotonic`].
    Isotonic,
}

/// A function from [0, 1] to [0, 1] that never falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Less, or more, sure of everything.
    Temperature(Temperature),
    /// And biased.
    Platt(Platt),
    /// Steps.
    Isotonic(Isotonic),
}

impl Curve {
    /// Fits a curve to judged answers, in whatever order they come.
    ///
    /// # Errors
    /// [`FitError`] without a right and a wrong answer.
    pub fn fit(method: Method, scored: &[Scored]) -> Result<Self, FitError> {
        let sorted = sorted(scored);
        match method {
            Method::Temperature => Temperature::fit(&sorted).map(Self::Temperature),
            Method::Platt => Platt::fit(&sorted).map(Self::Platt),
            Method::Isotonic => Isotonic::fit(&sorted).map(Self::Isotonic),
            Method::Auto if sorted.len() >= ENOUGH_FOR_STEPS => Self::fit(Method::Isotonic, &sorted),
            Method::Auto => {
                let (one, two) = (Self::fit(Method::Temperature, &sorted)?, Self::fit(Method::Platt, &sorted)?);
                // Akaike: a number more has to make the labels e times as likely.
                let gain = one.log_loss(&sorted) - two.log_loss(&sorted);
                Ok(if gain > 1.0 { two } else { one })
            }
        }
    }

    /// The calibrated score.
    pub fn apply(&self, score: Confidence) -> Confidence {
        match self {
            Self::Temperature(curve) => curve.apply(score),
            Self::Platt(curve) => curve.apply(score),
            Self::Isotonic(curve) => curve.apply(score),
        }
    }

    /// The answers with calibrated scores.
    pub fn apply_all(&self, scored: &[Scored]) -> Vec<Scored> {
        scored.iter().map(|it| Scored { score: self.apply(it.score), ..*it }).collect()
    }

    /// How it was fitted; never [`Method::Auto`].
    pub fn method(&self) -> Method {
        match self {
            Self::Temperature(_) => Method::Temperature,
            Self::Platt(_) => Method::Platt,
            Self::Isotonic(_) => Method::Isotonic,
        }
    }

    /// The kind of curve, as in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Temperature(_) => "temperature",
            Self::Platt(_) => "platt",
            Self::Isotonic(_) => "isotonic",
        }
    }

    fn log_loss(&self, scored: &[Scored]) -> f64 {
        Metrics::of(&self.apply_all(scored)).map_or(0.0, |metrics| metrics.nll * scored.len() as f64)
    }
}

/// By score, the wrong before the right: sums over it are the same whatever the order was.
pub(super) fn sorted(scored: &[Scored]) -> Vec<Scored> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.score.get().total_cmp(&b.score.get()).then(a.right.cmp(&b.right)));
    sorted
}
