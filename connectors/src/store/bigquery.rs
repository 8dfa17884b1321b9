//! What the store knows of BigQuery's tables: how far each is, and the rows that go there.

use std::collections::HashMap;

use records::{AttemptRow, DeadLetterRow, Operation, Status, UploadId, UtcMicros};
use serde_json::json;

use super::database::Transaction;
use super::exports::{Batch, END};
use super::rows::{attempt, moment, outcome, parse, parsed};
use super::values::{Row, Value};
use super::{Store, StoreError};

/// How a range is written. A range that was begun one way is ended that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMethod {
    /// One load job a range.
    LoadJobs,
    /// Appends to a committed stream of the Storage Write API.
    StorageWrite,
}

impl WriteMethod {
    fn as_str(self) -> &'static str {
        match self {
            Self::LoadJobs => "load_jobs",
            Self::StorageWrite => "storage_write",
        }
    }
}

impl std::str::FromStr for WriteMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::LoadJobs, Self::StorageWrite];
        all.into_iter().find(|it| it.as_str() == text).ok_or_else(|| format!("{text:?} is no way to write"))
    }
}

/// What was noted of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableState {
    /// Of the range under way; `None` where nothing was sent of it.
    pub(crate) method: Option<WriteMethod>,
    /// Of the range's load job, from 1.
    pub(crate) attempt: u32,
    /// The write stream, where there is one.
    pub(crate) stream: Option<String>,
    /// In the stream, of the next append.
    pub(crate) next_offset: u64,
    /// Rows of the range, from its first, that are certainly there.
    pub(crate) rows_done: u64,
    /// Rows of an append at [`Self::next_offset`] that may have been sent; 0 where none was.
    pub(crate) pending_rows: u64,
    /// How often it was noted. Who has another one's last note must not write over a later one: the turn to export is lost
    /// with the session that holds it, and whoever had it may not know.
    pub(crate) revision: u64,
}

impl Default for TableState {
    fn default() -> Self {
        Self { method: None, attempt: 1, stream: None, next_offset: 0, rows_done: 0, pending_rows: 0, revision: 0 }
    }
}

const BEGUN: &str = "SELECT begun_at FROM exports WHERE sink = $1 AND first_seq = $2";

const FORGET: &str = "DELETE FROM exports WHERE sink = $1 AND first_seq < $2";

const IDENTITY: &str = "SELECT id FROM identity";

const STATE: &str = "SELECT * FROM bigquery_tables WHERE sink = $1";

const NOTE: &str =
    "INSERT INTO bigquery_tables (sink, method, attempt, stream, next_offset, rows_done, pending_rows, revision)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (sink) DO UPDATE SET method = excluded.method,
    attempt = excluded.attempt, stream = excluded.stream, next_offset = excluded.next_offset,
    rows_done = excluded.rows_done, pending_rows = excluded.pending_rows, revision = excluded.revision
    WHERE bigquery_tables.revision = excluded.revision - 1";

const ATTEMPTS: &str = "SELECT o.upload_id, o.version, o.customer_id, o.lane, o.tier, o.arm, a.position, a.number,
    a.branch, a.model, a.started_at, a.duration_ms, a.cost_micro_usd, a.fault
    FROM outcomes AS o JOIN attempts AS a USING (seq) WHERE o.seq BETWEEN $1 AND $2 ORDER BY o.seq, a.position";

const DEAD: &str = "SELECT * FROM outcomes WHERE seq BETWEEN $1 AND $2 AND status = $3 ORDER BY seq";

impl Store {
    /// A name of this store that no other one has, of letters and digits.
    pub(crate) async fn identity(&self) -> Result<String, StoreError> {
        let rows = self.database.read(IDENTITY, &[]).await?;
        rows.first().ok_or_else(|| StoreError::Damaged("identity: no row".into()))?.get("id")
    }

    /// When a range was begun, which tells it from a range of the same numbers that a store had before it was restored.
    pub(crate) async fn begun_at(&self, sink: &str, range: Batch) -> Result<UtcMicros, StoreError> {
        let rows = self.database.read(BEGUN, &[sink.into(), range.first_seq.into()]).await?;
        rows.first().map_or_else(
            || Err(StoreError::Damaged(format!("exports: {sink} has no range from {}", range.first_seq))),
            |row| moment(row, "begun_at"),
        )
    }

    /// What was noted of a sink's table.
    pub(crate) async fn table_state(&self, sink: &str) -> Result<TableState, StoreError> {
        let rows = self.database.read(STATE, &[sink.into()]).await?;
        let Some(row) = rows.first() else { return Ok(TableState::default()) };
        let method: Option<&str> = row.get("method")?;
        Ok(TableState {
            method: method.map(|text| parse("method", text)).transpose()?,
            attempt: row.unsigned("attempt")?,
            stream: row.get("stream")?,
            next_offset: row.unsigned("next_offset")?,
            rows_done: row.unsigned("rows_done")?,
            pending_rows: row.unsigned("pending_rows")?,
            revision: row.unsigned("revision")?,
        })
    }

    /// Notes it, durably when this returns.
    ///
    /// # Errors
    /// [`StoreError::Held`] where somebody else noted something since this was read.
    pub(crate) async fn note_table_state(&self, sink: &str, state: &mut TableState) -> Result<(), StoreError> {
        let noted = self.write_one(NOTE, &state_values(sink, state)).await?;
        self.was_noted(noted)?;
        state.revision += 1;
        Ok(())
    }

