//! Replays uploads of the past: another model, prompt or threshold on the same audio, beside what came of it then.
//!
//! A [`Run`] is a folder of its own, `replays/NAME`: what was asked (`run.json`), the outcomes of the past that were chosen
//! (`original.parquet`), a store with a queue, and what a worker writes. So a replay is a worker like any other whose uploads
//! come out of history: each has one outcome there, whenever it is killed, and production is only read.
//!
//! [`choose`] writes down which uploads are replayed, [`feed`] puts them in the run's queue, [`Difference`] is what came of it.

mod choose;
mod definition;
mod difference;
mod feed;
mod pairs;

use std::path::PathBuf;

use connectors::history::HistoryError;
use connectors::parquet::ExportError;
use connectors::store::StoreError;
use records::Fault;

pub use choose::{Past, PastFile, choose};
pub use definition::{Definition, Run, Wanted};
pub use difference::{Change, Difference, FieldRow, MeasureRow};
pub use feed::{feed, left};
pub use pairs::{pairs, write_pairs};

/// What can go wrong with a replay. Nothing is lost by it: the run goes on from where it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Outcomes of the past cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A bucket cannot be read.
    #[error(transparent)]
    Bucket(#[from] Fault),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the run cannot be written.
    #[error(transparent)]
    Write(#[from] ExportError),
    /// A file or folder of the run.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file that says what was asked cannot be understood.
    #[error("{} says nothing that this Tidemark understands ({reason}): use the one that began the run", path.display())]
    Definition {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No folder can be named so.
    #[error("{0:?} is no name of a run: it has 1 to 64 of A-Z a-z 0-9 . _ -, and no dot at its beginning")]
    Name(String),
    /// There is nothing to replay.
    #[error("no outcome of the past is chosen by that: `tidemark outcomes` shows what there is")]
    Nothing,
}
