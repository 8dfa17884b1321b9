//! The store on Postgres: connecting, the schema's history, and who takes turns.
//!
//! A network that is cut says nothing, so every wait has an end on both sides: the client gives up on an answer after
//! [`ANSWER`], and the server ends statements, transactions and connections whose client is gone.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres, Row};

use super::error::{LOCK_NOT_AVAILABLE, sqlstate};
use super::url::postgres_options;
use super::{StoreError, StoreUrl};
use crate::tls;

/// The schema's history, forward only: a database at schema N lacks the migrations after the Nth.
const MIGRATIONS: [&str; 10] = [
    include_str!("../../migrations/postgres/0001_store.sql"),
    include_str!("../../migrations/postgres/0002_sinks.sql"),
    include_str!("../../migrations/postgres/0003_cache.sql"),
    include_str!("../../migrations/postgres/0004_report.sql"),
    include_str!("../../migrations/postgres/0005_experiments.sql"),
    include_str!("../../migrations/postgres/0006_bigquery.sql"),
    include_str!("../../migrations/postgres/0007_alerts.sql"),
    include_str!("../../migrations/postgres/0008_logs.sql"),
    include_str!("../../migrations/postgres/0009_regions.sql"),
    include_str!("../../migrations/postgres/0010_shadows.sql"),
];

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a migration may take: it builds indexes over all that is there.
const MIGRATION: Duration = Duration::from_secs(3600);

/// How long an answer is waited for: longer than the server works on one.
const ANSWER: Duration = Duration::from_secs(30);

/// What a worker does at the same time: admit, commit, acknowledge, pull two lanes, hold leases, count, export.
const CONNECTIONS: u32 = 8;

/// Of every connection. The server frees the locks of a client that is gone without a word after about 25 s, and a commit
/// that answered has reached the disk.
const SESSION: &str = "
    SET statement_timeout = '20s';
    SET lock_timeout = '20s';
    SET idle_in_transaction_session_timeout = '20s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '25s';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Read committed: a statement sees what was committed before it began, so what it waited for as well.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Its commit comes to the disk within a second, or with the next one that waits for it.
const BEGIN_RELAXED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off";

/// Held to the transaction's end, so the next one draws its numbers after this one's rows are to be seen.
const BEGIN_IN_TURN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT pg_advisory_xact_lock('outcomes'::regclass::bigint)";

/// Beside others of its kind, and never beside one of the next.
const BEGIN_ADMITTING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT pg_advisory_xact_lock_shared('arrivals'::regclass::bigint)";

/// Alone among those that admit.
const BEGIN_SEALING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT pg_advisory_xact_lock('arrivals'::regclass::bigint)";

const INSPECT: &str = "SELECT current_schema() IS NOT NULL AS there,
    to_regclass(quote_ident(current_schema()) || '.tidemark_schema') IS NOT NULL AS ours,
    EXISTS (SELECT 1 FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))
        AND c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT 1 FROM pg_depend AS d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) AS used";

/// Connects, and brings the schema up to date.
pub(super) async fn open(url: &StoreUrl, text: &str) -> Result<PgPool, StoreError> {
    let options = options(url, text)?;
    let mut visitor = connect(url, &options).await?;
    let looked = tokio::time::timeout(ANSWER, inspect(url, &mut visitor)).await;
    if looked.map_err(|_| StoreError::NoAnswer)?? < MIGRATIONS.len() {
        let migrated = tokio::time::timeout(MIGRATION, migrate(url, &mut visitor)).await;
        migrated.map_err(|_| StoreError::NoAnswer)??;
    }
    let closed = tokio::time::timeout(ANSWER, visitor.close()).await.map_err(|_| StoreError::NoAnswer)?;
    closed.map_err(|source| StoreError::open(url, source))?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT)
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SESSION).await.map(drop) }));
    Ok(pool.connect_lazy_with(options))
}

fn options(url: &StoreUrl, text: &str) -> Result<PgConnectOptions, StoreError> {
    tls::choose_cryptography();
    let options = postgres_options(text).map_err(|reason| sqlx::Error::Configuration(reason.into()));
    Ok(options.map_err(|source| StoreError::open(url, source))?.disable_statement_logging())
}

async fn connect(url: &StoreUrl, options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connected = tokio::time::timeout(CONNECT, options.connect()).await;
    connected.unwrap_or_else(|_| Err(timed_out())).map_err(|source| StoreError::open(url, source))
}

