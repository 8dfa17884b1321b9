//! The live view: what ended in the window that ends at present, by key. It never waits, and it forgets by itself.

use std::collections::BTreeMap;

use connectors::store::{Store, StoreError};
use operators::windows::{Tally, Totals};
use records::{Measured, Outcome, UtcMicros, WindowKey, WindowKind, WindowRow};
use timely::worker::Worker;

use super::{Ends, SECOND, completions, worker};

/// Outcomes are in the log this soon after they ended. Later ones are in the view all the same, if it read on.
const COMMIT: u64 = 60 * SECOND;

/// A live view in the making.
pub struct Live {
    width_s: u32,
    worker: Worker,
    graph: Ends,
    ended: Tally,
    /// What the window holds: each under its count, which is 1 once all changes of a moment are in.
    present: BTreeMap<(WindowKey, Totals), isize>,
}

impl Live {
    /// An empty view of the last so many seconds.
    pub fn new(width_s: u32) -> Self {
        let mut worker = worker();
        let graph = worker.dataflow(|scope| completions(scope, u64::from(width_s) * SECOND));
        Self { width_s, worker, graph, ended: Tally::new(SECOND), present: BTreeMap::new() }
    }

    /// The place in the log behind which everything is that the view needs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, store: &Store, now: UtcMicros) -> Result<u64, StoreError> {
        store.seq_before(UtcMicros(now.0.saturating_sub(u64::from(self.width_s) * SECOND + COMMIT))).await
    }

    /// Adds an outcome, if it is not too old by `now`.
    pub fn add(&mut self, outcome: &Outcome, now: UtcMicros) {
        if outcome.completed_at.0 + u64::from(self.width_s) * SECOND > now.0 {
            self.ended.add(outcome.completed_at, &Measured::from(outcome), 1);
        }
    }

    /// What the window that ends now holds, by key. Time does not go back.
    pub fn totals(&mut self, now: UtcMicros) -> impl Iterator<Item = (&WindowKey, &Totals)> + Clone {
        self.move_to(now);
        self.present.keys().map(|(key, totals)| (key, totals))
    }

    /// The rows of the window that ends now.
    pub fn rows(&mut self, now: UtcMicros) -> Vec<WindowRow> {
        let time = self.move_to(now);
        let start = UtcMicros(time.saturating_sub(u64::from(self.width_s) * SECOND));
        self.present.keys().map(|(key, totals)| totals.row(WindowKind::Completion, start, self.width_s, key)).collect()
    }

    /// Takes in what was added, and forgets what is too old; the moment at which the window ends.
    fn move_to(&mut self, now: UtcMicros) -> u64 {
        let time = now.0.max(*self.graph.input.time());
        self.graph.input.advance_to(time);
        for (cell, totals) in self.ended.take() {
            self.graph.input.update(cell, totals);
        }
        self.graph.input.advance_to(time + 1);
        self.graph.input.flush();
        let probe = &self.graph.probe;
        self.worker.step_while(|| probe.less_than(&(time + 1)));
        for ((_, key), totals, change) in self.graph.known.take() {
            *self.present.entry((key, totals)).or_default() += change;
        }
        self.present.retain(|_, count| *count != 0);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(at: u64) -> Outcome {
        let json = serde_json::json!({
            "upload_id": "u", "version": 1, "customer_id": "c", "source": "/a", "lane": "high", "tier": "pro",
            "status": "completed", "branch": "primary", "model": "nano", "arm": "primary", "confidence": 0.9,
            "below_threshold": false, "metadata": {}, "field_confidence": {}, "attempts": 1, "error": null,
            "error_type": null, "queued_ms": 1, "inference_ms": 2, "total_ms": 3, "cost_micro_usd": 4,
            "arrived_at": UtcMicros(at), "completed_at": UtcMicros(at),
        });
        serde_json::from_value(json).expect("an outcome")
    }

    #[test]
    fn an_outcome_is_seen_at_once_and_for_as_long_as_the_window_is_wide() {
        let mut live = Live::new(10);
        let start = 1_790_000_000 * SECOND;
        let mut requests = |now: u64, ends: &[u64]| -> u64 {
            let now = UtcMicros(start + now * SECOND / 10);
            ends.iter().for_each(|at| live.add(&outcome(start + at * SECOND / 10), now));
            let rows = live.rows(now);
            assert!(rows.iter().all(|row| row.end.0 - row.start.0 == 10 * SECOND && row.end == now));
            rows.iter().map(|row| row.requests).sum()
        };
        assert_eq!(requests(0, &[]), 0);
        assert_eq!(requests(5, &[1, 2, 4]), 3, "at once");
        assert_eq!(requests(50, &[49, 3]), 5, "a late one as well");
        assert_eq!(requests(99, &[]), 5);
        assert_eq!(
            requests(111, &[]),
            1,
            "the first ones are ten seconds old, and the second that they ended in is over"
        );
        assert_eq!(requests(160, &[]), 0);
        assert_eq!(requests(161, &[1]), 0, "what is too old is not taken");
        assert!(live.present.is_empty(), "nothing is kept");
    }
}
