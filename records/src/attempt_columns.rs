//! Calls of models as Arrow columns: the schema of BigQuery's table `attempts`.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::dead_letter_columns::text;
use crate::{Attempt, Lane, Tier, UploadId};

/// A call of a model, and the outcome that it led to.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    /// The upload.
    pub upload_id: UploadId,
    /// Of the outcome.
    pub version: u32,
    /// From 0, in the order in which the outcome's calls were made.
    pub position: u32,
    /// Whose upload it was.
    pub customer_id: Option<String>,
    /// The priority it ran under.
    pub lane: Lane,
    /// Of its customer.
    pub tier: Option<Tier>,
    /// The experiment arm.
    pub arm: Option<String>,
    /// The call.
    pub attempt: Attempt,
}

/// The columns of a call. `error_type` and what follows it are null where the model answered.
pub fn attempt_schema() -> Schema {
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let nullable = |name: &str| Field::new(name, DataType::Utf8, true);
    Schema::new(vec![
        required("upload_id", DataType::Utf8),
        required("version", DataType::UInt32),
        required("position", DataType::UInt32),
        nullable("customer_id"),
        required("lane", DataType::Utf8),
        nullable("tier"),
        nullable("arm"),
        required("round", DataType::UInt32),
        required("branch", DataType::Utf8),
        required("model", DataType::Utf8),
        required("started_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        required("duration_ms", DataType::UInt64),
        required("cost_micro_usd", DataType::UInt64),
        nullable("error_type"),
        nullable("error_class"),
        nullable("error"),
    ])
}

/// Calls as one batch under [`attempt_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn attempt_batch(rows: &[AttemptRow]) -> Result<RecordBatch, ArrowError> {
    let small = |of: fn(&AttemptRow) -> u32| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<UInt32Array>()) };
    let large = |of: fn(&AttemptRow) -> u64| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<UInt64Array>()) };
    let started = rows.iter().map(|row| i64::try_from(row.attempt.started_at.0).unwrap_or(i64::MAX));
    let columns = vec![
        text(rows, |row| Some(row.upload_id.as_str())),
        small(|row| row.version),
        small(|row| row.position),
        text(rows, |row| row.customer_id.as_deref()),
        text(rows, |row| Some(row.lane.as_str())),
        text(rows, |row| row.tier.map(Tier::as_str)),
        text(rows, |row| row.arm.as_deref()),
        small(|row| row.attempt.number),
        text(rows, |row| Some(row.attempt.branch.as_str())),
        text(rows, |row| Some(&row.attempt.model)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(started).with_timezone("UTC")),
        large(|row| row.attempt.duration_ms),
        large(|row| row.attempt.cost.0),
        text(rows, |row| Some(row.attempt.fault.as_ref()?.error_type.as_str())),
        text(rows, |row| Some(row.attempt.fault.as_ref()?.class.as_str())),
        text(rows, |row| Some(row.attempt.fault.as_ref()?.message.as_str())),
    ];
    RecordBatch::try_new(Arc::new(attempt_schema()), columns)
}
