//! The mean difference of pairs: the same upload, described before and described again.
//!
//! Whoever compares two arms compares different uploads, and has their variance in the way. Here each upload is its own
//! control, so only the differences vary, and what both have in common takes no part. The interval is that of
//! [`Sequence`], for the mean of the differences: it holds at all times together, so it may be looked at while pairs come.
//! Each upload is one observation; that a customer's uploads are alike is not counted.

use super::{FEWEST, Interval, Sequence, TooEarly};

/// What pairs add up to: exact integers, the same in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    pairs: u64,
    before: u128,
    after: u128,
    /// Σ|d| and Σd² over the differences d.
    sizes: u128,
    squares: u128,
}

impl Paired {
    /// Adds an upload's two values.
    pub fn add(&mut self, before: u64, after: u64) {
        self.pairs += 1;
        self.before += u128::from(before);
        self.after += u128::from(after);
        let size = u128::from(before.abs_diff(after));
        self.sizes += size;
        self.squares = self.squares.saturating_add(size * size);
    }

    /// Uploads that were added.
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// The means before and after; `None` without a pair.
    pub fn means(&self) -> Option<[f64; 2]> {
        let mean = |sum: u128| sum as f64 / self.pairs as f64;
        (self.pairs > 0).then(|| [mean(self.before), mean(self.after)])
    }

    /// The mean of after less before, and where it lies. So many pairs must differ, were they to differ alike: [`FEWEST`].
    ///
    /// # Errors
    /// [`TooEarly`]: too few pairs differ, or all in the same way.
    pub fn difference(&self, sequence: &Sequence) -> Result<Interval, TooEarly> {
        let carriers = if self.squares == 0 { 0.0 } else { (self.sizes as f64).powi(2) / self.squares as f64 };
        if carriers > 0.0 && carriers < FEWEST {
            return Err(TooEarly::Few(carriers));
        }
        let pairs = self.pairs as f64;
        let sum = self.after as f64 - self.before as f64;
        let residual = self.squares as f64 - sum * sum / pairs;
        // What is left of equal numbers is rounding.
        if self.pairs < 2 || residual <= self.squares as f64 * 1e-12 {
            return Err(TooEarly::NoVariance);
        }
        let variance = residual / (pairs - 1.0) / pairs;
        let (difference, half) = (sum / pairs, (variance * sequence.boundary(pairs)).sqrt());
        Ok(Interval { difference, variance, low: difference - half, high: difference + half })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compare::ALPHA;

    fn paired(values: &[(u64, u64)]) -> Paired {
        let mut paired = Paired::default();
        values.iter().for_each(|(before, after)| paired.add(*before, *after));
        paired
    }

    proptest! {
        #[test]
        fn it_is_the_mean_of_the_differences_and_their_variance_in_any_order(
            values in proptest::collection::vec((0u64..5_000_000, 0u64..5_000_000), 20..80),
            seed in any::<u64>(),
        ) {
            let found = paired(&values);
            let mut shuffled = values.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            prop_assert_eq!(found, paired(&shuffled));

            let (n, difference) = (values.len() as f64, |(before, after): &(u64, u64)| *after as f64 - *before as f64);
            let mean = values.iter().map(difference).sum::<f64>() / n;
            let variance = values.iter().map(|pair| (difference(pair) - mean).powi(2)).sum::<f64>() / (n - 1.0) / n;
            let interval = found.difference(&Sequence::new(ALPHA, values.len() as u64));
            // Few of 20 differences may outweigh the others.
            if let Ok(interval) = interval {
                prop_assert!((interval.difference - mean).abs() < 1e-6 * mean.abs().max(1.0));
                prop_assert!((interval.variance - variance).abs() < 1e-6 * variance);
                prop_assert!((interval.high - mean - (variance * 9.211_968).sqrt()).abs() < 1e-3 * variance.sqrt());
            } else {
                prop_assert!(matches!(interval, Err(TooEarly::Few(_))));
            }
        }
    }

    #[test]
    fn nothing_is_said_of_pairs_of_which_hardly_any_differ_or_all_alike() {
        let sequence = Sequence::new(ALPHA, 1_000);
        let with = |differ: u64| paired(&(0..1_000).map(|n| (1, u64::from(n >= differ))).collect::<Vec<_>>());
        assert_eq!(with(0).difference(&sequence), Err(TooEarly::NoVariance));
        assert_eq!(with(9).difference(&sequence), Err(TooEarly::Few(9.0)));
        assert!(with(10).difference(&sequence).is_ok_and(|it| it.difference == -0.01));
        assert_eq!(paired(&[(1, 3); 50]).difference(&sequence), Err(TooEarly::NoVariance));
        assert_eq!(Paired::default().difference(&sequence), Err(TooEarly::NoVariance));
        assert_eq!((Paired::default().means(), paired(&[(1, 3); 50]).means()), (None, Some([1.0, 3.0])));
    }

    #[test]
    fn at_all_looks_together_it_is_hardly_ever_wrong() {
        let (mut random, runs, expected) = (fastrand::Rng::with_seed(11), 1_000, 2_000);
        let sequence = Sequence::new(ALPHA, expected);
        // A tenth of the answers is lost, and as many are found: there is no difference.
        let wrong = (0..runs).filter(|_| {
            let mut paired = Paired::default();
            (0..expected).any(|_| {
                let (before, after) = [(1, 1), (1, 1), (0, 0), (1, 0), (0, 1)][random.usize(0..5)];
                paired.add(before, after);
                paired.difference(&sequence).is_ok_and(|it| it.excludes_zero())
            })
        });
        let wrong = wrong.count();
        assert!(wrong as f64 <= ALPHA * f64::from(runs), "{wrong} of {runs}");
    }
}
