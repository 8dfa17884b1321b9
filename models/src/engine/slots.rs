//! Where a row's keys and values lie: ranges of one long line of token places, cut and joined as buddies.
//!
//! A slot is a power of two of blocks and begins at a multiple of its size. So slots of one size lie side by side, where
//! attention can read many of them at once, and what is given back joins to larger ones again.

use std::collections::BTreeSet;
use std::ops::Range;

/// Places of the smallest slot.
pub(crate) const BLOCK: usize = 64;

/// The places that are free.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    /// By size, from one block on: where a free piece of that size begins, in blocks.
    free: Vec<BTreeSet<usize>>,
    blocks: usize,
}

/// Which of the sizes 1, 2, 4, … blocks holds so many places.
fn order(places: usize) -> usize {
    places.div_ceil(BLOCK).max(1).next_power_of_two().trailing_zeros() as usize
}

/// The places of a slot for so many tokens.
pub(crate) fn slot_places(tokens: usize) -> usize {
    BLOCK << order(tokens)
}

impl Slots {
    /// As many whole blocks as fit into `places`, all free.
    pub(crate) fn new(places: usize) -> Self {
        let blocks = places / BLOCK;
        let mut free = vec![BTreeSet::new(); blocks.checked_ilog2().map_or(0, |order| order as usize + 1)];
        let mut start = 0;
        for order in (0..free.len()).rev().filter(|order| blocks & (1 << order) != 0) {
            free[order].insert(start);
            start += 1 << order;
        }
        Self { free, blocks }
    }

    /// All places, free or not.
    pub(crate) fn places(&self) -> usize {
        self.blocks * BLOCK
    }

    /// Takes a slot for so many tokens, the foremost of the smallest that will do.
    pub(crate) fn take(&mut self, tokens: usize) -> Option<Range<usize>> {
        let wanted = order(tokens);
        let mut order = (wanted..self.free.len()).find(|&order| !self.free[order].is_empty())?;
        let start = self.free[order].pop_first()?;
        while order > wanted {
            order -= 1;
            self.free[order].insert(start + (1 << order));
        }
        Some(start * BLOCK..(start + (1 << wanted)) * BLOCK)
    }

    /// Takes back what [`Self::take`] gave.
    pub(crate) fn give_back(&mut self, slot: &Range<usize>) {
        let (mut order, mut start) = (order(slot.len()), slot.start / BLOCK);
        while self.free[order].remove(&(start ^ (1 << order))) {
            start &= !(1 << order);
            order += 1;
        }
        let is_new = self.free[order].insert(start);
        assert!(is_new, "a slot was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_of_one_size_lie_side_by_side() {
        let mut slots = Slots::new(16 * BLOCK);
        let taken: Vec<_> = (0..4).map(|_| slots.take(150).expect("room")).collect();
        let expected: Vec<_> = (0..4).map(|n| n * 4 * BLOCK..(n + 1) * 4 * BLOCK).collect();
        assert_eq!(taken, expected);
        assert_eq!(slots.take(1), None);
    }

    proptest! {
        #[test]
        fn no_place_is_given_twice_and_all_come_back(
            blocks in 1usize..40, steps in prop::collection::vec((1usize..1500, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut slots = Slots::new(blocks * BLOCK + 3);
            let whole = slots.clone();
            let mut taken: Vec<Range<usize>> = Vec::new();
            for (tokens, which) in steps {
                match slots.take(tokens) {
                    Some(slot) => {
                        prop_assert!(slot.len() >= tokens && slot.len() == slot_places(tokens));
                        prop_assert!(slot.end <= slots.places());
                        prop_assert!(taken.iter().all(|other| slot.end <= other.start || other.end <= slot.start));
                        taken.push(slot);
                    }
                    None if taken.is_empty() => prop_assert!(!whole.free.iter().skip(order(tokens)).any(|of| !of.is_empty())),
                    None => slots.give_back(&taken.swap_remove(which.index(taken.len()))),
                }
            }
            taken.iter().for_each(|slot| slots.give_back(slot));
            prop_assert_eq!(slots.free, whole.free);
        }
    }
}
