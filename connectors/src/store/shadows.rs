//! What shadows of experiments said of uploads that had ended.

use std::ops::RangeInclusive;

use records::Outcome;

use super::rows::{from_json, json};
use super::{Store, StoreError};

const COLUMNS: &str = "shadow_outcomes (experiment, arm, seq, fields)";

const OF: &str =
    "SELECT seq, fields FROM shadow_outcomes WHERE experiment = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq, arm";

impl Store {
    /// Keeps outcomes of an experiment's shadow `arm`, each with the place in the log of the outcome that it stands beside.
    /// What is there stays.
    ///
    /// # Errors
    /// [`StoreError`]. Adding them again is safe.
    pub async fn add_shadow_outcomes(
        &self,
        experiment: &str,
        arm: &str,
        outcomes: &[(u64, Outcome)],
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = outcomes
            .iter()
            .map(|(seq, outcome)| vec![experiment.into(), arm.into(), (*seq).into(), json(outcome).into()])
            .collect();
        let mut transaction = self.database.begin().await?;
        transaction.insert(COLUMNS, &rows, "ON CONFLICT DO NOTHING").await?;
        transaction.commit().await
    }

    /// What an experiment's shadows said beside these places in the log, in the order of the places.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn shadow_outcomes(
        &self,
        experiment: &str,
        seqs: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Outcome)>, StoreError> {
        let values = [experiment.into(), (*seqs.start()).into(), (*seqs.end()).into()];
        let rows = self.database.read(OF, &values).await?;
        rows.iter().map(|row| Ok((row.unsigned("seq")?, from_json(row, "fields")?))).collect()
    }
}
