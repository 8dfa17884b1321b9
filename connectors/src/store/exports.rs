//! Which rows of the store's logs a sink of files or of load jobs has written: ranges of a log, each begun before the first byte
//! and ended after the last.

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use records::{
    UtcMicros, alert_batch, alert_schema, audit_batch, audit_schema, experiment_report_batch, experiment_report_schema,
    outcome_batch, outcome_schema, window_batch, window_schema,
};

use super::alerts::alert;
use super::audit::audit_entry;
use super::experiment_reports::experiment_report;
use super::rows::{outcome, unsigned};
use super::values::Row;
use super::windows::window;
use super::{Store, StoreError};

/// A range of a log that is exported as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The first row's place in the log.
    pub(crate) first_seq: u64,
    /// The last one's.
    pub(crate) last_seq: u64,
}

/// Microseconds of a day.
const DAY: u64 = 86_400_000_000;

/// What is exported: rows that have places and are never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Outcomes, by the day of their arrival.
    Outcomes,
    /// Rows of windows, by the day on which their window begins.
    Windows,
    /// Changes of alerts that were told, by their day.
    AlertChanges,
    /// Reports of experiments, by their day.
    ExperimentReports,
    /// The audit log, by the day of the operation.
    Audit,
}

impl Log {
    /// The columns of its rows.
    pub(crate) fn schema(self) -> Schema {
        match self {
            Self::Outcomes => outcome_schema(),
            Self::Windows => window_schema(),
            Self::AlertChanges => alert_schema(),
            Self::ExperimentReports => experiment_report_schema(),
            Self::Audit => audit_schema(),
        }
    }

    /// A statement for this log: `ROWS` is its table, `MOMENT` what decides on the day.
    fn statement(self, text: &str) -> String {
        let (rows, moment) = match self {
            Self::Outcomes => ("outcomes", "arrived_at"),
            Self::Windows => ("windows", "start_at"),
            Self::AlertChanges => ("alert_changes", "since"),
            Self::ExperimentReports => ("experiment_reports", "reported_at"),
            Self::Audit => ("audit", "done_at"),
        };
        text.replace("ROWS", rows).replace("MOMENT", moment)
    }

    /// Rows of its table under [`Self::schema`].
    fn columns(self, rows: &[Row]) -> Result<RecordBatch, StoreError> {
        fn read<T>(
            rows: &[Row],
            one: fn(&Row) -> Result<T, StoreError>,
            batch: fn(&[T]) -> Result<RecordBatch, ArrowError>,
        ) -> Result<RecordBatch, StoreError> {
            let read = rows.iter().map(one).collect::<Result<Vec<T>, _>>()?;
            batch(&read).map_err(|error| StoreError::Damaged(error.to_string()))
        }
        match self {
            Self::Outcomes => read(rows, outcome, outcome_batch),
            Self::Windows => read(rows, window, window_batch),
            Self::AlertChanges => read(rows, alert, alert_batch),
            Self::ExperimentReports => read(rows, experiment_report, experiment_report_batch),
            Self::Audit => read(rows, audit_entry, audit_batch),
        }
    }
}

const LAST: &str = "SELECT first_seq, last_seq, done_at FROM exports WHERE sink = $1 ORDER BY first_seq DESC LIMIT 1";

const NEXT: &str = "SELECT min(seq) AS first_seq, max(seq) AS last_seq FROM
    (SELECT seq FROM ROWS WHERE seq > $1 ORDER BY seq LIMIT $2) AS next";

const BEGIN: &str = "INSERT INTO exports (sink, first_seq, last_seq, begun_at) VALUES ($1, $2, $3, $4)";

pub(super) const END: &str = "UPDATE exports SET done_at = $3 WHERE sink = $1 AND first_seq = $2";

/// A compaction is a range under a name of its own while it is at work.
const COMPACTIONS: &str =
    "SELECT sink, first_seq, last_seq FROM exports WHERE substr(sink, 1, length(CAST($1 AS TEXT))) = $1
    ORDER BY sink, first_seq";

const END_COMPACTION: &str = "DELETE FROM exports WHERE sink = $1 AND first_seq = $2";

const DAYS: &str = "SELECT DISTINCT MOMENT / $3 AS day FROM ROWS WHERE seq BETWEEN $1 AND $2 ORDER BY day";

