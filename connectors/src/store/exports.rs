//! Which outcomes a sink of files or of load jobs has written: ranges of the log, each begun before the first byte and ended after the
//! last.

use records::{Outcome, UtcMicros};

use super::rows::{outcome, unsigned};
use super::values::Row;
use super::{Store, StoreError};

/// A range of the log of outcomes that is exported as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The first outcome's place in the log.
    pub(crate) first_seq: u64,
    /// The last one's.
    pub(crate) last_seq: u64,
}

/// Microseconds of a day.
const DAY: u64 = 86_400_000_000;

const LAST: &str = "SELECT first_seq, last_seq, done_at FROM exports WHERE sink = $1 ORDER BY first_seq DESC LIMIT 1";

const NEXT: &str = "SELECT min(seq) AS first_seq, max(seq) AS last_seq FROM
    (SELECT seq FROM outcomes WHERE seq > $1 ORDER BY seq LIMIT $2) AS next";

const BEGIN: &str = "INSERT INTO exports (sink, first_seq, last_seq, begun_at) VALUES ($1, $2, $3, $4)";

const END: &str = "UPDATE exports SET done_at = $3 WHERE sink = $1 AND first_seq = $2";

const DAYS: &str = "SELECT DISTINCT arrived_at / $3 AS day FROM outcomes WHERE seq BETWEEN $1 AND $2 ORDER BY day";

const OF_DAY: &str =
    "SELECT * FROM outcomes WHERE seq BETWEEN $1 AND $2 AND arrived_at / $3 = $4 ORDER BY seq LIMIT $5";

impl Store {
    /// The batch that `sink` is to write: the one that was begun and not ended, else the next up to `rows` outcomes, which
    /// are then begun. `None` where it has all. Whoever asks holds [`Store::claim_export`].
    pub(crate) async fn begin_export(
        &self,
        sink: &str,
        rows: u32,
        now: UtcMicros,
    ) -> Result<Option<Batch>, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let last = transaction.fetch(LAST, &[sink.into()]).await?;
        let (exported, unfinished) = match last.first() {
            Some(row) if row.get::<Option<i64>>("done_at")?.is_none() => (0, batch(row)?),
            Some(row) => (row.get::<i64>("last_seq")?, None),
            None => (0, None),
        };
        let begun = match unfinished {
            Some(batch) => Some(batch),
            None => {
                let next = transaction.fetch(NEXT, &[exported.into(), rows.into()]).await?;
                let next = next.first().map(batch).transpose()?.flatten();
                if let Some(Batch { first_seq, last_seq }) = next {
                    let values = [sink.into(), first_seq.into(), last_seq.into(), now.0.into()];
                    transaction.execute(BEGIN, &values).await?;
                }
                next
            }
        };
        transaction.commit().await?;
        Ok(begun)
    }

    /// Ends a batch: it is durable where `sink` writes.
    pub(crate) async fn end_export(&self, sink: &str, batch: Batch, now: UtcMicros) -> Result<(), StoreError> {
        self.write_one(END, &[sink.into(), batch.first_seq.into(), now.0.into()]).await.map(drop)
    }

    /// The first moments of the UTC days on which the batch's uploads arrived, in order.
    pub(crate) async fn days_of(&self, batch: Batch) -> Result<Vec<UtcMicros>, StoreError> {
        let values = [batch.first_seq.into(), batch.last_seq.into(), DAY.into()];
        let days = self.database.read(DAYS, &values).await?;
        days.iter().map(|row| Ok(UtcMicros(row.unsigned::<u64>("day")? * DAY))).collect()
    }

    /// Up to `limit` of the batch's outcomes that arrived on a day, from a place in the log on, with their places.
    pub(crate) async fn outcomes_of_day(
        &self,
        batch: Batch,
        day: UtcMicros,
        limit: u32,
    ) -> Result<Vec<(u64, Outcome)>, StoreError> {
        let (first, last) = (batch.first_seq.into(), batch.last_seq.into());
        let values = [first, last, DAY.into(), (day.0 / DAY).into(), limit.into()];
        let rows = self.database.read(OF_DAY, &values).await?;
        rows.iter().map(|row| Ok((row.unsigned("seq")?, outcome(row)?))).collect()
    }
}

fn batch(row: &Row) -> Result<Option<Batch>, StoreError> {
    let ends = (row.get::<Option<i64>>("first_seq")?, row.get::<Option<i64>>("last_seq")?);
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    Ok(Some(Batch { first_seq: unsigned("first_seq", first)?, last_seq: unsigned("last_seq", last)? }))
}
