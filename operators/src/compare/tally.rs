//! Adds up an experiment's outcomes, and keeps how the differences went.

use std::sync::Arc;

use records::{Outcome, UtcMicros};

use super::{ArmSums, Interval, Metric, Sequence};
use crate::Unit;

/// Points of a course at most; at least half as many once there were that many outcomes.
const POINTS: usize = 128;

/// An arm of an experiment as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Entrant {
    /// Its name in outcomes.
    pub name: String,
    /// Its share, relative to the other arms' weights.
    pub weight: u32,
    /// When it was stopped: only what arrived before counts, for it and for the control beside it.
    pub stopped_at: Option<UtcMicros>,
}

/// An arm beside the control, over the same time.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The arm.
    pub entrant: &'a Entrant,
    /// The control's outcomes.
    pub control: &'a ArmSums,
    /// The arm's.
    pub treatment: &'a ArmSums,
    /// What was asked: the control's weight and the arm's.
    pub weights: [u32; 2],
}

/// The differences as they were at a moment, one an arm and metric; `None` while it was too early.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The completion of the last outcome that was added.
    pub at: UtcMicros,
    /// Outcomes so far.
    pub uploads: u64,
    /// By arm, in the order of [`Tally::pairs`], and by metric, in the order of [`Metric::ALL`].
    pub intervals: Vec<[Option<Interval>; Metric::ALL.len()]>,
}

/// The sums of an experiment. The first arm is the control.
#[derive(Clone, Debug)]
pub struct Tally {
    unit: Unit,
    sequence: Sequence,
    complete_until: UtcMicros,
    entrants: Arc<[Entrant]>,
    sums: Vec<ArmSums>,
    /// The control's, up to the stop of the arm at the same place; empty where that was not stopped.
    control_until: Vec<ArmSums>,
    added: u64,
    course: Vec<Point>,
    /// Outcomes from one point to the next.
    step: u64,
}

impl Tally {
    /// Nothing yet. What arrives at `complete_until` or later is left out: where slow and failed uploads are still on their
    /// way, an arm would look better than it is.
    ///
    /// # Panics
    /// Without an arm.
    pub fn new(unit: Unit, entrants: Vec<Entrant>, sequence: Sequence, complete_until: UtcMicros) -> Self {
        assert!(!entrants.is_empty(), "an experiment has a control");
        let none = vec![ArmSums::default(); entrants.len()];
        Self {
            unit,
            sequence,
            complete_until,
            sums: none.clone(),
            control_until: none,
            entrants: entrants.into(),
            added: 0,
            course: Vec::new(),
            step: 1,
        }
    }

    /// Adds an outcome of the experiment, each upload once.
    pub fn add(&mut self, outcome: &Outcome) {
        let Some(arm) = self.entrants.iter().position(|entrant| Some(&entrant.name) == outcome.arm.as_ref()) else {
            return;
        };
        let arrived_before = |moment: UtcMicros| outcome.arrived_at < moment;
        if !arrived_before(self.complete_until) || !self.entrants[arm].stopped_at.is_none_or(arrived_before) {
            return;
        }
        let unit = match self.unit {
            Unit::Customer => outcome.customer_id.as_deref(),
            Unit::Upload => None,
        };
        self.sums[arm].add(unit, outcome);
        if arm == 0 {
            for (entrant, sums) in self.entrants.iter().zip(&mut self.control_until) {
                if entrant.stopped_at.is_some_and(arrived_before) {
                    sums.add(unit, outcome);
                }
            }
        }
        self.added += 1;
        if self.added.is_multiple_of(self.step) {
            self.note(outcome.completed_at);
        }
    }

    /// Notes a point, and every other one only once there are many.
    fn note(&mut self, at: UtcMicros) {
        self.course.push(self.point(at));
        if self.course.len() == POINTS {
            let mut number = 0;
            self.course.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            self.step *= 2;
        }
    }

