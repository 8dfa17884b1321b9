//! Simulated experiments: what the intervals, the variance by unit and the estimate of the duration really keep.

use fastrand::Rng;

use super::sums::Part;
use super::{ALPHA, Design, Interval, Metric, Sequence, Sums};

/// Uploads from one look to the next.
const LOOK: u64 = 100;

/// An experiment to simulate many times. The control's values come first.
struct Trial<V> {
    uploads: u64,
    expected_uploads: u64,
    /// The treatment's share.
    share: f64,
    customers: usize,
    metric: Metric,
    /// The value of an upload, in integers of the metric: of the arm, from the customer's own number in [0, 1).
    value: V,
}

/// What the variance takes for one observation.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Customer,
    Upload,
}

impl<V: Fn(&mut Rng, usize, f64) -> u64> Trial<V> {
    /// Runs it once and looks at it after every 100 uploads; the first interval that `stops` it.
    fn run(&self, seed: u64, unit: Unit, stops: impl Fn(&Interval) -> bool) -> Option<Interval> {
        let mut random = Rng::with_seed(seed);
        let sequence = Sequence::new(ALPHA, self.expected_uploads);
        // Sizes after Zipf, with exponent 0.7: a customer in ten has half of the uploads.
        let mut sizes: Vec<f64> = (1..=self.customers).map(|rank| (rank as f64).powf(-0.7)).collect();
        for at in 1..sizes.len() {
            sizes[at] += sizes[at - 1];
        }
        let drawn: Vec<(usize, f64)> =
            sizes.iter().map(|_| (usize::from(random.f64() < self.share), random.f64())).collect();
        let mut parts = vec![Part::default(); self.customers];
        let mut arms = [Sums::new(self.metric); 2];
        for upload in 1..=self.uploads {
            let (customer, (arm, own)) = if self.customers == 0 {
                (0, (usize::from(random.f64() < self.share), random.f64()))
            } else {
                let at = random.f64() * sizes[self.customers - 1];
                let customer = sizes.partition_point(|size| *size <= at);
                (customer, drawn[customer])
            };
            let value = (self.value)(&mut random, arm, own);
            let by_upload = unit == Unit::Upload || self.customers == 0;
            let before = if by_upload { Part::default() } else { parts[customer] };
            let after = Part { s: before.s + value, n: before.n + 1 };
            arms[arm].grow(before, after);
            if !by_upload {
                parts[customer] = after;
            }
            if upload.is_multiple_of(LOOK)
                && let Ok(interval) = sequence.difference(&arms[0], &arms[1])
                && stops(&interval)
            {
                return Some(interval);
            }
        }
        None
    }

    /// The share of `runs` that are stopped by an interval without `truth`.
    fn wrong(&self, runs: u64, unit: Unit, truth: f64) -> f64 {
        let is_wrong = |interval: &Interval| interval.low > truth || interval.high < truth;
        let wrong = (0..runs).filter(|seed| self.run(*seed, unit, is_wrong).is_some()).count();
        wrong as f64 / runs as f64
    }
}

/// A success, by arm: independent of the customer.
fn succeeds(rates: [f64; 2]) -> impl Fn(&mut Rng, usize, f64) -> u64 {
    move |random, arm, _| u64::from(random.f64() < rates[arm])
}

#[test]
fn two_equal_arms_are_called_different_in_5_of_100_experiments_at_most_with_100_looks_each() {
    let trial = Trial {
        uploads: 10_000,
        expected_uploads: 10_000,
        share: 0.1,
        customers: 0,
        metric: Metric::SuccessRate,
        value: succeeds([0.97; 2]),
    };
    let wrong = trial.wrong(2_000, Unit::Upload, 0.0);
    println!("false alarms: {wrong} of 2,000 experiments");
    assert!(wrong <= ALPHA, "{wrong}");
    assert!(wrong > 0.0, "the simulation cannot fail");
}

