//! A rule: which number of which uploads has to stay on which side of a limit.

use std::fmt;

use differential_dataflow::difference::Semigroup;
use records::{Lane, Severity, Tier, UtcMicros, WindowKey, WindowKind};

use super::{Kind, Metric};
use crate::windows::Totals;

/// With fewer requests in its window, shares, quantiles and means begin nothing: one failure of one is not 100 % of anything.
/// What fires already goes on while what there is says so, so that it does not come and go with the number of requests.
pub const LEAST_REQUESTS: u64 = 20;

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique among rules.
    pub name: String,
    /// What is watched.
    pub metric: Metric,
    /// Of which uploads.
    pub filter: Filter,
    /// What is too much, or too little.
    pub limit: Limit,
    /// Uploads that ended in the last so many seconds are looked at. A queue is looked at as it is.
    pub window_s: u32,
    /// For so long the limit has to be passed before somebody is told.
    pub hold_s: u32,
    /// How much it matters.
    pub severity: Severity,
}

/// Uploads, by what windows tell them apart by; all of them where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The priority they ran under.
    pub lane: Option<Lane>,
    /// The customer's tier.
    pub tier: Option<Tier>,
    /// Where the platform took them in.
    pub region: Option<String>,
    /// The model whose answers they have.
    pub model: Option<String>,
    /// The experiment.
    pub experiment: Option<String>,
    /// The arm.
    pub arm: Option<String>,
}

/// A limit, and on which side of it trouble is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// More than this.
    Above(f64),
    /// Less than this.
    Below(f64),
}

/// What a rule reads at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The metric; `None` where nothing was measured.
    pub value: Option<f64>,
    /// Requests that it is of.
    pub requests: u64,
}

impl Filter {
    fn takes(&self, key: &WindowKey) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.lane.is_none_or(|lane| lane == key.lane)
            && self.tier.is_none_or(|tier| Some(tier) == key.tier)
            && is(&self.region, &key.region)
            && is(&self.model, &key.model)
            && is(&self.experiment, &key.experiment)
            && is(&self.arm, &key.arm)
    }

    /// What it says, by label.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, String)> {
        let labels = [
            ("lane", self.lane.map(|lane| lane.to_string())),
            ("tier", self.tier.map(|tier| tier.to_string())),
            ("region", self.region.clone()),
            ("model", self.model.clone()),
            ("experiment", self.experiment.clone()),
            ("arm", self.arm.clone()),
        ];
        labels.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

impl Rule {
    /// Reads the metric off what the window holds by key, or off what waits in each lane: high, low. `None` where it is not known
    /// what waits.
    pub fn read<'a>(
        &self,
        window: impl IntoIterator<Item = (&'a WindowKey, &'a Totals)>,
        queue: Option<[u64; 2]>,
    ) -> Option<Reading> {
        let Metric::Window(metric) = self.metric else {
            let waiting =
                Lane::ALL.into_iter().zip(queue?).filter(|(lane, _)| self.filter.lane.is_none_or(|it| it == *lane));
            let waiting = waiting.map(|(_, waiting)| waiting).sum();
            return Some(Reading { value: Some(waiting as f64), requests: waiting });
        };
        let mut sum = Totals::default();
        for (_, totals) in window.into_iter().filter(|(key, _)| self.filter.takes(key)) {
            sum.plus_equals(totals);
        }
        // A row of all keys together: its own is of no account.
        let key = WindowKey { experiment: None, arm: None, model: None, lane: Lane::Low, tier: None, region: None };
        let row = sum.row(WindowKind::Completion, UtcMicros(0), self.window_s, &key);
        Some(Reading { value: metric.of(&row), requests: row.requests })
    }

    /// Whether a reading passes the limit.
    pub fn is_passed(&self, reading: Reading, is_firing: bool) -> bool {
        let is_enough = is_firing || self.metric.kind() == Kind::Count || reading.requests >= LEAST_REQUESTS;
        is_enough
            && reading.value.is_some_and(|value| match self.limit {
                Limit::Above(limit) => value > limit,
                Limit::Below(limit) => value < limit,
            })
    }
}

