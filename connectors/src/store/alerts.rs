//! How alerts stand, what was told of them, and what of it somebody is still to be told: a change, its row in the log and its
//! notices are one transaction.

use records::{Alert, Notice, UtcMicros};

use super::rows::{from_json, json, moment, parsed};
use super::values::{Row, Value};
use super::{Store, StoreError};

/// A change of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertChange {
    /// Since when the alert was as it was known; `None` where it was not in the store.
    pub before: Option<UtcMicros>,
    /// As it is from now on.
    pub after: Alert,
}

const ALL: &str = "SELECT * FROM alerts ORDER BY name";

const BEGIN: &str =
    "INSERT INTO alerts (name, phase, since, notice) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING";

/// Only from where it was: of two that believe to have the turn, one goes on.
const CHANGE: &str = "UPDATE alerts SET phase = $2, since = $3, notice = $4 WHERE name = $1 AND since = $5";

/// The log: its rows are never changed.
const CHANGES: &str = "alert_changes (name, phase, since, notice)";

const NOTICES: &str = "alert_notices (target, notice)";

const UNTOLD: &str = "SELECT id, notice FROM alert_notices WHERE target = $1 AND id > $2 ORDER BY id LIMIT $3";

const TOLD: &str = "DELETE FROM alert_notices WHERE id = $1";

impl Store {
    /// All alerts that were ever anything but inactive, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.database.read(ALL, &[]).await?.iter().map(alert).collect()
    }

    /// Writes changes, and for each that is to be told a row of the log and a notice for each of `targets`: all or none. Whoever
    /// writes has the turn of [`Store::claim_export`] for `alerts`.
    ///
    /// # Errors
    /// [`StoreError::Held`] where an alert is not any more as it was known: then nothing was written, and somebody else goes on, or
    /// an earlier try was done. Other [`StoreError`]s.
    pub async fn change_alerts(&self, changes: &[AlertChange], targets: &[String]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let (mut told, mut notices) = (Vec::new(), Vec::new());
        for AlertChange { before, after } in changes {
            let notice = after.notice.as_ref().map(json);
            let mut values: Vec<Value<'_>> =
                vec![(&after.name).into(), after.phase.as_str().into(), after.since.0.into(), notice.as_deref().into()];
            values.extend(before.map(|before| before.0.into()));
            let statement = if before.is_some() { CHANGE } else { BEGIN };
            if transaction.execute(statement, &values).await? != 1 {
                return Err(StoreError::Held { store: self.url.to_string(), by: "watching the alerts of" });
            }
            if let Some(notice) = notice.filter(|_| after.phase.is_told()) {
                let of = |target: &String| vec![Value::from(target.clone()), Value::from(notice.clone())];
                notices.extend(targets.iter().map(of));
                told.push(vec![(&after.name).into(), after.phase.as_str().into(), after.since.0.into(), notice.into()]);
            }
        }
        transaction.insert(CHANGES, &told, "").await?;
        transaction.insert(NOTICES, &notices, "").await?;
        transaction.commit().await
    }

    /// The oldest notices behind number `after` that a target has not acknowledged, with their numbers; the first one is 1.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn untold(&self, target: &str, after: u64, limit: usize) -> Result<Vec<(u64, Notice)>, StoreError> {
        let rows = self.database.read(UNTOLD, &[target.into(), after.into(), limit.into()]).await?;
        rows.iter().map(|row| Ok((row.unsigned("id")?, from_json(row, "notice")?))).collect()
    }

    /// Forgets a notice: its target has acknowledged it.
    ///
    /// # Errors
    /// [`StoreError`]. Doing it again is safe.
    pub async fn told(&self, id: u64) -> Result<(), StoreError> {
        self.write_one(TOLD, &[id.into()]).await.map(drop)
    }
}

/// The alert of a row.
pub(super) fn alert(row: &Row) -> Result<Alert, StoreError> {
    let notice: Option<&str> = row.get("notice")?;
    Ok(Alert {
        name: row.get("name")?,
        phase: parsed(row, "phase")?,
        since: moment(row, "since")?,
        notice: notice.map(|_| from_json(row, "notice")).transpose()?,
    })
}
