//! The store in a file, through its public door: what it promises to the graph, to operators and to a process that is
//! killed. `tests/postgres` runs the same suite, all but [`open`], on Postgres.

mod alerts;
mod audit;
mod cache;
mod arrivals;
mod crash;
mod dead_letters;
mod experiments;
mod export;
mod make;
mod memory;
mod model;
mod open;
mod outcomes;
mod sinks;
mod spool;
mod steps;

use connectors::store::Store;
use steps::{admit, ending};
use tempfile::TempDir;

/// Histories of [`model`].
const HISTORIES: u32 = 48;

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
