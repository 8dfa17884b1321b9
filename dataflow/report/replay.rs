//! Replays outcomes of the past: the same windows as `serve` writes, out of files, on several workers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use connectors::history::{HistoryError, Piece, pieces};
use differential_dataflow::input::InputSession;
use operators::windows::{Cell, Tally, Totals};
use records::{Measured, WindowKind, WindowRow};
use timely::worker::Worker;

use super::{SECOND, Versions, history};

/// Outcomes, and cells, after which a page goes into the graph.
const PAGE: usize = 1 << 18;
const CELLS: usize = 1 << 11;

/// What a replay gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// In the order of their windows and keys, whatever the order of the outcomes.
    pub rows: Vec<WindowRow>,
    /// Outcomes that were read.
    pub outcomes: u64,
}

/// History to replay.
#[derive(Debug)]
pub struct Replay {
    pieces: Vec<Piece>,
    width_s: u32,
}

impl Replay {
    /// Of the outcomes in these files and folders, in windows of a width.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn new(paths: &[PathBuf], width_s: u32) -> Result<Self, HistoryError> {
        Ok(Self { pieces: pieces(paths)?, width_s })
    }

    /// What there is to read.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::bytes).sum()
    }

    /// Reads everything on so many threads; tells `read` the bytes of each piece that was read.
    ///
    /// # Errors
    /// [`HistoryError`], the first one.
    ///
    /// # Panics
    /// Where the system gives no threads.
    pub fn run(self, workers: usize, read: impl Fn(u64) + Send + Sync + 'static) -> Result<Replayed, HistoryError> {
        let width_s = self.width_s;
        let shared = Arc::new(Shared { replay: self, next: AtomicUsize::new(0), failed: AtomicBool::new(false), read });
        let guards = timely::execute(timely::Config::process(workers), move |worker| work(worker, &shared));
        let guards = guards.expect("workers in one process start unless the system gives no threads");
        let (mut rows, mut outcomes) = (Vec::new(), 0);
        for done in guards.join() {
            let (known, count) = done.expect("a worker ends unless it panicked, which the log says")?;
            let row = |((start, key), totals): (Cell, Totals)| totals.row(WindowKind::Arrival, start, width_s, &key);
            rows.extend(known.into_iter().map(row));
            outcomes += count;
        }
        rows.sort_unstable_by(|one: &WindowRow, other| one.name().cmp(&other.name()));
        Ok(Replayed { rows, outcomes })
    }
}

/// What workers share: the pieces, of which each takes the next.
struct Shared<F> {
    replay: Replay,
    next: AtomicUsize,
    failed: AtomicBool,
    read: F,
}

fn work<F: Fn(u64)>(worker: &mut Worker, shared: &Shared<F>) -> Result<(Vec<(Cell, Totals)>, u64), HistoryError> {
    let (input, redriven, known) = worker.dataflow(history);
    let width_us = u64::from(shared.replay.width_s) * SECOND;
    let mut pages = Pages { input, redriven, page: Tally::new(width_us), one: Tally::new(width_us), count: 0 };
    let (mut outcomes, mut failed) = (0, None);
    while !shared.failed.load(Ordering::Relaxed)
        && let Some(piece) = shared.replay.pieces.get(shared.next.fetch_add(1, Ordering::Relaxed))
    {
        match piece.read(|outcome| pages.add(outcome)) {
            Ok(count) => outcomes += count,
            Err(error) => {
                shared.failed.store(true, Ordering::Relaxed);
                failed = Some(error);
            }
        }
        (shared.read)(piece.bytes());
        worker.step();
    }
    pages.end();
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
    match failed {
        Some(error) => Err(error),
        None => Ok((known.take().into_iter().map(|(cell, totals, _)| (cell, totals)).collect(), outcomes)),
    }
}

/// The way into the graph.
struct Pages {
    input: InputSession<u64, Cell, Totals>,
    redriven: InputSession<u64, Versions, isize>,
    page: Tally,
    one: Tally,
    count: usize,
}

impl Pages {
    fn add(&mut self, outcome: &Measured<'_>) {
        if outcome.may_be_redriven() {
            self.one.add(outcome.arrived_at, outcome, 1);
            for (cell, totals) in self.one.take() {
                self.redriven.insert((outcome.upload_id.clone().into_owned(), (outcome.version, cell, totals)));
            }
            return;
        }
        self.page.add(outcome.arrived_at, outcome, 1);
        self.count += 1;
        if self.count >= PAGE || self.page.len() >= CELLS {
            self.put();
        }
    }

    fn put(&mut self) {
        self.count = 0;
        for (cell, totals) in self.page.take() {
            self.input.update(cell, totals);
        }
    }

    fn end(mut self) {
        self.put();
    }
}
