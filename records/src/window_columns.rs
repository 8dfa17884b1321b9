//! Window rows as Arrow columns: the schema of their Parquet files and of the BigQuery table.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, ListBuilder, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
    UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::{Tier, UtcMicros, WindowRow};

/// The quantiles of a row by their columns' names.
#[expect(clippy::type_complexity, reason = "a table of two columns")]
const QUANTILES: [(&str, fn(&WindowRow) -> Option<u64>); 12] = [
    ("queued_p50_ms", |row| row.queued_p50_ms),
    ("queued_p90_ms", |row| row.queued_p90_ms),
    ("queued_p95_ms", |row| row.queued_p95_ms),
    ("queued_p99_ms", |row| row.queued_p99_ms),
    ("inference_p50_ms", |row| row.inference_p50_ms),
    ("inference_p90_ms", |row| row.inference_p90_ms),
    ("inference_p95_ms", |row| row.inference_p95_ms),
    ("inference_p99_ms", |row| row.inference_p99_ms),
    ("total_p50_ms", |row| row.total_p50_ms),
    ("total_p90_ms", |row| row.total_p90_ms),
    ("total_p95_ms", |row| row.total_p95_ms),
    ("total_p99_ms", |row| row.total_p99_ms),
];

/// The columns of a window row, named as in its JSON. `errors` and `fallback_reasons` are JSON objects as text;
/// times are UTC microseconds.
pub fn window_schema() -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let nullable = |name: &str, kind: DataType| Field::new(name, kind, true);
    let mut fields = vec![
        required("kind", DataType::Utf8),
        required("start", utc.clone()),
        required("end", utc),
        required("width_s", DataType::UInt32),
        nullable("experiment", DataType::Utf8),
        nullable("arm", DataType::Utf8),
        nullable("model", DataType::Utf8),
        required("lane", DataType::Utf8),
        nullable("tier", DataType::Utf8),
        nullable("region", DataType::Utf8),
        required("version", DataType::UInt32),
        required("requests", DataType::UInt64),
        required("completed", DataType::UInt64),
        required("dead_lettered", DataType::UInt64),
        required("errors", DataType::Utf8),
        required("fallbacks", DataType::UInt64),
        required("fallback_reasons", DataType::Utf8),
        required("cache_hits", DataType::UInt64),
        required("below_threshold", DataType::UInt64),
    ];
    fields.extend(QUANTILES.iter().map(|(name, _)| nullable(name, DataType::UInt64)));
    fields.extend([
        required("confidence_histogram", DataType::List(Arc::new(bin()))),
        nullable("confidence_mean", DataType::Float64),
        required("cost_micro_usd", DataType::UInt64),
        nullable("cost_per_request_micro_usd", DataType::Float64),
    ]);
    Schema::new(fields)
}

fn bin() -> Field {
    Field::new("item", DataType::UInt64, false)
}

