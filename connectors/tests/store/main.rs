//! The store through its public door: what it promises to the graph, to operators and to a process that is killed.

mod crash;
mod dead_letters;
mod export;
mod make;
mod memory;
mod model;
mod open;
mod outcomes;
mod spool;

use connectors::store::{Store, Write};
use make::{START, attempts, id, payload};
use records::Admitted;
use records::{Lane, Outcome, UploadId, UtcMicros};
use tempfile::TempDir;

/// A store in a folder of its own, which is deleted with it.
struct Fixture {
    store: Store,
    folder: TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
    Fixture { store, folder }
}

/// What the graph hands over for an outcome.
fn ending(number: u64, outcome: Outcome) -> Write {
    let attempts = attempts(&outcome);
    (outcome, attempts, payload(number).into())
}

/// Admits uploads 0 to `count`, all arriving at [`START`].
async fn admit(store: &Store, numbers: impl IntoIterator<Item = u64>) -> Vec<Admitted> {
    let uploads: Vec<(UploadId, Lane, UtcMicros)> =
        numbers.into_iter().map(|number| (id(number), Lane::ALL[number as usize % 2], START)).collect();
    store.admit(&uploads).await.expect("admitted")
}
