//! The report graph: from the log of outcomes to rows of windows.
//!
//! ```text
//!                       ┌─▶ expire ─▶ windows ─▶ closed    by arrival, complete
//! log ─▶ tally by page ─┤
//!                       └─▶ expire ─▶ windows ─▶ live      by completion, at once
//! ```
//!
//! [`arrivals`] and [`completions`] are the two halves. [`closing`] feeds the first from the store and writes what it gives,
//! [`live`] feeds the second, [`service`] does both beside a worker; [`replay`] feeds the first from files.

pub mod closing;
pub mod live;
pub mod replay;
pub mod service;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use differential_dataflow::VecCollection;
use differential_dataflow::input::{Input, InputSession};
use operators::windows::{Cell, Expire, Latest, Totals, Windows};
use records::UtcMicros;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

/// Microseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000;

/// What an upload has, by version: its cell and what it adds to it.
type Versions = (String, (u32, Cell, Totals));

/// What came out of a graph and was not taken yet: windows with their totals, and whether they are so from now on (1), or are
/// so no longer (-1).
pub(crate) type Known = Rc<RefCell<Vec<(Cell, Totals, isize)>>>;

/// The way into a graph, and what came out.
pub(crate) struct Ends {
    pub(crate) input: InputSession<u64, Cell, Totals>,
    pub(crate) probe: Handle<u64>,
    pub(crate) known: Known,
}

/// Windows by arrival. An outcome's time is the end of its window, and the input's frontier passes it once all that arrived
/// in it has ended: then, and not before, the window comes out. A moment later it is forgotten. A window that is changed after
/// that is put in again as it was, with the change, at the time that the frontier is at.
pub(crate) fn arrivals(scope: Scope<'_, u64>) -> Ends {
    let (input, outcomes) = scope.new_collection();
    let windows = outcomes.expire(|_, end| end + 1).windows();
    let (probe, known) = taken(windows);
    Ends { input, probe, known }
}

/// The window of so many microseconds that ends at present, by completion: an outcome is in it from the time at which it is put
/// in, and for as long.
pub(crate) fn completions(scope: Scope<'_, u64>, width_us: u64) -> Ends {
    let (input, outcomes) = scope.new_collection();
    let present = outcomes.expire(move |cell: &Cell, now| (cell.0.0 + SECOND + width_us).max(now + 1));
    let windows = present.map(|(_, key)| (UtcMicros(0), key)).windows();
    let (probe, known) = taken(windows);
    Ends { input, probe, known }
}

/// Windows by arrival of outcomes that are all there, in any order, spread over workers. Those that a redrive may have replaced
/// come in by the second input, with their uploads and versions.
pub(crate) fn history(
    scope: Scope<'_, u64>,
) -> (InputSession<u64, Cell, Totals>, InputSession<u64, Versions, isize>, Known) {
    let (input, outcomes) = scope.new_collection();
    let (redriven, versions) = scope.new_collection::<Versions, isize>();
    let (_, known) = taken(outcomes.concat(versions.latest()).windows());
    (input, redriven, known)
}

fn taken(windows: VecCollection<'_, u64, (Cell, Totals), isize>) -> (Handle<u64>, Known) {
    let known = Known::default();
    let sink = Rc::clone(&known);
    let windows = windows.inspect(move |((cell, totals), _, change)| {
        sink.borrow_mut().push((cell.clone(), totals.clone(), *change));
    });
    (windows.probe().0, known)
}

/// A worker that is stepped by whoever owns it.
pub(crate) fn worker() -> Worker {
    let allocator = Allocator::Thread(Default::default());
    Worker::new(WorkerConfig::default(), allocator, Some(Instant::now()))
}
