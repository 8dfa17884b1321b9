//! The report beside plain maps over any history: uploads that end late, are redriven, and a report that is opened anew.

use std::collections::BTreeMap;

use connectors::store::{Progress, Store, WrittenWindow};
use differential_dataflow::difference::Semigroup;
use operators::windows::{Cell, Tally, Totals};
use proptest::prelude::*;
use records::{Admitted, Lane, Measured, Outcome, Status, UtcMicros, WindowKind, WindowRow};
use tidemark::report::closing::Closing;

use crate::make::{START, attempts, completed, dead_lettered, id, payload};

const SECOND: u64 = 1_000_000;

/// How long after its end a window is closed at the earliest.
const GRACE: u64 = SECOND;

#[derive(Clone, Debug)]
enum Step {
    Admit(u64),
    End { upload: u64, status: Status },
    Redrive(u64),
    Wait { ms: u64 },
    Report,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let status = || prop_oneof![Just(Status::Completed), Just(Status::DeadLettered)];
    prop_oneof![
        4 => (0_u64..12).prop_map(Step::Admit),
        5 => (0_u64..12, status()).prop_map(|(upload, status)| Step::End { upload, status }),
        2 => (0_u64..12).prop_map(Step::Redrive),
        4 => (1_u64..1500).prop_map(|ms| Step::Wait { ms }),
        4 => Just(Step::Report),
        1 => Just(Step::Reopen),
    ]
}

/// A history in the making, and what is known of it.
struct History {
    store: Store,
    closing: Closing,
    now: UtcMicros,
    admitted: BTreeMap<u64, (UtcMicros, u32)>,
    /// By upload, the outcome that stands.
    ended: BTreeMap<u64, Outcome>,
    /// By cell, the row that was written last.
    written: BTreeMap<Cell, WindowRow>,
    sealed: u64,
}

impl History {
    async fn open(store: Store) -> Self {
        let closing = Closing::open(store.clone(), 1).await.expect("opens");
        Self {
            store,
            closing,
            now: START,
            admitted: BTreeMap::new(),
            ended: BTreeMap::new(),
            written: BTreeMap::new(),
            sealed: 0,
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Admit(upload) => {
                let admitted = self.store.admit(&[(id(upload), Lane::Low, self.now)]).await.expect("admitted");
                if let Admitted::Open { arrived_at, version } = admitted[0] {
                    self.admitted.insert(upload, (arrived_at, version));
                }
            }
            Step::End { upload, status } => self.end(upload, status).await,
            Step::Redrive(upload) => {
                self.store.redrive(&[id(upload)], self.now).await.expect("redriven");
                self.take_admission(upload).await;
            }
            Step::Wait { ms } => self.now = self.now.plus_ms(ms),
            Step::Report => self.report().await,
            Step::Reopen => {
                self.closing = Closing::open(self.store.clone(), 1).await.expect("opens");
                self.closing.rewind(0);
            }
        }
    }

    async fn take_admission(&mut self, upload: u64) {
        if self.admitted.contains_key(&upload) {
            let admitted = self.store.admit(&[(id(upload), Lane::Low, self.now)]).await.expect("admitted");
            if let Admitted::Open { arrived_at, version } = admitted[0] {
                self.admitted.insert(upload, (arrived_at, version));
            }
        }
    }

    async fn end(&mut self, upload: u64, status: Status) {
        let Some((arrived_at, version)) = self.admitted.get(&upload).copied() else { return };
        let outcome = match status {
            Status::Completed => completed(upload, version, arrived_at),
            Status::DeadLettered => dead_lettered(upload, version, arrived_at),
        };
        let outcome = Outcome { completed_at: self.now, ..outcome };
        let write = (outcome.clone(), attempts(&outcome), payload(upload).into());
        if self.store.commit(&[write]).await.expect("committed")[0] {
            self.ended.insert(upload, outcome);
        }
    }

