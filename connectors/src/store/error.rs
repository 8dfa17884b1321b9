//! What can go wrong with the store.

use std::path::PathBuf;

use records::FaultClass;

/// Why the store did not do as asked. [`Self::class`] says what may be done about it: every write of the store may be
/// repeated, so an indeterminate one is simply tried again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or created.
    #[error("cannot open the store {}: {source}; does its folder exist, and may it be written to?", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system says.
        source: sqlx::Error,
    },
    /// The file is no database.
    #[error("{} is not an SQLite database: move it away, or name another file", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is another program's database.
    #[error("{} is a database of another program (application_id {found:#x}): name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its `application_id`.
        found: i64,
    },
    /// A newer Tidemark has written the file.
    #[error("{} has schema {found}, and {known} is the last that this Tidemark knows: use a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema of this build.
        known: i64,
    },
    /// Another process takes deliveries from this store's spool.
    #[error("another process is serving from {}: stop it first", path.display())]
    Held {
        /// The store's file.
        path: PathBuf,
    },
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
            Self::Open { .. } | Self::Held { .. } => FaultClass::Retryable,
            Self::NotADatabase { .. } | Self::Foreign { .. } | Self::Newer { .. } | Self::Damaged(_) => {
                FaultClass::Permanent
            }
            Self::Failed(error) => match error {
                sqlx::Error::Database(_) if !passes(primary_code(error)) => FaultClass::Permanent,
                _ => FaultClass::Retryable,
            },
            Self::CommitUnknown(_) => FaultClass::Indeterminate,
        }
    }

    /// A commit that failed. Only one that found the file busy certainly left no trace.
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        match primary_code(&error) {
            Some(BUSY) => Self::Failed(error),
            _ => Self::CommitUnknown(error),
        }
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

// https://www.sqlite.org/rescode.html
pub(crate) const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NOMEM: i32 = 7;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
pub(crate) const NOTADB: i32 = 26;

/// Whether an SQLite error can go away by itself, or with more space or rights.
fn passes(code: Option<i32>) -> bool {
    matches!(code, Some(BUSY | LOCKED | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN))
}

/// SQLite's result code without its extension.
pub(crate) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

#[cfg(test)]
mod tests {
    use records::{FaultClass, Lane, UtcMicros};
    use sqlx::{Executor, SqlitePool};
    use tempfile::TempDir;

    use super::super::rows::outcome;
    use super::super::{Store, StoreError};

    async fn store() -> (Store, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (Store::open(&folder.path().join("tidemark.db")).await.expect("opens"), folder)
    }

    #[tokio::test]
    async fn a_full_disk_leaves_nothing_behind_and_may_be_tried_again() {
        let (store, _folder) = store().await;
        store.writer.execute("PRAGMA max_page_count = 40").await.expect("set");
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
        let _held = store.begin().await.expect("begins");
        let busy = hasty.execute("BEGIN IMMEDIATE").await.expect_err("the store has the lock");
        assert_eq!(StoreError::of_commit(busy).class(), FaultClass::Retryable);
        let lost = sqlx::Error::WorkerCrashed;
        assert_eq!(StoreError::of_commit(lost).class(), FaultClass::Indeterminate);
    }

    #[tokio::test]
    async fn a_defect_is_not_tried_again() {
        let (store, _folder) = store().await;
        let defect = store.writer.execute("SELECT nothing FROM nowhere").await.expect_err("no such table");
        assert_eq!(StoreError::from(defect).class(), FaultClass::Permanent);
    }

    #[tokio::test]
    async fn a_damaged_row_is_named_by_its_column() {
        let (store, _folder) = store().await;
        let whole = "'u' AS upload_id, 1 AS version, NULL AS customer_id, NULL AS source, 'low' AS lane, NULL AS tier,
            'completed' AS status, NULL AS branch, NULL AS model, NULL AS arm, 0.5 AS confidence, 0 AS below_threshold,
            '{}' AS metadata, '{}' AS field_confidence, 1 AS attempts, NULL AS error, NULL AS error_type,
            1 AS queued_ms, 1 AS inference_ms, 1 AS total_ms, 1 AS cost_micro_usd, 1 AS arrived_at, 1 AS completed_at,
            0 AS training_consent";
        let row = store.writer.fetch_one(&*format!("SELECT {whole}")).await.expect("a row");
        assert_eq!(outcome(&row).expect("whole").upload_id.as_str(), "u");
        for (good, bad, names) in [
            ("NULL AS tier", "'gold' AS tier", "gold"),
            ("'{}' AS metadata", "'[1]' AS metadata", "metadata"),
            ("0.5 AS confidence", "1.5 AS confidence", "1.5"),
            ("1 AS queued_ms", "-1 AS queued_ms", "queued_ms"),
            ("1 AS version", "-1 AS version", "version"),
            ("'u' AS upload_id", "'' AS upload_id", "upload_id"),
        ] {
            let damaged = format!("SELECT {}", whole.replace(good, bad));
            let row = store.writer.fetch_one(&*damaged).await.expect("a row");
            let error = outcome(&row).expect_err(bad);
            assert!(matches!(error, StoreError::Damaged(_)), "{bad}: {error:?}");
            assert!(error.to_string().contains(names), "{error}");
            assert_eq!(error.class(), FaultClass::Permanent);
        }
    }
}
