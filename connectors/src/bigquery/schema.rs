//! Arrow's types as BigQuery's, and how a table's schema is brought to ours.
//!
//! Every column may be null: BigQuery adds no other ones to a table that is there, and refuses a file whose columns may be
//! null otherwise than the table's.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;

use super::error::BigQueryError;
use super::tables::Table;

/// The schema in types that BigQuery has: it knows no unsigned numbers, and ours fit; a list is a JSON array as text.
pub(super) fn with_bigquery_types(schema: Schema) -> Schema {
    let field = |field: &Arc<Field>| {
        let kind = match field.data_type() {
            DataType::UInt32 | DataType::UInt64 => DataType::Int64,
            DataType::List(_) => DataType::Utf8,
            other => other.clone(),
        };
        Field::new(field.name(), kind, true)
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// The rows in types that BigQuery has.
pub(super) fn for_bigquery(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = with_bigquery_types(rows.schema().as_ref().clone());
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::new(schema), columns)
}

/// A type's name in SQL.
///
/// # Panics
/// For a type that no table of ours has.
pub(super) fn sql_type(kind: &DataType) -> &'static str {
    match kind {
        DataType::Utf8 => "STRING",
        DataType::Int64 => "INT64",
        DataType::Float64 => "FLOAT64",
        DataType::Boolean => "BOOL",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMP",
        other => unreachable!("no table of ours has a column of {other}, as tests of this file see"),
    }
}

fn field_type(kind: &DataType) -> FieldType {
    match sql_type(kind) {
        "INT64" => FieldType::Integer,
        "FLOAT64" => FieldType::Float,
        "BOOL" => FieldType::Boolean,
        "TIMESTAMP" => FieldType::Timestamp,
        _ => FieldType::String,
    }
}

/// BigQuery's two names of a type as one.
fn found_type(kind: &FieldType) -> String {
    match kind {
        FieldType::Integer | FieldType::Int64 => "INT64".to_owned(),
        FieldType::Float | FieldType::Float64 => "FLOAT64".to_owned(),
        FieldType::Boolean | FieldType::Bool => "BOOL".to_owned(),
        FieldType::Record | FieldType::Struct => "STRUCT".to_owned(),
        other => format!("{other:?}").to_uppercase(),
    }
}

/// A table's columns, with what they mean.
pub(super) fn columns(table: &Table) -> Vec<TableFieldSchema> {
    let schema = with_bigquery_types((table.schema)());
    let column = |(field, (_, meaning)): (&Arc<Field>, &(&str, &str))| TableFieldSchema {
        description: Some((*meaning).to_owned()),
        mode: Some("NULLABLE".to_owned()),
        ..TableFieldSchema::new(field.name(), field_type(field.data_type()))
    };
    schema.fields().iter().zip(table.columns).map(column).collect()
}

/// What has to become of a table that is there.
pub(super) struct Migration {
    /// All its columns, as they have to be.
    pub(super) fields: Vec<TableFieldSchema>,
    /// What is other than it was, in words.
    pub(super) changes: Vec<String>,
}

/// What has to become of a table's columns; nothing where they are as they have to be. Columns that are not ours stay.
///
/// # Errors
/// [`BigQueryError::Column`] where one has another type; `name` is the table's.
pub(super) fn migrated(
    name: &str,
    table: &Table,
    mut found: Vec<TableFieldSchema>,
) -> Result<Option<Migration>, BigQueryError> {
    let mut changes = Vec::new();
    let schema = with_bigquery_types((table.schema)());
    for (ours, field) in columns(table).into_iter().zip(schema.fields()) {
        let Some(theirs) = found.iter_mut().find(|it| it.name.eq_ignore_ascii_case(&ours.name)) else {
            changes.push(format!("column {} {}", ours.name, sql_type(field.data_type())));
            found.push(ours);
            continue;
        };
        let wanted = sql_type(field.data_type());
        let repeated = theirs.mode.as_deref() == Some("REPEATED");
        if repeated || found_type(&theirs.r#type) != wanted {
            let kind = found_type(&theirs.r#type);
            return Err(BigQueryError::Column {
                table: name.to_owned(),
                column: ours.name,
                found: if repeated { format!("ARRAY<{kind}>") } else { kind },
                wanted,
            });
        }
        if theirs.mode.as_deref() == Some("REQUIRED") {
            theirs.mode = Some("NULLABLE".to_owned());
            changes.push(format!("column {} may be null", ours.name));
        }
    }
    Ok(if changes.is_empty() { None } else { Some(Migration { fields: found, changes }) })
}

#[cfg(test)]
mod tests {
    use super::super::tables::TABLES;
    use super::*;

    #[test]
    fn a_list_is_a_json_array_as_text() {
        use arrow::array::{AsArray, ListArray, UInt64Array};
        use arrow::buffer::OffsetBuffer;
        let bins = Arc::new(Field::new("item", DataType::UInt64, false));
        let values = Arc::new(UInt64Array::from(vec![0, 10, 200]));
        let lists = ListArray::new(Arc::clone(&bins), OffsetBuffer::from_lengths([3, 0]), values, None);
        let schema = Arc::new(Schema::new(vec![Field::new("histogram", DataType::List(bins), false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(lists)]).expect("a batch");
        let texts = for_bigquery(&rows).expect("types that BigQuery has").column(0).as_string::<i32>().clone();
        let read = texts.iter().flatten().map(|text| serde_json::from_str::<Vec<u64>>(text).expect("JSON"));
        assert_eq!(read.collect::<Vec<_>>(), [vec![0, 10, 200], vec![]]);
    }

    #[test]
    fn a_table_as_it_is_made_needs_nothing() {
        for table in &TABLES {
            assert!(migrated("t", table, columns(table)).expect("the same types").is_none());
        }
    }

    #[test]
    fn a_column_that_is_missing_is_added_at_the_end_and_foreign_ones_stay() {
        let table = &TABLES[0];
        let mut found = columns(table);
        let missing = found.remove(3);
        found.push(TableFieldSchema::integer("theirs"));
        let Migration { fields, changes } =
            migrated("t", table, found).expect("the same types").expect("one is missing");
        let names: Vec<_> = fields.iter().rev().take(2).map(|field| field.name.as_str()).collect();
        assert_eq!(names, [missing.name.as_str(), "theirs"]);
        assert_eq!((fields.len(), changes), (table.columns.len() + 1, vec!["column source STRING".to_owned()]));
    }

    #[test]
    fn a_column_of_another_type_stops_with_its_name_and_the_mend() {
        let table = &TABLES[0];
        for (kind, mode, shown) in [("STRING", "NULLABLE", "STRING"), ("INTEGER", "REPEATED", "ARRAY<INT64>")] {
            let mut found = columns(table);
            let field = serde_json::json!({ "name": "total_ms", "type": kind, "mode": mode });
            let place = found.iter().position(|it| it.name == "total_ms").expect("a column");
            found[place] = serde_json::from_value(field).expect("a field");
            let error = migrated("p.d.outcomes", table, found).map(drop).expect_err("another type").to_string();
            for part in ["p.d.outcomes", "total_ms", shown, "INT64", "RENAME COLUMN"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn a_column_that_must_not_be_null_is_relaxed() {
        let mut found = columns(&TABLES[1]);
        found[0].mode = Some("REQUIRED".to_owned());
        let Migration { fields, changes } =
            migrated("t", &TABLES[1], found).expect("the same types").expect("one is required");
        assert_eq!((fields[0].mode.as_deref(), changes.len()), (Some("NULLABLE"), 1));
    }
}
