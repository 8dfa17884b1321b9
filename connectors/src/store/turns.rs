//! Whose turn it is to write, where one writes at a time: the high lane's work goes before all that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use records::Lane;
use tokio::sync::oneshot;

/// Those who wait, and whether somebody writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    taken: bool,
    /// By lane; each in the order in which they came.
    waiting: [VecDeque<oneshot::Sender<Turn>>; 2],
}

/// The right to write, up to its drop.
#[derive(Debug)]
pub(super) struct Turn(Turns);

impl Turns {
    /// Waits for a turn: behind what writes at present, and what waits for the same lane or a higher one. Nobody waits for
    /// whoever gives up waiting.
    pub(super) async fn take(&self, lane: Lane) -> Turn {
        let waits = {
            let mut line = self.lock();
            if !line.taken {
                line.taken = true;
                return Turn(self.clone());
            }
            let (turn, waits) = oneshot::channel();
            line.waiting[lane as usize].push_back(turn);
            waits
        };
        waits.await.expect("whoever has the turn hands it on")
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut line = self.lock();
        let next = line.waiting.iter_mut().find_map(VecDeque::pop_front);
        line.taken = next.is_some();
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.0.next() {
            // Where who waited is gone, the turn comes back here, and its own drop hands it on.
            drop(next.send(Self(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_high_lane_goes_first_and_each_lane_in_the_order_in_which_it_came() {
        let turns = Turns::default();
        let mut held = Some(turns.take(Lane::Low).await);
        let mut waiting = Vec::new();
        for (name, lane) in [("l1", Lane::Low), ("h1", Lane::High), ("l2", Lane::Low), ("h2", Lane::High)] {
            let mut turn = Box::pin(turns.take(lane));
            assert!((&mut turn).now_or_never().is_none(), "{name} has its turn beside another");
            waiting.push((name, turn));
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(held.take());
            for at in 0..waiting.len() {
                if let Some(turn) = (&mut waiting[at].1).now_or_never() {
                    held = Some(turn);
                    order.push(waiting.remove(at).0);
                    break;
                }
            }
            assert!(held.is_some(), "nobody has the turn after {order:?}");
        }
        assert_eq!(order, ["h1", "h2", "l1", "l2"]);
    }

    #[tokio::test]
    async fn nobody_waits_for_whoever_gave_up() {
        let turns = Turns::default();
        let held = turns.take(Lane::Low).await;
        let mut before = Box::pin(turns.take(Lane::High));
        let mut between = Box::pin(turns.take(Lane::High));
        let mut last = Box::pin(turns.take(Lane::Low));
        for waiting in [&mut before, &mut between, &mut last] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(before);
        drop(held);
        // It has been given its turn, and goes without a look at it.
        drop(between);
        assert!((&mut last).now_or_never().is_some());
        assert!(turns.take(Lane::Low).now_or_never().is_some(), "the last one's turn is over as well");
    }
}
