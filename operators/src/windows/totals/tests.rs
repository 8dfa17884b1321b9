//! Totals beside plain sums over the same outcomes.

use proptest::prelude::*;
use proptest::sample::select;
use records::{Confidence, Lane, Tier};

use super::*;

/// An outcome of any values.
pub(crate) fn measured() -> impl Strategy<Value = Measured<'static>> {
    let kinds = (
        select(vec![None, Some(ErrorType::Timeout), Some(ErrorType::Refused)]),
        select(vec![Some(Branch::Primary), Some(Branch::Fallback), Some(Branch::Cache)]),
        select(vec![FallbackReason::Unsure, FallbackReason::Failed(ErrorType::Timeout)]),
        prop::option::of(0.0_f64..=1.0),
        any::<bool>(),
        1_u32..3,
    );
    let keys = (
        select(vec![(None, Some("primary")), (Some("e"), Some("primary")), (Some("e"), Some("other")), (None, None)]),
        select(&Lane::ALL[..]),
        select(vec![Some(Tier::Free), None]),
        select(vec![Some("eu"), None]),
    );
    let numbers = (0_u64..1000, 0_u64..100_000, 0_u64..600_000_000, 0_u64..3, 0_u64..10_000_000);
    (kinds, keys, numbers).prop_map(
        |((error_type, branch, reason, confidence, below_threshold, version), key, numbers)| {
            let status = if error_type.is_some() { Status::DeadLettered } else { Status::Completed };
            Measured {
                upload_id: "u".into(),
                version,
                lane: key.1,
                tier: key.2,
                region: key.3.map(Into::into),
                status,
                branch: branch.filter(|_| error_type.is_none()),
                fallback_reason: (branch == Some(Branch::Fallback)).then_some(reason),
                model: error_type.is_none().then_some("nano".into()),
                experiment: key.0.0.map(Into::into),
                arm: key.0.1.map(Into::into),
                confidence: confidence.map(|sure| Confidence::try_from(sure).expect("in [0, 1]")),
                below_threshold,
                error_type,
                queued_ms: numbers.0,
                inference_ms: numbers.1,
                total_ms: numbers.2,
                cost_micro_usd: MicroUsd(numbers.3),
                arrived_at: UtcMicros(numbers.4),
                completed_at: UtcMicros(numbers.4 + numbers.2 * 1000),
            }
        },
    )
}

fn key() -> WindowKey {
    WindowKey { experiment: None, arm: None, model: None, lane: Lane::Low, tier: None, region: None }
}

fn row(totals: &Totals) -> WindowRow {
    totals.row(WindowKind::Arrival, UtcMicros(0), 60, &key())
}

