//! Closes windows of arrival: reads the log of outcomes, moves the graph's frontier to where every upload has its outcome, and
//! writes the rows of the windows that it passed, each once.
//!
//! What is in memory follows from the store, so whoever meets an error opens it anew.

use std::collections::{BTreeMap, BTreeSet};

use connectors::store::{Progress, Store, StoreError, Walk, WrittenWindow};
use differential_dataflow::difference::{IsZero, Semigroup};
use operators::windows::{Cell, Tally, Totals};
use records::{Measured, Outcome, UtcMicros, WindowKey, WindowKind, WindowRow};
use timely::worker::Worker;

use super::{Ends, SECOND, arrivals, worker};

/// How long after a window's end it is closed at the earliest. Clocks of workers that are apart by less put nobody's arrival
/// off; correct is it in any case.
const GRACE: u64 = SECOND;

/// Windows that are written at once.
const WINDOWS: usize = 1000;

/// Outcomes that are read at once.
pub(crate) const PAGE: usize = 4096;

/// A report of windows of one width, in the making.
pub struct Closing {
    store: Store,
    width_s: u32,
    width_us: u64,
    worker: Worker,
    graph: Ends,
    /// The input's time.
    frontier: u64,
    open: Tally,
    corrected: Tally,
    /// Where the log first speaks of a window that is open, by its end.
    first_seqs: BTreeMap<u64, u64>,
    read_seq: u64,
    progress: Progress,
    walk: Walk,
    sealed: UtcMicros,
    closed_until: UtcMicros,
}

impl Closing {
    /// Goes on where the report in the store came to.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Panics
    /// Where the width is 0.
    pub async fn open(store: Store, width_s: u32) -> Result<Self, StoreError> {
        let progress = store.report_progress(width_s).await?;
        let (mut worker, width_us) = (worker(), u64::from(width_s) * SECOND);
        let mut graph = worker.dataflow(arrivals);
        let frontier = progress.written_until.0 + 1;
        graph.input.advance_to(frontier);
        Ok(Self {
            store,
            width_s,
            width_us,
            worker,
            graph,
            frontier,
            open: Tally::new(width_us),
            corrected: Tally::new(width_us),
            first_seqs: BTreeMap::new(),
            read_seq: progress.resume_seq,
            progress,
            walk: Walk::from(progress.written_until),
            sealed: UtcMicros(0),
            closed_until: progress.written_until,
        })
    }

    /// The arrival before which every upload has its outcome, as far as this knows.
    pub fn closed_until(&self) -> UtcMicros {
        self.closed_until
    }

    /// Reads the log from an earlier place on, for whoever looks at its outcomes as well; here they change nothing.
    pub fn rewind(&mut self, seq: u64) {
        self.read_seq = self.read_seq.min(seq);
    }

