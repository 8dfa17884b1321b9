//! What one lane's consumer has read and nobody has pulled, and what was pulled and is not finished.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use records::{Fault, Lane};

use super::offsets::{Commit, Offsets, Place};
use crate::source::{Delivery, Lease};

/// The most messages that wait here, and the most bytes; librdkafka has its own bound beside it.
const MOST: usize = 4096;
const MOST_BYTES: usize = 8 << 20;

/// Shared by the thread that reads, and whoever pulls and acknowledges.
pub(super) struct Inbox {
    lane: Lane,
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<(Place, Arc<[u8]>)>,
    bytes: usize,
    offsets: Offsets<Arc<[u8]>>,
    /// Partitions that go to somebody else as soon as they are settled.
    leaving: BTreeSet<i32>,
    /// Partitions that are read to their end.
    at_end: BTreeSet<i32>,
    trouble: Option<Trouble>,
    leases: u64,
    /// Whether a commit is on its way.
    committing: bool,
    open: Open,
}

/// Whether the inbox takes and gives.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd)]
enum Open {
    /// Both.
    #[default]
    Yes,
    /// Neither, and what is in work is waited for.
    Closing,
    /// Neither, and nobody waits.
    Left,
}

/// What keeps the consumer from reading.
#[derive(Clone)]
pub(super) struct Trouble {
    pub(super) fault: Fault,
    /// Whether it is over only when something is read again, and no question to the broker tells.
    pub(super) until_read: bool,
}

impl State {
    fn forget_ready(&mut self, partition: i32) {
        self.ready.retain(|(place, _)| place.partition != partition);
        self.bytes = self.ready.iter().map(|(_, payload)| payload.len()).sum();
    }
}

impl Inbox {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, state: Mutex::default(), room: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition is ours, from what is committed.
    pub(super) fn assign(&self, partition: i32) {
        let mut state = self.state();
        state.forget_ready(partition);
        state.leaving.remove(&partition);
        state.at_end.remove(&partition);
        state.offsets.assign(partition);
        state.trouble = None;
    }

    /// Nothing of the partition is given out any further; what is in work goes on, and is committed while it is ours.
    pub(super) fn leave(&self, partition: i32) {
        let mut state = self.state();
        state.forget_ready(partition);
        state.leaving.insert(partition);
    }

    /// The partition is somebody else's.
    pub(super) fn revoke(&self, partition: i32) {
        let mut state = self.state();
        state.forget_ready(partition);
        state.leaving.remove(&partition);
        state.at_end.remove(&partition);
        state.offsets.revoke(partition);
    }

    /// Whether nothing of the partition is in work, and all of it is committed.
    pub(super) fn is_settled(&self, partition: i32) -> bool {
        self.state().offsets.is_settled(partition)
    }

    /// Messages were read. What is not ours, or not for long, is left to whoever reads it next.
    pub(super) fn push(&self, messages: Vec<(Place, Arc<[u8]>)>) {
        if messages.is_empty() {
            return;
        }
        let mut state = self.state();
        let state = &mut *state;
        state.trouble = None;
        for (place, payload) in messages {
            state.at_end.remove(&place.partition);
            let stays = state.offsets.owns(place.partition) && !state.leaving.contains(&place.partition);
            if stays && state.open == Open::Yes {
                state.bytes += payload.len();
                state.ready.push_back((place, payload));
            }
        }
    }

    /// The partition is read to its end.
    pub(super) fn at_end(&self, partition: i32) {
        let mut state = self.state();
        state.trouble = None;
        state.at_end.insert(partition);
    }

    pub(super) fn set_trouble(&self, trouble: Trouble) {
        self.state().trouble = Some(trouble);
    }

    pub(super) fn clear_trouble(&self) {
        self.state().trouble = None;
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.state().trouble.clone()
    }

    /// Whether `parts` of as many parts of the room are taken.
    fn fills(state: &State, part: usize, parts: usize) -> bool {
        state.ready.len() * parts >= MOST * part || state.bytes * parts >= MOST_BYTES * part
    }

    /// How many messages, and how many bytes, there is room for.
    pub(super) fn room(&self) -> (usize, usize) {
        let state = self.state();
        (MOST.saturating_sub(state.ready.len()), MOST_BYTES.saturating_sub(state.bytes))
    }