    /// Gives up a table's write stream: of the append that was in doubt, `written` rows are there.
    ///
    /// # Errors
    /// As [`Self::note_table_state`].
    pub(crate) async fn forget_stream(
        &self,
        (sink, table): (&str, &str),
        state: TableState,
        written: u64,
        now: UtcMicros,
    ) -> Result<(), StoreError> {
        let detail = json!({ "stream": state.stream, "written": written });
        let rows_done = state.rows_done + written;
        let next = TableState { stream: None, next_offset: 0, pending_rows: 0, rows_done, ..state };
        let mut transaction = self.database.begin_in_turn().await?;
        let noted = transaction.execute(NOTE, &state_values(sink, &next)).await?;
        self.was_noted(noted)?;
        self.audit(&mut transaction, (Operation::NewStream, table, &detail), now).await?;
        transaction.commit().await
    }

    fn was_noted(&self, changed: u64) -> Result<(), StoreError> {
        if changed == 1 { Ok(()) } else { Err(StoreError::Held { store: self.url.to_string(), by: "exporting from" }) }
    }

    /// Ends the range: all of it is in the table. The state is that of the next one.
    ///
    /// # Errors
    /// As [`Self::note_table_state`].
    pub(crate) async fn end_table_range(
        &self,
        sink: &str,
        range: Batch,
        state: TableState,
        now: UtcMicros,
    ) -> Result<(), StoreError> {
        let mut transaction: Transaction = self.database.begin().await?;
        let noted = transaction.execute(NOTE, &state_values(sink, &state)).await?;
        self.was_noted(noted)?;
        transaction.execute(END, &[sink.into(), range.first_seq.into(), now.0.into()]).await?;
        // Of a sink's ranges the last one is all that is looked at.
        transaction.execute(FORGET, &[sink.into(), range.first_seq.into()]).await?;
        transaction.commit().await
    }

    /// Every call of a model for the outcomes of a range of the log, in order.
    pub(crate) async fn attempts_between(&self, range: Batch) -> Result<Vec<AttemptRow>, StoreError> {
        self.database.read(ATTEMPTS, &range_values(range)).await?.iter().map(attempt_row).collect()
    }

    /// The outcomes without metadata of a range of the log, each with the last call that was made for it.
    pub(crate) async fn dead_letters_between(&self, range: Batch) -> Result<Vec<DeadLetterRow>, StoreError> {
        let [first, last] = range_values(range);
        let dead = self.database.read(DEAD, &[first, last, Status::DeadLettered.as_str().into()]).await?;
        if dead.is_empty() {
            return Ok(Vec::new());
        }
        // In order, so the last one of an outcome stays.
        let calls = self.attempts_between(range).await?.into_iter();
        let mut last: HashMap<_, _> = calls.map(|row| ((row.upload_id, row.version), row.attempt)).collect();
        let with_last = |row: &Row| {
            let outcome = outcome(row)?;
            let last = last.remove(&(outcome.upload_id.clone(), outcome.version));
            Ok(DeadLetterRow { outcome, last })
        };
        dead.iter().map(with_last).collect()
    }
}

fn state_values<'a>(sink: &'a str, state: &'a TableState) -> [Value<'a>; 8] {
    [
        sink.into(),
        state.method.map(WriteMethod::as_str).into(),
        state.attempt.into(),
        state.stream.as_deref().into(),
        state.next_offset.into(),
        state.rows_done.into(),
        state.pending_rows.into(),
        (state.revision + 1).into(),
    ]
}

fn range_values(range: Batch) -> [Value<'static>; 2] {
    [range.first_seq.into(), range.last_seq.into()]
}

fn attempt_row(row: &Row) -> Result<AttemptRow, StoreError> {
    let tier: Option<&str> = row.get("tier")?;
    Ok(AttemptRow {
        upload_id: UploadId::try_from(row.get::<String>("upload_id")?).map_err(StoreError::Damaged)?,
        version: row.unsigned("version")?,
        position: row.unsigned("position")?,
        customer_id: row.get("customer_id")?,
        lane: parsed(row, "lane")?,
        tier: tier.map(|text| parse("tier", text)).transpose()?,
        arm: row.get("arm")?,
        attempt: attempt(row)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_lost_the_turn_writes_over_nothing_that_was_noted_since() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
        let mut first = store.table_state("t").await.expect("read");
        let mut second = first.clone();
        first.rows_done = 600;
        store.note_table_state("t", &mut first).await.expect("noted");
        let refused = store.note_table_state("t", &mut second).await.expect_err("it was first");
        assert!(matches!(refused, StoreError::Held { .. }), "{refused}");

        let mut second = store.table_state("t").await.expect("read");
        assert_eq!(second, first);
        let range = Batch { first_seq: 1, last_seq: 9 };
        let next = TableState { rows_done: 0, ..second.clone() };
        store.end_table_range("t", range, next, UtcMicros(1)).await.expect("ended");
        second.rows_done = 900;
        let refused = store.note_table_state("t", &mut second).await.expect_err("the range is over");
        assert!(matches!(refused, StoreError::Held { .. }), "{refused}");
        let refused = store.end_table_range("t", range, second, UtcMicros(1)).await.expect_err("it is over");
        assert!(matches!(refused, StoreError::Held { .. }), "{refused}");
        assert_eq!(store.table_state("t").await.expect("read").rows_done, 0);
    }
}
