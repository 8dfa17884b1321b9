//! The graph of windows beside plain maps: on several workers, in any order, as its frontier moves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use differential_dataflow::difference::Monoid;
use differential_dataflow::input::{Input, InputSession};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use records::Measured;
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

use super::totals::tests::measured;
use super::*;

const SECOND: u64 = 1_000_000;

/// As many outcomes as asked, the same each time.
fn outcomes(count: usize) -> Vec<Measured<'static>> {
    let mut runner = TestRunner::deterministic();
    let strategy = measured();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

fn expected<'a>(outcomes: impl IntoIterator<Item = &'a Measured<'static>>) -> BTreeMap<Cell, Totals> {
    let mut sums = BTreeMap::<Cell, Totals>::new();
    for outcome in outcomes {
        let start = UtcMicros(outcome.arrived_at.0 / SECOND * SECOND);
        let key = WindowKey {
            experiment: outcome.experiment.as_deref().map(str::to_owned),
            arm: outcome.arm.as_deref().map(str::to_owned),
            model: outcome.model.as_deref().map(str::to_owned),
            lane: outcome.lane,
            tier: outcome.tier,
            region: outcome.region.as_deref().map(str::to_owned),
        };
        sums.entry((start, key)).or_insert_with(Totals::zero).plus_equals(&Totals::of_one(outcome));
    }
    sums
}

/// What came out: windows with their totals, by the time at which they were known.
type Known = Rc<RefCell<Vec<(u64, Cell, Totals)>>>;

/// The graph of a report, with one input.
fn report(worker: &mut Worker) -> (InputSession<u64, Cell, Totals>, Handle<u64>, Known) {
    let known = Known::default();
    let sink = Rc::clone(&known);
    let (input, probe) = worker.dataflow(|scope| {
        let (input, outcomes) = scope.new_collection();
        let windows = outcomes.expire(|_, time| time + 1).windows().inspect(move |((cell, totals), time, change)| {
            if *change > 0 {
                sink.borrow_mut().push((*time, cell.clone(), totals.clone()));
            }
        });
        (input, windows.probe().0)
    });
    (input, probe, known)
}

#[test]
fn any_number_of_workers_and_any_order_give_the_same_totals() {
    let outcomes = Arc::new(outcomes(3_000));
    let expected = expected(outcomes.iter());
    for (workers, seed) in [(1, 1), (1, 2), (2, 3), (4, 4)] {
        let (mine, found) = (Arc::clone(&outcomes), Arc::new(Mutex::new(BTreeMap::new())));
        let all = Arc::clone(&found);
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let (mut input, _, known) = report(worker);
            let mut order: Vec<&Measured<'_>> = mine.iter().skip(worker.index()).step_by(worker.peers()).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut order);
            for page in order.chunks(97) {
                let mut tally = Tally::new(SECOND);
                page.iter().for_each(|outcome| tally.add(outcome.arrived_at, outcome, 1));
                for (cell, totals) in tally.take() {
                    input.update_at(cell, 0, totals);
                }
                worker.step();
            }
            drop(input);
            while worker.has_dataflows() {
                worker.step();
            }
            all.lock().expect("whole").extend(known.take().into_iter().map(|(_, cell, totals)| (cell, totals)));
        });
        drop(guards.expect("started"));
        assert_eq!(*found.lock().expect("whole"), expected, "{workers} workers, order {seed}");
    }
}

proptest! {
    #[test]
    fn a_window_is_known_once_the_frontier_has_passed_its_end_and_not_before(
        outcomes in prop::collection::vec(measured(), 1..60),
        steps in prop::collection::vec(0_u64..3 * SECOND, 1..12),
    ) {
        timely::execute_directly(move |worker| {
            let (mut input, probe, known) = report(worker);
            let (mut rest, mut seen) = (outcomes.clone(), BTreeMap::new());
            let mut frontier = 0;
            for step in steps {
                // Half of what may still come, comes: all that arrived before the frontier has come.
                let due = frontier + step;
                let comes: Vec<_> = rest.extract_if(.., |it| it.arrived_at.0 < due || it.total_ms % 2 == 0).collect();
                let mut tally = Tally::new(SECOND);
                comes.iter().for_each(|outcome| tally.add(outcome.arrived_at, outcome, 1));
                for (cell, totals) in tally.take() {
                    let end = cell.0.0 + SECOND;
                    input.update_at(cell, end, totals);
                }
                frontier = due;
                input.advance_to(frontier + 1);
                input.flush();
                worker.step_while(|| probe.less_than(&(frontier + 1)));
                for (time, cell, totals) in known.take() {
                    assert_eq!(time, cell.0.0 + SECOND, "at its end");
                    assert!(time <= frontier, "{cell:?} was known at {frontier}");
                    assert_eq!(seen.insert(cell, totals), None, "and once");
                }
                let closed = expected(outcomes.iter());
                let closed: BTreeMap<_, _> = closed.into_iter().filter(|(cell, _)| cell.0.0 + SECOND <= frontier).collect();
                assert_eq!(seen, closed);
            }
        });
    }
}

#[test]
fn of_the_versions_of_an_upload_the_last_one_counts_however_they_come() {
    let outcomes = outcomes(600);
    let upload = |at: usize| at % 200;
    let expected = expected(outcomes[400..].iter());
    let mut order: Vec<usize> = (0..600).collect();
    fastrand::Rng::with_seed(5).shuffle(&mut order);
    let found = timely::execute_directly(move |worker| {
        let known = Known::default();
        let sink = Rc::clone(&known);
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, outcomes) = scope.new_collection();
            outcomes.latest().windows().inspect(move |((cell, totals), time, change)| {
                assert_eq!(*change, 1);
                sink.borrow_mut().push((*time, cell.clone(), totals.clone()));
            });
            input
        });
        for at in order {
            let mut tally = Tally::new(SECOND);
            tally.add(outcomes[at].arrived_at, &outcomes[at], 1);
            let (cell, totals) = tally.take().remove(0);
            input.insert((upload(at).to_string(), (at as u32, cell, totals)));
        }
        drop(input);
        while worker.has_dataflows() {
            worker.step();
        }
        known.take()
    });
    let found: BTreeMap<Cell, Totals> = found.into_iter().map(|(_, cell, totals)| (cell, totals)).collect();
    assert_eq!(found, expected);
}
