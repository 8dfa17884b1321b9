//! A confidence sequence for the difference of two arms: intervals that hold at all times together.
//!
//! An ordinary 95 % interval is right in 95 % of cases at one look that was fixed beforehand. Who looks every day and stops
//! at the first interval without 0 is wrong far more often. A confidence sequence is right at all looks together in 95 % of
//! cases, so one may look whenever one likes, and stop.
//!
//! The method is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
//! central limit theory and asymptotic confidence sequences", Annals of Statistics 52 (2024), Theorem 2.2: Robbins' normal
//! mixture boundary (Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences", Annals of Statistics 49 (2021), section 3.2) with an estimated variance. With v the variance of the
//! difference, t the uploads of both arms and ρ² a tuning constant, the half width is
//!
//! ```text
//! √( v · (1 + 1/(tρ²)) · ( ln(1 + tρ²) + 2 ln(1/α) ) )
//! ```
//!
//! - **Tuning**: ρ² is fixed before the first outcome such that the interval is tightest, relative to v, at the number of
//!   uploads that was planned. It holds at every other number as well: √9.2 = 3.0 standard errors at the planned one, 3.8 at
//!   a tenth of it, 3.2 at ten times.
//! - **Burn-in**: the theorem is about many units. Nothing is said before each arm has [`FEWEST`] that carry something:
//!   effective units, times the share of them that carries the metric in both arms ([`Sums::carriers`]). For a rate of
//!   failures of 1 % that is ten failures to expect in the smaller arm.
//! - **Variance** is by unit ([`Sums`]). The theorem is about units that come whole; here they go on with their uploads. The
//!   clock t is the uploads, which runs as fast as the information where a customer's uploads tell new things each, and
//!   faster where they say the same again: then the interval is wider than it had to be. `trial.rs` shows what it keeps.
//! - A small arm without a failure so far has no variance of its own. Each arm's is therefore drawn toward that of all units
//!   around both arms' common mean, with the weight of 30 units, which vanishes as units come.

use std::fmt;

use super::Sums;

/// How often all intervals of a difference together may be wrong, over all times.
pub const ALPHA: f64 = 0.05;

/// What each arm has to be made of before anything is said; see above.
pub const FEWEST: f64 = 10.0;

/// The weight of the common variance in an arm's own, in units.
const PRIOR_UNITS: f64 = 30.0;

/// The rule by which intervals are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence {
    alpha: f64,
    rho_squared: f64,
}

/// A difference, treatment less control, and where it lies. At all times together it does, but for a share of α of
/// experiments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The difference of the means.
    pub difference: f64,
    /// The variance of the difference.
    pub variance: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether there is a difference.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Why nothing can be said of a difference yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TooEarly {
    /// So few units carry the smaller arm.
    Few(f64),
    /// All values are equal.
    NoVariance,
}

impl fmt::Display for TooEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Few(units) => {
                write!(f, "the smaller arm rests on as much as {units:.1} equal units, and it takes {FEWEST:.0}")
            }
            Self::NoVariance => f.write_str("all values are equal so far"),
        }
    }
}

impl Sequence {
    /// A sequence that is wrong in a share `alpha` of experiments at most, and tightest at `expected_uploads` of the two
    /// arms together.
    pub fn new(alpha: f64, expected_uploads: u64) -> Self {
        // The minimum of boundary() over x is where x = ln(1 + x) + 2 ln(1/α).
        let twice_log = -2.0 * alpha.ln();
        let best = (0..60).fold(twice_log, |x, _| x.ln_1p() + twice_log);
        Self { alpha, rho_squared: best / expected_uploads.max(1) as f64 }
    }

