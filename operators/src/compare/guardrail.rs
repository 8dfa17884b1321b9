//! What an arm must not do worse.

use super::{Better, Interval, Metric, Sequence, Sums};

/// A limit for one metric: an arm that is certainly worse than the control by more is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guardrail {
    /// The metric; its better direction says what is worse.
    pub metric: Metric,
    /// How much worse an arm may be, in the metric's unit; at least 0.
    pub limit: f64,
}

impl Guardrail {
    /// The interval that shows that the arm is worse than the limit allows; `None` where none does, or it is too early. Where
    /// several guardrails watch several arms, `sequence` has its part of α for each of them.
    pub fn breach(&self, sequence: &Sequence, control: &Sums, treatment: &Sums) -> Option<Interval> {
        let interval = sequence.difference(control, treatment).ok()?;
        let at_least_worse = match self.metric.better() {
            Better::Higher => -interval.high,
            Better::Lower => interval.low,
        };
        (at_least_worse > self.limit).then_some(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sums::tests::outcome;
    use crate::compare::{ALPHA, ArmSums};

    /// An arm of 2,000 uploads of which so many in 100 fail.
    fn arm(failures: u32) -> ArmSums {
        let mut arm = ArmSums::default();
        (0..2_000).for_each(|n| arm.add(None, &outcome(n % 100 >= failures, 0.8, 100)));
        arm
    }

    #[test]
    fn an_arm_is_stopped_where_it_is_worse_by_more_than_the_limit_and_only_then() {
        let sequence = Sequence::new(ALPHA, 4_000);
        for (metric, control, treatment, limit, stops) in [
            (Metric::SuccessRate, 5, 10, 0.0, true),
            (Metric::SuccessRate, 5, 10, 0.05, false),
            (Metric::SuccessRate, 10, 5, 0.0, false),
            (Metric::ErrorRate, 5, 10, 0.01, true),
            (Metric::ErrorRate, 10, 5, 0.01, false),
            (Metric::ErrorRate, 5, 5, 0.0, false),
        ] {
            let (control, treatment) = (arm(control), arm(treatment));
            let breach = Guardrail { metric, limit }.breach(&sequence, control.of(metric), treatment.of(metric));
            assert_eq!(breach.is_some(), stops, "{metric} {limit}");
        }
    }
}
