//! Whether units came in the shares that were asked for: a sample-ratio mismatch means that somewhere between the draw and
//! the log units are lost or doubled, and then no difference can be read.
//!
//! The test is the sequential multinomial test of Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data",
//! NeurIPS 2022: the Bayes factor of shares out of a Dirichlet distribution around those that were asked, against exactly
//! those. Where the split is right it is a martingale that starts at 1, so the probability that it ever reaches 1/α is at
//! most α (Ville), however often one looks.

use libm::lgamma;

/// How often the test may ever take a right split for a wrong one. Small, since it forbids to read anything else.
pub const MISMATCH_ALPHA: f64 = 0.01;

/// How closely the Dirichlet distribution lies around the asked shares: a share of a half has a standard deviation of 0.05.
const CONCENTRATION: f64 = 100.0;

/// An always-valid p-value that units were drawn in proportion to `weights`: below [`MISMATCH_ALPHA`] the split is not what
/// was asked. `units` are those of each arm, each counted once, in the same order.
pub fn mismatch(units: &[u64], weights: &[u32]) -> f64 {
    assert_eq!(units.len(), weights.len(), "each arm has a weight");
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let drawn: f64 = units.iter().map(|units| *units as f64).sum();
    let mut log_factor = lgamma(CONCENTRATION) - lgamma(CONCENTRATION + drawn);
    for (units, weight) in units.iter().zip(weights) {
        let share = f64::from(*weight) / total;
        let units = *units as f64;
        if share > 0.0 {
            let prior = CONCENTRATION * share;
            log_factor += lgamma(prior + units) - lgamma(prior) - units * share.ln();
        } else if units > 0.0 {
            return 0.0;
        }
    }
    (-log_factor).exp().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_split_is_hardly_ever_called_wrong_however_often_one_looks() {
        let mut random = fastrand::Rng::with_seed(7);
        let runs = 2_000;
        let alarms = (0..runs).filter(|_| {
            let mut units = [0, 0];
            (0..100).any(|_| {
                for _ in 0..100 {
                    units[usize::from(random.u32(0..10) == 0)] += 1;
                }
                mismatch(&units, &[90, 10]) < MISMATCH_ALPHA
            })
        });
        let alarms = alarms.count();
        assert!(alarms as f64 <= MISMATCH_ALPHA * f64::from(runs), "{alarms} of {runs}");
    }

    #[test]
    fn a_wrong_split_is_found() {
        // A tenth of the treatment's customers is lost: 9 in 99 instead of 10 in 100.
        assert!(mismatch(&[90_000, 9_000], &[90, 10]) < 1e-9);
        assert!(mismatch(&[900, 90], &[90, 10]) > 0.5, "990 customers are too few to tell");
        assert!(mismatch(&[520, 380], &[1, 1]) < MISMATCH_ALPHA);
    }

    #[test]
    fn an_arm_that_should_have_had_nobody_is_a_mismatch() {
        assert_eq!(mismatch(&[10, 1], &[1, 0]), 0.0);
        assert_eq!(mismatch(&[10, 0], &[1, 0]), 1.0);
        assert_eq!(mismatch(&[0, 0], &[1, 1]), 1.0);
    }
}
