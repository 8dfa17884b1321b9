//! The store's logs in BigQuery, and what hangs on outcomes, each row exactly once.
//!
//! A table's rows come from a log of the store, in ranges that are fixed there before anything is sent. A range is sent in one of
//! two ways, and what is sent twice is there once:
//!
//! - [`WriteMethod::LoadJobs`]: one load job a range, whose id follows from store, table and range. BigQuery takes an id
//!   once, so a job that was sent twice is refused, and its end is looked up.
//! - [`WriteMethod::StorageWrite`]: appends to a committed stream of the Storage Write API, each at an offset that the store
//!   noted before. BigQuery takes an offset once, so an append that was sent twice is answered with ALREADY_EXISTS.
//!
//! [`BigQuery::setup`] makes tables and views. `deploy/bigquery/` tells analysts what is in them.

mod api;
mod error;
mod load;
mod proto;
mod schema;
mod setup;
mod stream;
mod tables;
mod views;

use records::UtcMicros;
use tables::{TABLES, Table};

pub use api::Destination;
pub use error::BigQueryError;
pub use tables::reference;

use crate::store::{Batch, Store, TableState, WriteMethod};
use api::Api;

/// The log's rows of a range: what one load job holds at most, of outcomes all their attempts.
const ROWS_PER_JOB: u32 = 50_000;

/// The log's rows of a range that is appended. What comes of them is in memory at once.
const ROWS_PER_APPEND: u32 = 1_000;

/// Bytes of rows in an append. BigQuery takes 10 MB with everything around them, the emulator 4 MiB.
const BYTES_PER_APPEND: usize = 3 << 20;

/// A dataset.
#[derive(Clone, Debug)]
pub struct BigQuery {
    api: Api,
}

/// A dataset whose tables are there.
#[derive(Clone, Debug)]
pub struct Ready {
    api: Api,
    /// Where the dataset's data lie, as BigQuery says.
    location: Option<String>,
}

impl BigQuery {
    /// Takes application default credentials, unless the endpoint is an emulator's. Nothing is asked of BigQuery.
    ///
    /// # Errors
    /// [`BigQueryError::Credentials`].
    pub async fn connect(to: Destination) -> Result<Self, BigQueryError> {
        Ok(Self { api: Api::connect(to).await? })
    }

    /// Makes the tables and views that are missing, and brings older ones to our columns; with what was made or changed, a
    /// line each. Doing it again is safe.
    ///
    /// # Errors
    /// [`BigQueryError`]; what was made stays.
    pub async fn setup(&self) -> Result<(Ready, Vec<String>), BigQueryError> {
        let (location, made) = setup::setup(&self.api).await?;
        Ok((Ready { api: self.api.clone(), location }, made))
    }
}

/// Carries a store's rows into one table.
#[derive(Clone)]
pub struct TableExport {
    store: Store,
    ready: Ready,
    table: &'static Table,
    method: WriteMethod,
    /// Under which the store keeps how far this table is.
    sink: String,
    limits: Limits,
}

/// What is sent at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The log's rows of a load job's range.
    pub rows_per_job: u32,
    /// The log's rows of a range that is appended.
    pub rows_per_append: u32,
    /// Bytes of rows in an append.
    pub bytes_per_append: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows_per_job: ROWS_PER_JOB, rows_per_append: ROWS_PER_APPEND, bytes_per_append: BYTES_PER_APPEND }
    }
}

/// Called at each point where a process may die: an error ends the export there, with nothing tidied up.
type Reached<'a> = &'a mut (dyn FnMut() -> Result<(), BigQueryError> + Send);

impl TableExport {
    /// An export for each table.
    pub fn all(store: &Store, ready: &Ready, method: WriteMethod, limits: Limits) -> Vec<Self> {
        let of = |table: &'static Table| {
            let sink = sink(&ready.api.to, table.name);
            Self { store: store.clone(), ready: ready.clone(), table, method, sink, limits }
        };
        TABLES.iter().map(of).collect()
    }

    /// The table's name.
    pub fn table(&self) -> &'static str {
        self.table.name
    }

    /// Writes all rows that are not in the table yet; how many. A load job that takes long is left to itself, and the next
    /// export goes on where this one was.
    ///
    /// # Errors
    /// [`BigQueryError`]. Exporting again is safe.
    pub async fn export(&self, now: UtcMicros) -> Result<u64, BigQueryError> {
        self.export_watched(now, &mut || Ok(())).await
    }

    /// As [`Self::export`]. `reached` is called at each point where a process may die: an error of it ends the export there,
    /// with nothing tidied up, as a death would.
    ///
    /// # Errors
    /// As [`Self::export`], and those of `reached`.
    pub async fn export_watched(&self, now: UtcMicros, reached: Reached<'_>) -> Result<u64, BigQueryError> {
        let _turn = self.store.claim_export(&self.sink).await?;
        let mut written = 0;
        loop {
            let mut state = self.store.table_state(&self.sink).await?;
            let method = state.method.unwrap_or(self.method);
            let rows = match method {
                WriteMethod::LoadJobs => self.limits.rows_per_job,
                WriteMethod::StorageWrite => self.limits.rows_per_append,
            };
            let Some(range) = self.store.begin_export((&self.sink, self.table.log), rows, now).await? else {
                return Ok(written);
            };
            reached()?;
            state.method = Some(method);
            self.store.note_table_state(&self.sink, &mut state).await?;
            reached()?;
            let rows = match method {
                WriteMethod::LoadJobs => self.load(range, &mut state, reached).await?,
                WriteMethod::StorageWrite => Some(self.append(range, &mut state, reached).await?),
            };
            // The job is still at work.
            let Some(rows) = rows else { return Ok(written) };
            let next = TableState { method: None, attempt: 1, rows_done: 0, ..state };
            self.store.end_table_range(&self.sink, range, next, now).await?;
            reached()?;
            written += rows;
        }
    }

    /// The table's rows that come from rows `first_seq` to `last_seq` of its log, in the types of its schema in Arrow.
    ///
    /// # Errors
    /// The store's.
    pub async fn rows(&self, first_seq: u64, last_seq: u64) -> Result<arrow::record_batch::RecordBatch, BigQueryError> {
        (self.table.rows)(&self.store, Batch { first_seq, last_seq }).await
    }
}

/// Gives up a write stream with an append in doubt, once somebody has looked whether its rows are in the table: `written` is
/// how many of them are. The rest goes to another stream.
///
/// # Errors
/// [`BigQueryError::NothingInDoubt`], and [`BigQueryError::Partly`] where `written` is neither none nor all of them: an append
/// is whole or not at all.
pub async fn new_stream(
    store: &Store,
    to: &Destination,
    table: &str,
    written: u64,
    now: UtcMicros,
) -> Result<(), BigQueryError> {
    let sink = sink(to, table);
    let _turn = store.claim_export(&sink).await?;
    let state = store.table_state(&sink).await?;
    let pending = state.pending_rows;
    match written {
        _ if state.stream.is_none() => Err(BigQueryError::NothingInDoubt { table: table.to_owned() }),
        written if written != 0 && written != pending => Err(BigQueryError::Partly { written, pending }),
        written => Ok(store.forget_stream((&sink, table), state, written, now).await?),
    }
}

/// Under which the store keeps how far a table is.
fn sink(to: &Destination, table: &str) -> String {
    format!("bigquery:{}.{}.{table}", to.project, to.dataset)
}
