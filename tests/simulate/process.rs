//! What a crash takes away: the worker, what waits for it, and what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use models::queue::DeadlineQueue;
use operators::bridge::{Port, Sender};
use operators::{Admission, Answer, Arrival, Question, Ticket, Write};
use records::{Admitted, UtcMicros};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

use crate::plan::Fate;

/// Something that will happen at a moment.
pub(crate) enum Event {
    Admit(u64, Admission, Fate),
    Write(u64, Box<Write>, Fate),
    Answer(Line, Vec<(u64, Question)>),
}

#[derive(Clone, Copy)]
pub(crate) enum Line {
    Primary,
    Fallback,
}

/// A permit of a lane, counted while it lives.
pub(crate) struct Permit(pub(crate) Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All that a crash takes away.
pub(crate) struct Process {
    pub(crate) worker: Worker,
    pub(crate) probe: Handle<u64>,
    pub(crate) arrivals: Sender<Arrival>,
    pub(crate) admissions: Port<Admission, Admitted>,
    pub(crate) primary: Port<Question, Answer>,
    pub(crate) fallback: Option<Port<Question, Answer>>,
    pub(crate) outcomes: Port<Write, ()>,
    pub(crate) acknowledgements: Receiver<Ticket>,
    pub(crate) waiting: DeadlineQueue<(u64, Question)>,
    /// The same requests in order of arrival: what the planted bug serves, and what the promise is checked against.
    pub(crate) line: Vec<(u64, Question)>,
    pub(crate) asked: BTreeSet<records::UploadId>,
    pub(crate) cached: BTreeSet<records::UploadId>,
    pub(crate) model_is_busy: bool,
    pub(crate) in_flight: [Arc<AtomicUsize>; 2],
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    pub(crate) admitted: BTreeMap<UtcMicros, Vec<records::UploadId>>,
}
