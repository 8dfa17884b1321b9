//! Outcomes: the only commit point, and what was committed.

use std::sync::Arc;

use records::{Attempt, Lane, Outcome, Status, UploadId};
use sqlx::{QueryBuilder, Row, SqliteConnection};

use super::rows::{ATTEMPT_COLUMNS, OUTCOME_COLUMNS, attempt, bind_attempt, bind_outcome, outcome, parsed, unsigned};
use super::{ROWS_PER_INSERT, Store, StoreError, finish, last_id, list};

/// An upload's end: its one row, every call of a model, and the event's bytes, which are kept where it is
/// dead-lettered.
pub type Write = (Outcome, Vec<Attempt>, Arc<[u8]>);

/// How many outcomes of a group are there, each under an admission of its version or a later one.
const PRESENT: &str = "SELECT count(*) FROM json_each(?1) AS written
    CROSS JOIN outcomes AS o ON o.upload_id = written.value ->> 0 AND o.version = written.value ->> 1
    CROSS JOIN admissions AS a ON a.upload_id = o.upload_id AND a.version >= o.version";

impl Store {
    /// Writes outcomes in one transaction, and tells for each whether it was written: one whose upload has its outcome
    /// of that version already is left out. When this returns, each upload of the group has exactly one outcome of its
    /// version, and it survives the process and the machine.
    ///
    /// # Errors
    /// [`StoreError`]. Committing again is safe.
    ///
    /// # Panics
    /// Where an upload was never admitted, or not in this version: the graph's order is broken.
    pub async fn commit(&self, group: &[Write]) -> Result<Vec<bool>, StoreError> {
        let mut transaction = self.begin().await?;
        let first = last_id(&mut transaction, "outcomes").await? + 1;
        let numbered: Vec<(u64, &Write)> = (first..).zip(group).collect();
        insert_outcomes(&mut transaction, &numbered).await?;
        let fresh: Vec<i64> = sqlx::query_scalar("SELECT seq FROM outcomes WHERE seq >= ? ORDER BY seq")
            .bind(first as i64)
            .fetch_all(&mut *transaction)
            .await?;
        let mut written = vec![false; group.len()];
        for seq in fresh {
            written[(unsigned("seq", seq)? - first) as usize] = true;
        }
        let fresh: Vec<_> =
            numbered.iter().zip(&written).filter(|(_, written)| **written).map(|(row, _)| *row).collect();
        insert_attempts(&mut transaction, &fresh).await?;
        insert_dead_letters(&mut transaction, &fresh).await?;

        let keys = list(group.iter().map(|(outcome, ..)| (&outcome.upload_id, outcome.version)));
        let present: i64 = sqlx::query_scalar(PRESENT).bind(keys).fetch_one(&mut *transaction).await?;
        assert_eq!(present, group.len() as i64, "each outcome of a group is there once, and its upload was admitted");
        finish(transaction).await?;
        Ok(written)
    }

    /// The outcome that stands; `None` while the upload is worked on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outcome(&self, id: &UploadId) -> Result<Option<Outcome>, StoreError> {
        let row =
            sqlx::query("SELECT o.* FROM admissions JOIN outcomes AS o USING (upload_id, version) WHERE upload_id = ?")
                .bind(id.as_str())
                .fetch_optional(&self.readers)
                .await?;
        row.as_ref().map(outcome).transpose()
    }

    /// The outcomes that stand, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_outcomes(&self, limit: usize) -> Result<Vec<Outcome>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.* FROM outcomes AS o CROSS JOIN admissions USING (upload_id, version)
             ORDER BY o.seq DESC LIMIT ?",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(outcome).collect()
    }

    /// The log of outcomes after a place in it, in the order of their commits and redriven ones included: place and
    /// outcome. 0 is the beginning. What was read once is never changed, and nothing appears before it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outcomes_after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, Outcome)>, StoreError> {
        let rows = sqlx::query("SELECT * FROM outcomes WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(seq as i64)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((unsigned("seq", row.try_get("seq")?)?, outcome(row)?))).collect()
    }

    /// Every call of a model for the upload, in order, with the version of the outcome that it led to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attempts(&self, id: &UploadId) -> Result<Vec<(u32, Attempt)>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.version, a.* FROM outcomes AS o JOIN attempts AS a USING (seq) WHERE o.upload_id = ?
             ORDER BY o.version, a.position",
        )
        .bind(id.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("version")?, attempt(row)?))).collect()
    }

    /// How many uploads ended so, by lane. Reads every outcome.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tally(&self) -> Result<Vec<(Lane, Status, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.lane, o.status, count(*) AS uploads FROM outcomes AS o JOIN admissions USING (upload_id, version)
             GROUP BY o.lane, o.status ORDER BY o.lane, o.status",
        )
        .fetch_all(&self.readers)
        .await?;
        let counted =
            |row| Ok((parsed(row, "lane")?, parsed(row, "status")?, unsigned("uploads", row.try_get("uploads")?)?));
        rows.iter().map(counted).collect()
    }
}

async fn insert_outcomes(connection: &mut SqliteConnection, rows: &[(u64, &Write)]) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        let mut insert = QueryBuilder::new(format!("INSERT INTO outcomes ({OUTCOME_COLUMNS}) "));
        insert.push_values(chunk, |row, (seq, (outcome, ..))| bind_outcome(row, *seq, outcome));
        insert.push(" ON CONFLICT (upload_id, version) DO NOTHING");
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_attempts(connection: &mut SqliteConnection, rows: &[(u64, &Write)]) -> Result<(), StoreError> {
    let attempts: Vec<_> = rows
        .iter()
        .flat_map(|(seq, (_, attempts, _))| (0..).zip(attempts).map(move |attempt| (*seq, attempt)))
        .collect();
    for chunk in attempts.chunks(ROWS_PER_INSERT) {
        let mut insert = QueryBuilder::new(format!("INSERT INTO attempts ({ATTEMPT_COLUMNS}) "));
        insert.push_values(chunk, |row, (seq, (position, attempt))| bind_attempt(row, *seq, *position, attempt));
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_dead_letters(connection: &mut SqliteConnection, rows: &[(u64, &Write)]) -> Result<(), StoreError> {
    let dead: Vec<_> = rows.iter().filter(|(_, (outcome, ..))| outcome.status == Status::DeadLettered).collect();
    for chunk in dead.chunks(ROWS_PER_INSERT) {
        let mut insert = QueryBuilder::new("INSERT INTO dead_letters (seq, payload) ");
        insert.push_values(chunk, |mut row, (seq, (_, _, payload))| {
            row.push_bind(*seq as i64).push_bind(&payload[..]);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}