    fn point(&self, at: UtcMicros) -> Point {
        let of = |pair: Pair<'_>| {
            Metric::ALL.map(|metric| self.sequence.difference(pair.control.of(metric), pair.treatment.of(metric)).ok())
        };
        Point { at, uploads: self.added, intervals: self.pairs().map(of).collect() }
    }

    /// Each arm beside the control.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.entrants.iter().enumerate().skip(1).map(|(place, entrant)| Pair {
            entrant,
            control: if entrant.stopped_at.is_some() { &self.control_until[place] } else { &self.sums[0] },
            treatment: &self.sums[place],
            weights: [self.entrants[0].weight, entrant.weight],
        })
    }

    /// How the differences went.
    pub fn course(&self) -> &[Point] {
        &self.course
    }

    /// How intervals are made.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::ALPHA;
    use crate::compare::sums::tests::outcome;

    fn entrant(name: &str, stopped_at: Option<UtcMicros>) -> Entrant {
        Entrant { name: name.into(), weight: 1, stopped_at }
    }

    /// Outcomes that arrive one a microsecond, in turn for each arm, and end in another order.
    fn outcomes(count: u64, arms: &[&str]) -> Vec<Outcome> {
        let of = |n: u64| Outcome {
            arm: Some(arms[n as usize % arms.len()].into()),
            customer_id: Some(format!("c{}", n % 97)),
            arrived_at: UtcMicros(n),
            completed_at: UtcMicros(n + 10),
            ..outcome(!n.is_multiple_of(10), 0.5, n)
        };
        let mut outcomes: Vec<_> = (0..count).map(of).collect();
        fastrand::Rng::with_seed(count).shuffle(&mut outcomes);
        outcomes
    }

    fn tally(entrants: Vec<Entrant>, complete_until: u64, outcomes: &[Outcome]) -> Tally {
        let mut tally = Tally::new(Unit::Upload, entrants, Sequence::new(ALPHA, 1_000), UtcMicros(complete_until));
        outcomes.iter().for_each(|outcome| tally.add(outcome));
        tally
    }

    fn uploads(tally: &Tally) -> Vec<[u64; 2]> {
        tally.pairs().map(|pair| [pair.control.uploads(), pair.treatment.uploads()]).collect()
    }

    #[test]
    fn what_arrived_when_the_log_was_not_complete_is_left_out() {
        let arms = vec![entrant("a", None), entrant("b", None)];
        assert_eq!(uploads(&tally(arms, 400, &outcomes(1_000, &["a", "b"]))), [[200, 200]]);
    }

    #[test]
    fn a_stopped_arm_is_beside_what_the_control_did_until_then() {
        let arms = vec![entrant("a", None), entrant("b", Some(UtcMicros(300))), entrant("c", None)];
        let tally = tally(arms, 900, &outcomes(1_200, &["a", "b", "c"]));
        assert_eq!(uploads(&tally), [[100, 100], [300, 300]]);
    }

    #[test]
    fn outcomes_of_no_arm_of_the_experiment_are_left_out() {
        let tally = tally(vec![entrant("a", None), entrant("b", None)], 100, &outcomes(90, &["a", "b", "stranger"]));
        assert_eq!(uploads(&tally), [[30, 30]]);
    }

    #[test]
    fn the_course_stays_short_and_its_last_points_are_the_newest() {
        let log = outcomes(10_000, &["a", "b"]);
        let tally = tally(vec![entrant("a", None), entrant("b", None)], u64::MAX, &log);
        let course = tally.course();
        assert!((POINTS / 2..POINTS).contains(&course.len()), "{}", course.len());
        assert!(course.windows(2).all(|pair| pair[1].uploads - pair[0].uploads == tally.step));
        let last = course.last().expect("points");
        assert!(last.uploads + tally.step > 10_000, "{}", last.uploads);
        assert!(last.intervals[0][0].is_some());
    }
}
