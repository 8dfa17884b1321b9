//! Outcomes: the only commit point, and what was committed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use records::{Attempt, Lane, Outcome, Status, UploadId, UtcMicros};

use super::database::Transaction;
use super::rows::{ATTEMPTS, OUTCOMES, attempt, attempt_values, outcome, outcome_values, parsed};
use super::values::list;
use super::{Store, StoreError};

/// An upload's end: its one row, every call of a model, and the event's bytes, which are kept where it is
/// dead-lettered.
pub type Write = (Outcome, Vec<Attempt>, Arc<[u8]>);

/// How many outcomes of a group are there, each under an admission of its version or a later one.
const PRESENT: &str = "SELECT count(*) AS present FROM json_each($1) AS written
    CROSS JOIN outcomes AS o CROSS JOIN admissions AS a
    WHERE o.upload_id = written.value ->> 0 AND o.version = CAST(written.value ->> 1 AS BIGINT)
    AND a.upload_id = o.upload_id AND a.version >= o.version";

const FRESH: &str = "SELECT seq FROM outcomes WHERE seq >= $1";

const STANDING: &str = "SELECT o.* FROM admissions AS a JOIN outcomes AS o USING (upload_id, version)
    WHERE a.upload_id = $1";

const NEWEST: &str = "SELECT o.* FROM outcomes AS o CROSS JOIN admissions AS a
    WHERE a.upload_id = o.upload_id AND a.version = o.version ORDER BY o.seq DESC LIMIT $1";

const AFTER: &str = "SELECT * FROM outcomes WHERE seq > $1 ORDER BY seq LIMIT $2";

const BEFORE: &str = "SELECT seq FROM outcomes WHERE completed_at < $1 ORDER BY seq DESC LIMIT 1";

const VERSIONS: &str = "SELECT o.* FROM json_each($1) AS asked CROSS JOIN outcomes AS o
    WHERE o.upload_id = asked.value ->> 0 AND o.version = CAST(asked.value ->> 1 AS BIGINT)";

const TRIED: &str = "SELECT o.version, a.* FROM outcomes AS o JOIN attempts AS a USING (seq) WHERE o.upload_id = $1
    ORDER BY o.version, a.position";

const TALLY: &str = "SELECT o.lane, o.status, count(*) AS uploads FROM outcomes AS o
    JOIN admissions USING (upload_id, version) GROUP BY o.lane, o.status ORDER BY o.lane, o.status";

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
        self.commit_and_cache(group, &[]).await
    }

    /// The outcome that stands; `None` while the upload is worked on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outcome(&self, id: &UploadId) -> Result<Option<Outcome>, StoreError> {
        let rows = self.database.read(STANDING, &[id.as_str().into()]).await?;
        rows.first().map(outcome).transpose()
    }

    /// The outcomes that stand, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_outcomes(&self, limit: usize) -> Result<Vec<Outcome>, StoreError> {
        let rows = self.database.read(NEWEST, &[limit.into()]).await?;
        rows.iter().map(outcome).collect()
    }

    /// The log of outcomes after a place in it, in the order of their commits and redriven ones included: place and
    /// outcome. 0 is the beginning. What was read once is never changed, and nothing appears before it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outcomes_after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, Outcome)>, StoreError> {
        let rows = self.database.read(AFTER, &[seq.into(), limit.into()]).await?;
        rows.iter().map(|row| Ok((row.unsigned("seq")?, outcome(row)?))).collect()
    }

    /// The place of the last outcome in the log that ended before a moment; 0 where none did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seq_before(&self, moment: UtcMicros) -> Result<u64, StoreError> {
        let rows = self.database.read(BEFORE, &[moment.0.into()]).await?;
        rows.first().map_or(Ok(0), |row| row.unsigned("seq"))
    }

    /// Outcomes by upload and version, whether they stand or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn versions(&self, asked: &[(&UploadId, u32)]) -> Result<HashMap<(UploadId, u32), Outcome>, StoreError> {
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.database.read(VERSIONS, &[list(asked)]).await?;
        let outcomes = rows.iter().map(outcome).collect::<Result<Vec<_>, _>>()?;
        Ok(outcomes.into_iter().map(|outcome| ((outcome.upload_id.clone(), outcome.version), outcome)).collect())
    }

    /// Every call of a model for the upload, in order, with the version of the outcome that it led to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attempts(&self, id: &UploadId) -> Result<Vec<(u32, Attempt)>, StoreError> {
        let rows = self.database.read(TRIED, &[id.as_str().into()]).await?;
        rows.iter().map(|row| Ok((row.unsigned("version")?, attempt(row)?))).collect()
    }

    /// How many uploads ended so, by lane. Reads every outcome.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tally(&self) -> Result<Vec<(Lane, Status, u64)>, StoreError> {
        let rows = self.database.read(TALLY, &[]).await?;
        rows.iter().map(|row| Ok((parsed(row, "lane")?, parsed(row, "status")?, row.unsigned("uploads")?))).collect()
    }
}