    pub(super) fn is_full(&self) -> bool {
        Self::fills(&self.state(), 1, 1)
    }

    pub(super) fn is_half_full(&self) -> bool {
        Self::fills(&self.state(), 1, 2)
    }

    /// Waits until there is room, or the end; `false` where there was none in time.
    pub(super) fn wait_for_room(&self, timeout: Duration) -> bool {
        let full = |state: &mut State| Self::fills(state, 1, 1) && state.open == Open::Yes;
        let waited = self.room.wait_timeout_while(self.state(), timeout, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn end(&self, open: Open) {
        let mut state = self.state();
        if open > state.open {
            state.open = open;
            state.ready.clear();
            state.bytes = 0;
        }
        self.room.notify_all();
    }

    /// Gives nothing out any further, and forgets what nobody pulled.
    pub(super) fn close(&self) {
        self.end(Open::Closing);
    }

    /// The same, and waits for nothing that is in work.
    pub(super) fn abandon(&self) {
        self.end(Open::Left);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state().open != Open::Yes
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state().open == Open::Left
    }

    /// Whether nothing is in work, and no commit on its way.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.offsets.leased() == 0 && !state.committing
    }

    /// Gives out at most `max` messages; where there are none, the consumer's trouble if it has one.
    pub(super) fn pull(&self, max: usize) -> Result<Vec<Delivery>, Fault> {
        let mut state = self.state();
        let (before, mut deliveries) = (state.ready.len(), Vec::new());
        while deliveries.len() < max
            && let Some((place, payload)) = state.ready.pop_front()
        {
            state.bytes -= payload.len();
            state.leases += 1;
            // The lanes' numbers interleave, so that a lease says whose it is.
            let lease = state.leases * 2 + self.lane as u64;
            if state.offsets.give(lease, place, Arc::clone(&payload)) {
                deliveries.push(Delivery { lease: Lease::Held(lease), payload });
            }
        }
        if state.ready.len() < before {
            self.room.notify_all();
        }
        match &state.trouble {
            Some(trouble) if deliveries.is_empty() => Err(trouble.fault.clone()),
            _ => Ok(deliveries),
        }
    }

    /// These are finished; what may be committed now. [`Self::committed`] has to follow.
    pub(super) fn finish(&self, leases: &[u64]) -> Vec<Commit> {
        let mut state = self.state();
        leases.iter().for_each(|lease| state.offsets.finish(*lease));
        let commits = state.offsets.uncommitted();
        state.committing = !commits.is_empty();
        commits
    }

    /// The broker has these; none where the commit failed.
    pub(super) fn committed(&self, commits: &[Commit]) {
        let mut state = self.state();
        state.offsets.committed(commits);
        state.committing = false;
    }

    /// Gives these out again, the oldest first.
    pub(super) fn take_back(&self, leases: &[u64]) {
        let mut state = self.state();
        let mut back: Vec<_> = leases.iter().filter_map(|lease| state.offsets.take_back(*lease)).collect();
        back.retain(|(place, _)| state.open == Open::Yes && !state.leaving.contains(&place.partition));
        back.sort_by_key(|(place, _)| (place.partition, place.offset));
        for message in back.into_iter().rev() {
            state.bytes += message.1.len();
            state.ready.push_front(message);
        }
    }

    /// How many of these leases hold.
    pub(super) fn held(&self, leases: &[u64]) -> u64 {
        let state = self.state();
        leases.iter().filter(|lease| state.offsets.holds(**lease)).count() as u64
    }

    /// How many messages are in work.
    pub(super) fn in_work(&self) -> u64 {
        self.state().offsets.leased() as u64
    }

    /// Whether the partition is read to its end, and all of it finished and committed.
    pub(super) fn is_done(&self, partition: i32) -> bool {
        let state = self.state();
        state.at_end.contains(&partition)
            && state.offsets.is_settled(partition)
            && !state.ready.iter().any(|(place, _)| place.partition == partition)
    }
}

/// The lane of a lease.
pub(super) fn lane_of(lease: u64) -> Lane {
    Lane::ALL[(lease % 2) as usize]
}
