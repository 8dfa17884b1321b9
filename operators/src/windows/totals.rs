//! What is known of a window under one key: whole numbers that add up, whatever the order, and can be taken away again.

use std::cmp::Ordering;
use std::ops::Range;

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use records::{
    Branch, CONFIDENCE_BINS, ErrorType, FallbackReason, Measured, MicroUsd, Status, UtcMicros, WindowKey, WindowKind,
    WindowRow,
};
use serde::{Deserialize, Serialize};

use super::buckets::{BUCKETS, bucket, middle};

/// The difference of the report graph: sums by place, those of 0 left out. Adding outcomes, taking them away and adding
/// pages of them is the same arithmetic.
///
/// As JSON it is a list of `[place, sum]`, which the store keeps; so a place is never given another meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Totals(Vec<(u16, i64)>);

/// How often the window's row was written before.
const WRITTEN: u16 = 0;
const REQUESTS: u16 = 1;
const COMPLETED: u16 = 2;
const DEAD_LETTERED: u16 = 3;
const FALLBACKS: u16 = 4;
const CACHE_HITS: u16 = 5;
const BELOW_THRESHOLD: u16 = 6;
const COST_MICRO_USD: u16 = 7;
const CONFIDENCE_MILLIONTHS: u16 = 8;
/// By the error's place in [`ERROR_TYPES`].
const ERRORS: u16 = 16;
/// Why the fallback answered: unsure, then by the error's place in [`ERROR_TYPES`].
const FALLBACK_REASONS: u16 = 32;
/// By bin.
const CONFIDENCE: u16 = 64;
/// Places of one kind: of counts and sums, and of the buckets of each latency.
pub(super) const PLACES: u16 = 4096;
const QUEUED: u16 = PLACES;
const INFERENCE: u16 = 2 * PLACES;
const TOTAL: u16 = 3 * PLACES;

const _: () = assert!(BUCKETS <= PLACES, "buckets of one latency end before those of the next");

const ERROR_TYPES: [ErrorType; 11] = [
    ErrorType::InvalidEvent,
    ErrorType::AudioUnreachable,
    ErrorType::AudioUndecodable,
    ErrorType::AudioTooLong,
    ErrorType::AudioTooShort,
    ErrorType::Model,
    ErrorType::RateLimited,
    ErrorType::Timeout,
    ErrorType::WouldMissDeadline,
    ErrorType::Unavailable,
    ErrorType::Refused,
];

/// Hands each place and its addend of one outcome to `add`.
pub(super) fn each_addend(outcome: &Measured<'_>, mut add: impl FnMut(u16, i64)) {
    add(REQUESTS, 1);
    let is_completed = outcome.status == Status::Completed;
    add(if is_completed { COMPLETED } else { DEAD_LETTERED }, 1);
    if outcome.below_threshold {
        add(BELOW_THRESHOLD, 1);
    }
    if outcome.cost_micro_usd != MicroUsd(0) {
        add(COST_MICRO_USD, signed(outcome.cost_micro_usd.0));
    }
    match outcome.branch {
        Some(Branch::Fallback) => {
            add(FALLBACKS, 1);
            if let Some(reason) = outcome.fallback_reason {
                add(FALLBACK_REASONS + place_of_reason(reason), 1);
            }
        }
        Some(Branch::Cache) => add(CACHE_HITS, 1),
        Some(Branch::Primary) | None => {}
    }
    if let Some(kind) = outcome.error_type {
        add(ERRORS + place_of_error(kind), 1);
    }
    if let Some(confidence) = outcome.confidence {
        add(CONFIDENCE_MILLIONTHS, (confidence.get() * 1e6).round() as i64);
        let bin = (confidence.get() * CONFIDENCE_BINS as f64) as usize;
        add(CONFIDENCE + bin.min(CONFIDENCE_BINS - 1) as u16, 1);
    }
    if is_completed && outcome.branch != Some(Branch::Cache) {
        add(INFERENCE + bucket(outcome.inference_ms), 1);
    }
    // A redriven upload's times run from its first arrival: they would tell how long somebody took to redrive it.
    if outcome.version == 1 {
        add(QUEUED + bucket(outcome.queued_ms), 1);
        add(TOTAL + bucket(outcome.total_ms), 1);
    }
}

fn place_of_error(kind: ErrorType) -> u16 {
    ERROR_TYPES.iter().position(|other| *other == kind).expect("every type of error has its place") as u16
}

