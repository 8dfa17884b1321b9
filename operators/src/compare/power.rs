//! How long an experiment takes: the uploads until a difference is found, before the first one came.

use super::normal::below;
use super::{Interval, Sequence};

/// How probably a difference of interest is to be found in the time that is named.
const POWER: f64 = 0.8;

/// What the duration of an experiment depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Design {
    /// How intervals are made.
    pub sequence: Sequence,
    /// The variance of the difference, times the uploads of both arms: it shrinks as 1/uploads.
    pub spread: f64,
}

impl Design {
    /// Of two arms that get uploads in the proportion of `weights`. `variance` is that of one upload's value, p(1 − p) for a
    /// rate; times the design effect where units have several uploads: how much more the mean varies by unit than if all
    /// uploads were independent.
    pub fn new(sequence: Sequence, variance: f64, weights: [u32; 2]) -> Self {
        let [control, treatment] = weights.map(f64::from);
        let total = control + treatment;
        Self { sequence, spread: variance * (total / control + total / treatment) }
    }

    /// Of an experiment that runs, as it was so far.
    pub fn of(sequence: Sequence, interval: &Interval, uploads: u64) -> Self {
        Self { sequence, spread: interval.variance * uploads as f64 }
    }

    /// The probability that `uploads` of both arms are enough for an interval without 0, at one look of many at the latest.
    ///
    /// In units of information I = uploads/spread the score I·(difference) is a Brownian motion with the true difference as
    /// its drift, and the interval excludes 0 where it is beyond √((I + 1/r²)(ln(1 + Ir²) + 2 ln(1/α))). That boundary is
    /// concave, so its tangent at the last look lies above it everywhere before, and the probability to cross the tangent,
    /// which Bachelier and Lévy have in closed form, is a close lower bound.
    pub fn power(&self, difference: f64, uploads: f64) -> f64 {
        let information = uploads / self.spread;
        let r_squared = self.sequence.rho_squared() * self.spread;
        let log = (information * r_squared).ln_1p() - 2.0 * self.sequence.alpha().ln();
        let boundary = ((information + 1.0 / r_squared) * log).sqrt();
        let slope = (log + 1.0) / (2.0 * boundary);
        let intercept = boundary - slope * information;
        let drift = difference.abs() - slope;
        let root = information.sqrt();
        let reflected = (2.0 * intercept * drift).exp() * below(-drift * root - intercept / root);
        let reflected = if reflected.is_finite() { reflected } else { 0.0 };
        (below(drift * root - intercept / root) + reflected).min(1.0)
    }

    /// The uploads of both arms by which a true difference is found in 80 of 100 experiments.
    pub fn uploads(&self, difference: f64) -> u64 {
        let (mut low, mut high) = (0.0, 1.0);
        while self.power(difference, high) < POWER && high < 1e15 {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.power(difference, middle) < POWER { low = middle } else { high = middle }
        }
        high.ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::ALPHA;

    #[test]
    fn more_uploads_and_larger_differences_are_found_more_often() {
        let design = Design::new(Sequence::new(ALPHA, 10_000), 0.09, [1, 1]);
        assert!(design.power(0.03, 4_000.0) < design.power(0.03, 5_000.0));
        assert!(design.power(0.03, 4_000.0) < design.power(0.04, 4_000.0));
        assert!(design.power(0.0, 1e5) < ALPHA);
        let needed = design.uploads(0.03);
        assert!((design.power(0.03, needed as f64) - POWER).abs() < 1e-3, "{needed}");
        // A test at one fixed look would take 2 · 0.09 · 2 · (1.96 + 0.84)² / 0.03² = 3,139.
        assert!((4_000..6_500).contains(&needed), "{needed}");
    }

    #[test]
    fn an_uneven_split_and_a_design_effect_take_longer() {
        let uploads = |variance, weights| Design::new(Sequence::new(ALPHA, 10_000), variance, weights).uploads(0.03);
        let even = uploads(0.09, [1, 1]);
        assert!((2 * even..4 * even).contains(&uploads(0.09, [9, 1])));
        // Nearly twice as long: it comes closer to the uploads where intervals are tightest.
        assert!((9 * even / 5..2 * even).contains(&uploads(0.18, [1, 1])));
    }
}
