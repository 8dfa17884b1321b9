//! A report as rows that are kept, so that it can be seen later how a verdict came about.

use connectors::store::{Store, StoredExperiment};
use records::{ExperimentReport, UtcMicros};

use super::report::{Comparison, Report, Row, verdict};
use super::{ExperimentError, report};

impl Report {
    /// A row for each comparison and metric.
    pub fn rows(&self, reported_at: UtcMicros) -> Vec<ExperimentReport> {
        let of = |it: &Comparison| -> Vec<ExperimentReport> {
            it.rows.iter().map(|row| self.row(it, row, reported_at)).collect()
        };
        self.comparisons.iter().flat_map(of).collect()
    }

    fn row(&self, comparison: &Comparison, row: &Row, reported_at: UtcMicros) -> ExperimentReport {
        let ([control_units, arm_units], [control_uploads, arm_uploads]) = (comparison.units, comparison.uploads);
        let ([control_value, arm_value], interval) = (row.means, row.difference.as_ref().ok());
        ExperimentReport {
            reported_at,
            complete_until: self.complete_until,
            experiment: self.definition.name.clone(),
            arm: comparison.arm.clone(),
            control: self.control().to_owned(),
            metric: row.metric.to_string(),
            is_decisive: row.metric == self.definition.metric,
            arm_units,
            control_units,
            arm_uploads,
            control_uploads,
            arm_value,
            control_value,
            difference: interval.map(|it| it.difference),
            low: interval.map(|it| it.low),
            high: interval.map(|it| it.high),
            confidence_level: 1.0 - self.definition.sequence().alpha(),
            verdict: verdict(&comparison.verdict).to_owned(),
            mismatch_p_value: comparison.mismatch,
            stopped_at: comparison.stop.as_ref().map(|stop| stop.stopped_at),
            stop_reason: comparison.stop.as_ref().map(|stop| stop.reason.clone()),
        }
    }
}

/// Makes a report and keeps it.
///
/// # Errors
/// [`ExperimentError`].
pub async fn keep_report(store: &Store, stored: &StoredExperiment, now: UtcMicros) -> Result<(), ExperimentError> {
    Ok(store.add_experiment_report(&report(store, stored, now).await?.rows(now)).await?)
}
