//! What can go wrong with the store.

use std::io::ErrorKind;
use std::path::PathBuf;

use records::FaultClass;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::StoreUrl;

/// Why the store did not do as asked. [`Self::class`] says what may be done about it: every write of the store may be
/// repeated, so an indeterminate one is simply tried again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or created, or the database not be connected to.
    #[error("cannot open the store {store}: {source}; {mend}")]
    Open {
        /// The file or the database.
        store: String,
        /// What the database or the system says.
        source: sqlx::Error,
        /// What to look at.
        mend: &'static str,
    },
    /// The file is no database.
    #[error("{} is not an SQLite database: move it away, or name another file", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is another program's database, or the schema another program's.
    #[error("{store} belongs to another program ({found}): name another file, database or search_path")]
    Foreign {
        /// The file or the database.
        store: String,
        /// What shows it.
        found: String,
    },
    /// A newer Tidemark has written the store.
    #[error("{store} has schema {found}, and {known} is the last that this Tidemark knows: use a newer one")]
    Newer {
        /// The file or the database.
        store: String,
        /// Its schema.
        found: i64,
        /// The newest schema of this build.
        known: i64,
    },
    /// Another process has what only one may have.
    #[error("another process is {by} {store}: let it end first")]
    Held {
        /// The store.
        store: String,
        /// What it does.
        by: &'static str,
    },
    /// The database is silent, and the transaction did not happen.
    #[error("store: no answer from the database: does its server run, and is it reached from here?")]
    NoAnswer,
    /// The transaction did not happen.
    #[error("store: {0}")]
    Failed(sqlx::Error),
    /// The transaction may have happened: its commit gave no answer.
    #[error("store: a commit's end is not known: {0}")]
    CommitUnknown(sqlx::Error),
    /// A row holds what the store never wrote.
    #[error("store: a damaged row: {0}")]
    Damaged(String),
}

impl StoreError {
    /// What may be done about it.
    pub fn class(&self) -> FaultClass {
        match self {
            Self::Held { .. } | Self::NoAnswer => FaultClass::Retryable,
            Self::NotADatabase { .. } | Self::Foreign { .. } | Self::Newer { .. } | Self::Damaged(_) => {
                FaultClass::Permanent
            }
            Self::Open { source: error, .. } | Self::Failed(error) => {
                if passes(error) {
                    FaultClass::Retryable
                } else {
                    FaultClass::Permanent
                }
            }
            Self::CommitUnknown(_) => FaultClass::Indeterminate,
        }
    }

    /// A store that cannot be opened.
    pub(super) fn open(url: &StoreUrl, source: sqlx::Error) -> Self {
        Self::Open { store: url.to_string(), mend: mend(url, &source), source }
    }

    /// A commit that failed. One that found the file busy certainly left no trace, nor one that Postgres undid.
    pub(super) fn of_commit(error: sqlx::Error) -> Self {
        let undone = match sqlstate(&error) {
            Some(state) => state.starts_with("40") && state != COMPLETION_UNKNOWN,
            None => primary_code(&error) == Some(BUSY),
        };
        if undone { Self::Failed(error) } else { Self::CommitUnknown(error) }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } => Self::Damaged(error.to_string()),
            _ => Self::Failed(error),
        }
    }
}

fn mend(url: &StoreUrl, error: &sqlx::Error) -> &'static str {
    match (url, sqlstate(error), error) {
        (StoreUrl::Sqlite(_), ..) => "does its folder exist, and may it be written to?",
        (_, Some("28P01" | "28000"), _) => "set PGPASSWORD, or the address's user, to what the server knows",
        (_, Some("3D000"), _) => "create the database, or name another one",
        (_, Some("42501"), _) => "grant the user CREATE and USAGE on the schema",
        (_, Some(_), _) => "the server's log may say more",
        (_, None, sqlx::Error::Configuration(_)) => "correct the address",
        (_, None, sqlx::Error::Tls(_)) => "look at sslmode and sslrootcert",
        (_, None, sqlx::Error::Io(error)) if is_untrusted(error) => "look at sslmode and sslrootcert",
        _ => "does its server run, and is it reached from here?",
    }
}

/// Whether a connection failed because of a certificate, which no repetition mends.
fn is_untrusted(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::InvalidData
}

// https://www.sqlite.org/rescode.html
pub(super) const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NOMEM: i32 = 7;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
pub(super) const NOTADB: i32 = 26;

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const COMPLETION_UNKNOWN: &str = "40003";
const READ_ONLY: &str = "25006";
const IDLE_TOO_LONG: &str = "25P03";
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
/// A lost connection, a transaction undone, no space or no memory, a lock not free in time, told to stop, a system error.
const PASSING_CLASSES: [&str; 6] = ["08", "40", "53", "55", "57", "58"];

