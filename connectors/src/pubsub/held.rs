//! The messages that this process has: those that nobody pulled yet, and those that somebody works on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use google_cloud_pubsub::subscriber::handler::Handler;
use records::{Fault, Lane};
use tokio::sync::{Notify, watch};

use crate::source::{Delivery, Lease, Pending};

/// A message whose lease its handler extends until it is ended. One that is dropped is given back.
pub(super) struct Message {
    pub(super) payload: Arc<[u8]>,
    pub(super) ordering_key: String,
    pub(super) handler: Handler,
}

/// A message that somebody works on.
pub(super) struct InWork {
    lane: Lane,
    ordering_key: String,
    pub(super) handler: Handler,
}

#[derive(Default)]
struct OneLane {
    waiting: VecDeque<Message>,
    in_work: usize,
    trouble: Option<Fault>,
    skipped: u64,
}

#[derive(Default)]
struct State {
    lanes: [OneLane; 2],
    in_work: BTreeMap<u64, InWork>,
    last: u64,
    is_stopped: bool,
}

impl State {
    fn end(&mut self, leases: &[Lease]) -> Vec<InWork> {
        let ended: Vec<_> = leases.iter().filter_map(|lease| self.in_work.remove(&number(lease))).collect();
        ended.iter().for_each(|InWork { lane, .. }| self.lanes[*lane as usize].in_work -= 1);
        ended
    }
}

/// All messages of both lanes.
#[derive(Default)]
pub(super) struct Held {
    state: Mutex<State>,
    /// Told when a lane has fewer messages than before.
    less: [Notify; 2],
    /// Whether a lane's stream is closed for good.
    closed: [watch::Sender<bool>; 2],
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in that the stream brought.
    pub(super) fn arrived(&self, lane: Lane, message: Message) {
        let mut state = self.state();
        let one = &mut state.lanes[lane as usize];
        one.trouble = None;
        one.waiting.push_back(message);
    }

    /// Counts a message that was no upload.
    pub(super) fn skipped(&self, lane: Lane) {
        let mut state = self.state();
        state.lanes[lane as usize].trouble = None;
        state.lanes[lane as usize].skipped += 1;
    }

    pub(super) fn skipped_so_far(&self, lane: Lane) -> u64 {
        self.state().lanes[lane as usize].skipped
    }

    /// Notes what is wrong with a lane's stream; `None` where nothing is.
    pub(super) fn note(&self, lane: Lane, trouble: Option<Fault>) {
        self.state().lanes[lane as usize].trouble = trouble;
    }

    fn count_of(&self, lane: Lane) -> usize {
        let OneLane { waiting, in_work, .. } = &self.state().lanes[lane as usize];
        waiting.len() + in_work
    }

    /// Waits until a lane has fewer than `most` messages.
    pub(super) async fn room(&self, lane: Lane, most: usize) {
        loop {
            let less = self.less[lane as usize].notified();
            if self.count_of(lane) < most {
                return;
            }
            less.await;
        }
    }

    /// At most `max` messages for somebody to work on.
    ///
    /// # Errors
    /// What is wrong with the lane's stream, where no message is here.
    pub(super) fn take(&self, lane: Lane, max: usize) -> Result<Vec<Delivery>, Fault> {
        let mut state = self.state();
        let State { lanes, in_work, last, is_stopped } = &mut *state;
        let one = &mut lanes[lane as usize];
        if *is_stopped {
            return Ok(Vec::new());
        }
        if let (true, Some(trouble)) = (one.waiting.is_empty(), &one.trouble) {
            return Err(trouble.clone());
        }
        let count = max.min(one.waiting.len());
        one.in_work += count;
        let work = one.waiting.drain(..count).map(|Message { payload, ordering_key, handler }| {
            *last += 1;
            in_work.insert(*last, InWork { lane, ordering_key, handler });
            Delivery { lease: Lease::Held(*last), payload }
        });
        Ok(work.collect())
    }

    /// How many of these leases are worked under.
    pub(super) fn count(&self, leases: &[Lease]) -> u64 {
        let state = self.state();
        leases.iter().filter(|lease| state.in_work.contains_key(&number(lease))).count() as u64
    }

    /// Ends the work on messages; those whose lease is still known.
    pub(super) fn end(&self, leases: &[Lease]) -> Vec<InWork> {
        let ended = self.state().end(leases);
        ended.iter().for_each(|InWork { lane, .. }| self.less[*lane as usize].notify_one());
        ended
    }

    /// Gives messages back. Those behind them under the same ordering key go with them, or they would be worked on before
    /// them.
    pub(super) fn give_back(&self, leases: &[Lease]) {
        let mut state = self.state();
        let ended = state.end(leases);
        let keys: BTreeSet<_> = ended.iter().map(|it| &*it.ordering_key).filter(|key| !key.is_empty()).collect();
        for lane in &mut state.lanes {
            lane.waiting.retain(|message| !keys.contains(&*message.ordering_key));
        }
        drop(state);
        drop(ended);
        self.less.iter().for_each(Notify::notify_one);
    }

    /// Gives nothing out any longer.
    pub(super) fn stop(&self) {
        self.state().is_stopped = true;
    }

    /// Gives back what nobody pulled of a lane whose stream is closed, and lets others give back what they have.
    pub(super) fn close(&self, lane: Lane) {
        let waiting = std::mem::take(&mut self.state().lanes[lane as usize].waiting);
        drop(waiting);
        self.closed[lane as usize].send_replace(true);
    }

    /// Waits until whatever is given back goes to others: at once, but while streams are being closed.
    pub(super) async fn settled(&self) {
        if self.state().is_stopped {
            for closed in &self.closed {
                // The sender is here, so it is not gone.
                closed.subscribe().wait_for(|closed| *closed).await.ok();
            }
        }
    }

    pub(super) fn pending(&self, lane: Lane) -> Pending {
        let state = self.state();
        let OneLane { waiting, in_work, .. } = &state.lanes[lane as usize];
        Pending { ready: waiting.len() as u64, leased: *in_work as u64, oldest_enqueued_at: None }
    }
}

/// Leases of this source; there are no others here.
fn number(lease: &Lease) -> u64 {
    match lease {
        Lease::Held(number) => *number,
        Lease::Spool(row) => panic!("{row:?} is of another source"),
    }
}