async fn migrate(url: &StoreUrl, connection: &mut PgConnection) -> Result<(), StoreError> {
    let failed = |source| StoreError::open(url, source);
    let mut transaction = connection.begin_with(BEGIN).await.map_err(failed)?;
    // The schema has no table yet whose number could be locked.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('tidemark_schema'))").await.map_err(failed)?;
    // Another process may have migrated it meanwhile.
    let version = inspect(url, &mut transaction).await?;
    for migration in &MIGRATIONS[version..] {
        transaction.execute(*migration).await.map_err(failed)?;
    }
    let update = format!("UPDATE tidemark_schema SET version = {}", MIGRATIONS.len());
    transaction.execute(&*update).await.map_err(failed)?;
    transaction.commit().await.map_err(StoreError::of_commit)
}

/// The schema's version, if it is a store that this build may write to: 0 in an empty schema.
async fn inspect(url: &StoreUrl, connection: &mut PgConnection) -> Result<usize, StoreError> {
    let failed = |source| StoreError::open(url, source);
    let found = sqlx::query(INSPECT).fetch_one(&mut *connection).await.map_err(failed)?;
    if !found.try_get::<bool, _>("there")? {
        let reason = "no schema of its search_path exists";
        return Err(failed(sqlx::Error::Configuration(reason.into())));
    }
    if !found.try_get::<bool, _>("ours")? {
        return match found.try_get("used")? {
            false => Ok(0),
            true => Err(StoreError::Foreign { store: url.to_string(), found: "it has tables of others".into() }),
        };
    }
    let found: i64 =
        sqlx::query_scalar("SELECT version FROM tidemark_schema").fetch_one(connection).await.map_err(failed)?;
    match usize::try_from(found) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(StoreError::Newer { store: url.to_string(), found, known: MIGRATIONS.len() as i64 }),
    }
}

/// Waits a while for the turn to export to `sink`: no other process has it while this connection lives. `None` where one
/// has it all the time.
pub(super) async fn lock_export(url: &StoreUrl, text: &str, sink: &str) -> Result<Option<PgConnection>, StoreError> {
    let mut connection = connect(url, &options(url, text)?).await?;
    within(connection.execute(SESSION)).await?;
    within(connection.execute("SET lock_timeout = '10s'")).await?;
    let lock = sqlx::query("SELECT pg_advisory_lock('exports'::regclass::int, hashtext($1))").bind(sink);
    match within(lock.execute(&mut connection)).await {
        Ok(_) => Ok(Some(connection)),
        Err(StoreError::Failed(error)) if sqlstate(&error) == Some(LOCK_NOT_AVAILABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A connection out of the pool.
pub(super) async fn connection(pool: &PgPool) -> Result<PoolConnection<Postgres>, StoreError> {
    within(pool.acquire()).await
}

/// An answer of the server, or the news that there is none.
pub(super) async fn within<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(StoreError::NoAnswer),
        Ok(answered) => Ok(answered?),
    }
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(ErrorKind::TimedOut.into())
}

/// A transaction. One that is not brought to its end takes its connection with it, so that nothing of it is left on
/// either side, whatever interrupted it.
pub(super) struct Transaction {
    connection: PoolConnection<Postgres>,
    ended: bool,
}

impl Transaction {
    pub(super) async fn begin(pool: &PgPool) -> Result<Self, StoreError> {
        Self::begin_with(pool, BEGIN).await
    }

    pub(super) async fn begin_relaxed(pool: &PgPool) -> Result<Self, StoreError> {
        Self::begin_with(pool, BEGIN_RELAXED).await
    }

    /// Waits until no other transaction that was begun so is under way.
    pub(super) async fn begin_in_turn(pool: &PgPool) -> Result<Self, StoreError> {
        Self::begin_with(pool, BEGIN_IN_TURN).await
    }

    /// Waits until no seal is under way.
    pub(super) async fn begin_admitting(pool: &PgPool) -> Result<Self, StoreError> {
        Self::begin_with(pool, BEGIN_ADMITTING).await
    }

    /// Waits until no admission is under way.
    pub(super) async fn begin_sealing(pool: &PgPool) -> Result<Self, StoreError> {
        Self::begin_with(pool, BEGIN_SEALING).await
    }

    async fn begin_with(pool: &PgPool, statements: &'static str) -> Result<Self, StoreError> {
        let mut transaction = Self { connection: connection(pool).await?, ended: false };
        within(transaction.connection.execute(statements)).await?;
        Ok(transaction)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        match within(self.connection.execute("COMMIT")).await {
            Ok(_) => self.ended = true,
            Err(StoreError::Failed(error)) => return Err(StoreError::of_commit(error)),
            Err(_) => return Err(StoreError::of_commit(timed_out())),
        }
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}
