//! The store: an SQLite file that survives kill -9 and power loss, or a Postgres database that many workers share; and the
//! spool in it.
//!
//! An upload is admitted, worked on and committed:
//!
//! - [`Store::enqueue`], [`Store::lease`], [`Store::acknowledge`]: the spool, a durable queue for each lane.
//! - [`Store::admit`]: the first arrival of an upload, and whether it already has its outcome.
//! - [`Store::commit`]: outcomes, at most one for each version of an upload. The only commit point.
//! - [`Store::cached`], [`Store::commit_and_cache`]: answers that are given again.
//! - [`Store::seal_arrivals`], [`Store::closed_until`]: the moment up to which every upload has its outcome.
//! - [`Store::write_windows`]: rows of the windows up to there, each once.
//! - [`Store::change_alerts`], [`Store::untold`]: how alerts stand, and who is to be told.
//! - [`Store::redrive`], [`Store::purge`]: what becomes of dead letters.
//! - [`Store::start_experiment`], [`Store::outcomes_of`], [`Store::shadow_outcomes`]: experiments, and what counts in them.
//! - [`Store::audit_log`]: what was done to the data, and by whom.
//!
//! Each call is one transaction, for as many items as it is given. All may be repeated: an upload enqueued twice is
//! admitted once, and an outcome committed twice is written once.

mod admissions;
mod alerts;
mod arrivals;
mod audit;
mod bigquery;
mod cache;
mod claim;
mod database;
mod dead_letters;
mod error;
mod experiment_reports;
mod experiments;
mod exports;
mod outcomes;
mod postgres;
mod rows;
mod shadows;
mod sinks;
mod spool;
mod sqlite;
mod turns;
mod url;
mod values;
mod windows;

use std::sync::Arc;

use database::Database;
use values::Value;

pub use alerts::AlertChange;
pub use arrivals::Walk;
pub(crate) use bigquery::TableState;
pub use bigquery::WriteMethod;
pub use cache::{CacheEntry, CacheKey, Sound, Tenant};
pub use claim::Claim;
pub use dead_letters::{DeadLetter, Redriven};
pub use error::StoreError;
pub use experiments::{ArmStop, Started, StoredExperiment};
pub(crate) use exports::{Batch, Log};
pub use outcomes::Write;
pub use spool::{Delivery, Lease, Pending};
pub use url::StoreUrl;
pub use windows::{Progress, WrittenWindow};

/// An open store. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    url: StoreUrl,
    database: Database,
    /// Who stands in the audit log.
    actor: Arc<str>,
}

impl Store {
    /// Opens a store and brings its schema up to date; makes a file where there is none. Processes may share a file on one
    /// machine (a network file system will not do), and a Postgres database from anywhere.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::NotADatabase`], [`StoreError::Foreign`], [`StoreError::Newer`]; then the
    /// file or database is as it was.
    pub async fn open(url: impl Into<StoreUrl>) -> Result<Self, StoreError> {
        let url = url.into();
        let database = match &url {
            StoreUrl::Sqlite(path) => sqlite::open(path).await?,
            StoreUrl::Postgres(text) => Database::Postgres(postgres::open(&url, text).await?),
        };
        Ok(Self { url, database, actor: audit::user_at_host() })
    }

    /// Where it is.
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// Ends all connections; folds a file's write-ahead log into it.
    pub async fn close(self) {
        match self.database {
            Database::Sqlite { writer, readers } => sqlite::close(&writer, &readers).await,
            Database::Postgres(pool) => pool.close().await,
        }
    }

    /// One statement as one transaction; how many rows it changed.
    async fn write_one(&self, statement: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin().await?;
        let changed = transaction.execute(statement, values).await?;
        transaction.commit().await?;
        Ok(changed)
    }
}
