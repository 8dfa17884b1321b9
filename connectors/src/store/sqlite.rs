//! The store in an SQLite file: what the file must be, what it is brought to, and who has it for himself.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use records::Lane;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, Row, Sqlite, SqliteConnection, SqlitePool};

use super::database::Database;
use super::error::{BUSY, NOTADB, primary_code};
use super::turns::{Turn, Turns};
use super::{StoreError, StoreUrl};

/// The schema's history, forward only: a file at schema N lacks the migrations after the Nth.
const MIGRATIONS: [&str; 11] = [
    include_str!("../../migrations/sqlite/0001_store.sql"),
    include_str!("../../migrations/sqlite/0002_training_consent.sql"),
    include_str!("../../migrations/sqlite/0003_sinks.sql"),
    include_str!("../../migrations/sqlite/0004_cache.sql"),
    include_str!("../../migrations/sqlite/0005_report.sql"),
    include_str!("../../migrations/sqlite/0006_experiments.sql"),
    include_str!("../../migrations/sqlite/0007_bigquery.sql"),
    include_str!("../../migrations/sqlite/0008_alerts.sql"),
    include_str!("../../migrations/sqlite/0009_logs.sql"),
    include_str!("../../migrations/sqlite/0010_regions.sql"),
    include_str!("../../migrations/sqlite/0011_shadows.sql"),
];

/// `application_id` of the first migration.
const TIDEMARK: i64 = 0x5449_4445;

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a transaction waits for those before it in this process.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often, and after which pauses, an open is tried again that another process's open was in the way of.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Takes SQLite's write lock at once, so that a transaction never has to give up halfway. Synchronous FULL: a commit is on
/// the disk before it answers.
const BEGIN: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";

/// Synchronous NORMAL, with a write-ahead log: a commit comes to the disk with the next one that is FULL, or before.
const BEGIN_RELAXED: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";

/// Rows of an answer that whoever asked may be behind with: more than a group of uploads has, so that the writer never waits.
const ROWS_AHEAD: usize = 1024;

/// Reads that run at the same time.
const READERS: u32 = 4;

/// Opens the file, creates it where there is none, and brings its schema up to date.
pub(super) async fn open(path: &Path) -> Result<Database, StoreError> {
    // The change to the write-ahead log wants the file for itself and does not wait for it, busy_timeout or not.
    for _ in 0..BUSY_TRIES {
        match try_open(path).await {
            Err(StoreError::Open { source, .. } | StoreError::Failed(source))
                if primary_code(&source) == Some(BUSY) =>
            {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            done => return done,
        }
    }
    try_open(path).await
}

async fn try_open(path: &Path) -> Result<Database, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging();
    let mut visitor = options.connect().await.map_err(failed(path))?;
    let version = inspect(&mut visitor, path).await?;
    visitor.close().await.map_err(failed(path))?;

    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let writer =
        SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(failed(path))?;
    let readers = SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options.read_only(true));
    if version < MIGRATIONS.len() {
        migrate(&writer, path).await?;
    }
    Ok(Database::Sqlite { writer: Writer { pool: writer, turns: Turns::default() }, readers })
}

/// The one connection that writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) pool: SqlitePool,
    turns: Turns,
}

/// A transaction that writes, and the turn that it has.
pub(super) struct Transaction {
    transaction: sqlx::Transaction<'static, Sqlite>,
    _turn: Turn,
}

impl Writer {
    pub(super) async fn begin(&self, lane: Lane) -> Result<Transaction, StoreError> {
        self.begin_with(BEGIN, lane).await
    }

    pub(super) async fn begin_relaxed(&self, lane: Lane) -> Result<Transaction, StoreError> {
        self.begin_with(BEGIN_RELAXED, lane).await
    }

    async fn begin_with(&self, statements: &'static str, lane: Lane) -> Result<Transaction, StoreError> {
        let waited = tokio::time::timeout(TURN_TIMEOUT, self.turns.take(lane)).await;
        let turn = waited.map_err(|_| sqlx::Error::PoolTimedOut)?;
        Ok(Transaction { transaction: self.pool.begin_with(statements).await?, _turn: turn })
    }
}

impl Transaction {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(StoreError::of_commit)
    }
}

