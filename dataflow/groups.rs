//! What waits at a seam, in groups of one lane: one transaction carries many uploads (group commit), none waits for others to
//! come, and urgent uploads wait for no transaction of many others. Bulk stands back a while where an urgent upload is in flight: it
//! would only take the store and the processor from it.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use records::Lane;

use crate::pull::{Held, LOOK, STAND_BACK};

/// The requests of a seam.
pub(crate) struct Groups<'a, Q> {
    requests: &'a Receiver<Q>,
    lane: fn(&Q) -> Lane,
    held: &'a Held,
    waiting: [VecDeque<Q>; 2],
}

impl<'a, Q> Groups<'a, Q> {
    pub(crate) fn of(requests: &'a Receiver<Q>, lane: fn(&Q) -> Lane, held: &'a Held) -> Self {
        Self { requests, lane, held, waiting: Default::default() }
    }

    /// Takes up this request, and all that came meanwhile.
    fn take_up(&mut self, first: Option<Q>) {
        for request in first.into_iter().chain(self.requests.try_iter()) {
            self.waiting[(self.lane)(&request) as usize].push_back(request);
        }
    }
}

impl<Q> Iterator for Groups<'_, Q> {
    type Item = Vec<Q>;

    /// What waits of the higher lane of which anything does, once anything does. `None` once the graph has ended.
    fn next(&mut self) -> Option<Vec<Q>> {
        if self.waiting.iter().all(VecDeque::is_empty) {
            let first = self.requests.recv().ok()?;
            self.take_up(Some(first));
        } else {
            self.take_up(None);
        }
        let until = Instant::now() + STAND_BACK;
        while self.waiting[Lane::High as usize].is_empty() && self.held.has_high() && Instant::now() < until {
            match self.requests.recv_timeout(LOOK) {
                Ok(first) => self.take_up(Some(first)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let (lane, waiting) = Lane::ALL.into_iter().zip(&mut self.waiting).find(|(_, waiting)| !waiting.is_empty())?;
        Some(waiting.drain(..waiting.len().min(self.held.group(lane))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use connectors::source::Lease;

    use super::*;

    #[test]
    fn urgent_ones_go_first_and_bulk_stands_back_and_goes_in_small_groups_for_a_while() {
        let (requests, waiting) = channel();
        let held = Held::default();
        let mut groups = Groups::of(&waiting, |(lane, _)| *lane, &held);
        let put = |lane, numbers: std::ops::Range<usize>| {
            numbers.for_each(|number| requests.send((lane, number)).expect("it is read"));
        };
        put(Lane::Low, 0..300);
        assert_eq!(groups.next().expect("a group").len(), 256);
        put(Lane::Low, 300..600);
        let urgent = held.take(Lane::High, Lease::Held(1));
        put(Lane::High, 600..603);
        assert_eq!(groups.next().expect("a group"), [600, 601, 602].map(|number| (Lane::High, number)));
        let begun = Instant::now();
        assert_eq!(groups.next().expect("a group"), (256..280).map(|number| (Lane::Low, number)).collect::<Vec<_>>());
        assert!(begun.elapsed() >= STAND_BACK, "the urgent ones are still in flight");
        held.let_go(urgent);
        let small = (1..).take_while(|_| {
            put(Lane::Low, 0..300);
            groups.next().expect("a group").len() < 256
        });
        assert!(small.count() > 100, "another urgent one may come soon");
        drop(requests);
        assert_eq!(groups.by_ref().last().expect("the rest")[0].0, Lane::Low);
        assert_eq!(groups.next(), None);
    }
}