/// An outcome to write, and its place in the log.
type Numbered<'a> = (u64, &'a Write);

/// Writes a group; for each, whether it was written.
pub(super) async fn write_outcomes(transaction: &mut Transaction, group: &[Write]) -> Result<Vec<bool>, StoreError> {
    let seqs = transaction.new_ids("outcomes", "seq", group.len()).await?;
    let numbered: Vec<Numbered<'_>> = seqs.iter().copied().zip(group).collect();
    let fresh: HashSet<u64> = match insert_outcomes(transaction, &numbered).await? {
        all if all == group.len() as u64 => seqs.iter().copied().collect(),
        _ => {
            // Nobody else writes the log meanwhile, so what stands there from the first number on is of this group.
            let fresh = transaction.fetch(FRESH, &[seqs.first().copied().unwrap_or(u64::MAX).into()]).await?;
            fresh.iter().map(|row| row.unsigned("seq")).collect::<Result<_, _>>()?
        }
    };
    let written: Vec<Numbered<'_>> = numbered.into_iter().filter(|(seq, _)| fresh.contains(seq)).collect();
    insert_attempts(transaction, &written).await?;
    insert_dead_letters(transaction, &written).await?;

    let keys = list(group.iter().map(|(outcome, ..)| (&outcome.upload_id, outcome.version)));
    let present = transaction.fetch(PRESENT, &[keys]).await?;
    let present: Option<u64> = present.first().map(|row| row.unsigned("present")).transpose()?;
    let all = Some(group.len() as u64);
    assert_eq!(present, all, "each outcome of a group is there once, and its upload was admitted");
    Ok(seqs.iter().map(|seq| fresh.contains(seq)).collect())
}

async fn insert_outcomes(transaction: &mut Transaction, group: &[Numbered<'_>]) -> Result<u64, StoreError> {
    let rows: Vec<_> = group.iter().map(|(seq, (outcome, ..))| outcome_values(*seq, outcome)).collect();
    transaction.insert(OUTCOMES, &rows, "ON CONFLICT (upload_id, version) DO NOTHING").await
}

async fn insert_attempts(transaction: &mut Transaction, group: &[Numbered<'_>]) -> Result<u64, StoreError> {
    let made = group.iter().flat_map(|(seq, (_, attempts, _))| (0..).zip(attempts).map(move |made| (*seq, made)));
    let rows: Vec<_> = made.map(|(seq, (position, attempt))| attempt_values(seq, position, attempt)).collect();
    transaction.insert(ATTEMPTS, &rows, "").await
}

async fn insert_dead_letters(transaction: &mut Transaction, group: &[Numbered<'_>]) -> Result<u64, StoreError> {
    let dead = group.iter().filter(|(_, (outcome, ..))| outcome.status == Status::DeadLettered);
    let rows: Vec<_> = dead.map(|(seq, (_, _, payload))| vec![(*seq).into(), (&payload[..]).into()]).collect();
    transaction.insert("dead_letters (seq, payload)", &rows, "").await
}
