//! What an experiment looked like at a moment, and its Arrow columns: the schema of BigQuery's table `experiment_reports`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::UtcMicros;
use crate::dead_letter_columns::text;

/// A metric of an arm beside the control, as an experiment's report had it at a moment.
///
/// Values are in the metric's unit: shares of 1, milliseconds, or US dollars by upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentReport {
    /// When the report was made; the same in all rows of one.
    pub reported_at: UtcMicros,
    /// What arrived before has its outcome and counts; what arrived later does not yet.
    pub complete_until: UtcMicros,
    /// The experiment.
    pub experiment: String,
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub control: String,
    /// What is compared.
    pub metric: String,
    /// Whether the verdict is about this metric.
    pub is_decisive: bool,
    /// What was drawn as one, customers or uploads: of the arm.
    pub arm_units: u64,
    /// Of the control.
    pub control_units: u64,
    /// Uploads of the arm.
    pub arm_uploads: u64,
    /// Of the control.
    pub control_uploads: u64,
    /// The arm's mean; `None` where no upload has a value.
    pub arm_value: Option<f64>,
    /// The control's.
    pub control_value: Option<f64>,
    /// The arm less the control; `None` where it is too early to tell.
    pub difference: Option<f64>,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// How sure the intervals are, at all looks together: 0.95.
    pub confidence_level: f64,
    /// What may be said of the arm: `better`, `worse`, `alike`, `undecided`, `too_early` or `mismatch`.
    pub verdict: String,
    /// The p-value of the split being what was asked for.
    pub mismatch_p_value: f64,
    /// When the arm was stopped before its experiment's end.
    pub stopped_at: Option<UtcMicros>,
    /// Why, in words.
    pub stop_reason: Option<String>,
}

/// The columns of a row, named as in its JSON; times are UTC microseconds.
pub fn experiment_report_schema() -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let nullable = |name: &str, kind: DataType| Field::new(name, kind, true);
    Schema::new(vec![
        required("reported_at", utc.clone()),
        required("complete_until", utc.clone()),
        required("experiment", DataType::Utf8),
        required("arm", DataType::Utf8),
        required("control", DataType::Utf8),
        required("metric", DataType::Utf8),
        required("is_decisive", DataType::Boolean),
        required("arm_units", DataType::UInt64),
        required("control_units", DataType::UInt64),
        required("arm_uploads", DataType::UInt64),
        required("control_uploads", DataType::UInt64),
        nullable("arm_value", DataType::Float64),
        nullable("control_value", DataType::Float64),
        nullable("difference", DataType::Float64),
        nullable("low", DataType::Float64),
        nullable("high", DataType::Float64),
        required("confidence_level", DataType::Float64),
        required("verdict", DataType::Utf8),
        required("mismatch_p_value", DataType::Float64),
        nullable("stopped_at", utc),
        nullable("stop_reason", DataType::Utf8),
    ])
}

/// Rows as one batch under [`experiment_report_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn experiment_report_batch(rows: &[ExperimentReport]) -> Result<RecordBatch, ArrowError> {
    type Of<T> = fn(&ExperimentReport) -> T;
    let moment = |of: Of<Option<UtcMicros>>| -> ArrayRef {
        let micros = rows.iter().map(|row| of(row).map(|it| i64::try_from(it.0).unwrap_or(i64::MAX)));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let count = |of: Of<u64>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<UInt64Array>()) };
    let real = |of: Of<Option<f64>>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Float64Array>()) };
    let columns = vec![
        moment(|row| Some(row.reported_at)),
        moment(|row| Some(row.complete_until)),
        text(rows, |row| Some(&row.experiment)),
        text(rows, |row| Some(&row.arm)),
        text(rows, |row| Some(&row.control)),
        text(rows, |row| Some(&row.metric)),
        Arc::new(rows.iter().map(|row| Some(row.is_decisive)).collect::<BooleanArray>()),
        count(|row| row.arm_units),
        count(|row| row.control_units),
        count(|row| row.arm_uploads),
        count(|row| row.control_uploads),
        real(|row| row.arm_value),
        real(|row| row.control_value),
        real(|row| row.difference),
        real(|row| row.low),
        real(|row| row.high),
        real(|row| Some(row.confidence_level)),
        text(rows, |row| Some(&row.verdict)),
        real(|row| Some(row.mismatch_p_value)),
        moment(|row| row.stopped_at),
        text(rows, |row| row.stop_reason.as_deref()),
    ];
    RecordBatch::try_new(Arc::new(experiment_report_schema()), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, UInt64Type};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_batch_has_the_values_of_the_json_under_the_same_names() {
        let row = ExperimentReport {
            reported_at: UtcMicros(9),
            complete_until: UtcMicros(8),
            experiment: "prompt-2".into(),
            arm: "short".into(),
            control: "control".into(),
            metric: "success_rate".into(),
            is_decisive: true,
            arm_units: 1,
            control_units: 2,
            arm_uploads: 3,
            control_uploads: 4,
            arm_value: Some(0.9),
            control_value: None,
            difference: Some(0.1),
            low: Some(-0.2),
            high: Some(0.3),
            confidence_level: 0.95,
            verdict: "undecided".into(),
            mismatch_p_value: 0.5,
            stopped_at: None,
            stop_reason: None,
        };
        let Value::Object(json) = serde_json::to_value(&row).expect("JSON") else { panic!("an object") };
        let batch = experiment_report_batch(std::slice::from_ref(&row)).expect("fits the schema");
        let schema = experiment_report_schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(json.keys().collect::<Vec<_>>(), names);
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let value = &json[field.name()];
            match field.data_type() {
                _ if value.is_null() => assert!(column.is_null(0), "{}", field.name()),
                DataType::UInt64 => assert_eq!(column.as_primitive::<UInt64Type>().value(0), *value),
                DataType::Float64 => assert_eq!(column.as_primitive::<Float64Type>().value(0), *value),
                DataType::Utf8 => assert_eq!(column.as_string::<i32>().value(0), *value),
                _ => {}
            }
        }
        assert_eq!(serde_json::from_value::<ExperimentReport>(json.into()).expect("reads back"), row);
    }
}
