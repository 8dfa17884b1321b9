//! 95 % intervals: how far a number of a finite split may be from the truth.

use fastrand::Rng;

/// Of a share (Wilson 1927).
pub(crate) fn wilson(right: f64, count: f64) -> (f64, f64) {
    let (z, share) = (1.959_964, right / count);
    let middle = share + z * z / (2.0 * count);
    let half = z * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    let scale = 1.0 + z * z / count;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

/// Draws of clips with replacement.
const DRAWS: usize = 1000;

/// Of any statistic of clips, by drawing clips again with replacement (Efron 1979), always the same draws.
pub(crate) fn bootstrap<T: Copy>(clips: &[T], statistic: &dyn Fn(&mut dyn Iterator<Item = T>) -> f64) -> (f64, f64) {
    let mut rng = Rng::with_seed(1979);
    let mut draw = || {
        let mut drawn = (0..clips.len()).map(|_| clips[rng.usize(..clips.len())]);
        statistic(&mut drawn)
    };
    let mut values: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    values.sort_by(f64::total_cmp);
    (values[DRAWS / 40], values[DRAWS - 1 - DRAWS / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_is_wilsons_and_the_bootstrap_agrees() {
        let (low, high) = wilson(80.0, 100.0);
        assert!((low - 0.7112).abs() < 1e-3 && (high - 0.8666).abs() < 1e-3, "{low} {high}");
        let clips: Vec<f64> = (0..100).map(|n| f64::from(u8::from(n < 80))).collect();
        let mean = |clips: &mut dyn Iterator<Item = f64>| clips.sum::<f64>() / 100.0;
        let (drawn_low, drawn_high) = bootstrap(&clips, &mean);
        assert!((drawn_low - low).abs() < 0.03 && (drawn_high - high).abs() < 0.03, "{drawn_low} {drawn_high}");
    }
}
