//! The tables: what each is about, its columns, how it lies, and where its rows come from. Another table is another entry.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use futures::FutureExt;
use futures::future::BoxFuture;
use records::meanings::{ALERTS, ATTEMPTS, AUDIT, DEAD_LETTERS, EXPERIMENT_REPORTS, OUTCOMES, WINDOWS};
use records::{
    UtcMicros, alert_schema, attempt_batch, attempt_schema, audit_schema, dead_letter_batch, dead_letter_schema,
    experiment_report_schema, outcome_schema, window_schema,
};

use super::error::BigQueryError;
use crate::store::{Batch, Log, Store};

/// A table of the dataset.
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) about: &'static str,
    /// The moment by whose UTC day it is partitioned.
    pub(super) day: &'static str,
    /// Rows of a day that are alike in these lie together; BigQuery takes four at most.
    pub(super) cluster: &'static [&'static str],
    /// What names a row: no two are alike in all of these.
    pub(super) key: &'static [&'static str],
    /// Its columns, each with what it means.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Their types.
    pub(super) schema: fn() -> Schema,
    /// Where ranges are taken from.
    pub(super) log: Log,
    /// Its rows that come from a range of that log. What was committed never changes, and neither do these.
    pub(super) rows: for<'a> fn(&'a Store, Batch) -> BoxFuture<'a, Result<RecordBatch, BigQueryError>>,
}

/// All of them.
pub(super) static TABLES: [Table; 7] = [
    Table {
        name: "outcomes",
        about: "How uploads ended: one row for each upload and version. The largest version stands.",
        day: "arrived_at",
        cluster: &["arm", "model", "lane", "customer_id"],
        key: &["upload_id", "version"],
        columns: &OUTCOMES,
        schema: outcome_schema,
        log: Log::Outcomes,
        rows: |store, range| whole(store, Log::Outcomes, range),
    },
    Table {
        name: "attempts",
        about: "Every call of a model: one row for each outcome and position.",
        day: "started_at",
        cluster: &["branch", "model", "arm", "customer_id"],
        key: &["upload_id", "version", "position"],
        columns: &ATTEMPTS,
        schema: attempt_schema,
        log: Log::Outcomes,
        rows: |store, range| async move { Ok(attempt_batch(&store.attempts_between(range).await?)?) }.boxed(),
    },
    Table {
        name: "dead_letters",
        about: "Uploads that ended without metadata: one row for each upload and version that was dead-lettered.",
        day: "died_at",
        cluster: &["error_type", "last_model", "lane", "customer_id"],
        key: &["upload_id", "version"],
        columns: &DEAD_LETTERS,
        schema: dead_letter_schema,
        log: Log::Outcomes,
        rows: |store, range| async move { Ok(dead_letter_batch(&store.dead_letters_between(range).await?)?) }.boxed(),
    },
    Table {
        name: "windows",
        about: "What became of the uploads that arrived in a window of time: one row for each window, experiment, arm, \
                model, lane, tier, region and version. The largest version stands.",
        day: "start",
        cluster: &["experiment", "arm", "model", "lane"],
        key: &["start", "width_s", "experiment", "arm", "model", "lane", "tier", "region", "version"],
        columns: &WINDOWS,
        schema: window_schema,
        log: Log::Windows,
        rows: |store, range| whole(store, Log::Windows, range),
    },
    Table {
        name: "experiment_reports",
        about: "What experiments looked like over time: one row for each report, arm and metric.",
        day: "reported_at",
        cluster: &["experiment", "arm", "metric"],
        key: &["reported_at", "experiment", "arm", "metric"],
        columns: &EXPERIMENT_REPORTS,
        schema: experiment_report_schema,
        log: Log::ExperimentReports,
        rows: |store, range| whole(store, Log::ExperimentReports, range),
    },
    Table {
        name: "alerts",
        about: "Alerts that fired or were resolved: one row for each change that was told.",
        day: "since",
        cluster: &["name", "severity", "phase"],
        key: &["name", "since"],
        columns: &ALERTS,
        schema: alert_schema,
        log: Log::AlertChanges,
        rows: |store, range| whole(store, Log::AlertChanges, range),
    },
    Table {
        name: "audit",
        about: "What was done to the data, and by whom: one row for each operation.",
        day: "done_at",
        cluster: &["operation", "actor", "target"],
        key: &["done_at", "actor", "operation", "target"],
        columns: &AUDIT,
        schema: audit_schema,
        log: Log::Audit,
        rows: |store, range| whole(store, Log::Audit, range),
    },
];

/// The rows of a table that are those of its log.
fn whole(store: &Store, log: Log, range: Batch) -> BoxFuture<'_, Result<RecordBatch, BigQueryError>> {
    async move { Ok(store.columns_between(log, range).await?) }.boxed()
}

impl Table {
    /// A row's key in words: its columns with their values.
    pub(super) fn name_of_row(&self, rows: &RecordBatch, row: usize) -> String {
        let value = |column: &&str| {
            let values = rows.column_by_name(column).expect("a key's columns are in the schema, as a test sees");
            let value = match values.data_type() {
                _ if values.is_null(row) => return format!("no {column}"),
                // Arrow shows no moments of a named time zone.
                DataType::Timestamp(..) => {
                    let micros = values.as_primitive::<TimestampMicrosecondType>().value(row);
                    UtcMicros(u64::try_from(micros).unwrap_or_default()).to_string()
                }
                _ => array_value_to_string(values, row).unwrap_or_default(),
            };
            format!("{column} {value}")
        };
        self.key.iter().map(value).collect::<Vec<_>>().join(", ")
    }
}

/// What the dataset holds, as the table of a document: each table with its columns, their types and meanings.
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for table in &TABLES {
        let cluster = table.cluster.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
        let heading = format!(
            "### `{}`\n\n{} Partitioned by the day of `{}`,\nclustered by {cluster}.",
            table.name, table.about, table.day
        );
        write!(text, "{heading}\n\n| column | type | meaning |\n|---|---|---|\n").expect("text takes all");
        let schema = super::schema::with_bigquery_types((table.schema)());
        for ((name, meaning), field) in table.columns.iter().zip(schema.fields()) {
            let kind = super::schema::sql_type(field.data_type());
            writeln!(text, "| `{name}` | {kind} | {meaning} |").expect("text takes all");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_s_day_cluster_and_key_are_columns_of_its_own() {
        for table in &TABLES {
            let schema = (table.schema)();
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            assert!(names.contains(&table.day) && table.cluster.len() <= 4);
            assert!(table.cluster.iter().chain(table.key).all(|column| names.contains(column)));
        }
    }

    #[test]
    fn the_documented_tables_are_those_that_are_made() {
        let readme = include_str!("../../../deploy/bigquery/README.md");
        let expected = reference();
        assert!(readme.contains(expected.trim_end()), "deploy/bigquery/README.md has to contain:\n\n{expected}");
    }
}
