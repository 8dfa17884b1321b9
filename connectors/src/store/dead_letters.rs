//! Dead letters: what could not be described, kept so that it can be tried again.

use std::collections::HashSet;
use std::sync::Arc;

use records::{Attempt, Operation, Outcome, Status, UploadId, UtcMicros};
use serde_json::json;

use super::database::Transaction;
use super::rows::{moment, outcome, parse};
use super::values::{Row, list};
use super::{Store, StoreError};

/// An upload that ended without metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// How it ended, and why. It was dead-lettered at the outcome's `completed_at`.
    pub outcome: Outcome,
    /// The event's bytes.
    pub payload: Arc<[u8]>,
    /// When it was sent round again.
    pub redriven_at: Option<UtcMicros>,
}

/// What a redrive did with one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// It is in the spool again.
    Requeued {
        /// Of the outcome to come.
        version: u32,
    },
    /// An earlier redrive did it, and the upload has no outcome yet.
    AlreadyRequeued,
    /// It has metadata, or has not ended yet.
    NotDeadLettered,
    /// Its payload was purged.
    Purged,
    /// No such upload was ever admitted.
    Unknown,
}

/// Uploads that one row of the audit log names.
const UPLOADS_PER_ENTRY: usize = 1_000;

const STATE: &str = "SELECT a.version, o.status, d.seq AS kept
    FROM json_each($1) AS asked
    LEFT JOIN admissions AS a ON a.upload_id = asked.value ->> 0
    LEFT JOIN outcomes AS o ON o.upload_id = a.upload_id AND o.version = a.version
    LEFT JOIN dead_letters AS d ON d.seq = o.seq
    ORDER BY asked.key";

/// Back into the lane that it came from.
const REQUEUE: &str = "INSERT INTO messages (lane, payload, enqueued_at)
    SELECT a.lane, d.payload, $2 FROM dead_letters AS d
    JOIN outcomes AS o USING (seq) JOIN admissions AS a USING (upload_id)
    WHERE d.seq IN (SELECT CAST(value ->> 0 AS BIGINT) FROM json_each($1)) ORDER BY d.seq";

const MARK: &str = "UPDATE dead_letters SET redriven_at = $2
    WHERE seq IN (SELECT CAST(value ->> 0 AS BIGINT) FROM json_each($1))";

const COUNT_UP: &str = "UPDATE admissions SET version = version + 1
    WHERE upload_id IN (SELECT upload_id FROM outcomes
        WHERE seq IN (SELECT CAST(value ->> 0 AS BIGINT) FROM json_each($1)))";

const PURGE: &str = "DELETE FROM dead_letters WHERE seq IN
    (SELECT seq FROM outcomes WHERE upload_id IN (SELECT value ->> 0 FROM json_each($1)))
    RETURNING (SELECT o.upload_id FROM outcomes AS o WHERE o.seq = dead_letters.seq) AS upload_id";

const PURGE_BEFORE: &str = "DELETE FROM dead_letters WHERE seq IN
    (SELECT d.seq FROM dead_letters AS d CROSS JOIN outcomes AS o WHERE o.seq = d.seq AND o.completed_at < $1)";

const NEWEST: &str = "SELECT o.*, d.payload, d.redriven_at FROM dead_letters AS d JOIN outcomes AS o USING (seq)
    WHERE d.redriven_at IS NULL ORDER BY d.seq DESC LIMIT $1";

const LAST: &str = "SELECT o.*, d.payload, d.redriven_at FROM outcomes AS o JOIN dead_letters AS d USING (seq)
    WHERE o.upload_id = $1 ORDER BY o.version DESC LIMIT 1";

