//! Where requests wait: first to be heard, then for room in the engine; each time the most urgent goes first.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use records::{Annotation, Fault, Lane, UtcMicros};
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

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.reply.is_closed()
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
    /// Requests that are heard ahead.
    ahead: usize,
}

#[derive(Default)]
struct Lines {
    unheard: DeadlineQueue<Job>,
    heard: DeadlineQueue<Heard>,
    closed: bool,
}

impl Lines {
    /// Whether the next request should be heard already: while little waits for the engine, and else where it would be
    /// answered before all that waits. So spectrograms in memory are few, and nobody urgent waits behind them.
    fn may_hear(&self, ahead: usize) -> bool {
        let Some((deadline, _)) = self.unheard.peek() else { return false };
        self.heard.len() < ahead || self.heard.peek().is_some_and(|(first, _)| deadline < first)
    }

    /// The most urgent heard request, those given up left out.
    fn next_heard(&mut self) -> Option<Heard> {
        loop {
            match self.heard.pop() {
                Some(heard) if heard.job.is_given_up() => {}
                heard => return heard,
            }
        }
    }
}

impl Desk {
    /// A desk at which so many requests are heard ahead of the engine.
    pub(super) fn new(ahead: usize) -> Self {
        Self { lines: Mutex::default(), changed: Condvar::new(), ahead }
    }

    /// Nothing is run under the lock, so what a panic elsewhere leaves behind is whole.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, mut waits: impl FnMut(&Lines) -> bool) -> MutexGuard<'_, Lines> {
        let waiting = self.changed.wait_while(self.lines(), |lines| !lines.closed && waits(lines));
        waiting.unwrap_or_else(PoisonError::into_inner)
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

    /// Waits for a request to hear, of this lane where one is given; `None` once the desk is closed. Those given up are
    /// left out.
    pub(super) fn next_to_hear(&self, only: Option<Lane>) -> Option<Job> {
        let fits = |lines: &Lines| {
            let first = lines.unheard.peek().map(|(_, job)| job.request.lane);
            lines.may_hear(self.ahead) && only.is_none_or(|lane| first == Some(lane))
        };
        loop {
            match self.wait_while(|lines| !fits(lines)).unheard.pop() {
                Some(job) if job.is_given_up() => {}
                job => return job,
            }
        }
    }

    /// Waits for the most urgent heard request; `None` once the desk is closed.
    pub(super) fn wait_for_heard(&self) -> Option<Heard> {
        loop {
            let mut lines = self.wait_while(|lines| lines.heard.is_empty());
            let heard = lines.next_heard();
            self.changed.notify_all();
            if heard.is_some() || lines.closed {
                return heard;
            }
        }
    }

    /// The most urgent heard request that is due before then, if there is one by now; due at any time, for `None`.
    pub(super) fn heard_due_before(&self, then: Option<UtcMicros>) -> Option<Heard> {
        let mut lines = self.lines();
        let (deadline, _) = lines.heard.peek()?;
        if then.is_some_and(|then| deadline >= then) {
            return None;
        }
        let heard = lines.next_heard();
        self.changed.notify_all();
        heard
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
        self.lines().may_hear(self.ahead)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lines().closed
    }
}
