//! What one process may have for itself: a file's spool, and the turn to export.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::PgConnection;

use super::{Store, StoreError, StoreUrl, postgres, sqlite};

/// How often, and after which pauses, a file is tried that another process has locked.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

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

    /// Waits a while for the turn to export to `sink`: of all processes one exports at a time, so that no batch is written
    /// twice.
    pub(crate) async fn claim_export(&self, sink: &str) -> Result<Claim, StoreError> {
        let lock = match &self.url {
            StoreUrl::Sqlite(path) => lock_file(path, &format!("-exporting-{sink}")).await?,
            url @ StoreUrl::Postgres(text) => {
                let locked = postgres::lock_export(url, text, sink).await?;
                locked.map(|connection| Lock::Session { _connection: connection })
            }
        };
        let held = || StoreError::Held { store: self.url.to_string(), by: "exporting from" };
        lock.map(|lock| Claim { _lock: Some(lock) }).ok_or_else(held)
    }
}

async fn lock_file(path: &Path, what: &str) -> Result<Option<Lock>, StoreError> {
    for _ in 0..TRIES {
        if let Some(file) = sqlite::try_lock(path, what)? {
            return Ok(Some(Lock::File { _file: file }));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(None)
}
