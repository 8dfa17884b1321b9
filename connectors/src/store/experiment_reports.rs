//! What experiments looked like, now and then: a log that reports are added to.

use records::ExperimentReport;

use super::rows::{from_json, json};
use super::values::{Row, Value};
use super::{Store, StoreError};

const COLUMNS: &str = "experiment_reports (experiment, reported_at, fields)";

const LAST: &str = "SELECT fields FROM experiment_reports WHERE experiment = $1 ORDER BY seq DESC LIMIT 1";

impl Store {
    /// Adds a report, all of its rows or none.
    ///
    /// # Errors
    /// [`StoreError`]. After an indeterminate one it may be there: made again, it is a later one.
    pub async fn add_experiment_report(&self, rows: &[ExperimentReport]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let values = |row: &ExperimentReport| -> Vec<Value<'static>> {
            vec![row.experiment.clone().into(), row.reported_at.0.into(), json(row).into()]
        };
        transaction.insert(COLUMNS, &rows.iter().map(values).collect::<Vec<_>>(), "").await?;
        transaction.commit().await
    }

    /// A row of an experiment's last report; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_experiment_report(&self, experiment: &str) -> Result<Option<ExperimentReport>, StoreError> {
        self.database.read(LAST, &[experiment.into()]).await?.first().map(experiment_report).transpose()
    }
}

/// The report's row of a row.
pub(super) fn experiment_report(row: &Row) -> Result<ExperimentReport, StoreError> {
    from_json(row, "fields")
}
