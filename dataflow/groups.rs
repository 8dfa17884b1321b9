//! What waits at a seam, in groups of one lane: one transaction carries many uploads (group commit), without a timer, and
//! urgent uploads wait for no transaction of many others.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use records::Lane;

use crate::pull::Held;

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
}

impl<Q> Iterator for Groups<'_, Q> {
    type Item = Vec<Q>;

    /// What waits of the higher lane of which anything does, once anything does. `None` once the graph has ended.
    fn next(&mut self) -> Option<Vec<Q>> {
        let first = match self.waiting.iter().all(VecDeque::is_empty) {
            true => Some(self.requests.recv().ok()?),
            false => None,
        };
        for request in first.into_iter().chain(self.requests.try_iter()) {
            self.waiting[(self.lane)(&request) as usize].push_back(request);
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
    fn urgent_ones_go_first_and_bulk_in_small_groups_while_one_is_in_flight() {
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
        assert_eq!(groups.next().expect("a group"), (256..320).map(|number| (Lane::Low, number)).collect::<Vec<_>>());
        held.let_go(urgent);
        assert_eq!(groups.next().expect("a group").len(), 256);
        drop(requests);
        assert_eq!(groups.next().expect("the rest").len(), 24);
        assert_eq!(groups.next(), None);
    }
}
