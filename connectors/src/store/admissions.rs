//! Admissions: when an upload first arrived, and which version of its outcome is due.

use records::{Admitted, Lane, UploadId, UtcMicros};
use sqlx::Row;

use super::rows::{micros, moment};
use super::{Store, StoreError, finish, list};

const ADMIT: &str = "INSERT INTO admissions (upload_id, lane, arrived_at)
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE true
    ON CONFLICT (upload_id) DO NOTHING";

const KNOWN: &str = "SELECT a.arrived_at, a.version, o.seq IS NOT NULL AS finished
    FROM json_each(?1) AS asked
    CROSS JOIN admissions AS a ON a.upload_id = asked.value ->> 0
    LEFT JOIN outcomes AS o ON o.upload_id = a.upload_id AND o.version = a.version
    ORDER BY asked.key";

impl Store {
    /// Admits uploads, each with its source's lane and the moment that counts where it was never admitted before. Gives
    /// what is known of each, in the same order.
    ///
    /// # Errors
    /// [`StoreError`]. Admitting again gives the same answers.
    pub async fn admit(&self, uploads: &[(UploadId, Lane, UtcMicros)]) -> Result<Vec<Admitted>, StoreError> {
        let asked = list(uploads.iter().map(|(id, lane, at)| (id, lane.as_str(), micros(*at))));
        let mut transaction = self.begin().await?;
        sqlx::query(ADMIT).bind(&asked).execute(&mut *transaction).await?;
        let rows = sqlx::query(KNOWN).bind(&asked).fetch_all(&mut *transaction).await?;
        finish(transaction).await?;
        assert_eq!(rows.len(), uploads.len(), "every upload is admitted, and once");
        let known = rows.iter().map(|row| match row.try_get("finished")? {
            true => Ok(Admitted::Finished),
            false => Ok(Admitted::Open {
                arrived_at: moment("arrived_at", row.try_get("arrived_at")?)?,
                version: row.try_get("version")?,
            }),
        });
        known.collect()
    }
}
