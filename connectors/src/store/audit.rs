//! The audit log: what was done to the data and by whom, written in the operation's own transaction.

use std::sync::Arc;

use records::{AuditEntry, Operation, UtcMicros};
use serde_json::Value as Json;

use super::database::Transaction;
use super::rows::{from_json, moment, parsed};
use super::values::Row;
use super::{Store, StoreError};

const COLUMNS: &str = "audit (done_at, actor, operation, target, detail)";

const NEWEST: &str = "SELECT * FROM audit ORDER BY seq DESC LIMIT $1";

impl Store {
    /// The same store for somebody else: what is done through it stands in the audit log under that name, and not under that of the
    /// process's user.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { actor: actor.into(), ..self.clone() }
    }

    /// The audit log, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.database.read(NEWEST, &[limit.into()]).await?.iter().map(audit_entry).collect()
    }

    /// Notes an operation that is no transaction of the store, before it is begun. All others note themselves.
    ///
    /// # Errors
    /// [`StoreError`]; then it must not be begun.
    pub async fn note_operation(
        &self,
        operation: Operation,
        target: &str,
        detail: &Json,
        now: UtcMicros,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        self.audit(&mut transaction, (operation, target, detail), now).await?;
        transaction.commit().await
    }

    /// Notes an operation in its transaction, which has to be in turn.
    pub(super) async fn audit(
        &self,
        transaction: &mut Transaction,
        (operation, target, detail): (Operation, &str, &Json),
        now: UtcMicros,
    ) -> Result<(), StoreError> {
        let row = vec![
            now.0.into(),
            (&*self.actor).into(),
            operation.as_str().into(),
            target.into(),
            detail.to_string().into(),
        ];
        transaction.insert(COLUMNS, &[row], "").await.map(drop)
    }
}

/// The entry of a row.
pub(super) fn audit_entry(row: &Row) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        done_at: moment(row, "done_at")?,
        actor: row.get("actor")?,
        operation: parsed(row, "operation")?,
        target: row.get("target")?,
        detail: from_json(row, "detail")?,
    })
}

/// Who runs this process.
pub(super) fn user_at_host() -> Arc<str> {
    let [user, host] = [whoami::fallible::username(), whoami::fallible::hostname()];
    let named = |name: Result<String, _>| name.unwrap_or_else(|_: std::io::Error| "unknown".to_owned());
    format!("{}@{}", named(user), named(host)).into()
}
