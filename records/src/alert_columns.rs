//! Changes of alerts as Arrow columns: the schema of BigQuery's table `alerts`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::dead_letter_columns::text;
use crate::{Alert, Notice, UtcMicros};

/// The columns of a change that was told. `labels` and `annotations` are JSON objects as text; what comes from the notice may be
/// null, as an alert that was never told has none.
pub fn alert_schema() -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let nullable = |name: &str, kind: DataType| Field::new(name, kind, true);
    Schema::new(vec![
        required("name", DataType::Utf8),
        required("phase", DataType::Utf8),
        required("since", utc.clone()),
        nullable("starts_at", utc.clone()),
        nullable("ends_at", utc),
        nullable("severity", DataType::Utf8),
        nullable("labels", DataType::Utf8),
        nullable("annotations", DataType::Utf8),
    ])
}

/// Changes as one batch under [`alert_schema`], in their order: each alert as it stood from then on.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn alert_batch(alerts: &[Alert]) -> Result<RecordBatch, ArrowError> {
    let moment = |of: fn(&Alert) -> Option<UtcMicros>| -> ArrayRef {
        let micros = alerts.iter().map(|alert| of(alert).map(|it| i64::try_from(it.0).unwrap_or(i64::MAX)));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let json = |of: fn(&Notice) -> &BTreeMap<String, String>| -> Result<ArrayRef, ArrowError> {
        let text = |alert: &Alert| alert.notice.as_ref().map(|notice| serde_json::to_string(of(notice))).transpose();
        let texts: Result<Vec<Option<String>>, _> = alerts.iter().map(text).collect();
        Ok(Arc::new(StringArray::from(texts.map_err(|error| ArrowError::JsonError(error.to_string()))?)))
    };
    let columns = vec![
        text(alerts, |alert| Some(&alert.name)),
        text(alerts, |alert| Some(alert.phase.as_str())),
        moment(|alert| Some(alert.since)),
        moment(|alert| Some(alert.notice.as_ref()?.starts_at)),
        moment(|alert| alert.notice.as_ref()?.ends_at),
        text(alerts, |alert| Some(alert.notice.as_ref()?.label("severity"))),
        json(|notice| &notice.labels)?,
        json(|notice| &notice.annotations)?,
    ];
    RecordBatch::try_new(Arc::new(alert_schema()), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::AlertPhase;

    #[test]
    fn a_change_has_what_was_told_of_it_as_json() {
        let labels = BTreeMap::from([("alertname".into(), "slow".into()), ("severity".into(), "critical".into())]);
        let annotations = BTreeMap::from([("summary".into(), "\"too\" slow".into())]);
        let notice = Notice { labels, annotations, starts_at: UtcMicros(5), ends_at: None };
        let fires =
            Alert { name: "slow".into(), phase: AlertPhase::Firing, since: UtcMicros(5), notice: Some(notice.clone()) };
        let notice = Notice { ends_at: Some(UtcMicros(9)), ..notice };
        let ended =
            Alert { phase: AlertPhase::Resolved, since: UtcMicros(9), notice: Some(notice.clone()), ..fires.clone() };
        let batch = alert_batch(&[fires, ended]).expect("fits the schema");
        let column = |name: &str| batch.column_by_name(name).expect("a column");
        let ends = column("ends_at").as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!((ends.is_null(0), ends.value(1)), (true, 9));
        assert_eq!(column("severity").as_string::<i32>().value(1), "critical");
        let annotations = column("annotations").as_string::<i32>().value(0);
        assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(annotations).expect("JSON"), notice.annotations);
    }
}
