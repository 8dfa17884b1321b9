//! Up to which arrival every upload has its outcome: what a report needs to know that a window is complete.
//!
//! First the past is sealed: from then on nobody is admitted with an arrival in it, so what arrived there is a fixed set.
//! Then that set is walked through in the order of arrival, up to the first upload that has no outcome. What was walked past
//! has its outcome for ever, so each upload is walked past once. Commits have nothing to do with any of it.

use records::UtcMicros;

use super::rows::moment;
use super::{Store, StoreError};

/// Admissions that one step of a walk looks at.
const STEP: usize = 1000;

const SEAL: &str = "UPDATE arrivals SET sealed_until = $1 WHERE sealed_until < $1";

const SEALED: &str = "SELECT sealed_until FROM arrivals";

/// An upload has its outcome once it has its first one: a redrive opens nothing again.
const WALK: &str = "SELECT a.arrived_at, a.upload_id,
        EXISTS (SELECT 1 FROM outcomes AS o WHERE o.upload_id = a.upload_id AND o.version = 1) AS finished
    FROM (SELECT arrived_at, upload_id FROM admissions
        WHERE (arrived_at, upload_id) > ($1, $2) AND arrived_at < $3 ORDER BY arrived_at, upload_id LIMIT $4) AS a
    ORDER BY a.arrived_at, a.upload_id";

/// How far a walk over admissions came: all up to there have their outcome. The beginning is always right, and slow.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    arrived_at: UtcMicros,
    upload_id: String,
}

impl Walk {
    /// A walk over what arrived from a moment on, where all before has its outcome.
    pub fn from(arrived_at: UtcMicros) -> Self {
        Self { arrived_at, upload_id: String::new() }
    }
}

impl Store {
    /// Declares the past before a moment sealed, and gives the moment before which it is: whoever is admitted later arrives at
    /// that moment at the earliest. Waits for admissions under way.
    ///
    /// # Errors
    /// [`StoreError`]. Sealing again is safe.
    pub async fn seal_arrivals(&self, until: UtcMicros) -> Result<UtcMicros, StoreError> {
        let mut transaction = self.database.begin_sealing().await?;
        transaction.execute(SEAL, &[until.0.into()]).await?;
        let sealed = transaction.fetch(SEALED, &[]).await?;
        transaction.commit().await?;
        sealed.first().map_or(Ok(UtcMicros(0)), |row| moment(row, "sealed_until"))
    }

    /// The moment before which every upload has its outcome, and none will arrive any more: `sealed`, which is what
    /// [`Self::seal_arrivals`] gave, or the arrival of the first upload before it that has none. Whoever reads the log of
    /// outcomes to its end after this has all of theirs. Goes on where `walk` came to.
    ///
    /// # Errors
    /// [`StoreError`]. Asking again is safe.
    pub async fn closed_until(&self, walk: &mut Walk, sealed: UtcMicros) -> Result<UtcMicros, StoreError> {
        loop {
            let Walk { arrived_at, upload_id } = walk.clone();
            let values = [arrived_at.0.into(), upload_id.into(), sealed.0.into(), STEP.into()];
            let rows = self.database.read(WALK, &values).await?;
            for row in &rows {
                let arrived_at = moment(row, "arrived_at")?;
                if !row.get::<bool>("finished")? {
                    return Ok(arrived_at);
                }
                *walk = Walk { arrived_at, upload_id: row.get("upload_id")? };
            }
            if rows.len() < STEP {
                return Ok(sealed);
            }
        }
    }
}
