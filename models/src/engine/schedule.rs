//! Who runs: earliest deadline first over both lanes, within a number of rows and the places for their tokens.
//!
//! A row that waits joins when there is room for all that it may come to; each lane has its own number of rows, so bulk never
//! keeps urgent rows out by its number. Where memory is short, a waiting high-priority row makes room: it takes the slot of
//! running low-priority ones whose answers are due later than its own, the latest first. Who lost a slot keeps
//! its deadline and its place among equals, so it is raised as its own deadline nears; and nobody loses more than
//! [`MOST_LOSSES`].

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use records::{Lane, UtcMicros};

use super::slots::Slots;

/// How often a row's slot may be taken.
pub(super) const MOST_LOSSES: u8 = 2;

/// What a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Its name.
    pub(super) key: u64,
    pub(super) lane: Lane,
    pub(super) deadline: UtcMicros,
    /// Tokens of its prompt and of its longest answer.
    pub(super) tokens: usize,
}

/// What changed for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It runs, in this slot.
    Joined(u64, Range<usize>),
    /// It lost its slot, and waits.
    Lost(u64),
}

/// Earliest deadline first, equals in the order in which they came.
type Rank = (UtcMicros, u64);

#[derive(Debug)]
struct Waiting {
    ask: Ask,
    losses: u8,
}

#[derive(Debug)]
struct Running {
    ask: Ask,
    losses: u8,
    slot: Range<usize>,
}

/// The rows that wait and those that run.
#[derive(Debug)]
pub(super) struct Schedule {
    waiting: BTreeMap<Rank, Waiting>,
    running: BTreeMap<Rank, Running>,
    ranks: BTreeMap<u64, Rank>,
    slots: Slots,
    most_rows: usize,
    arrivals: u64,
}

impl Schedule {
    /// At most `most_rows` of each lane run at once, in `slots`.
    pub(super) fn new(most_rows: usize, slots: Slots) -> Self {
        let (waiting, running, ranks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { waiting, running, ranks, slots, most_rows, arrivals: 0 }
    }

    /// Puts a row in line.
    pub(super) fn push(&mut self, ask: Ask) {
        let rank = (ask.deadline, self.arrivals);
        self.arrivals += 1;
        self.ranks.insert(ask.key, rank);
        self.waiting.insert(rank, Waiting { ask, losses: 0 });
    }

    /// Takes a row out, whether it runs or waits; whether it was there.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let Some(rank) = self.ranks.remove(&key) else { return false };
        if let Some(running) = self.running.remove(&rank) {
            self.slots.give_back(&running.slot);
        }
        self.waiting.remove(&rank);
        true
    }

    /// Lets join whoever may, the most urgent first. The first row that finds no room holds up the low-priority ones behind
    /// it, so that a large one is not passed for ever.
    pub(super) fn admit(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut held_up = false;
        let mut next = self.waiting.first_key_value().map(|(&rank, _)| rank);
        while let Some(rank) = next {
            let Some(Waiting { ask, losses }) = self.waiting.remove(&rank) else { break };
            let is_high = ask.lane == Lane::High;
            let room = if held_up && !is_high { None } else { self.room(&ask) };
            let may_take = room.is_none() && is_high && self.may_run_more_of(ask.lane);
            let made = if may_take { self.make_room(rank, ask.tokens, &mut changes) } else { None };
            next = match made {
                // More may have come free than it takes.
                Some(_) => self.waiting.first_key_value(),
                None => self.waiting.range((Bound::Excluded(rank), Bound::Unbounded)).next(),
            }
            .map(|(&rank, _)| rank);
            held_up &= made.is_none();
            if let Some(slot) = room.or(made) {
                changes.push(Change::Joined(ask.key, slot.clone()));
                self.running.insert(rank, Running { ask, losses, slot });
            } else {
                held_up = true;
                self.waiting.insert(rank, Waiting { ask, losses });
            }
        }
        changes
    }

    fn room(&mut self, ask: &Ask) -> Option<Range<usize>> {
        if self.may_run_more_of(ask.lane) { self.slots.take(ask.tokens) } else { None }
    }

    fn may_run_more_of(&self, lane: Lane) -> bool {
        self.running.values().filter(|running| running.ask.lane == lane).count() < self.most_rows
    }

    /// Takes the slots of low-priority rows that are due later, the latest first and no more of them than needed; of none
    /// where all of them would not be enough.
    fn make_room(&mut self, rank: Rank, tokens: usize, changes: &mut Vec<Change>) -> Option<Range<usize>> {
        let mut slots = self.slots.clone();
        let mut victims = Vec::new();
        for (&victim, running) in self.running.range(rank..).rev().filter(|(_, running)| running.may_lose()) {
            slots.give_back(&running.slot);
            victims.push(victim);
            if let Some(slot) = slots.take(tokens) {
                self.slots = slots;
                for victim in victims {
                    let Some(Running { ask, losses, .. }) = self.running.remove(&victim) else { continue };
                    changes.push(Change::Lost(ask.key));
                    self.waiting.insert(victim, Waiting { ask, losses: losses + 1 });
                }
                return Some(slot);
            }
        }
        None
    }

    /// Whether a row of so many tokens finds room once nothing else runs.
    pub(super) fn could_ever(&self, tokens: usize) -> bool {
        let mut slots = self.slots.clone();
        self.running.values().for_each(|running| slots.give_back(&running.slot));
        slots.take(tokens).is_some()
    }

    /// Places for tokens, free or not.
    pub(super) fn places(&self) -> usize {
        self.slots.places()
    }

    /// Who runs, the most urgent first.
    pub(super) fn running(&self) -> impl Iterator<Item = &Ask> {
        self.running.values().map(|running| &running.ask)
    }

    /// Who waits, the most urgent first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Ask> {
        self.waiting.values().map(|waiting| &waiting.ask)
    }
}

impl Running {
    fn may_lose(&self) -> bool {
        self.ask.lane == Lane::Low && self.losses < MOST_LOSSES
    }
}

#[cfg(test)]
mod tests;