    /// The share of experiments in which it may be wrong.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    pub(super) fn rho_squared(&self) -> f64 {
        self.rho_squared
    }

    /// The half width squared, in variances of the difference, at so many uploads.
    pub(super) fn boundary(&self, uploads: f64) -> f64 {
        let x = uploads * self.rho_squared;
        (1.0 + 1.0 / x) * (x.ln_1p() - 2.0 * self.alpha.ln())
    }

    /// The difference of two arms in one metric.
    ///
    /// # Errors
    /// [`TooEarly`].
    pub fn difference(&self, control: &Sums, treatment: &Sums) -> Result<Interval, TooEarly> {
        let (Some(before), Some(after)) = (control.mean(), treatment.mean()) else { return Err(TooEarly::Few(0.0)) };
        let both = control.with(treatment);
        let share = (both.carriers() / both.effective_units()).min(1.0);
        let units = control.effective_units().min(treatment.effective_units()) * share;
        if units < FEWEST {
            return Err(TooEarly::Few(units));
        }
        let variance = variance(control, treatment);
        if variance <= 0.0 {
            return Err(TooEarly::NoVariance);
        }
        let half = (variance * self.boundary((control.uploads() + treatment.uploads()) as f64)).sqrt();
        let difference = after - before;
        Ok(Interval { difference, variance, low: difference - half, high: difference + half })
    }
}

/// The variance of the difference of two means.
fn variance(control: &Sums, treatment: &Sums) -> f64 {
    let freedom = |sums: &Sums| sums.units() as f64 - 1.0;
    let both = control.with(treatment);
    let common = both.residual_squares() / freedom(&both);
    let of_mean = |sums: &Sums| {
        let of_unit = (sums.residual_squares() + PRIOR_UNITS * common) / (freedom(sums) + PRIOR_UNITS);
        of_unit / sums.units() as f64
    };
    of_mean(control) + of_mean(treatment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Metric;
    use crate::compare::sums::Part;

    fn rate(successes: u64, uploads: u64) -> Sums {
        let mut sums = Sums::new(Metric::SuccessRate);
        (0..uploads).for_each(|n| sums.grow(Part::default(), Part { s: u64::from(n < successes), n: 1 }));
        sums
    }

    #[test]
    fn the_interval_is_that_of_the_paper() {
        let (control, treatment) = (rate(900, 1_000), rate(950, 1_000));
        let interval = Sequence::new(ALPHA, 2_000).difference(&control, &treatment).expect("enough");
        // By hand: the common variance is 2000 · 0.925 · 0.075 / 1999 a unit, and each arm's own is drawn toward it by 30 of
        // 1029 units.
        let common: f64 = 138.75 / 1_999.0;
        let variance = ((90.0 + 30.0 * common) / 1_029.0 + (47.5 + 30.0 * common) / 1_029.0) / 1_000.0;
        let half = (variance * 9.211_968).sqrt();
        assert!((interval.difference - 0.05).abs() < 1e-12);
        assert!((interval.high - interval.low - 2.0 * half).abs() < 1e-6, "{interval:?}");
        assert!(interval.excludes_zero());
    }

    #[test]
    fn intervals_are_tightest_where_the_experiment_was_planned_to_be() {
        let sequence = Sequence::new(ALPHA, 10_000);
        let at = |uploads| sequence.boundary(uploads).sqrt();
        assert!((at(10_000.0) - 3.035).abs() < 1e-3 && at(9_000.0) > at(10_000.0) && at(11_000.0) > at(10_000.0));
        assert!((at(1_000.0) - 3.82).abs() < 0.02 && (at(100_000.0) - 3.25).abs() < 0.02);
    }

    #[test]
    fn nothing_is_said_too_early() {
        let sequence = Sequence::new(ALPHA, 10_000);
        let few = sequence.difference(&rate(900, 1_000), &rate(8, 9)).expect_err("9 uploads");
        assert!(matches!(few, TooEarly::Few(units) if units < 2.0), "{few:?}");
        let rare = sequence.difference(&rate(9_990, 10_000), &rate(1_000, 1_000)).expect_err("1 failure to expect");
        assert!(matches!(rare, TooEarly::Few(units) if units < 1.0), "{rare:?}");
        let none = sequence.difference(&rate(0, 0), &rate(1, 1)).expect_err("nobody");
        assert_eq!(none, TooEarly::Few(0.0));
    }
}
