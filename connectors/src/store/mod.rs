//! The store: one SQLite file that survives kill -9 and power loss, and the spool in it.
//!
//! An upload is admitted, worked on and committed:
//!
//! - [`Store::enqueue`], [`Store::lease`], [`Store::acknowledge`]: the spool, a durable queue for each lane.
//! - [`Store::admit`]: the first arrival of an upload, and whether it already has its outcome.
//! - [`Store::commit`]: outcomes, at most one for each version of an upload. The only commit point.
//! - [`Store::redrive`], [`Store::purge`]: what becomes of dead letters.
//!
//! Each call is one transaction, for as many items as it is given. All may be repeated: an upload enqueued twice is
//! admitted once, and an outcome committed twice is written once.

mod admissions;
mod dead_letters;
mod error;
mod exports;
mod open;
mod outcomes;
mod rows;
mod spool;

use std::path::{Path, PathBuf};

use serde::Serialize;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

pub use dead_letters::{DeadLetter, Redriven};
pub use error::StoreError;
pub(crate) use exports::Batch;
pub use open::Claim;
pub use outcomes::Write;
pub use spool::{Delivery, Lease, Pending};

/// An open store. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    /// One connection: SQLite has one writer at a time, and here writers wait in line for it.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a transaction that writes. It takes SQLite's write lock at once, so it never has to give up halfway.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// One statement as one transaction; how many rows it changed.
    async fn write_one<'q>(&self, statement: Query<'q, Sqlite, SqliteArguments<'q>>) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let changed = statement.execute(&mut *transaction).await?.rows_affected();
        finish(transaction).await?;
        Ok(changed)
    }
}

/// Makes a transaction durable.
async fn finish(transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
    transaction.commit().await.map_err(StoreError::of_commit)
}

/// The largest id that `table` ever gave out. Ids follow it one by one, because the write lock is held.
async fn last_id(connection: &mut SqliteConnection, table: &str) -> Result<u64, StoreError> {
    let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?")
        .bind(table)
        .fetch_optional(connection)
        .await?;
    rows::unsigned("seq", last.unwrap_or(0))
}

/// A list as the JSON text that `json_each` takes apart: one parameter and one statement for any number of items.
fn list(items: impl IntoIterator<Item = impl Serialize>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    serde_json::to_string(&items).expect("names and numbers are JSON")
}

/// Rows of one multi-row insert. More gain nothing: the parameters dominate.
const ROWS_PER_INSERT: usize = 64;
