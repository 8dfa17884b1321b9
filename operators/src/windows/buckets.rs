//! Buckets of whole numbers, of which quantiles are read with a bounded relative error.
//!
//! This is DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019) with its mapping interpolated linearly between powers of two, so
//! that it needs no logarithm and is the same on every machine. A bucket is a number, and what is counted by bucket can be
//! added and taken away again in any order, which the sketches of the crates cannot.

/// Parts of each power of two: a bucket's middle is off by half a part, 1/128 of the value, at most.
const PARTS: u64 = 64;
const PARTS_LOG2: u32 = PARTS.ilog2();

/// Above every bucket.
pub(crate) const BUCKETS: u16 = ((64 - PARTS_LOG2 + 1) * PARTS as u32) as u16;

/// The bucket of a value. Values below 128 have one each.
pub(crate) fn bucket(value: u64) -> u16 {
    let shift = value.max(1).ilog2().saturating_sub(PARTS_LOG2);
    (u64::from(shift) * PARTS + (value >> shift)) as u16
}

/// The value in the middle of a bucket.
pub(crate) fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket / PARTS).saturating_sub(1);
    let first = (bucket - shift * PARTS) << shift;
    first + ((1 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sketches_ddsketch::{Config, DDSketch};

    use super::*;
    use crate::windows::totals::quantile;

    #[test]
    fn buckets_rise_with_values_and_small_values_are_exact() {
        assert!((0..128).all(|value| middle(bucket(value)) == value));
        assert!((0..100_000).all(|value| bucket(value) <= bucket(value + 1) && bucket(value + 1) <= bucket(value) + 1));
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    proptest! {
        #[test]
        fn the_middle_is_within_a_hundredth_of_every_value_of_its_bucket(value in 0_u64.., shift in 0_u32..64) {
            let value = value >> shift;
            let off = middle(bucket(value)).abs_diff(value);
            prop_assert!(u128::from(off) * 128 <= u128::from(value), "{value} is taken for {}", middle(bucket(value)));
        }

        #[test]
        fn quantiles_are_within_a_hundredth_of_the_exact_ones_as_those_of_the_reference_are(
            values in prop::collection::vec((0_u64..10_000_000, 0_u32..20).prop_map(|(value, shift)| value >> shift), 1..400)
        ) {
            let mut reference = DDSketch::new(Config::new(0.01, 4096, 1.0));
            values.iter().for_each(|value| reference.add(*value as f64));
            let mut counts: Vec<(u16, i64)> = values.iter().map(|value| (bucket(*value), 1)).collect();
            counts.sort_unstable();
            let mut sorted = values;
            sorted.sort_unstable();
            for percent in [50, 90, 95, 99] {
                let rank = (sorted.len() * percent).div_ceil(100) - 1;
                let exact = sorted[rank] as f64;
                let ours = quantile(&counts, percent as u64).expect("there are values") as f64;
                prop_assert!((ours - exact).abs() <= 0.01 * exact, "{ours} for {exact}");
                // Its ranks are computed in floating point, and may fall on the neighbour.
                let theirs = reference.quantile(percent as f64 / 100.0).expect("a quantile").expect("there are values");
                let next = sorted[rank.saturating_sub(1)] as f64;
                let is_near = |exact: f64| (theirs - exact).abs() <= 0.01 * exact + 1.0;
                prop_assert!(is_near(exact) || is_near(next), "{theirs} for {exact}");
            }
        }
    }
}
