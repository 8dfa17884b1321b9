//! Opening the store's file: what it must be, what it is brought to, and who serves from it.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, Row, SqliteConnection};

use super::error::{BUSY, NOTADB, primary_code};
use super::{Store, StoreError, finish};

/// The schema's history, forward only: a file at schema N lacks the migrations after the Nth.
const MIGRATIONS: [&str; 2] =
    [include_str!("../../migrations/0001_store.sql"), include_str!("../../migrations/0002_training_consent.sql")];

/// `application_id` of the first migration.
const TIDEMARK: i64 = 0x5449_4445;

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How often, and after which pauses, an open is tried again that another process's open was in the way of.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Reads that run at the same time.
const READERS: u32 = 4;

/// This process alone takes deliveries from the store's spool, until the claim is dropped or the process dies.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

impl Store {
    /// Opens the store in `path`, creates it where there is none, and brings its schema up to date. Processes may share
    /// a store on one machine; a network file system will not do.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::NotADatabase`], [`StoreError::Foreign`], [`StoreError::Newer`]; then the
    /// file is as it was.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        // The change to the write-ahead log wants the file for itself and does not wait for it, busy_timeout or not.
        for _ in 0..BUSY_TRIES {
            match Self::try_open(path).await {
                Err(StoreError::Open { source, .. } | StoreError::Failed(source))
                    if primary_code(&source) == Some(BUSY) =>
                {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                done => return done,
            }
        }
        Self::try_open(path).await
    }

    async fn try_open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: sqlx::Error| match primary_code(&source) {
            Some(NOTADB) => StoreError::NotADatabase { path: path.to_owned() },
            _ => StoreError::Open { path: path.to_owned(), source },
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut visitor = options.connect().await.map_err(failed)?;
        let version = inspect(&mut visitor, path).await?;
        visitor.close().await.map_err(failed)?;

        // Synchronous FULL: a commit is on the disk before it answers, which NORMAL does not promise in WAL mode.
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options.read_only(true));
        let store = Self { path: path.to_owned(), writer, readers };
        if version < MIGRATIONS.len() {
            store.migrate().await?;
        }
        Ok(store)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        // Another process may have migrated it meanwhile.
        let version = inspect(&mut transaction, &self.path).await?;
        for migration in &MIGRATIONS[version..] {
            transaction.execute(*migration).await?;
        }
        transaction.execute(&*format!("PRAGMA user_version = {}", MIGRATIONS.len())).await?;
        finish(transaction).await
    }

    /// Claims the spool for this process, and gives back what a dead process had leased. Who leases should hold a
    /// claim; enqueuing and reading need none.
    ///
    /// # Errors
    /// [`StoreError::Held`] where another claim is alive.
    pub async fn claim(&self) -> Result<Claim, StoreError> {
        let mut name = OsString::from(&self.path);
        name.push("-serving");
        let opened = File::options().create(true).append(true).open(Path::new(&name));
        let locked = opened.map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file));
        let lock = locked.map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Held { path: self.path.clone() },
            TryLockError::Error(error) => StoreError::Open { path: name.into(), source: sqlx::Error::Io(error) },
        })?;
        self.give_back_all().await?;
        Ok(Claim { _lock: lock })
    }

    /// Ends all connections and folds the write-ahead log into the file.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The file's schema, if it is a store that this build may write to: 0 in an empty file.
async fn inspect(connection: &mut SqliteConnection, path: &Path) -> Result<usize, StoreError> {
    let header = sqlx::query(
        "SELECT (SELECT application_id FROM pragma_application_id) AS application,
                (SELECT user_version FROM pragma_user_version) AS version,
                (SELECT count(*) FROM sqlite_schema) AS tables",
    )
    .fetch_one(connection)
    .await
    .map_err(|source| match primary_code(&source) {
        Some(NOTADB) => StoreError::NotADatabase { path: path.to_owned() },
        _ => StoreError::Open { path: path.to_owned(), source },
    })?;
    let (application, found): (i64, i64) = (header.try_get("application")?, header.try_get("version")?);
    let empty = header.try_get::<i64, _>("tables")? == 0;
    if application != TIDEMARK && !(empty && application == 0) {
        return Err(StoreError::Foreign { path: path.to_owned(), found: application });
    }
    match usize::try_from(found) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(StoreError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() as i64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_is_on_the_disk_before_it_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("opens");
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.expect("answers");
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.writer).await.expect("answers");
        assert_eq!((mode.as_str(), synchronous), ("wal", 2), "2 is FULL");
    }

    #[tokio::test]
    async fn a_store_opens_again_with_the_schema_it_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tidemark.db");
        for _ in 0..2 {
            let store = Store::open(&path).await.expect("opens");
            let schema: i64 =
                sqlx::query_scalar("PRAGMA user_version").fetch_one(&store.writer).await.expect("answers");
            assert_eq!(schema, MIGRATIONS.len() as i64);
            store.close().await;
        }
    }
}