/// Window rows as one batch under [`window_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn window_batch(rows: &[WindowRow]) -> Result<RecordBatch, ArrowError> {
    fn text<'a>(rows: &'a [WindowRow], of: impl Fn(&'a WindowRow) -> Option<&'a str>) -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    }
    fn count(rows: &[WindowRow], of: impl Fn(&WindowRow) -> Option<u64>) -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<UInt64Array>())
    }
    fn json<T: serde::Serialize>(rows: &[WindowRow], of: impl Fn(&WindowRow) -> &T) -> Result<ArrayRef, ArrowError> {
        let texts: Result<Vec<String>, _> = rows.iter().map(|row| serde_json::to_string(of(row))).collect();
        Ok(Arc::new(StringArray::from(texts.map_err(|error| ArrowError::JsonError(error.to_string()))?)))
    }
    fn real(rows: &[WindowRow], of: impl Fn(&WindowRow) -> Option<f64>) -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Float64Array>())
    }
    fn moment(rows: &[WindowRow], of: impl Fn(&WindowRow) -> UtcMicros) -> ArrayRef {
        let micros = rows.iter().map(|row| i64::try_from(of(row).0).unwrap_or(i64::MAX));
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    }
    let mut bins = ListBuilder::new(UInt64Builder::new()).with_field(bin());
    rows.iter().for_each(|row| bins.append_value(row.confidence_histogram.iter().copied().map(Some)));
    let mut columns: Vec<ArrayRef> = vec![
        text(rows, |row| Some(row.kind.as_str())),
        moment(rows, |row| row.start),
        moment(rows, |row| row.end),
        Arc::new(rows.iter().map(|row| row.width_s).collect::<UInt32Array>()),
        text(rows, |row| row.key.experiment.as_deref()),
        text(rows, |row| row.key.arm.as_deref()),
        text(rows, |row| row.key.model.as_deref()),
        text(rows, |row| Some(row.key.lane.as_str())),
        text(rows, |row| row.key.tier.map(Tier::as_str)),
        text(rows, |row| row.key.region.as_deref()),
        Arc::new(rows.iter().map(|row| row.version).collect::<UInt32Array>()),
        count(rows, |row| Some(row.requests)),
        count(rows, |row| Some(row.completed)),
        count(rows, |row| Some(row.dead_lettered)),
        json(rows, |row| &row.errors)?,
        count(rows, |row| Some(row.fallbacks)),
        json(rows, |row| &row.fallback_reasons)?,
        count(rows, |row| Some(row.cache_hits)),
        count(rows, |row| Some(row.below_threshold)),
    ];
    columns.extend(QUANTILES.iter().map(|(_, of)| count(rows, of)));
    columns.extend([
        Arc::new(bins.finish()) as ArrayRef,
        real(rows, |row| row.confidence_mean),
        count(rows, |row| Some(row.cost_micro_usd.0)),
        real(rows, |row| row.cost_per_request_micro_usd),
    ]);
    RecordBatch::try_new(Arc::new(window_schema()), columns)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;

    use super::*;
    use crate::{CONFIDENCE_BINS, ErrorType, FallbackReason, Lane, MicroUsd, WindowKey, WindowKind};

    fn row() -> WindowRow {
        WindowRow {
            kind: WindowKind::Arrival,
            start: UtcMicros(1_790_000_040_000_000),
            end: UtcMicros(1_790_000_100_000_000),
            width_s: 60,
            key: WindowKey {
                experiment: Some("short-prompt".into()),
                arm: Some("primary".into()),
                model: None,
                lane: Lane::High,
                tier: Some(Tier::Pro),
                region: Some("eu-west".into()),
            },
            version: 2,
            requests: 3,
            completed: 2,
            dead_lettered: 1,
            errors: BTreeMap::from([(ErrorType::Timeout, 1)]),
            fallbacks: 1,
            fallback_reasons: BTreeMap::from([(FallbackReason::Unsure, 1)]),
            cache_hits: 0,
            below_threshold: 1,
            queued_p50_ms: Some(1),
            queued_p90_ms: Some(2),
            queued_p95_ms: Some(3),
            queued_p99_ms: Some(4),
            inference_p50_ms: None,
            inference_p90_ms: None,
            inference_p95_ms: None,
            inference_p99_ms: None,
            total_p50_ms: Some(5),
            total_p90_ms: Some(6),
            total_p95_ms: Some(7),
            total_p99_ms: Some(8),
            confidence_histogram: (0..CONFIDENCE_BINS as u64).collect(),
            confidence_mean: Some(0.5),
            cost_micro_usd: MicroUsd(9),
            cost_per_request_micro_usd: Some(3.0),
        }
    }

    #[test]
    fn the_columns_are_the_fields_of_the_json_in_their_order() {
        let serde_json::Value::Object(json) = serde_json::to_value(row()).expect("JSON") else { panic!("an object") };
        let columns: Vec<String> = window_schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(json.keys().collect::<Vec<_>>(), columns.iter().collect::<Vec<_>>());
        assert_eq!(serde_json::from_value::<WindowRow>(json.into()).expect("reads back"), row());
    }

    #[test]
    fn a_batch_holds_each_value_under_its_name() {
        let batch = window_batch(&[row(), row()]).expect("fits the schema");
        let numbers = |name: &str| {
            let column = batch.column_by_name(name).expect("a column");
            column.as_primitive::<arrow::datatypes::UInt64Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(numbers("total_p95_ms"), [Some(7), Some(7)]);
        assert_eq!(numbers("inference_p50_ms"), [None, None]);
        let errors = batch.column_by_name("errors").expect("a column").as_string::<i32>();
        assert_eq!(errors.value(1), "{\"timeout\":1}");
        let bins = batch.column_by_name("confidence_histogram").expect("a column").as_list::<i32>().value(1);
        assert_eq!(bins.as_primitive::<arrow::datatypes::UInt64Type>().values(), &row().confidence_histogram[..]);
    }
}