fn sum(outcomes: &[Measured<'_>]) -> Totals {
    outcomes.iter().fold(Totals::zero(), |mut sum, outcome| {
        sum.plus_equals(&Totals::of_one(outcome));
        sum
    })
}

/// The value that so many in 100 do not exceed, of all that were measured.
fn exact(mut values: Vec<u64>, percent: usize) -> Option<u64> {
    values.sort_unstable();
    Some(values[(values.len() * percent).div_ceil(100).checked_sub(1)?])
}

#[test]
fn one_slow_upload_in_a_small_window_is_in_its_high_quantiles() {
    let counts = [(1, 1), (9, 1)];
    assert_eq!([50, 90, 99].map(|percent| quantile(&counts, percent)), [Some(1), Some(9), Some(9)]);
    assert_eq!(quantile(&[], 99), None);
}

fn is_near(found: Option<u64>, exact: Option<u64>) -> bool {
    match (found, exact) {
        (Some(found), Some(exact)) => found.abs_diff(exact) * 100 <= exact,
        (found, exact) => found == exact,
    }
}

proptest! {
    #[test]
    fn a_row_says_what_plain_sums_say(outcomes in prop::collection::vec(measured(), 0..200)) {
        let row = row(&sum(&outcomes));
        let count = |is: fn(&Measured<'_>) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
        prop_assert_eq!(row.requests, outcomes.len() as u64);
        prop_assert_eq!(row.completed, count(|it| it.status == Status::Completed));
        prop_assert_eq!(row.dead_lettered, count(|it| it.status == Status::DeadLettered));
        prop_assert_eq!(row.errors.values().sum::<u64>(), row.dead_lettered);
        prop_assert_eq!(row.errors.get(&ErrorType::Refused).copied().unwrap_or(0), count(|it| it.error_type == Some(ErrorType::Refused)));
        prop_assert_eq!(row.fallbacks, count(|it| it.branch == Some(Branch::Fallback)));
        prop_assert_eq!(row.fallback_reasons.values().sum::<u64>(), row.fallbacks);
        let unsure = count(|it| it.branch == Some(Branch::Fallback) && it.fallback_reason == Some(FallbackReason::Unsure));
        prop_assert_eq!(row.fallback_reasons.get(&FallbackReason::Unsure).copied().unwrap_or(0), unsure);
        prop_assert_eq!(row.cache_hits, count(|it| it.branch == Some(Branch::Cache)));
        prop_assert_eq!(row.below_threshold, count(|it| it.below_threshold));
        let cost: u64 = outcomes.iter().map(|it| it.cost_micro_usd.0).sum();
        prop_assert_eq!(row.cost_micro_usd.0, cost);
        let sure: Vec<f64> = outcomes.iter().filter_map(|it| it.confidence).map(Confidence::get).collect();
        prop_assert_eq!(row.confidence_histogram.iter().sum::<u64>(), sure.len() as u64);
        let at_half = sure.iter().filter(|sure| (0.5..0.55).contains(*sure)).count() as u64;
        prop_assert_eq!(row.confidence_histogram[10], at_half);
        prop_assert_eq!(row.confidence_mean.is_some(), !sure.is_empty());
        let mean = sure.iter().sum::<f64>() / sure.len() as f64;
        prop_assert!(row.confidence_mean.is_none_or(|found| (found - mean).abs() < 1e-6), "{:?} {mean}", row.confidence_mean);

        let first: Vec<&Measured<'_>> = outcomes.iter().filter(|it| it.version == 1).collect();
        let answered = outcomes.iter().filter(|it| it.status == Status::Completed && it.branch != Some(Branch::Cache));
        let inference: Vec<u64> = answered.map(|it| it.inference_ms).collect();
        prop_assert!(is_near(row.queued_p50_ms, exact(first.iter().map(|it| it.queued_ms).collect(), 50)));
        prop_assert!(is_near(row.total_p99_ms, exact(first.iter().map(|it| it.total_ms).collect(), 99)));
        prop_assert!(is_near(row.inference_p90_ms, exact(inference.clone(), 90)));
        prop_assert!(is_near(row.inference_p95_ms, exact(inference, 95)));
    }

    #[test]
    fn what_is_taken_away_was_never_there(
        stays in prop::collection::vec(measured(), 0..40),
        goes in prop::collection::vec(measured(), 0..40),
    ) {
        let mut all = sum(&[stays.clone(), goes.clone()].concat());
        let mut gone = sum(&goes);
        gone.negate();
        all.plus_equals(&gone);
        prop_assert_eq!(&all, &sum(&stays));
        prop_assert_eq!(all.is_zero(), stays.is_empty());
    }

    #[test]
    fn no_order_and_no_grouping_makes_a_difference(outcomes in prop::collection::vec(measured(), 0..60), at in 0_usize..60) {
        let mut reversed = outcomes.clone();
        reversed.reverse();
        let (left, right) = outcomes.split_at(at.min(outcomes.len()));
        let mut halves = sum(right);
        halves.plus_equals(&sum(left));
        prop_assert_eq!(&sum(&reversed), &halves);
        prop_assert_eq!(serde_json::to_string(&row(&halves)).expect("JSON"), serde_json::to_string(&row(&sum(&outcomes))).expect("JSON"));
        let kept = serde_json::to_string(&halves).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Totals>(&kept).expect("reads back"), halves);
    }
}

proptest! {
    #[test]
    fn a_window_that_was_corrected_to_nothing_has_a_row_that_says_so(outcome in measured()) {
        let mut totals = Totals::of_one(&outcome).written();
        let mut gone = Totals::of_one(&outcome);
        gone.negate();
        totals.plus_equals(&gone);
        prop_assert!(!totals.is_zero(), "or nobody would hear of it");
        let row = row(&totals);
        prop_assert_eq!((row.version, row.requests, row.total_p50_ms), (2, 0, None));
    }
}