impl Limit {
    /// The side of it on which trouble is, `above` or `below`, and the limit.
    pub fn parts(self) -> (&'static str, f64) {
        match self {
            Self::Above(limit) => ("above", limit),
            Self::Below(limit) => ("below", limit),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, limit) = self.parts();
        write!(f, "{side} {limit}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use differential_dataflow::difference::Monoid;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use records::{Confidence, Measured, Status};

    use super::*;
    use crate::windows::Tally;
    use crate::windows::totals::tests::measured;

    pub(crate) fn rule(metric: &str, limit: Limit) -> Rule {
        Rule {
            name: "r".into(),
            metric: metric.parse().expect("a metric"),
            filter: Filter::default(),
            limit,
            window_s: 60,
            hold_s: 10,
            severity: Severity::Warning,
        }
    }

    fn filter() -> impl Strategy<Value = Filter> {
        use prop::option::of;
        use prop::sample::select;
        let names = |names: Vec<&'static str>| of(select(names).prop_map(str::to_owned));
        let filter = (
            of(select(&Lane::ALL[..])),
            of(select(vec![Tier::Free, Tier::Pro])),
            names(vec!["eu", "us"]),
            names(vec!["nano", "other"]),
            names(vec!["e", "f"]),
            names(vec!["primary"]),
        );
        filter.prop_map(|(lane, tier, region, model, experiment, arm)| Filter {
            lane,
            tier,
            region,
            model,
            experiment,
            arm,
        })
    }

    proptest! {
        #[test]
        fn a_reading_is_that_of_the_uploads_themselves(outcomes in prop::collection::vec(measured(), 0..120), filter in filter()) {
            let mut tally = Tally::new(u64::MAX);
            outcomes.iter().for_each(|outcome| tally.add(UtcMicros(0), outcome, 1));
            let window = tally.take();
            let read = |metric: &str| {
                let rule = Rule { filter: filter.clone(), ..rule(metric, Limit::Above(0.0)) };
                rule.read(window.iter().map(|((_, key), totals)| (key, totals)), None).expect("known")
            };
            let of: Vec<&Measured<'_>> = outcomes.iter().filter(|it| {
                filter.lane.is_none_or(|lane| lane == it.lane)
                    && (filter.tier.is_none() || filter.tier == it.tier)
                    && filter.region.as_deref().is_none_or(|region| it.region.as_deref() == Some(region))
                    && filter.model.as_deref().is_none_or(|model| it.model.as_deref() == Some(model))
                    && filter.experiment.as_deref().is_none_or(|name| it.experiment.as_deref() == Some(name))
                    && filter.arm.as_deref().is_none_or(|arm| it.arm.as_deref() == Some(arm))
            }).collect();
            let share = |is: &dyn Fn(&Measured<'_>) -> bool| {
                (!of.is_empty()).then(|| of.iter().filter(|it| is(it)).count() as f64 / of.len() as f64)
            };
            let dead = |it: &Measured<'_>| it.status == Status::DeadLettered;
            prop_assert_eq!(read("error_rate"), Reading { value: share(&dead), requests: of.len() as u64 });
            let low = |it: &Measured<'_>| it.confidence.is_some_and(|sure| sure.get() < 0.70);
            prop_assert_eq!(read("low_confidence_rate").value, share(&low));
            let mut totals: Vec<u64> = of.iter().filter(|it| it.version == 1).map(|it| it.total_ms).collect();
            totals.sort_unstable();
            let p99 = (totals.len() * 99).div_ceil(100).checked_sub(1).map(|rank| totals[rank] as f64);
            match (read("total_p99_ms").value, p99) {
                (Some(found), Some(exact)) => prop_assert!((found - exact).abs() <= 0.01 * exact, "{found} for {exact}"),
                (found, exact) => prop_assert_eq!(found, exact),
            }
            let cost: u64 = of.iter().map(|it| it.cost_micro_usd.0).sum();
            prop_assert_eq!(read("cost_micro_usd").value, Some(cost as f64));
            prop_assert_eq!(read("errors_timeout").value, Some(of.iter().filter(|it| it.error_type == Some(records::ErrorType::Timeout)).count() as f64));
        }

        #[test]
        fn few_requests_begin_nothing_and_end_nothing(requests in 1..LEAST_REQUESTS, value in 0.06_f64..=1.0) {
            let (rate, counted) = (rule("error_rate", Limit::Above(0.05)), rule("dead_lettered", Limit::Above(0.05)));
            let reading = Reading { value: Some(value), requests };
            prop_assert!(!rate.is_passed(reading, false), "it begins nothing");
            prop_assert!(rate.is_passed(reading, true), "and what fires goes on");
            prop_assert!(counted.is_passed(reading, false), "a count is one of few as well");
            let enough = Reading { requests: LEAST_REQUESTS, ..reading };
            prop_assert!(rate.is_passed(enough, false));
        }
    }

    #[test]
    fn a_value_at_the_limit_does_not_pass_it_and_none_at_all_does_not_either() {
        let at = |value| Reading { value, requests: 100 };
        let (above, below) = (rule("error_rate", Limit::Above(0.05)), rule("success_rate", Limit::Below(0.95)));
        assert!(!above.is_passed(at(Some(0.05)), true) && above.is_passed(at(Some(0.051)), true));
        assert!(!below.is_passed(at(Some(0.95)), true) && below.is_passed(at(Some(0.949)), true));
        assert!(!above.is_passed(at(None), true) && !below.is_passed(at(None), true));
    }

    #[test]
    fn a_queue_is_read_by_lane_and_not_at_all_where_nobody_knows_it() {
        let both = rule("queue", Limit::Above(500.0));
        let low = Rule { filter: Filter { lane: Some(Lane::Low), ..Filter::default() }, ..both.clone() };
        assert_eq!(both.read([], Some([1, 600])), Some(Reading { value: Some(601.0), requests: 601 }));
        assert_eq!(low.read([], Some([1, 600])).and_then(|it| it.value), Some(600.0));
        assert_eq!(both.read([], None), None);
    }

    #[test]
    fn a_confidence_of_exactly_seven_tenths_is_not_low() {
        let read = |sure: f64| {
            let mut tally = Tally::new(1);
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let any = measured().new_tree(&mut runner).expect("a value").current();
            let confidence = Some(Confidence::try_from(sure).expect("in [0, 1]"));
            tally.add(UtcMicros(0), &Measured { confidence, ..any }, 1);
            let ((_, key), totals) = tally.take().remove(0);
            assert_ne!(totals, Totals::zero());
            rule("low_confidence_rate", Limit::Above(0.2)).read([(&key, &totals)], None).and_then(|it| it.value)
        };
        assert_eq!([read(0.699_999), read(0.70)], [Some(1.0), Some(0.0)]);
    }
}