/// Whether an error can go away by itself, or with more space or rights.
fn passes(error: &sqlx::Error) -> bool {
    match (error, sqlstate(error)) {
        (_, Some(READ_ONLY | IDLE_TOO_LONG)) => true,
        (_, Some(state)) => PASSING_CLASSES.iter().any(|class| state.starts_with(class)),
        (sqlx::Error::Database(_), None) => {
            matches!(primary_code(error), Some(BUSY | LOCKED | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN))
        }
        (sqlx::Error::Configuration(_) | sqlx::Error::Tls(_), None) => false,
        (sqlx::Error::Io(error), None) => !is_untrusted(error),
        _ => true,
    }
}

/// SQLite's result code without its extension.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Postgres' code of an error.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    let error: &dyn DatabaseError = error.as_database_error()?;
    Some(error.try_downcast_ref::<PgDatabaseError>()?.code())
}

#[cfg(test)]
mod tests {
    use records::{FaultClass, Lane, UtcMicros};
    use sqlx::{Executor, SqlitePool};
    use tempfile::TempDir;

    use super::super::Store;
    use super::super::database::Database;
    use super::super::rows::outcome;
    use super::super::values::Row;
    use super::StoreError;

    async fn store() -> (Store, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (Store::open(&folder.path().join("tidemark.db")).await.expect("opens"), folder)
    }

    fn writer(store: &Store) -> &SqlitePool {
        let Database::Sqlite { writer, .. } = &store.database else { panic!("it is a file") };
        &writer.pool
    }

    #[tokio::test]
    async fn a_full_disk_leaves_nothing_behind_and_may_be_tried_again() {
        let (store, _folder) = store().await;
        writer(&store).execute("PRAGMA max_page_count = 40").await.expect("set");
        let messages = [(Lane::Low, vec![0; 100]), (Lane::Low, vec![0; 1_000_000])];
        let error = store.enqueue(&messages, UtcMicros(1)).await.expect_err("no room");
        assert_eq!(error.class(), FaultClass::Retryable, "{error}");
        assert_eq!(store.pending(Lane::Low, UtcMicros(1)).await.expect("counted").ready, 0);
        store.enqueue(&messages[..1], UtcMicros(1)).await.expect("the connection is as good as before");
    }

    #[tokio::test]
    async fn a_commit_without_an_answer_is_indeterminate_unless_the_file_was_busy() {
        let (store, folder) = store().await;
        let hasty = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(folder.path().join("tidemark.db"))
            .busy_timeout(std::time::Duration::ZERO);
        let hasty = SqlitePool::connect_with(hasty).await.expect("opens");
        let _held = store.database.begin().await.expect("begins");
        let busy = hasty.execute("BEGIN IMMEDIATE").await.expect_err("the store has the lock");
        assert_eq!(StoreError::of_commit(busy).class(), FaultClass::Retryable);
        let lost = sqlx::Error::WorkerCrashed;
        assert_eq!(StoreError::of_commit(lost).class(), FaultClass::Indeterminate);
    }

    #[tokio::test]
    async fn a_defect_is_not_tried_again() {
        let (store, _folder) = store().await;
        let defect = writer(&store).execute("SELECT nothing FROM nowhere").await.expect_err("no such table");
        assert_eq!(StoreError::from(defect).class(), FaultClass::Permanent);
    }

    #[tokio::test]
    async fn a_damaged_row_is_named_by_its_column() {
        let (store, _folder) = store().await;
        let whole = "'u' AS upload_id, 1 AS version, NULL AS customer_id, NULL AS source, 'low' AS lane, NULL AS tier, NULL AS region,
            'completed' AS status, NULL AS branch, NULL AS fallback_reason, NULL AS model, NULL AS experiment, NULL AS arm, 0.5 AS confidence,
            0 AS below_threshold, '{}' AS metadata, '{}' AS field_confidence, 1 AS attempts, NULL AS error,
            NULL AS error_type, 1 AS queued_ms, 1 AS inference_ms, 1 AS total_ms, 1 AS cost_micro_usd, 1 AS arrived_at, 1 AS completed_at,
            0 AS training_consent";
        let row = writer(&store).fetch_one(&*format!("SELECT {whole}")).await.expect("a row");
        assert_eq!(outcome(&Row::Sqlite(row)).expect("whole").upload_id.as_str(), "u");
        for (good, bad, names) in [
            ("NULL AS tier", "'gold' AS tier", "gold"),
            ("NULL AS fallback_reason", "'whim' AS fallback_reason", "whim"),
            ("'{}' AS metadata", "'[1]' AS metadata", "metadata"),
            ("0.5 AS confidence", "1.5 AS confidence", "1.5"),
            ("1 AS queued_ms", "-1 AS queued_ms", "queued_ms"),
            ("1 AS version", "-1 AS version", "version"),
            ("'u' AS upload_id", "'' AS upload_id", "upload_id"),
        ] {
            let damaged = format!("SELECT {}", whole.replace(good, bad));
            let row = writer(&store).fetch_one(&*damaged).await.expect("a row");
            let error = outcome(&Row::Sqlite(row)).expect_err(bad);
            assert!(matches!(error, StoreError::Damaged(_)), "{bad}: {error:?}");
            assert!(error.to_string().contains(names), "{error}");
            assert_eq!(error.class(), FaultClass::Permanent);
        }
    }
}
