//! What an arm adds up to, by unit: exact integers, the same in whatever order outcomes come.

use std::collections::HashMap;

use records::Outcome;

use super::Metric;

/// The sums of one metric over the units of an arm. A unit i has the sum sᵢ of its uploads' values and their number nᵢ.
///
/// The arm's mean is the ratio Σs / Σn. Its variance is that of a ratio of two sums over units (the delta method, also
/// called linearisation): Σ(sᵢ − r nᵢ)² / (Σn)² · m/(m − 1), which needs only Σs², Σsn and Σn². It takes each unit as one
/// observation, however its uploads depend on each other; where each upload is a unit it is the plain variance of a mean.
/// Cochran, "Sampling Techniques", 1977, ch. 6 and 9; Deng, Knoblich and Lu, "Applying the Delta Method in Metric
/// Analytics", KDD 2018, for experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    metric: Metric,
    units: u64,
    s: u128,
    n: u128,
    ss: u128,
    sn: u128,
    nn: u128,
}

/// One unit's part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) s: u64,
    pub(super) n: u32,
}

impl Sums {
    pub(super) fn new(metric: Metric) -> Self {
        Self { metric, units: 0, s: 0, n: 0, ss: 0, sn: 0, nn: 0 }
    }

    /// Takes a unit's part as it is after one more upload, in place of the one before.
    pub(super) fn grow(&mut self, before: Part, after: Part) {
        self.units += u64::from(before.n == 0);
        let squares = |part: Part| {
            let (s, n) = (u128::from(part.s), u128::from(part.n));
            (s * s, s * n, n * n)
        };
        let ((ss, sn, nn), (old_ss, old_sn, old_nn)) = (squares(after), squares(before));
        self.s += u128::from(after.s - before.s);
        self.n += u128::from(after.n - before.n);
        // A part only grows, so each square is at least what it was.
        self.ss += ss - old_ss;
        self.sn += sn - old_sn;
        self.nn += nn - old_nn;
    }

    /// Units that have a value.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Uploads that have a value.
    pub fn uploads(&self) -> u64 {
        u64::try_from(self.n).unwrap_or(u64::MAX)
    }

    /// How many units of equal size say as much as these: (Σn)² / Σn² (Kish 1965). A customer that has half of all uploads
    /// makes it less than 4.
    pub fn effective_units(&self) -> f64 {
        if self.n == 0 { 0.0 } else { (self.n * self.n) as f64 / self.nn as f64 }
    }

    /// How many units of equal size carry the values: (Σs)² / Σs². Where nearly all values are 0 it is about the number of
    /// those that are not, and where nearly all are at the top of their range, the number of those that are not there. So
    /// many a normal distribution has to be made of, and not so many units.
    pub fn carriers(&self) -> f64 {
        let carriers =
            |sum: u128, squares: u128| if squares == 0 { 0.0 } else { (sum as f64).powi(2) / squares as f64 };
        let low = carriers(self.s, self.ss);
        let Some(top) = self.metric.top() else { return low };
        // Each value less than the top: Σ(top n − s)², all in integers.
        let missing = top * self.n - self.s;
        let squares = top * top * self.nn + self.ss - 2 * top * self.sn;
        low.min(carriers(missing, squares))
    }

    /// The variance of the mean, times the uploads: what [`super::Design`] takes for the variance of an upload. 0 for one unit.
    pub fn spread(&self) -> f64 {
        let units = self.units as f64;
        if self.units < 2 { 0.0 } else { self.residual_squares() / (units - 1.0) / units * self.n as f64 }
    }

    /// Both arms' sums together.
    pub(super) fn with(&self, other: &Self) -> Self {
        Self {
            metric: self.metric,
            units: self.units + other.units,
            s: self.s + other.s,
            n: self.n + other.n,
            ss: self.ss + other.ss,
            sn: self.sn + other.sn,
            nn: self.nn + other.nn,
        }
    }

    fn scale(&self) -> f64 {
        self.metric.scale() as f64
    }

    /// The mean, in the metric's unit; `None` where no upload has a value.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.s as f64 / self.n as f64 / self.scale())
    }

    /// Σ(sᵢ − r nᵢ)², each unit's size relative to the mean size, in the metric's unit squared.
    pub(super) fn residual_squares(&self) -> f64 {
        if self.n == 0 {
            return 0.0;
        }
        let (n, ss) = (self.n as f64, self.ss as f64);
        let ratio = self.s as f64 / n;
        let squares = ss - 2.0 * ratio * self.sn as f64 + ratio * ratio * self.nn as f64;
        // What is left of equal numbers is rounding.
        let squares = if squares > ss * 1e-12 { squares } else { 0.0 };
        let mean_size = n / self.units as f64;
        squares / (mean_size * self.scale()).powi(2)
    }
}

/// An arm's sums of every metric. Memory is that of its units, and none where each upload is one.
#[derive(Clone, Debug)]
pub struct ArmSums {
    uploads: u64,
    /// Units that are one upload each.
    alone: u64,
    sums: [Sums; Metric::ALL.len()],
    parts: HashMap<Box<str>, [Part; Metric::ALL.len()]>,
}

impl Default for ArmSums {
    fn default() -> Self {
        Self { uploads: 0, alone: 0, sums: Metric::ALL.map(Sums::new), parts: HashMap::new() }
    }
}

