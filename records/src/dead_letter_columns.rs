//! Dead letters as Arrow columns: the schema of BigQuery's table `dead_letters`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::{Attempt, Branch, ErrorType, Outcome, Tier, UtcMicros};

/// An outcome without metadata, and the last call that was made for it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterRow {
    /// How the upload ended.
    pub outcome: Outcome,
    /// `None` where no model was asked.
    pub last: Option<Attempt>,
}

/// The columns of a dead letter. The event itself stays in the store.
pub fn dead_letter_schema() -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let nullable = |name: &str| Field::new(name, DataType::Utf8, true);
    Schema::new(vec![
        required("upload_id", DataType::Utf8),
        required("version", DataType::UInt32),
        nullable("customer_id"),
        nullable("source"),
        required("lane", DataType::Utf8),
        nullable("tier"),
        nullable("arm"),
        nullable("error_type"),
        nullable("error"),
        required("attempts", DataType::UInt32),
        nullable("last_branch"),
        nullable("last_model"),
        required("cost_micro_usd", DataType::UInt64),
        required("arrived_at", utc.clone()),
        required("died_at", utc),
    ])
}

/// Dead letters as one batch under [`dead_letter_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn dead_letter_batch(rows: &[DeadLetterRow]) -> Result<RecordBatch, ArrowError> {
    let small = |of: fn(&Outcome) -> u32| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(&row.outcome)).collect::<UInt32Array>())
    };
    let moment = |of: fn(&Outcome) -> UtcMicros| -> ArrayRef {
        let micros = rows.iter().map(|row| i64::try_from(of(&row.outcome).0).unwrap_or(i64::MAX));
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    };
    let columns = vec![
        text(rows, |row| Some(row.outcome.upload_id.as_str())),
        small(|outcome| outcome.version),
        text(rows, |row| row.outcome.customer_id.as_deref()),
        text(rows, |row| row.outcome.source.as_deref()),
        text(rows, |row| Some(row.outcome.lane.as_str())),
        text(rows, |row| row.outcome.tier.map(Tier::as_str)),
        text(rows, |row| row.outcome.arm.as_deref()),
        text(rows, |row| row.outcome.error_type.map(ErrorType::as_str)),
        text(rows, |row| row.outcome.error.as_deref()),
        small(|outcome| outcome.attempts),
        text(rows, |row| row.last.as_ref().map(|last| Branch::as_str(last.branch))),
        text(rows, |row| row.last.as_ref().map(|last| last.model.as_str())),
        Arc::new(rows.iter().map(|row| row.outcome.cost_micro_usd.0).collect::<UInt64Array>()),
        moment(|outcome| outcome.arrived_at),
        moment(|outcome| outcome.completed_at),
    ];
    RecordBatch::try_new(Arc::new(dead_letter_schema()), columns)
}

/// A column of text.
pub(crate) fn text<'a, T>(rows: &'a [T], of: impl Fn(&'a T) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<StringArray>())
}
