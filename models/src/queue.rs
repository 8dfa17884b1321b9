//! Who is served next: the request whose answer is due first, whatever its lane.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use records::UtcMicros;

struct Waiting<T> {
    key: Reverse<(UtcMicros, u64)>,
    item: T,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Earliest deadline first; among equals, first come first served. A high-priority request overtakes every low-priority
/// one but those that near their own, later promise: so nothing starves.
pub struct DeadlineQueue<T> {
    heap: BinaryHeap<Waiting<T>>,
    arrivals: u64,
}

impl<T> Default for DeadlineQueue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), arrivals: 0 }
    }
}

impl<T> DeadlineQueue<T> {
    /// Puts an item in line.
    pub fn push(&mut self, deadline: UtcMicros, item: T) {
        self.heap.push(Waiting { key: Reverse((deadline, self.arrivals)), item });
        self.arrivals += 1;
    }

    /// The most urgent item.
    pub fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|waiting| waiting.item)
    }

    /// The most urgent item, where it stands, with its deadline.
    pub fn peek(&self) -> Option<(UtcMicros, &T)> {
        self.heap.peek().map(|waiting| (waiting.key.0.0, &waiting.item))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn items_leave_by_deadline_and_equals_in_order_of_arrival(deadlines in prop::collection::vec(0u64..20, 0..100)) {
            let mut queue = DeadlineQueue::default();
            for (arrival, deadline) in deadlines.iter().enumerate() {
                queue.push(UtcMicros(*deadline), (*deadline, arrival));
            }
            let mut next = || {
                let seen = queue.peek().map(|(_, item)| *item);
                assert_eq!(seen, queue.pop());
                seen
            };
            let served: Vec<_> = std::iter::from_fn(&mut next).collect();
            let mut sorted = served.clone();
            sorted.sort();
            prop_assert_eq!(served.len(), deadlines.len());
            prop_assert_eq!(served, sorted);
        }
    }
}
