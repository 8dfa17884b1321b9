//! Which outcomes a sink of files has written: ranges of the log, each begun before the first byte and ended after the
//! last.

use records::{Outcome, UtcMicros};
use sqlx::Row;

use super::rows::{micros, outcome, unsigned};
use super::{Store, StoreError, finish};

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

const NEXT: &str = "SELECT min(seq) AS first_seq, max(seq) AS last_seq FROM
    (SELECT seq FROM outcomes WHERE seq > ?1 ORDER BY seq LIMIT ?2)";

impl Store {
    /// The batch to export: the one that was begun and not ended, else the next up to `rows` outcomes, which are then
    /// begun. `None` where all is exported.
    pub(crate) async fn begin_export(&self, rows: u32, now: UtcMicros) -> Result<Option<Batch>, StoreError> {
        let mut transaction = self.begin().await?;
        let last = sqlx::query("SELECT first_seq, last_seq, done_at FROM exports ORDER BY first_seq DESC LIMIT 1")
            .fetch_optional(&mut *transaction)
            .await?;
        let exported = match &last {
            Some(row) if row.try_get::<Option<i64>, _>("done_at")?.is_none() => return batch(row),
            Some(row) => row.try_get("last_seq")?,
            None => 0_i64,
        };
        let next = sqlx::query(NEXT).bind(exported).bind(rows).fetch_one(&mut *transaction).await?;
        let Some(batch) = batch(&next)? else { return Ok(None) };
        sqlx::query("INSERT INTO exports (first_seq, last_seq, begun_at) VALUES (?, ?, ?)")
            .bind(batch.first_seq as i64)
            .bind(batch.last_seq as i64)
            .bind(micros(now))
            .execute(&mut *transaction)
            .await?;
        finish(transaction).await?;
        Ok(Some(batch))
    }

    /// Ends a batch: its files are durable.
    pub(crate) async fn end_export(&self, batch: Batch, now: UtcMicros) -> Result<(), StoreError> {
        let end = sqlx::query("UPDATE exports SET done_at = ?2 WHERE first_seq = ?1");
        self.write_one(end.bind(batch.first_seq as i64).bind(micros(now))).await.map(drop)
    }

    /// The first moments of the UTC days on which the batch's uploads arrived, in order.
    pub(crate) async fn days_of(&self, batch: Batch) -> Result<Vec<UtcMicros>, StoreError> {
        let days: Vec<i64> =
            sqlx::query_scalar("SELECT DISTINCT arrived_at / ?3 FROM outcomes WHERE seq BETWEEN ?1 AND ?2 ORDER BY 1")
                .bind(batch.first_seq as i64)
                .bind(batch.last_seq as i64)
                .bind(DAY as i64)
                .fetch_all(&self.readers)
                .await?;
        days.into_iter().map(|day| Ok(UtcMicros(unsigned("arrived_at", day)? * DAY))).collect()
    }

    /// Up to `limit` of the batch's outcomes that arrived on a day, from a place in the log on, with their places.
    pub(crate) async fn outcomes_of_day(
        &self,
        batch: Batch,
        day: UtcMicros,
        limit: u32,
    ) -> Result<Vec<(u64, Outcome)>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM outcomes WHERE seq BETWEEN ?1 AND ?2 AND arrived_at / ?3 = ?4 ORDER BY seq LIMIT ?5",
        )
        .bind(batch.first_seq as i64)
        .bind(batch.last_seq as i64)
        .bind(DAY as i64)
        .bind((day.0 / DAY) as i64)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((unsigned("seq", row.try_get("seq")?)?, outcome(row)?))).collect()
    }
}

fn batch(row: &sqlx::sqlite::SqliteRow) -> Result<Option<Batch>, StoreError> {
    let ends = (row.try_get::<Option<i64>, _>("first_seq")?, row.try_get::<Option<i64>, _>("last_seq")?);
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    Ok(Some(Batch { first_seq: unsigned("first_seq", first)?, last_seq: unsigned("last_seq", last)? }))
}
