//! Rows of closed windows, each version written once, and how far the report that writes them came.

use records::{UtcMicros, WindowKey, WindowRow};

use super::rows::{from_json, json, moment};
use super::values::{Row, Value, list};
use super::{Store, StoreError};

/// How far a report came. All before it is in rows; it goes on from here after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every window that ends by then is written.
    pub written_until: UtcMicros,
    /// And counts what the log of outcomes holds of it up to this place.
    pub applied_seq: u64,
    /// The log holds nothing up to this place of windows that are not written.
    pub resume_seq: u64,
}

/// A row, and what a correction of it adds to.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenWindow {
    /// The row.
    pub row: WindowRow,
    /// The sums that it was made of, as JSON.
    pub totals: String,
}

const PROGRESS: &str = "SELECT written_until, applied_seq, resume_seq FROM reports WHERE width_s = $1";

const BEGIN: &str = "INSERT INTO reports (width_s, written_until, applied_seq, resume_seq) VALUES ($1, 0, 0, 0)
    ON CONFLICT (width_s) DO NOTHING";

/// Only from where it was: of two that believe to have the turn, one goes on.
const ADVANCE: &str = "UPDATE reports SET written_until = $5, applied_seq = $6, resume_seq = $7
    WHERE width_s = $1 AND written_until = $2 AND applied_seq = $3 AND resume_seq = $4";

const WINDOWS: &str = "windows (width_s, start_at, key, version, fields, totals)";

const LAST: &str = "SELECT w.fields, w.totals FROM json_each($1) AS asked CROSS JOIN windows AS w
    WHERE w.width_s = $2 AND w.start_at = CAST(asked.value ->> 0 AS BIGINT) AND w.key = asked.value ->> 1
    ORDER BY asked.key, w.version DESC";

const AFTER: &str = "SELECT seq, fields FROM windows WHERE seq > $1 ORDER BY seq LIMIT $2";

const NEWEST: &str =
    "SELECT w.fields FROM windows AS w WHERE w.start_at >= $1 AND NOT EXISTS (SELECT 1 FROM windows AS later
        WHERE later.width_s = w.width_s AND later.start_at = w.start_at AND later.key = w.key
        AND later.version > w.version)
    ORDER BY w.start_at DESC, w.seq LIMIT $2";

impl Store {
    /// How far the report of windows of this width came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report_progress(&self, width_s: u32) -> Result<Progress, StoreError> {
        let rows = self.database.read(PROGRESS, &[width_s.into()]).await?;
        let Some(row) = rows.first() else { return Ok(Progress::default()) };
        Ok(Progress {
            written_until: moment(row, "written_until")?,
            applied_seq: row.unsigned("applied_seq")?,
            resume_seq: row.unsigned("resume_seq")?,
        })
    }

    /// Writes rows of one width and how far the report is with them, in one transaction. Whoever writes has the turn of
    /// [`Store::claim_export`] for `report`.
    ///
    /// # Errors
    /// [`StoreError::Held`] where the report is not at `from` any more: then nothing was written, and somebody else goes on
    /// with it, or an earlier try was done. Other [`StoreError`]s.
    pub async fn write_windows(
        &self,
        width_s: u32,
        windows: &[WrittenWindow],
        from: Progress,
        to: Progress,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        transaction.execute(BEGIN, &[width_s.into()]).await?;
        let places = [from, to].map(|it| [it.written_until.0.into(), it.applied_seq.into(), it.resume_seq.into()]);
        let values: Vec<Value<'_>> = [width_s.into()].into_iter().chain(places.into_iter().flatten()).collect();
        if transaction.execute(ADVANCE, &values).await? != 1 {
            return Err(StoreError::Held { store: self.url.to_string(), by: "writing the report of" });
        }
        let rows: Vec<_> = windows.iter().map(values_of).collect();
        transaction.insert(WINDOWS, &rows, "").await?;
        transaction.commit().await
    }

    /// The last versions of rows, by their windows' first moments and keys; those that were never written are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_windows(
        &self,
        width_s: u32,
        cells: &[(UtcMicros, WindowKey)],
    ) -> Result<Vec<WrittenWindow>, StoreError> {
        let asked = list(cells.iter().map(|(start, key)| (start.0, json(key))));
        let rows = self.database.read(LAST, &[asked, width_s.into()]).await?;
        let mut last: Vec<WrittenWindow> = Vec::new();
        for row in &rows {
            let window = WrittenWindow { row: window(row)?, totals: row.get("totals")? };
            if last.last().is_none_or(|it| it.row.name() != window.row.name()) {
                last.push(window);
            }
        }
        Ok(last)
    }

    /// Rows in the order in which they were written, after a place in it: place and row. 0 is the beginning.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn windows_after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, WindowRow)>, StoreError> {
        let rows = self.database.read(AFTER, &[seq.into(), limit.into()]).await?;
        rows.iter().map(|row| Ok((row.unsigned("seq")?, window(row)?))).collect()
    }

    /// The rows that stand, corrected ones in their last version, of windows that begin at a moment or later: the newest
    /// windows first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_windows(&self, from: UtcMicros, limit: usize) -> Result<Vec<WindowRow>, StoreError> {
        let rows = self.database.read(NEWEST, &[from.0.into(), limit.into()]).await?;
        rows.iter().map(window).collect()
    }
}

/// The row of a window.
pub(super) fn window(row: &Row) -> Result<WindowRow, StoreError> {
    from_json(row, "fields")
}

fn values_of(window: &WrittenWindow) -> Vec<Value<'_>> {
    let WrittenWindow { row, totals } = window;
    vec![
        row.width_s.into(),
        row.start.0.into(),
        json(&row.key).into(),
        row.version.into(),
        json(row).into(),
        totals.into(),
    ]
}