fn place_of_reason(reason: FallbackReason) -> u16 {
    match reason {
        FallbackReason::Unsure => 0,
        FallbackReason::Failed(kind) => 1 + place_of_error(kind),
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Totals {
    /// Of addends in any order.
    pub(super) fn of(addends: &mut Vec<(u16, i64)>) -> Self {
        addends.sort_unstable_by_key(|(place, _)| *place);
        addends.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1 += later.1;
            }
            is_same
        });
        addends.retain(|(_, sum)| *sum != 0);
        Self(std::mem::take(addends))
    }

    /// Of one outcome.
    pub fn of_one(outcome: &Measured<'_>) -> Self {
        let mut addends = Vec::with_capacity(10);
        each_addend(outcome, |place, addend| addends.push((place, addend)));
        Self::of(&mut addends)
    }

    /// The same, of a window whose row is written: a row of these is of the next version.
    pub fn written(mut self) -> Self {
        self.plus_equals(&Self(vec![(WRITTEN, 1)]));
        self
    }

    /// Whether more is taken away than is there.
    pub fn is_negative(&self) -> bool {
        self.0.iter().any(|(_, sum)| *sum < 0)
    }

    fn sum(&self, place: u16) -> i64 {
        self.0.binary_search_by_key(&place, |(place, _)| *place).map_or(0, |found| self.0[found].1)
    }

    fn count(&self, place: u16) -> u64 {
        let sum = self.sum(place);
        u64::try_from(sum).unwrap_or_else(|_| panic!("more was taken out of a window than was in it: {place} is {sum}"))
    }

    fn range(&self, places: Range<u16>) -> &[(u16, i64)] {
        let begin = self.0.partition_point(|(place, _)| *place < places.start);
        let end = self.0.partition_point(|(place, _)| *place < places.end);
        &self.0[begin..end]
    }

    /// Of 50, 90, 95 and 99 in 100.
    fn quantiles(&self, first: u16) -> [Option<u64>; 4] {
        let counts: Vec<_> = self.range(first..first + BUCKETS).iter().map(|(at, n)| (at - first, *n)).collect();
        [50, 90, 95, 99].map(|percent| quantile(&counts, percent))
    }

    /// The row of a window that has these totals.
    ///
    /// # Panics
    /// Where more was taken away than was there.
    pub fn row(&self, kind: WindowKind, start: UtcMicros, width_s: u32, key: &WindowKey) -> WindowRow {
        let [queued_p50_ms, queued_p90_ms, queued_p95_ms, queued_p99_ms] = self.quantiles(QUEUED);
        let [inference_p50_ms, inference_p90_ms, inference_p95_ms, inference_p99_ms] = self.quantiles(INFERENCE);
        let [total_p50_ms, total_p90_ms, total_p95_ms, total_p99_ms] = self.quantiles(TOTAL);
        let errors = ERROR_TYPES.iter().zip(ERRORS..).map(|(kind, place)| (*kind, self.count(place)));
        let reasons = [FallbackReason::Unsure].into_iter().chain(ERROR_TYPES.map(FallbackReason::Failed));
        let reasons = reasons.zip(FALLBACK_REASONS..).map(|(reason, place)| (reason, self.count(place)));
        let confidence_histogram: Vec<u64> =
            (CONFIDENCE..).take(CONFIDENCE_BINS).map(|place| self.count(place)).collect();
        let of_each = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let confidence_sum = self.count(CONFIDENCE_MILLIONTHS) as f64 / 1e6;
        let (requests, cost) = (self.count(REQUESTS), self.count(COST_MICRO_USD));
        WindowRow {
            kind,
            start,
            end: start.plus_ms(u64::from(width_s) * 1000),
            width_s,
            key: key.clone(),
            version: self.count(WRITTEN) as u32 + 1,
            requests,
            completed: self.count(COMPLETED),
            dead_lettered: self.count(DEAD_LETTERED),
            errors: errors.filter(|(_, count)| *count > 0).collect(),
            fallbacks: self.count(FALLBACKS),
            fallback_reasons: reasons.filter(|(_, count)| *count > 0).collect(),
            cache_hits: self.count(CACHE_HITS),
            below_threshold: self.count(BELOW_THRESHOLD),
            queued_p50_ms,
            queued_p90_ms,
            queued_p95_ms,
            queued_p99_ms,
            inference_p50_ms,
            inference_p90_ms,
            inference_p95_ms,
            inference_p99_ms,
            total_p50_ms,
            total_p90_ms,
            total_p95_ms,
            total_p99_ms,
            confidence_mean: of_each(confidence_sum, confidence_histogram.iter().sum()),
            confidence_histogram,
            cost_micro_usd: MicroUsd(cost),
            cost_per_request_micro_usd: of_each(cost as f64, requests),
        }
    }
}

/// The smallest value that at least `percent` in 100 do not exceed (nearest rank), of counts by bucket in their order; `None`
/// where there are none. Of few values it is a large one, so that one slow upload in a small window is seen.
pub(super) fn quantile(counts: &[(u16, i64)], percent: u64) -> Option<u64> {
    let count: i64 = counts.iter().map(|(_, count)| count).sum();
    let mut rank = (count as u64 * percent).div_ceil(100).checked_sub(1)? as i64;
    counts.iter().find_map(|(bucket, count)| {
        rank -= count;
        (rank < 0).then(|| middle(*bucket))
    })
}

impl IsZero for Totals {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl Semigroup for Totals {
    fn plus_equals(&mut self, other: &Self) {
        let mut sums = Vec::with_capacity(self.0.len().max(other.0.len()));
        let (mut left, mut right) = (self.0.iter().copied().peekable(), other.0.iter().copied().peekable());
        while let (Some(ours), Some(theirs)) = (left.peek(), right.peek()) {
            match ours.0.cmp(&theirs.0) {
                Ordering::Less => sums.extend(left.next()),
                Ordering::Greater => sums.extend(right.next()),
                Ordering::Equal => {
                    let sum = (ours.0, ours.1 + theirs.1);
                    sums.extend((sum.1 != 0).then_some(sum));
                    left.next();
                    right.next();
                }
            }
        }
        sums.extend(left);
        sums.extend(right);
        self.0 = sums;
    }
}

impl Monoid for Totals {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Totals {
    fn negate(&mut self) {
        self.0.iter_mut().for_each(|(_, sum)| *sum = -*sum);
    }
}

impl Multiply<isize> for Totals {
    type Output = Self;

    fn multiply(mut self, times: &isize) -> Self {
        self.0.iter_mut().for_each(|(_, sum)| *sum *= *times as i64);
        self.0.retain(|(_, sum)| *sum != 0);
        self
    }
}

#[cfg(test)]
pub(crate) mod tests;