const BETWEEN: &str = "SELECT * FROM ROWS WHERE seq BETWEEN $1 AND $2 ORDER BY seq";

const OF_DAY: &str = "SELECT * FROM ROWS WHERE seq BETWEEN $1 AND $2 AND MOMENT / $3 = $4 ORDER BY seq LIMIT $5";

impl Store {
    /// The batch of a log that `sink` is to write: the one that was begun and not ended, else the next up to `rows` of it,
    /// which are then begun. `None` where it has all. Whoever asks holds [`Store::claim_export`].
    pub(crate) async fn begin_export(
        &self,
        (sink, log): (&str, Log),
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
                let next = transaction.fetch(&log.statement(NEXT), &[exported.into(), rows.into()]).await?;
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

    /// Whether `sink` has begun a batch that it has not ended. Whoever asks holds [`Store::claim_export`].
    pub(crate) async fn is_exporting(&self, sink: &str) -> Result<bool, StoreError> {
        let last = self.database.read(LAST, &[sink.into()]).await?;
        last.first().map_or(Ok(false), |row| Ok(row.get::<Option<i64>>("done_at")?.is_none()))
    }

    /// Notes that the files of a range are about to become one, under a name that says where.
    pub(crate) async fn begin_compaction(&self, name: &str, range: Batch, now: UtcMicros) -> Result<(), StoreError> {
        let values = [name.into(), range.first_seq.into(), range.last_seq.into(), now.0.into()];
        self.write_one(BEGIN, &values).await.map(drop)
    }

    /// Forgets a compaction: each row is in one file.
    pub(crate) async fn end_compaction(&self, name: &str, range: Batch) -> Result<(), StoreError> {
        self.write_one(END_COMPACTION, &[name.into(), range.first_seq.into()]).await.map(drop)
    }

    /// Compactions whose names begin so, and that somebody began and did not end.
    pub(crate) async fn compactions(&self, prefix: &str) -> Result<Vec<(String, Batch)>, StoreError> {
        let rows = self.database.read(COMPACTIONS, &[prefix.into()]).await?;
        let read = |row: &Row| {
            let range = batch(row)?.ok_or_else(|| StoreError::Damaged("a compaction has no range".into()))?;
            Ok((row.get("sink")?, range))
        };
        rows.iter().map(read).collect()
    }

    /// The first moments of the UTC days of the batch's rows, in order.
    pub(crate) async fn days_of(&self, log: Log, batch: Batch) -> Result<Vec<UtcMicros>, StoreError> {
        let values = [batch.first_seq.into(), batch.last_seq.into(), DAY.into()];
        let days = self.database.read(&log.statement(DAYS), &values).await?;
        days.iter().map(|row| Ok(UtcMicros(row.unsigned::<u64>("day")? * DAY))).collect()
    }

    /// Up to `limit` of the batch's rows of a day as columns, from a place in the log on; and the last one's place. `None`
    /// where there are none.
    pub(crate) async fn columns_of_day(
        &self,
        log: Log,
        batch: Batch,
        day: UtcMicros,
        limit: u32,
    ) -> Result<Option<(u64, RecordBatch)>, StoreError> {
        let (first, last) = (batch.first_seq.into(), batch.last_seq.into());
        let values = [first, last, DAY.into(), (day.0 / DAY).into(), limit.into()];
        let rows = self.database.read(&log.statement(OF_DAY), &values).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        Ok(Some((last.unsigned("seq")?, log.columns(&rows)?)))
    }

    /// The batch's rows as columns, in order.
    pub(crate) async fn columns_between(&self, log: Log, batch: Batch) -> Result<RecordBatch, StoreError> {
        let values = [batch.first_seq.into(), batch.last_seq.into()];
        log.columns(&self.database.read(&log.statement(BETWEEN), &values).await?)
    }
}

fn batch(row: &Row) -> Result<Option<Batch>, StoreError> {
    let ends = (row.get::<Option<i64>>("first_seq")?, row.get::<Option<i64>>("last_seq")?);
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    Ok(Some(Batch { first_seq: unsigned("first_seq", first)?, last_seq: unsigned("last_seq", last)? }))
}
