//! Log-odds, and the root of a rising function: what temperature scaling and Platt's method are fitted with.

use records::Confidence;

use super::Scored;

/// No score is surer than this, so that log-odds and logarithms are finite.
pub(super) const SMALLEST: f64 = 1e-12;

/// The slopes, of log-odds, that a fit may have: separable labels would ask for an endless one.
pub(super) const STEEPEST: f64 = 100.0;

/// ln(p / (1 − p)).
pub(super) fn logit(score: Confidence) -> f64 {
    let p = score.get().clamp(SMALLEST, 1.0 - SMALLEST);
    (p / (1.0 - p)).ln()
}

/// 1 / (1 + e⁻ˣ).
pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// An answer's log-odds and its label, 1 where it is right.
pub(super) fn labelled(scored: &[Scored]) -> Vec<(f64, f64)> {
    scored.iter().map(|it| (logit(it.score), f64::from(u8::from(it.right)))).collect()
}

/// Where `rising` passes 0 between `low` and `high`, or the end that is nearer to it. Halves 100 times: to the last bit.
pub(super) fn root(mut low: f64, mut high: f64, rising: impl Fn(f64) -> f64) -> f64 {
    if rising(low) >= 0.0 {
        return low;
    }
    if rising(high) <= 0.0 {
        return high;
    }
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if rising(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low + (high - low) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_finite_and_turned_back_by_the_logistic() {
        for p in [0.0, 1e-9, 0.3, 0.5, 0.999, 1.0] {
            let odds = logit(Confidence::try_from(p).expect("a probability"));
            assert!(odds.is_finite() && (logistic(odds) - p).abs() < 1e-11, "{p}: {odds}");
        }
        assert_eq!((logistic(-1e4), logistic(1e4)), (0.0, 1.0));
    }

    #[test]
    fn a_root_outside_gives_the_nearer_end() {
        assert!((root(0.0, 9.0, |x| x * x - 2.0) - 2f64.sqrt()).abs() < 1e-15);
        assert_eq!((root(3.0, 9.0, |x| x - 2.0), root(0.0, 1.0, |x| x - 2.0)), (3.0, 1.0));
    }
}
