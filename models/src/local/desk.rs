//! Where requests wait: first to be heard, then to be answered; each time the most urgent goes first.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use records::{Annotation, Fault};
use tokio::sync::oneshot;

use crate::Request;
use crate::queue::DeadlineQueue;
use crate::qwen2_audio::Row;

/// A request and where its answer goes. Dropped, it tells the caller that there will be none.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Result<Annotation, Fault>>,
}

impl Job {
    /// Gives the answer; nobody may be there to take it.
    pub(super) fn end(self, result: Result<Annotation, Fault>) {
        self.reply.send(result).ok();
    }
}

/// A request whose audio is ready: a row for each segment.
pub(super) struct Heard {
    pub(super) job: Job,
    pub(super) rows: Vec<Row>,
}

/// The two lines, shared by the callers and the threads that serve them.
pub(super) struct Desk {
    lines: Mutex<Lines>,
    changed: Condvar,
    max_batch: usize,
}

#[derive(Default)]
struct Lines {
    unheard: DeadlineQueue<Job>,
    heard: DeadlineQueue<Heard>,
    closed: bool,
}

impl Lines {
    /// Whether the next request should be heard already: while little waits for the model, and else where it would be
    /// answered before all that waits. So spectrograms in memory are few, and nobody urgent waits behind them.
    fn may_hear(&self, ahead: usize) -> bool {
        let Some((deadline, _)) = self.unheard.peek() else { return false };
        self.heard.len() < ahead || self.heard.peek().is_some_and(|(first, _)| deadline < first)
    }
}

impl Desk {
    /// A desk whose batches have at most `max_batch` rows.
    pub(super) fn new(max_batch: usize) -> Self {
        Self { lines: Mutex::default(), changed: Condvar::new(), max_batch }
    }

    /// Nothing is run under the lock, so what a panic elsewhere leaves behind is whole.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request in line; at a closed desk it is dropped.
    pub(super) fn ask(&self, job: Job) {
        self.change(|lines| lines.unheard.push(job.request.deadline, job));
    }

    /// Puts a heard request in line; at a closed desk it is dropped.
    pub(super) fn put(&self, heard: Heard) {
        self.change(|lines| lines.heard.push(heard.job.request.deadline, heard));
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        let mut lines = self.lines();
        if !lines.closed {
            change(&mut lines);
            self.changed.notify_all();
        }
    }

    /// Waits for a request to hear; `None` once the desk is closed. Those given up are left out.
    pub(super) fn next_to_hear(&self) -> Option<Job> {
        let ahead = 2 * self.max_batch;
        loop {
            let waiting = self.changed.wait_while(self.lines(), |lines| !lines.closed && !lines.may_hear(ahead));
            match waiting.unwrap_or_else(PoisonError::into_inner).unheard.pop() {
                Some(job) if job.reply.is_closed() => {}
                job => return job,
            }
        }
    }

    /// Waits for requests to answer, and takes as many as fit into a batch; `None` once the desk is closed. Those given up
    /// are left out.
    pub(super) fn next_batch(&self) -> Option<Vec<Heard>> {
        loop {
            let waiting = self.changed.wait_while(self.lines(), |lines| !lines.closed && lines.heard.is_empty());
            let mut lines = waiting.unwrap_or_else(PoisonError::into_inner);
            if lines.closed {
                return None;
            }
            let (mut batch, mut room) = (Vec::new(), self.max_batch);
            while let Some((_, next)) = lines.heard.peek() {
                if !batch.is_empty() && next.rows.len() > room {
                    break;
                }
                let next = lines.heard.pop().expect("it was there under this lock");
                if !next.job.reply.is_closed() {
                    room = room.saturating_sub(next.rows.len());
                    batch.push(next);
                }
            }
            self.changed.notify_all();
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Ends all waiting: the threads', and the callers' whose requests are dropped.
    pub(super) fn close(&self) {
        let dropped = std::mem::replace(&mut *self.lines(), Lines { closed: true, ..Lines::default() });
        self.changed.notify_all();
        drop(dropped);
    }

    /// Whether a thread that asks what to hear would be given something.
    #[cfg(test)]
    pub(super) fn hears(&self) -> bool {
        self.lines().may_hear(2 * self.max_batch)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lines().closed
    }
}
