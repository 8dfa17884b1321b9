//! Which tokens may come next, worked out on a thread of its own while the model runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use toktrie::SimpleVob;

use crate::{ModelError, TokenChooser};

/// A chooser and what it allows.
pub(super) type Allowed<C> = (u64, C, Result<Option<SimpleVob>, ModelError>);

/// The thread. Dropped, it ends it.
pub(super) struct Masks<C> {
    ask: Option<Sender<Vec<(u64, C)>>>,
    answers: Receiver<Vec<Allowed<C>>>,
    thread: Option<JoinHandle<()>>,
    asked: bool,
}

impl<C: TokenChooser + 'static> Masks<C> {
    /// Starts the thread.
    ///
    /// # Panics
    /// Where the system starts no further thread.
    pub(super) fn start() -> Self {
        let (ask, asked) = channel::<Vec<(u64, C)>>();
        let (answer, answers) = channel();
        let work = move || {
            let allowed = |(key, mut chooser): (u64, C)| {
                let allowed = guarded(|| chooser.allowed());
                (key, chooser, allowed)
            };
            for choosers in asked {
                // Nobody listens where the engine is gone.
                answer.send(choosers.into_iter().map(allowed).collect()).ok();
            }
        };
        let thread = Builder::new().name("masks".into()).spawn(work).expect("without threads nothing can work");
        Self { ask: Some(ask), answers, thread: Some(thread), asked: false }
    }

    /// Asks these choosers, by the keys of their rows, what may come next.
    pub(super) fn ask(&mut self, choosers: Vec<(u64, C)>) {
        self.asked = self.ask.as_ref().is_some_and(|ask| ask.send(choosers).is_ok());
    }

    /// What those that were asked allow; each question is answered once.
    pub(super) fn answers(&mut self) -> Vec<Allowed<C>> {
        if std::mem::take(&mut self.asked) { self.answers.recv().unwrap_or_default() } else { Vec::new() }
    }
}

impl<C> Drop for Masks<C> {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Runs a step of a chooser, whose panic is the failure of its row.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    let panicked = |_| Err(ModelError::Grammar("a chooser of tokens panicked".into()));
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(panicked)
}
