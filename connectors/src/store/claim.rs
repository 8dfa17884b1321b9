//! What one process may have for itself: a file's spool, and the turn to export.

use std::fs::File;

use sqlx::PgConnection;

use super::{Store, StoreError, StoreUrl, postgres, sqlite};

/// What its holder alone has, until it is dropped or the process dies.
#[derive(Debug)]
pub struct Claim {
    _lock: Option<Lock>,
}

#[derive(Debug)]
enum Lock {
    File { _file: File },
    Session { _connection: PgConnection },
}

impl Store {
    /// Claims the spool for this process. A file has one process that leases: what a dead one had leased is given back. A
    /// Postgres database has as many as like: what a dead one had leased comes back when its leases run out.
    ///
    /// # Errors
    /// [`StoreError::Held`] where another claim on the file is alive.
    pub async fn claim(&self) -> Result<Claim, StoreError> {
        let StoreUrl::Sqlite(path) = &self.url else { return Ok(Claim { _lock: None }) };
        let held = || StoreError::Held { store: self.url.to_string(), by: "serving from" };
        let file = sqlite::try_lock(path, "-serving")?.ok_or_else(held)?;
        self.give_back_all().await?;
        Ok(Claim { _lock: Some(Lock::File { _file: file }) })
    }

    /// Claims the report: of all processes that share the store one writes it. On a Postgres database waits a while.
    ///
    /// # Errors
    /// [`StoreError::Held`] where another process has it.
    pub async fn claim_report(&self) -> Result<Claim, StoreError> {
        let StoreUrl::Sqlite(path) = &self.url else { return self.claim_export("report").await };
        let held = || StoreError::Held { store: self.url.to_string(), by: "writing the report of" };
        let file = sqlite::try_lock(path, "-reporting")?.ok_or_else(held)?;
        Ok(Claim { _lock: Some(Lock::File { _file: file }) })
    }

    /// Waits a while for the turn to export to `sink`: of all workers of a Postgres database one exports at a time, so that no
    /// batch is written twice. A file's outcomes are exported by the one process that serves from it.
    ///
    /// # Errors
    /// [`StoreError::Held`] where another worker has the turn all the while.
    pub async fn claim_export(&self, sink: &str) -> Result<Claim, StoreError> {
        let url @ StoreUrl::Postgres(text) = &self.url else { return Ok(Claim { _lock: None }) };
        let held = || StoreError::Held { store: url.to_string(), by: "exporting from" };
        let connection = postgres::lock_export(url, text, sink).await?.ok_or_else(held)?;
        Ok(Claim { _lock: Some(Lock::Session { _connection: connection }) })
    }
}
