//! The store on a real Postgres: the suite that every store passes, and what only a database of several workers promises.
//! `make test-services` runs it.

#[path = "../support/script.rs"]
mod script;
#[path = "../store/alerts.rs"]
mod alerts;
#[path = "../store/audit.rs"]
mod audit;
#[path = "../store/cache.rs"]
mod cache;
#[path = "../store/arrivals.rs"]
mod arrivals;
#[path = "../store/crash.rs"]
mod crash;
#[path = "../store/dead_letters.rs"]
mod dead_letters;
#[path = "../store/experiments.rs"]
mod experiments;
#[path = "../store/export.rs"]
mod export;
mod follow;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../store/logs.rs"]
mod logs;
#[path = "../store/make.rs"]
mod make;
#[path = "../store/memory.rs"]
mod memory;
#[path = "../store/model.rs"]
mod model;
mod open;
#[path = "../store/outcomes.rs"]
mod outcomes;
mod proxy;
mod server;
#[path = "../store/sinks.rs"]
mod sinks;
#[path = "../store/spool.rs"]
mod spool;
#[path = "../store/steps.rs"]
mod steps;
mod tls;
mod trouble;
mod workers;

use connectors::store::{Store, StoreUrl};
use server::server;
use steps::{admit, ending};
use tempfile::TempDir;

/// Histories of [`model`]: each takes some hundred turns of the network.
const HISTORIES: u32 = 12;

/// A store in a database of its own, and a folder.
struct Fixture {
    store: Store,
    folder: TempDir,
}

fn new_database() -> StoreUrl {
    server().new_database().parse().expect("an address")
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    Fixture { store: Store::open(new_database()).await.expect("a store"), folder }
}