    /// Reads what the log has further, and hands it to `each`; writes the rows of all windows that are complete and of those
    /// that were corrected, and gives them.
    ///
    /// # Errors
    /// [`StoreError`]; then this is not to be used any more.
    pub async fn advance(
        &mut self,
        now: UtcMicros,
        mut each: impl FnMut(&Outcome),
    ) -> Result<Vec<WindowRow>, StoreError> {
        let due = now.0.saturating_sub(GRACE) / self.width_us * self.width_us;
        if due > self.sealed.0 {
            self.sealed = self.store.seal_arrivals(UtcMicros(due)).await?;
        }
        self.closed_until = self.store.closed_until(&mut self.walk, self.sealed).await?;
        // Read after that, the log has every outcome of what arrived before.
        loop {
            let page = self.store.outcomes_after(self.read_seq, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            let last = *last;
            page.iter().for_each(|(_, outcome)| each(outcome));
            self.take(&page).await?;
            self.read_seq = last;
        }
        let boundary = (self.closed_until.0 / self.width_us * self.width_us).max(self.progress.written_until.0);
        // The past of years is not written in one transaction, in which nobody else can commit: the next look goes on.
        let boundary = self.first_seqs.keys().nth(WINDOWS - 1).map_or(boundary, |end| boundary.min(*end));
        // A window that is not complete is not passed; so where one is not for days, corrections wait with it at last.
        let is_corrected = self.frontier + 1 < boundary + self.width_us && self.put_corrections().await?;
        let frontier = (boundary + 1).max(self.frontier + u64::from(is_corrected));
        self.move_to(frontier);
        self.write(UtcMicros(boundary)).await
    }

    /// Adds a page of the log to the windows that it speaks of.
    async fn take(&mut self, page: &[(u64, Outcome)]) -> Result<(), StoreError> {
        let replaced: Vec<_> =
            page.iter().filter(|(_, it)| it.version > 1).map(|(_, it)| (&it.upload_id, it.version - 1)).collect();
        let replaced = self.store.versions(&replaced).await?;
        for (seq, outcome) in page {
            let arrived_at = outcome.arrived_at;
            let end = arrived_at.0 / self.width_us * self.width_us + self.width_us;
            let tally = if end > self.progress.written_until.0 {
                self.first_seqs.entry(end).or_insert(*seq);
                &mut self.open
            } else if *seq > self.progress.applied_seq {
                &mut self.corrected
            } else {
                continue;
            };
            tally.add(arrived_at, &Measured::from(outcome), 1);
            if let Some(old) = replaced.get(&(outcome.upload_id.clone(), outcome.version.saturating_sub(1))) {
                tally.add(old.arrived_at, &Measured::from(old), -1);
            }
        }
        for (cell, totals) in self.open.take() {
            let end = cell.0.0 + self.width_us;
            self.graph.input.update_at(cell, end, totals);
        }
        Ok(())
    }

    /// Puts windows that were written into the graph again, as they were and with what was changed since.
    async fn put_corrections(&mut self) -> Result<bool, StoreError> {
        let mut changes: BTreeMap<Cell, Totals> =
            self.corrected.take().into_iter().filter(|(_, change)| !change.is_zero()).collect();
        if changes.is_empty() {
            return Ok(false);
        }
        let of_none = |(start, key): &Cell| (*start, WindowKey { experiment: None, ..key.clone() });
        let cells = changes.keys().flat_map(|cell| [cell.clone(), of_none(cell)]);
        let cells: Vec<Cell> = cells.collect::<BTreeSet<_>>().into_iter().collect();
        let written = self.store.last_windows(self.width_s, &cells).await?;
        let mut written: BTreeMap<Cell, String> =
            written.into_iter().map(|it| ((it.row.start, it.row.key), it.totals)).collect();
        // Rows of stores before schema 10 are of no experiment, whatever their uploads were of: those are taken away from there.
        let is_older = |cell: &Cell, change: &Totals| change.is_negative() && !written.contains_key(cell);
        for (cell, change) in changes.extract_if(.., |cell, change| is_older(cell, change)).collect::<Vec<_>>() {
            changes.entry(of_none(&cell)).or_default().plus_equals(&change);
        }
        for (cell, mut totals) in changes {
            if let Some(before) = written.remove(&cell) {
                let before: Totals = serde_json::from_str(&before)
                    .map_err(|error| StoreError::Damaged(format!("the totals of a window: {error}")))?;
                totals.plus_equals(&before.written());
            }
            self.graph.input.update_at(cell, self.frontier, totals);
        }
        Ok(true)
    }

    fn move_to(&mut self, frontier: u64) {
        self.frontier = frontier;
        self.graph.input.advance_to(frontier);
        self.graph.input.flush();
        let probe = &self.graph.probe;
        self.worker.step_while(|| probe.less_than(&frontier));
    }

    /// Writes what the graph gave, and with it how far this is.
    async fn write(&mut self, written_until: UtcMicros) -> Result<Vec<WindowRow>, StoreError> {
        let known = self.graph.known.take().into_iter().filter(|(.., change)| *change > 0);
        let row = |((start, key), totals, _): (Cell, Totals, isize)| WrittenWindow {
            row: totals.row(WindowKind::Arrival, start, self.width_s, &key),
            totals: serde_json::to_string(&totals).expect("numbers are JSON"),
        };
        let mut windows: Vec<WrittenWindow> = known.map(row).collect();
        windows.sort_unstable_by(|one, other| one.row.name().cmp(&other.row.name()));
        self.first_seqs = self.first_seqs.split_off(&(written_until.0 + 1));
        let first_open = self.first_seqs.values().min().map_or(self.read_seq, |seq| seq - 1);
        let to = Progress { written_until, applied_seq: self.read_seq, resume_seq: first_open };
        if to.written_until != self.progress.written_until || !windows.is_empty() {
            self.store.write_windows(self.width_s, &windows, self.progress, to).await?;
            self.progress = to;
        }
        Ok(windows.into_iter().map(|window| window.row).collect())
    }
}