impl ArmSums {
    /// Adds an outcome. Uploads of one `unit` are one observation; without a unit the upload is one by itself. An upload is
    /// added once.
    pub fn add(&mut self, unit: Option<&str>, outcome: &Outcome) {
        self.uploads += 1;
        let mut of_one = Default::default();
        let parts = match unit {
            None => {
                self.alone += 1;
                &mut of_one
            }
            Some(unit) => {
                if !self.parts.contains_key(unit) {
                    self.parts.insert(unit.into(), Default::default());
                }
                self.parts.get_mut(unit).expect("it was put there")
            }
        };
        for ((metric, part), sums) in Metric::ALL.into_iter().zip(parts).zip(&mut self.sums) {
            if let Some(value) = metric.of(outcome) {
                let after = Part { s: part.s.saturating_add(value), n: part.n.saturating_add(1) };
                sums.grow(*part, after);
                *part = after;
            }
        }
    }

    /// Units that were added.
    pub fn units(&self) -> u64 {
        self.alone + self.parts.len() as u64
    }

    /// Uploads that were added.
    pub fn uploads(&self) -> u64 {
        self.uploads
    }

    /// The sums of a metric.
    pub fn of(&self, metric: Metric) -> &Sums {
        let place = Metric::ALL.iter().position(|of| *of == metric).expect("ALL has all");
        &self.sums[place]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use records::{Branch, Confidence, Lane, MicroUsd, Status, Tier, UploadId, UtcMicros};

    use super::*;

    /// An outcome with these numbers.
    pub(in super::super) fn outcome(completed: bool, confidence: f64, ms: u64) -> Outcome {
        Outcome {
            upload_id: UploadId::try_from("u".to_owned()).expect("a letter"),
            version: 1,
            customer_id: Some("c".into()),
            source: None,
            lane: Lane::Low,
            tier: Some(Tier::Free),
            region: None,
            status: if completed { Status::Completed } else { Status::DeadLettered },
            branch: completed.then_some(Branch::Primary),
            fallback_reason: None,
            model: None,
            experiment: Some("e".into()),
            arm: Some("control".into()),
            confidence: completed.then(|| Confidence::try_from(confidence).expect("a probability")),
            below_threshold: false,
            metadata: Default::default(),
            field_confidence: Default::default(),
            attempts: 1,
            error: None,
            error_type: None,
            queued_ms: 0,
            inference_ms: ms,
            total_ms: ms,
            cost_micro_usd: MicroUsd(0),
            arrived_at: UtcMicros(1),
            completed_at: UtcMicros(2),
            training_consent: false,
        }
    }

    proptest! {
        #[test]
        fn sums_are_the_same_in_any_order_and_equal_those_of_the_definition(
            uploads in proptest::collection::vec((0u8..6, any::<bool>(), 0.0..=1.0f64, 0u64..5_000_000), 1..60),
            seed in any::<u64>(),
        ) {
            let arm = |uploads: &[(u8, bool, f64, u64)]| {
                let mut arm = ArmSums::default();
                for (customer, completed, confidence, ms) in uploads {
                    arm.add(Some(&customer.to_string()), &outcome(*completed, *confidence, *ms));
                }
                arm
            };
            let mut shuffled = uploads.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            let (arm, other) = (arm(&uploads), arm(&shuffled));
            prop_assert!(Metric::ALL.iter().all(|metric| arm.of(*metric) == other.of(*metric)));

            // By the definition, in floating point.
            let sums = arm.of(Metric::TotalMs);
            let (mut by_customer, n) = ([(0.0, 0.0); 6], uploads.len() as f64);
            for (customer, _, _, ms) in &uploads {
                let (s, n) = &mut by_customer[usize::from(*customer)];
                (*s, *n) = (*s + *ms as f64, *n + 1.0);
            }
            let mean = uploads.iter().map(|(.., ms)| *ms as f64).sum::<f64>() / n;
            let seen = by_customer.iter().filter(|(_, n)| *n > 0.0).count() as f64;
            let squares = by_customer.iter().map(|(s, n)| (s - mean * n).powi(2)).sum::<f64>() / (n / seen).powi(2);
            prop_assert!((sums.mean().expect("not empty") - mean).abs() <= 1e-9 * mean.max(1.0));
            prop_assert!((sums.residual_squares() - squares).abs() <= 1e-9 * squares + 1.0);
            prop_assert_eq!((arm.units() as f64, arm.uploads() as f64), (seen, n));
        }
    }

    #[test]
    fn a_heavy_customer_counts_as_one_and_an_upload_that_is_a_unit_as_itself() {
        let (mut by_customer, mut by_upload) = (ArmSums::default(), ArmSums::default());
        for number in 0..100 {
            let customer = if number < 50 { "heavy".to_owned() } else { number.to_string() };
            by_customer.add(Some(&customer), &outcome(true, 0.5, 1));
            by_upload.add(None, &outcome(true, 0.5, 1));
        }
        let units = |arm: &ArmSums| (arm.units(), arm.of(Metric::SuccessRate).effective_units().round());
        assert_eq!((units(&by_customer), units(&by_upload)), ((51, 4.0), (100, 100.0)));
    }

    #[test]
    fn what_is_rare_is_carried_by_as_many_as_there_are() {
        let mut arm = ArmSums::default();
        for number in 0..1000 {
            arm.add(None, &outcome(number >= 7, 0.9, 10));
        }
        assert_eq!(arm.of(Metric::SuccessRate).carriers(), 7.0, "by the failures");
        assert_eq!(arm.of(Metric::ErrorRate).carriers(), 7.0);
        assert_eq!(arm.of(Metric::TotalMs).carriers(), 1000.0, "all alike");
        assert_eq!((arm.of(Metric::Confidence).units(), arm.of(Metric::Confidence).mean()), (993, Some(0.9)));
    }
}
