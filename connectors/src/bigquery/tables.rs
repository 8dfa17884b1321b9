//! The tables: what each is about, its columns, how it lies, and where its rows come from. Another table is another entry.

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use records::{attempt_batch, attempt_schema, dead_letter_batch, dead_letter_schema, outcome_batch, outcome_schema};

use super::columns::{ATTEMPTS, DEAD_LETTERS, OUTCOMES};
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
pub(super) static TABLES: [Table; 3] = [
    Table {
        name: "outcomes",
        about: "How uploads ended: one row for each upload and version. The largest version stands.",
        day: "arrived_at",
        cluster: &["arm", "model", "lane", "customer_id"],
        columns: &OUTCOMES,
        schema: outcome_schema,
        log: Log::Outcomes,
        rows: |store, range| async move { batch(outcome_batch(&store.outcomes_between(range).await?)) }.boxed(),
    },
    Table {
        name: "attempts",
        about: "Every call of a model: one row for each outcome and position.",
        day: "started_at",
        cluster: &["branch", "model", "arm", "customer_id"],
        columns: &ATTEMPTS,
        schema: attempt_schema,
        log: Log::Outcomes,
        rows: |store, range| async move { batch(attempt_batch(&store.attempts_between(range).await?)) }.boxed(),
    },
    Table {
        name: "dead_letters",
        about: "Uploads that ended without metadata: one row for each upload and version that was dead-lettered.",
        day: "died_at",
        cluster: &["error_type", "last_model", "lane", "customer_id"],
        columns: &DEAD_LETTERS,
        schema: dead_letter_schema,
        log: Log::Outcomes,
        rows: |store, range| async move { batch(dead_letter_batch(&store.dead_letters_between(range).await?)) }.boxed(),
    },
];

fn batch(made: Result<RecordBatch, ArrowError>) -> Result<RecordBatch, BigQueryError> {
    Ok(made?)
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
    fn every_column_of_every_schema_is_described_in_its_order() {
        for table in &TABLES {
            let schema = (table.schema)();
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let described: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, described, "{}", table.name);
            assert!(names.contains(&table.day) && table.cluster.iter().all(|column| names.contains(column)));
            assert!(table.columns.iter().all(|(_, meaning)| meaning.len() > 8 && !meaning.contains('|')));
        }
    }

    #[test]
    fn the_documented_tables_are_those_that_are_made() {
        let readme = include_str!("../../../deploy/bigquery/README.md");
        let expected = reference();
        assert!(readme.contains(expected.trim_end()), "deploy/bigquery/README.md has to contain:\n\n{expected}");
    }
}