/// Ends all connections. The writer goes last: what reads only cannot fold the write-ahead log into the file.
pub(super) async fn close(writer: &Writer, readers: &SqlitePool) {
    for pool in [readers, &writer.pool] {
        pool.close().await;
        // A connection that was just then on its way back into the pool lies there still (sqlx 0.8): see `return_to_pool`.
        pool.close().await;
    }
}

fn failed(path: &Path) -> impl Fn(sqlx::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match primary_code(&source) {
        Some(NOTADB) => StoreError::NotADatabase { path: path.clone() },
        _ => StoreError::open(&StoreUrl::from(&path), source),
    }
}

async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    // Another process may have migrated it meanwhile.
    let version = inspect(&mut transaction, path).await?;
    for migration in &MIGRATIONS[version..] {
        transaction.execute(*migration).await?;
    }
    transaction.execute(&*format!("PRAGMA user_version = {}", MIGRATIONS.len())).await?;
    transaction.commit().await.map_err(StoreError::of_commit)
}

/// What other processes may not have while this file is open, or `None` where one has it.
pub(super) fn try_lock(path: &Path, what: &str) -> Result<Option<File>, StoreError> {
    let mut name = OsString::from(path);
    name.push(what);
    let opened = File::options().create(true).append(true).open(Path::new(&name));
    match opened.map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file)) {
        Ok(file) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::open(&StoreUrl::Sqlite(name.into()), sqlx::Error::Io(error)))
        }
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
    .map_err(failed(path))?;
    let (application, found): (i64, i64) = (header.try_get("application")?, header.try_get("version")?);
    let empty = header.try_get::<i64, _>("tables")? == 0;
    if application != TIDEMARK && !(empty && application == 0) {
        let found = format!("its application_id is {application:#x}");
        return Err(StoreError::Foreign { store: path.display().to_string(), found });
    }
    match usize::try_from(found) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => {
            let known = MIGRATIONS.len() as i64;
            Err(StoreError::Newer { store: path.display().to_string(), found, known })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::{Either, select};
    use records::{Outcome, UtcMicros};

    use super::super::Store;
    use super::*;
    use crate::make::completed;

    async fn pragma(path: &Path, name: &str) -> String {
        let Database::Sqlite { writer, readers } = open(path).await.expect("opens") else { panic!("it is a file") };
        let query = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        let value = sqlx::query_scalar(&query).fetch_one(&writer.pool).await.expect("answers");
        close(&writer, &readers).await;
        value
    }

    #[tokio::test]
    async fn a_commit_is_on_the_disk_before_it_answers_where_it_may_not_be_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tidemark.db");
        assert_eq!(pragma(&path, "journal_mode").await, "wal");
        let store = Store::open(path.as_path()).await.expect("opens");
        let synchronous = async |transaction: Result<super::super::database::Transaction, StoreError>| {
            let mut transaction = transaction.expect("begins");
            let rows = transaction.fetch("SELECT synchronous FROM pragma_synchronous", &[]).await.expect("answers");
            rows[0].unsigned::<u8>("synchronous").expect("a number")
        };
        let (normal, full) = (1, 2);
        for _ in 0..2 {
            assert_eq!(synchronous(store.database.begin_relaxed(Lane::Low).await).await, normal);
            assert_eq!(synchronous(store.database.begin_for(Lane::High).await).await, full);
        }
    }

    #[tokio::test]
    async fn a_store_opens_again_with_the_schema_it_has() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            let schema = pragma(&folder.path().join("tidemark.db"), "user_version").await;
            assert_eq!(schema, MIGRATIONS.len().to_string());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_store_that_was_closed_is_one_file_however_soon_after_a_commit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tidemark.db");
        for round in 0..300 {
            let Database::Sqlite { writer, readers } = open(&path).await.expect("opens") else {
                panic!("it is a file")
            };
            let mut transaction = writer.begin(Lane::Low).await.expect("begins");
            transaction
                .connection()
                .execute("UPDATE arrivals SET sealed_until = sealed_until + 1")
                .await
                .expect("executes");
            transaction.commit().await.expect("commits");
            close(&writer, &readers).await;
            let files: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
            assert_eq!(files.len(), 1, "round {round}: {files:?}");
        }
    }

    #[tokio::test]
    async fn every_step_of_an_urgent_upload_goes_before_bulk_that_waited_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().join("tidemark.db").as_path()).await.expect("opens");
        let write = |number, lane| (Outcome { lane, ..completed(number, 1, UtcMicros(1)) }, Vec::new(), Arc::from([]));
        let (bulk, urgent) = (write(1, Lane::Low), write(2, Lane::High));
        let admissions =
            [&bulk, &urgent].map(|(outcome, ..)| [(outcome.upload_id.clone(), outcome.lane, UtcMicros(1))]);
        // A commit comes last: it wants the admission.
        for step in ["enqueue", "lease", "admit", "commit"] {
            let go = |lane: Lane| {
                let (store, write) = (&store, if lane == Lane::High { &urgent } else { &bulk });
                let admission = &admissions[usize::from(lane == Lane::High)];
                Box::pin(async move {
                    match step {
                        "enqueue" => store.enqueue(&[(lane, b"event")], UtcMicros(1)).await.map(drop),
                        "lease" => store.lease(lane, 1, UtcMicros(9), UtcMicros(1)).await.map(drop),
                        "admit" => store.admit(admission).await.map(drop),
                        _ => store.commit(std::slice::from_ref(write)).await.map(drop),
                    }
                })
            };
            let held = store.database.begin().await.expect("begins");
            let (mut low, mut high) = (go(Lane::Low), go(Lane::High));
            assert!((&mut low).now_or_never().is_none() && (&mut high).now_or_never().is_none(), "{step}");
            drop(held);
            let Either::Right((done, low)) = select(low, high).await else { panic!("bulk goes first: {step}") };
            done.expect(step);
            low.await.expect(step);
        }
    }

    /// Rows of the first schema.
    const OLD_ROWS: &str = r#"
        INSERT INTO messages (lane, payload, enqueued_at) VALUES ('low', x'00', 1);
        INSERT INTO admissions (upload_id, lane, arrived_at) VALUES ('u1', 'low', 1);
        INSERT INTO outcomes (upload_id, version, customer_id, tier, lane, status, error, error_type, below_threshold, metadata,
            field_confidence, attempts, queued_ms, inference_ms, total_ms, cost_micro_usd, arrived_at, completed_at)
            VALUES ('u1', 1, 'c1', 'free', 'low', 'dead_lettered', 'no', 'timeout', 0, '{}', '{}', 1, 1, 1, 3, 0, 1, 2);
        INSERT INTO attempts VALUES (1, 0, 1, 'primary', 'm', 1, 1, 0, '{"class":"retryable","error_type":"timeout","message":"no","cost":0}');
        INSERT INTO dead_letters (seq, payload) VALUES (1, x'00');"#;

    async fn schema(path: &Path) -> Vec<(String, String)> {
        let Database::Sqlite { writer, readers } = open(path).await.expect("opens") else { panic!("it is a file") };
        let objects = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
        let found = sqlx::query_as(objects).fetch_all(&writer.pool).await.expect("answers");
        close(&writer, &readers).await;
        found
    }

    #[tokio::test]
    async fn a_store_of_every_older_schema_is_brought_up_to_date_with_what_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let newest = schema(&folder.path().join("new.db")).await;
        for version in 1..MIGRATIONS.len() {
            let path = folder.path().join(format!("{version}.db"));
            let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
            let mut old = options.connect().await.expect("connects");
            old.execute(MIGRATIONS[0]).await.expect("executes");
            old.execute(OLD_ROWS).await.expect("executes");
            for migration in &MIGRATIONS[1..version] {
                old.execute(*migration).await.expect("executes");
            }
            old.execute(&*format!("PRAGMA user_version = {version}")).await.expect("executes");
            old.close().await.expect("closes");

            let store = Store::open(path.as_path()).await.expect("opens");
            let outcomes = store.outcomes_after(0, 10).await.expect("reads");
            let [(1, outcome)] = outcomes.as_slice() else { panic!("schema {version}: {outcomes:?}") };
            assert_eq!((outcome.upload_id.as_str(), outcome.total_ms), ("u1", 3), "schema {version}");
            let attempts = store.attempts(&outcome.upload_id).await.expect("reads");
            let dead_letters = store.dead_letters(10).await.expect("reads");
            let waiting = store.pending(Lane::Low, UtcMicros(5)).await.expect("reads");
            assert_eq!((attempts.len(), dead_letters.len(), waiting.ready), (1, 1, 1), "schema {version}");
            store.close().await;
            assert_eq!(schema(&path).await, newest, "schema {version}");
        }
    }
}
