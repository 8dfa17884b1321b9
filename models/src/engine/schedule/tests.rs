//! The schedule held to what it promises, on random arrivals, ends and sizes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::slots::{BLOCK, slot_places};
use super::*;

fn ask(key: u64, lane: Lane, deadline: u64, tokens: usize) -> Ask {
    Ask { key, lane, deadline: UtcMicros(deadline), tokens }
}

fn joined(changes: &[Change]) -> Vec<u64> {
    changes.iter().filter_map(|change| if let Change::Joined(key, _) = change { Some(*key) } else { None }).collect()
}

#[test]
fn a_high_row_takes_the_slot_of_the_low_row_that_is_due_last_and_gives_it_back_when_done() {
    let mut schedule = Schedule::new(2, Slots::new(2 * BLOCK));
    for (key, deadline) in [(1, 50), (2, 90), (3, 95)] {
        schedule.push(ask(key, Lane::Low, deadline, BLOCK));
    }
    assert_eq!(joined(&schedule.admit()), [1, 2]);
    schedule.push(ask(4, Lane::High, 60, BLOCK));
    assert_eq!(schedule.admit(), [Change::Lost(2), Change::Joined(4, BLOCK..2 * BLOCK)]);
    schedule.push(ask(5, Lane::High, 70, BLOCK));
    assert_eq!(schedule.admit(), [], "1 is due before 5");
    assert!(schedule.remove(4) && !schedule.remove(4));
    assert_eq!(joined(&schedule.admit()), [5]);
    schedule.remove(5);
    assert_eq!(joined(&schedule.admit()), [2], "before 3, which is due later");
}

#[test]
fn bulk_does_not_keep_urgent_rows_out_by_its_number() {
    let mut schedule = Schedule::new(1, Slots::new(8 * BLOCK));
    for (key, lane) in [(1, Lane::Low), (2, Lane::Low), (3, Lane::High), (4, Lane::High)] {
        schedule.push(ask(key, lane, 10 * key, BLOCK));
    }
    assert_eq!(joined(&schedule.admit()), [1, 3]);
}

#[test]
fn a_row_loses_its_slot_a_bounded_number_of_times() {
    let mut schedule = Schedule::new(1, Slots::new(BLOCK));
    schedule.push(ask(0, Lane::Low, 1000, 1));
    for key in 1..=u64::from(MOST_LOSSES) {
        assert_eq!(joined(&schedule.admit()), [0]);
        schedule.push(ask(key, Lane::High, key, 1));
        assert_eq!(joined(&schedule.admit()), [key]);
        schedule.remove(key);
    }
    assert_eq!(joined(&schedule.admit()), [0]);
    schedule.push(ask(99, Lane::High, 9, 1));
    assert_eq!(schedule.admit(), []);
}

#[test]
fn no_slot_is_taken_that_would_not_be_enough() {
    let mut schedule = Schedule::new(4, Slots::new(4 * BLOCK));
    schedule.push(ask(1, Lane::High, 5, 2 * BLOCK));
    schedule.push(ask(2, Lane::Low, 90, BLOCK));
    assert_eq!(joined(&schedule.admit()), [1, 2]);
    schedule.push(ask(3, Lane::High, 6, 4 * BLOCK));
    assert_eq!(schedule.admit(), []);
}

/// What the test knows by itself about a row that runs.
#[derive(Clone, Debug)]
struct Seen {
    ask: Ask,
    slot: Range<usize>,
}

#[derive(Clone, Debug)]
enum Event {
    Arrives { high: bool, within: u64, tokens: usize },
    Ends(prop::sample::Index),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (any::<bool>(), 0u64..300, 1usize..BLOCK * 4)
            .prop_map(|(high, within, tokens)| Event::Arrives { high, within, tokens }),
        2 => any::<prop::sample::Index>().prop_map(Event::Ends),
    ]
}

/// The reference: a plain list of who waits and who runs, to which all changes are applied and then held.
#[derive(Default)]
struct Reference {
    waiting: BTreeMap<(UtcMicros, u64), Ask>,
    running: BTreeMap<u64, Seen>,
    losses: BTreeMap<u64, u8>,
}