    /// The cells of windows that are complete, with what their rows have to say.
    fn expected(&mut self) -> BTreeMap<Cell, Totals> {
        self.sealed = self.sealed.max((self.now.0 - GRACE) / SECOND * SECOND);
        let open = self.admitted.iter().filter(|(upload, _)| !self.ended.contains_key(*upload));
        let closed = open.map(|(_, (arrived_at, _))| arrived_at.0).chain([self.sealed]).min().expect("there is one");
        let mut sums = BTreeMap::<Cell, Totals>::new();
        for outcome in self.ended.values() {
            let mut tally = Tally::new(SECOND);
            tally.add(outcome.arrived_at, &Measured::from(outcome), 1);
            let (cell, totals) = tally.take().remove(0);
            if cell.0.0 + SECOND <= closed {
                sums.entry(cell).or_default().plus_equals(&totals);
            }
        }
        // What was written and holds nothing any more has to say so.
        for cell in self.written.keys() {
            sums.entry(cell.clone()).or_default();
        }
        sums
    }

    async fn report(&mut self) {
        let expected = self.expected();
        for row in self.closing.advance(self.now, |_| {}).await.expect("reported") {
            let cell = (row.start, row.key.clone());
            let before = self.written.insert(cell, row.clone());
            let last = before.as_ref().map_or(0, |before| before.version);
            assert_eq!(row.version, last + 1, "each version is written once, after the one before");
            let unchanged = before.map(|before| WindowRow { version: row.version, ..before });
            assert_ne!(unchanged, Some(row), "a correction changes something");
        }
        assert_eq!(self.written.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (cell, row) in &self.written {
            let totals = &expected[cell];
            let says = WindowRow { version: row.version, ..totals.row(WindowKind::Arrival, cell.0, 1, &cell.1) };
            assert_eq!(*row, says);
        }
        let mut stored = self.store.newest_windows(UtcMicros(0), usize::MAX).await.expect("read");
        stored.sort_unstable_by(|one, other| one.name().cmp(&other.name()));
        assert_eq!(stored, self.written.values().cloned().collect::<Vec<_>>(), "what was given is what is stored");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_say_what_stands_of_every_complete_window_and_of_no_other(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
            let mut history = History::open(store).await;
            for step in steps {
                history.take(step).await;
            }
            history.report().await;
        });
    }
}

/// What an older version wrote of an experiment's upload, whose row was of no experiment.
#[tokio::test]
async fn a_window_that_was_written_before_rows_had_an_experiment_is_corrected() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
    let of_experiment = |outcome: Outcome| Outcome { experiment: Some("e".into()), arm: Some("b".into()), ..outcome };
    let commit = async |outcome: Outcome| {
        let write = (outcome.clone(), attempts(&outcome), payload(1).into());
        assert_eq!(store.commit(&[write]).await.expect("committed"), [true]);
    };
    store.admit(&[(id(1), Lane::Low, START)]).await.expect("admitted");
    let died = of_experiment(dead_lettered(1, 1, START));
    commit(died.clone()).await;
    let mut tally = Tally::new(SECOND);
    tally.add(START, &Measured { experiment: None, ..Measured::from(&died) }, 1);
    let ((start, key), totals) = tally.take().remove(0);
    let row = totals.row(WindowKind::Arrival, start, 1, &key);
    let window = WrittenWindow { row, totals: serde_json::to_string(&totals).expect("JSON") };
    let to = Progress { written_until: UtcMicros(start.0 + SECOND), applied_seq: 1, resume_seq: 1 };
    store.write_windows(1, &[window], Progress::default(), to).await.expect("written");

    store.redrive(&[id(1)], START).await.expect("redriven");
    commit(of_experiment(completed(1, 2, START))).await;
    let mut closing = Closing::open(store.clone(), 1).await.expect("opens");
    let rows = closing.advance(START.plus_ms(5_000), |_| {}).await.expect("reported");
    let said: Vec<_> = rows.iter().map(|it| (it.key.experiment.as_deref(), it.version, it.requests)).collect();
    assert_eq!(said, [(None, 2, 0), (Some("e"), 1, 1)], "{rows:?}");
}
