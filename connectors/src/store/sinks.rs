//! How far in the log of outcomes each sink has come.

use super::{Store, StoreError};

const POSITION: &str = "SELECT last_seq FROM sinks WHERE name = $1";

const ADVANCE: &str = "INSERT INTO sinks (name, last_seq) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE
    SET last_seq = excluded.last_seq WHERE excluded.last_seq > sinks.last_seq";

impl Store {
    /// The place in the log up to which a sink has everything; 0 where it has nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sink_position(&self, sink: &str) -> Result<u64, StoreError> {
        let rows = self.database.read(POSITION, &[sink.into()]).await?;
        rows.first().map_or(Ok(0), |row| row.unsigned("last_seq"))
    }

    /// Notes that a sink has everything up to a place in the log. It never goes back.
    ///
    /// # Errors
    /// [`StoreError`]. Noting it again is safe.
    pub async fn advance_sink(&self, sink: &str, seq: u64) -> Result<(), StoreError> {
        self.write_one(ADVANCE, &[sink.into(), seq.into()]).await.map(drop)
    }
}
