//! Outcomes as Arrow columns: the schema of the Parquet files and of the BigQuery table.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::{Confidence, Outcome, UtcMicros};

/// The columns of an outcome, named as in its JSON; SCHEMA.md says what each means, as it does for all others. `metadata` and `field_confidence` are JSON objects as text; times are
/// UTC microseconds.
pub fn outcome_schema() -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let nullable = |name: &str, kind: DataType| Field::new(name, kind, true);
    Schema::new(vec![
        required("upload_id", DataType::Utf8),
        required("version", DataType::UInt32),
        nullable("customer_id", DataType::Utf8),
        nullable("source", DataType::Utf8),
        required("lane", DataType::Utf8),
        nullable("tier", DataType::Utf8),
        nullable("region", DataType::Utf8),
        required("status", DataType::Utf8),
        nullable("branch", DataType::Utf8),
        nullable("fallback_reason", DataType::Utf8),
        nullable("model", DataType::Utf8),
        nullable("experiment", DataType::Utf8),
        nullable("arm", DataType::Utf8),
        nullable("confidence", DataType::Float64),
        required("below_threshold", DataType::Boolean),
        required("metadata", DataType::Utf8),
        required("field_confidence", DataType::Utf8),
        required("attempts", DataType::UInt32),
        nullable("error", DataType::Utf8),
        nullable("error_type", DataType::Utf8),
        required("queued_ms", DataType::UInt64),
        required("inference_ms", DataType::UInt64),
        required("total_ms", DataType::UInt64),
        required("cost_micro_usd", DataType::UInt64),
        required("arrived_at", utc.clone()),
        required("completed_at", utc),
        required("training_consent", DataType::Boolean),
    ])
}

/// Outcomes as one batch under [`outcome_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn outcome_batch(outcomes: &[Outcome]) -> Result<RecordBatch, ArrowError> {
    fn text<'a>(outcomes: &'a [Outcome], of: impl Fn(&'a Outcome) -> Option<&'a str>) -> ArrayRef {
        Arc::new(outcomes.iter().map(of).collect::<StringArray>())
    }
    fn count(outcomes: &[Outcome], of: impl Fn(&Outcome) -> u64) -> ArrayRef {
        Arc::new(outcomes.iter().map(of).collect::<UInt64Array>())
    }
    fn json<T: serde::Serialize>(outcomes: &[Outcome], of: impl Fn(&Outcome) -> &T) -> Result<ArrayRef, ArrowError> {
        let rows: Result<Vec<String>, _> = outcomes.iter().map(|outcome| serde_json::to_string(of(outcome))).collect();
        Ok(Arc::new(StringArray::from(rows.map_err(|error| ArrowError::JsonError(error.to_string()))?)))
    }
    fn moment(outcomes: &[Outcome], of: impl Fn(&Outcome) -> UtcMicros) -> ArrayRef {
        let micros = outcomes.iter().map(|outcome| i64::try_from(of(outcome).0).unwrap_or(i64::MAX));
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    }
    let columns: Vec<ArrayRef> = vec![
        text(outcomes, |o| Some(o.upload_id.as_str())),
        Arc::new(outcomes.iter().map(|o| o.version).collect::<UInt32Array>()),
        text(outcomes, |o| o.customer_id.as_deref()),
        text(outcomes, |o| o.source.as_deref()),
        text(outcomes, |o| Some(o.lane.as_str())),
        text(outcomes, |o| o.tier.map(crate::Tier::as_str)),
        text(outcomes, |o| o.region.as_deref()),
        text(outcomes, |o| Some(o.status.as_str())),
        text(outcomes, |o| o.branch.map(crate::Branch::as_str)),
        text(outcomes, |o| o.fallback_reason.map(crate::FallbackReason::as_str)),
        text(outcomes, |o| o.model.as_deref()),
        text(outcomes, |o| o.experiment.as_deref()),
        text(outcomes, |o| o.arm.as_deref()),
        Arc::new(outcomes.iter().map(|o| o.confidence.map(Confidence::get)).collect::<Float64Array>()),
        Arc::new(outcomes.iter().map(|o| Some(o.below_threshold)).collect::<BooleanArray>()),
        json(outcomes, |o| &o.metadata)?,
        json(outcomes, |o| &o.field_confidence)?,
        Arc::new(outcomes.iter().map(|o| o.attempts).collect::<UInt32Array>()),
        text(outcomes, |o| o.error.as_deref()),
        text(outcomes, |o| o.error_type.map(crate::ErrorType::as_str)),
        count(outcomes, |o| o.queued_ms),
        count(outcomes, |o| o.inference_ms),
        count(outcomes, |o| o.total_ms),
        count(outcomes, |o| o.cost_micro_usd.0),
        moment(outcomes, |o| o.arrived_at),
        moment(outcomes, |o| o.completed_at),
        Arc::new(outcomes.iter().map(|o| Some(o.training_consent)).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(Arc::new(outcome_schema()), columns)
}