#[test]
fn heavy_customers_raise_no_false_alarm_but_with_a_variance_that_takes_uploads_for_independent() {
    // Half of the customers succeed in 80 of 100 uploads, the others always.
    let value = |random: &mut Rng, _: usize, own: f64| u64::from(own < 0.5 || random.f64() < 0.8);
    let trial = Trial {
        uploads: 10_000,
        expected_uploads: 10_000,
        share: 0.5,
        customers: 1_000,
        metric: Metric::SuccessRate,
        value,
    };
    let (by_customer, by_upload) = (trial.wrong(500, Unit::Customer, 0.0), trial.wrong(500, Unit::Upload, 0.0));
    println!("false alarms: {by_customer} by customer, {by_upload} by upload");
    assert!(by_customer <= ALPHA, "{by_customer}");
    assert!(by_upload > 3.0 * ALPHA, "{by_upload}: the simulation has no heavy customers");
}

#[test]
fn customers_whose_uploads_are_independent_of_each_other_raise_no_more_alarms_than_5_in_100() {
    // Few customers who go on for ever: the number of units tells nothing of how much was seen.
    let trial = Trial {
        uploads: 20_000,
        expected_uploads: 2_000,
        share: 0.5,
        customers: 200,
        metric: Metric::SuccessRate,
        value: succeeds([0.9; 2]),
    };
    let wrong = trial.wrong(500, Unit::Customer, 0.0);
    assert!(wrong <= ALPHA, "{wrong}");
}

#[test]
fn the_interval_of_a_skewed_mean_holds_the_true_difference_at_all_looks() {
    // Log-normal times: a median of 200 ms and 250 ms, and a mean that is 1.65 times the median.
    let value = |random: &mut Rng, arm: usize, _: f64| {
        let normal = (-2.0 * random.f64().max(1e-300).ln()).sqrt() * (random.f64() * std::f64::consts::TAU).cos();
        ([200.0, 250.0][arm] * normal.exp()) as u64
    };
    let trial =
        Trial { uploads: 10_000, expected_uploads: 10_000, share: 0.1, customers: 0, metric: Metric::TotalMs, value };
    let wrong = trial.wrong(1_000, Unit::Upload, 50.0 * 0.5f64.exp());
    println!("{wrong} of 1,000 experiments had an interval without the true difference");
    assert!(wrong <= ALPHA, "{wrong}");
}

#[test]
fn a_difference_of_3_points_is_found_in_the_promised_time_in_80_of_100_experiments() {
    // Where both arms vary alike, as the estimate has it; and where the better arm varies less, so it is found sooner.
    for (rates, weights, found_in) in [
        ([0.485, 0.515], [1, 1], 0.77..=0.83),
        ([0.485, 0.515], [9, 1], 0.77..=0.83),
        ([0.90, 0.93], [1, 1], 0.80..=0.90),
    ] {
        let expected_uploads = 10_000;
        let design = Design::new(Sequence::new(ALPHA, expected_uploads), rates[0] * (1.0 - rates[0]), weights);
        let promised = design.uploads(0.03);
        let trial = Trial {
            uploads: promised,
            expected_uploads,
            share: f64::from(weights[1]) / f64::from(weights[0] + weights[1]),
            customers: 0,
            metric: Metric::SuccessRate,
            value: succeeds(rates),
        };
        let runs = 2_000;
        let found = (0..runs).filter(|seed| trial.run(*seed, Unit::Upload, |it| it.low > 0.0).is_some()).count();
        let found = found as f64 / runs as f64;
        println!("{rates:?}, {weights:?}: {found} of {runs} experiments found it in {promised} uploads");
        assert!(found_in.contains(&found), "{found} after {promised} uploads");
    }
}

#[test]
fn an_arm_that_always_fails_is_found_at_once() {
    let trial = Trial {
        uploads: 2_000,
        expected_uploads: 100_000,
        share: 0.1,
        customers: 0,
        metric: Metric::SuccessRate,
        value: succeeds([0.999, 0.0]),
    };
    assert!((0..100).all(|seed| trial.run(seed, Unit::Upload, |it| it.high < -0.05).is_some()));
}