impl Reference {
    fn apply(&mut self, changes: &[Change], asks: &BTreeMap<u64, Ask>) {
        for change in changes {
            match change {
                Change::Joined(key, slot) => {
                    let ask = asks[key];
                    assert!(self.waiting.remove(&(ask.deadline, ask.key)).is_some(), "{key} joined twice");
                    self.running.insert(*key, Seen { ask, slot: slot.clone() });
                }
                Change::Lost(key) => {
                    let seen = self.running.remove(key).expect("only who runs can lose a slot");
                    assert_eq!(seen.ask.lane, Lane::Low);
                    *self.losses.entry(*key).or_default() += 1;
                    self.waiting.insert((seen.ask.deadline, seen.ask.key), seen.ask);
                }
            }
        }
    }

    fn check(&self, most_rows: usize, places: usize) {
        let running_of = |lane: Lane| self.running.values().filter(|seen| seen.ask.lane == lane).count();
        assert!(running_of(Lane::Low) <= most_rows && running_of(Lane::High) <= most_rows);
        let mut used = BTreeSet::new();
        for seen in self.running.values() {
            assert!(seen.slot.len() >= seen.ask.tokens && seen.slot.end <= places);
            assert!(seen.slot.clone().step_by(BLOCK).all(|place| used.insert(place)), "a place was used twice");
        }
        assert!(self.losses.values().all(|&losses| losses <= MOST_LOSSES));
        let Some(first) = self.waiting.values().next() else { return };
        if running_of(first.lane) < most_rows {
            assert!(!self.fits(first, &[], places), "{first:?} waits although there is room");
        }
        for high in self.waiting.values().filter(|ask| ask.lane == Lane::High) {
            let later = |seen: &&Seen| {
                let lost = self.losses.get(&seen.ask.key).copied().unwrap_or_default();
                let rank = |ask: &Ask| (ask.deadline, ask.key);
                seen.ask.lane == Lane::Low && lost < MOST_LOSSES && rank(&seen.ask) > rank(high)
            };
            let could: Vec<u64> = self.running.values().filter(later).map(|seen| seen.ask.key).collect();
            let is_full = running_of(Lane::High) == most_rows;
            assert!(is_full || could.is_empty() || !self.fits(high, &could, places), "{high:?} waits behind {could:?}");
        }
    }

    /// Whether an aligned piece of the row's size is free once these have left.
    fn fits(&self, ask: &Ask, without: &[u64], places: usize) -> bool {
        let size = slot_places(ask.tokens);
        (0..places).step_by(size).filter(|start| start + size <= places).any(|start| {
            let free = |seen: &Seen| seen.slot.end <= start || start + size <= seen.slot.start;
            self.running.values().filter(|seen| !without.contains(&seen.ask.key)).all(free)
        })
    }
}

proptest! {
    #[test]
    fn slots_are_apart_the_most_urgent_goes_first_no_high_waits_behind_a_low_that_could_yield_and_all_end(
        most_rows in 1usize..6, blocks in 4usize..24, events in prop::collection::vec(event(), 1..120),
    ) {
        let places = blocks * BLOCK;
        let mut schedule = Schedule::new(most_rows, Slots::new(places));
        let (mut reference, mut asks) = (Reference::default(), BTreeMap::new());
        for (key, event) in (0..).zip(events) {
            match event {
                Event::Arrives { high, within, tokens } => {
                    let lane = if high { Lane::High } else { Lane::Low };
                    let ask = ask(key, lane, key + within, tokens);
                    asks.insert(key, ask);
                    reference.waiting.insert((ask.deadline, key), ask);
                    schedule.push(ask);
                }
                Event::Ends(which) if !reference.running.is_empty() => {
                    let key = *reference.running.keys().nth(which.index(reference.running.len())).expect("within");
                    reference.running.remove(&key);
                    prop_assert!(schedule.remove(key));
                }
                Event::Ends(_) => {}
            }
            reference.apply(&schedule.admit(), &asks);
            reference.check(most_rows, places);
            prop_assert!(schedule.running().map(|ask| ask.key).collect::<BTreeSet<_>>().into_iter().eq(reference.running.keys().copied()));
            prop_assert!(schedule.waiting().eq(reference.waiting.values()));
        }
        while let Some(&key) = reference.running.keys().next() {
            reference.running.remove(&key);
            schedule.remove(key);
            reference.apply(&schedule.admit(), &asks);
        }
        prop_assert!(reference.waiting.is_empty() && schedule.waiting().next().is_none(), "every row ran");
    }
}
