//! What a comparison says, in words.

use super::{Better, Design, Interval, MISMATCH_ALPHA, Metric, Sequence, TooEarly};

/// What may be said of an arm beside the control, in the metric that the experiment is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The split is not what was asked for, with this p-value: nothing may be read.
    Mismatch(f64),
    /// Nothing can be said yet.
    TooEarly(TooEarly),
    /// The arm is better, by between so much and so much.
    Better(f64, f64),
    /// The arm is worse, by between so much and so much.
    Worse(f64, f64),
    /// Whatever difference there is, it is smaller than the one of interest: at most so large.
    Alike(f64),
    /// A difference up to so large cannot be told yet.
    Undecided {
        /// The larger end of the interval.
        largest: f64,
        /// Days until the difference of interest would be found, at the rate so far; `None` where that time is over.
        days: Option<f64>,
    },
}

/// What a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The metric.
    pub metric: Metric,
    /// The smallest difference that is of interest, in the metric's unit.
    pub smallest_difference: f64,
    /// Days since the first upload.
    pub days: f64,
}

impl Case {
    /// The verdict on a difference, over `uploads` of both arms, whose split has this p-value.
    pub fn judge(
        &self,
        sequence: Sequence,
        mismatch: f64,
        difference: Result<Interval, TooEarly>,
        uploads: u64,
    ) -> Verdict {
        if mismatch < MISMATCH_ALPHA {
            return Verdict::Mismatch(mismatch);
        }
        let interval = match difference {
            Ok(interval) => interval,
            Err(too_early) => return Verdict::TooEarly(too_early),
        };
        let (low, high) = (interval.low, interval.high);
        let largest = low.abs().max(high.abs());
        if interval.excludes_zero() {
            let smallest = low.abs().min(high.abs());
            let is_better = (low > 0.0) == (self.metric.better() == Better::Higher);
            return if is_better { Verdict::Better(smallest, largest) } else { Verdict::Worse(smallest, largest) };
        }
        if largest < self.smallest_difference {
            return Verdict::Alike(largest);
        }
        let needed = Design::of(sequence, &interval, uploads).uploads(self.smallest_difference);
        let days = needed.checked_sub(uploads).map(|missing| missing as f64 / uploads as f64 * self.days);
        Verdict::Undecided { largest, days }
    }

    /// The verdict as a sentence about `arm`.
    pub fn say(&self, verdict: &Verdict, arm: &str) -> String {
        let metric = self.metric;
        let size = |difference: f64| metric.show_size(difference);
        match verdict {
            Verdict::Mismatch(p) => format!(
                "do not read this: the split is not what was asked (p = {p:.1e}); units are lost or doubled on their way"
            ),
            Verdict::TooEarly(why) => format!("nothing can be told of {metric} yet: {why}"),
            Verdict::Better(low, high) => {
                format!("{arm} is better in {metric}, by {} to {}", metric.number(*low), size(*high))
            }
            Verdict::Worse(low, high) => {
                format!("{arm} is worse in {metric}, by {} to {}", metric.number(*low), size(*high))
            }
            Verdict::Alike(largest) => {
                format!("{arm} is alike in {metric}: any difference is smaller than {}", size(*largest))
            }
            Verdict::Undecided { largest, days } => {
                let so_far =
                    format!("no difference in {metric} can be told yet; it is smaller than {}", size(*largest));
                let interest = size(self.smallest_difference);
                match days {
                    Some(days) => {
                        format!("{so_far}; at this rate one of {interest} takes {} more to find", span(*days))
                    }
                    None => format!("{so_far}; one of {interest} would probably have been found by now"),
                }
            }
        }
    }
}

/// A length of time in words.
pub fn span(days: f64) -> String {
    match days {
        days if days < 1.0 / 24.0 => format!("about {:.0} minutes", (days * 24.0 * 60.0).max(1.0)),
        days if days < 2.0 => format!("about {:.0} hours", (days * 24.0).max(1.0)),
        days if days < 1000.0 => format!("about {days:.0} days"),
        _ => "years".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::ALPHA;

    fn verdict(metric: Metric, mismatch: f64, low: f64, high: f64) -> (Verdict, String) {
        let case = Case { metric, smallest_difference: 0.03, days: 2.0 };
        let half = (high - low) / 2.0;
        let interval = Interval { difference: low + half, variance: half * half / 9.2, low, high };
        let verdict = case.judge(Sequence::new(ALPHA, 1_000), mismatch, Ok(interval), 1_000);
        let said = case.say(&verdict, "B");
        (verdict, said)
    }

    #[test]
    fn a_verdict_says_what_the_interval_shows_and_which_way_is_better() {
        for (metric, low, high, says) in [
            (Metric::SuccessRate, 0.021, 0.040, "B is better in success_rate, by 2.10 to 4.00 points"),
            (Metric::SuccessRate, -0.040, -0.021, "B is worse in success_rate, by 2.10 to 4.00 points"),
            (Metric::ErrorRate, 0.021, 0.040, "B is worse in error_rate, by 2.10 to 4.00 points"),
            (Metric::ErrorRate, -0.040, -0.021, "B is better in error_rate, by 2.10 to 4.00 points"),
            (
                Metric::SuccessRate,
                -0.01,
                0.02,
                "B is alike in success_rate: any difference is smaller than 2.00 points",
            ),
        ] {
            assert_eq!(verdict(metric, 1.0, low, high).1, says);
        }
    }

    #[test]
    fn what_is_undecided_says_how_long_it_takes() {
        let (undecided, said) = verdict(Metric::SuccessRate, 1.0, -0.05, 0.06);
        assert!(matches!(undecided, Verdict::Undecided { largest, days: Some(_) } if largest == 0.06), "{undecided:?}");
        assert!(said.contains("it is smaller than 6.00 points") && said.contains("takes about"), "{said}");
    }

    #[test]
    fn a_split_that_was_not_asked_for_forbids_every_other_word() {
        let (verdict, said) = verdict(Metric::SuccessRate, 1e-6, 0.02, 0.04);
        assert_eq!(verdict, Verdict::Mismatch(1e-6));
        assert!(said.starts_with("do not read this") && !said.contains("better"), "{said}");
    }

    #[test]
    fn lengths_of_time_are_told_in_the_unit_that_fits() {
        let told = [0.001, 0.5, 3.2, 4_000.0].map(span);
        assert_eq!(told, ["about 1 minutes", "about 12 hours", "about 3 days", "years"]);
    }
}
