//! The audit log: what people and the system's own watchers did to the data.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::UtcMicros;
use crate::dead_letter_columns::text;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Uploads were put in the queue.
    Enqueue,
    /// Uploads were given to a worker of a command's own.
    Process,
    /// Dead letters were put in the queue again.
    Redrive,
    /// Dead letters were thrown away.
    Purge,
    /// Answers about a customer's uploads were deleted from the cache.
    ForgetCached,
    /// An experiment was started.
    StartExperiment,
    /// An experiment was stopped.
    StopExperiment,
    /// An arm of an experiment was stopped.
    StopArm,
    /// A replay of uploads was begun.
    Replay,
    /// A write stream to a table in BigQuery was given up.
    NewStream,
}

crate::upload::text_form!(Operation {
    Enqueue = "enqueue",
    Process = "process",
    Redrive = "redrive",
    Purge = "purge",
    ForgetCached = "forget_cached",
    StartExperiment = "start_experiment",
    StopExperiment = "stop_experiment",
    StopArm = "stop_arm",
    Replay = "replay",
    NewStream = "new_stream"
});

/// An operation that was done. What changed nothing is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub done_at: UtcMicros,
    /// Who: `user@host` of the process, or `guardrail`.
    pub actor: String,
    /// What.
    pub operation: Operation,
    /// To what: `queue`, `uploads` or `dead_letters`, or the name of an experiment, a customer, a run or a table.
    pub target: String,
    /// The particulars, a JSON object.
    pub detail: Value,
}

/// The columns of an entry, named as in its JSON. `detail` is a JSON object as text.
pub fn audit_schema() -> Schema {
    let required = |name: &str| Field::new(name, DataType::Utf8, false);
    Schema::new(vec![
        Field::new("done_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        required("actor"),
        required("operation"),
        required("target"),
        required("detail"),
    ])
}

/// Entries as one batch under [`audit_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn audit_batch(entries: &[AuditEntry]) -> Result<RecordBatch, ArrowError> {
    let done = entries.iter().map(|entry| i64::try_from(entry.done_at.0).unwrap_or(i64::MAX));
    let details: Vec<String> = entries.iter().map(|entry| entry.detail.to_string()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(done).with_timezone("UTC")),
        text(entries, |entry| Some(&entry.actor)),
        text(entries, |entry| Some(entry.operation.as_str())),
        text(entries, |entry| Some(&entry.target)),
        text(&details, |detail| Some(detail)),
    ];
    RecordBatch::try_new(Arc::new(audit_schema()), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn a_batch_has_the_values_of_the_json_under_the_same_names() {
        let entry = AuditEntry {
            done_at: UtcMicros(1_790_000_000_000_000),
            actor: "ann@desk".into(),
            operation: Operation::StopArm,
            target: "prompt-2".into(),
            detail: serde_json::json!({ "arm": "short", "reason": "a \"slow\" one" }),
        };
        let json = serde_json::to_value(&entry).expect("JSON");
        let batch = audit_batch(std::slice::from_ref(&entry)).expect("fits the schema");
        let schema = audit_schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(json.as_object().expect("an object").keys().collect::<Vec<_>>(), names);
        for name in ["actor", "operation", "target"] {
            assert_eq!(batch.column_by_name(name).expect("a column").as_string::<i32>().value(0), json[name]);
        }
        let detail = batch.column_by_name("detail").expect("a column").as_string::<i32>().value(0);
        assert_eq!(serde_json::from_str::<Value>(detail).expect("JSON"), entry.detail);
        assert_eq!(serde_json::from_value::<AuditEntry>(json).expect("reads back"), entry);
    }
}