impl Store {
    /// The dead letters that wait for somebody to act, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let rows = self.database.read(NEWEST, &[limit.into()]).await?;
        rows.iter().map(dead_letter).collect()
    }

    /// The upload's last dead letter, and its attempts of all versions. `None` where there is none, or it was purged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_letter(&self, id: &UploadId) -> Result<Option<(DeadLetter, Vec<(u32, Attempt)>)>, StoreError> {
        let rows = self.database.read(LAST, &[id.as_str().into()]).await?;
        match rows.first() {
            Some(row) => Ok(Some((dead_letter(row)?, self.attempts(id).await?))),
            None => Ok(None),
        }
    }

    /// Sends dead letters round again, in one transaction: the upload is open again, under the next version, and its
    /// event is in the spool's lane that it was admitted from, the one that died first before the others. Tells what
    /// became of each.
    ///
    /// # Errors
    /// [`StoreError`]. Redriving again is safe.
    pub async fn redrive(&self, ids: &[UploadId], now: UtcMicros) -> Result<Vec<Redriven>, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let states = transaction.fetch(STATE, &[list(ids.iter().map(|id| [id]))]).await?;
        let mut seqs = HashSet::new();
        let (mut answers, mut requeued) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, state) in ids.iter().zip(&states) {
            answers.push(match redrivable(state)? {
                Ok((seq, version)) if seqs.insert(seq) => {
                    requeued.push(id.as_str());
                    Redriven::Requeued { version }
                }
                Ok(_) => Redriven::AlreadyRequeued,
                Err(answer) => answer,
            });
        }
        if !seqs.is_empty() {
            requeue(&mut transaction, &seqs, now).await?;
            self.audit_uploads(&mut transaction, Operation::Redrive, &requeued, now).await?;
        }
        transaction.commit().await?;
        Ok(answers)
    }

    /// Deletes these uploads' dead letters, and tells how many there were. Their outcomes stay; they cannot be redriven
    /// any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge(&self, ids: &[UploadId], now: UtcMicros) -> Result<u64, StoreError> {
        // Never while a redrive is under way, which has to find what it saw.
        let mut transaction = self.database.begin_in_turn().await?;
        let rows = transaction.fetch(PURGE, &[list(ids.iter().map(|id| [id]))]).await?;
        let mut purged: Vec<&str> = rows.iter().map(|row| row.get("upload_id")).collect::<Result<_, _>>()?;
        // An upload has one of each version that died.
        purged.sort_unstable();
        purged.dedup();
        self.audit_uploads(&mut transaction, Operation::Purge, &purged, now).await?;
        transaction.commit().await?;
        Ok(rows.len() as u64)
    }

    /// Deletes the dead letters from before a moment, as [`Self::purge`] does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge_before(&self, moment: UtcMicros, now: UtcMicros) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let purged = transaction.execute(PURGE_BEFORE, &[moment.0.into()]).await?;
        if purged > 0 {
            let detail = json!({ "before": moment, "uploads": purged });
            self.audit(&mut transaction, (Operation::Purge, "dead_letters", &detail), now).await?;
        }
        transaction.commit().await?;
        Ok(purged)
    }

    /// Notes what was done to dead letters: a row for so many of them as fit one.
    async fn audit_uploads(
        &self,
        transaction: &mut Transaction,
        operation: Operation,
        ids: &[&str],
        now: UtcMicros,
    ) -> Result<(), StoreError> {
        for ids in ids.chunks(UPLOADS_PER_ENTRY) {
            let detail = json!({ "uploads": ids.len(), "upload_ids": ids });
            self.audit(transaction, (operation, "dead_letters", &detail), now).await?;
        }
        Ok(())
    }
}

/// The dead letter to redrive and the version to come, or why there is none.
fn redrivable(state: &Row) -> Result<Result<(i64, u32), Redriven>, StoreError> {
    if state.get::<Option<i64>>("version")?.is_none() {
        return Ok(Err(Redriven::Unknown));
    }
    let version: u32 = state.unsigned("version")?;
    let Some(status) = state.get::<Option<&str>>("status")? else {
        return Ok(Err(if version > 1 { Redriven::AlreadyRequeued } else { Redriven::NotDeadLettered }));
    };
    Ok(match (parse("status", status)?, state.get("kept")?) {
        (Status::Completed, _) => Err(Redriven::NotDeadLettered),
        (Status::DeadLettered, None) => Err(Redriven::Purged),
        (Status::DeadLettered, Some(seq)) => Ok((seq, version + 1)),
    })
}

async fn requeue(transaction: &mut Transaction, seqs: &HashSet<i64>, now: UtcMicros) -> Result<(), StoreError> {
    let values = [list(seqs.iter().map(|seq| [seq])), now.0.into()];
    for (step, values) in [(REQUEUE, &values[..]), (MARK, &values), (COUNT_UP, &values[..1])] {
        let done = transaction.execute(step, values).await?;
        assert_eq!(done, seqs.len() as u64, "a redrive touches each dead letter once: {step}");
    }
    Ok(())
}

fn dead_letter(row: &Row) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        outcome: outcome(row)?,
        payload: row.get::<&[u8]>("payload")?.into(),
        redriven_at: row.get::<Option<i64>>("redriven_at")?.map(|_| moment(row, "redriven_at")).transpose()?,
    })
}
