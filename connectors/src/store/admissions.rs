//! Admissions: when an upload first arrived, and which version of its outcome is due.

use records::{Admitted, Lane, UploadId, UtcMicros};

use super::rows::moment;
use super::values::{Row, list};
use super::{Store, StoreError};

/// In one order, so that two that wait for each other's uploads cannot be. Never into the past that was sealed.
const ADMIT: &str = "INSERT INTO admissions (upload_id, lane, arrived_at)
    SELECT value ->> 0, value ->> 1,
        CASE WHEN CAST(value ->> 2 AS BIGINT) < sealed_until THEN sealed_until ELSE CAST(value ->> 2 AS BIGINT) END
    FROM json_each($1) CROSS JOIN arrivals WHERE true
    [ORDER BY value ->> 0, key] ON CONFLICT (upload_id) DO NOTHING";

const SEALED: &str = "SELECT sealed_until FROM arrivals";

const KNOWN: &str = "SELECT a.arrived_at, a.version, o.seq IS NOT NULL AS finished
    FROM json_each($1) AS asked
    CROSS JOIN admissions AS a
    LEFT JOIN outcomes AS o ON o.upload_id = a.upload_id AND o.version = a.version
    WHERE a.upload_id = asked.value ->> 0
    ORDER BY asked.key";

impl Store {
    /// Admits uploads, each with its source's lane and the moment that counts where it was never admitted before: it is raised
    /// to what [`Store::seal_arrivals`] sealed. Gives what is known of each, in the same order.
    ///
    /// # Errors
    /// [`StoreError`]. Admitting again gives the same answers.
    pub async fn admit(&self, uploads: &[(UploadId, Lane, UtcMicros)]) -> Result<Vec<Admitted>, StoreError> {
        let asked = [list(uploads.iter().map(|(id, lane, at)| (id, lane.as_str(), at.0)))];
        let lane = uploads.iter().map(|(_, lane, _)| *lane).min().unwrap_or(Lane::Low);
        let mut transaction = self.database.begin_admitting(lane).await?;
        let new = transaction.execute(ADMIT, &asked).await?;
        let known = if new == uploads.len() as u64 {
            // Nobody knew any of them: there is nothing to look up.
            let sealed = transaction.fetch(SEALED, &[]).await?;
            let sealed = sealed.first().map_or(Ok(UtcMicros(0)), |row| moment(row, "sealed_until"))?;
            let open = |(_, _, at): &(_, _, UtcMicros)| Admitted::Open { arrived_at: sealed.max(*at), version: 1 };
            uploads.iter().map(open).collect()
        } else {
            let rows = transaction.fetch(KNOWN, &asked).await?;
            assert_eq!(rows.len(), uploads.len(), "every upload is admitted, and once");
            rows.iter().map(known).collect::<Result<_, _>>()?
        };
        transaction.commit().await?;
        Ok(known)
    }
}

fn known(row: &Row) -> Result<Admitted, StoreError> {
    Ok(match row.get("finished")? {
        true => Admitted::Finished,
        false => Admitted::Open { arrived_at: moment(row, "arrived_at")?, version: row.unsigned("version")? },
    })
}
