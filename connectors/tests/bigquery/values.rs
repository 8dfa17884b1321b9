//! Every value in BigQuery as it was committed, whichever way it went there.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use connectors::store::WriteMethod::{LoadJobs, StorageWrite};

use crate::emulator::emulator;
use crate::fixture::{TABLES, dataset, export, filled};
use crate::make::START;

/// A value as the REST interface shows it.
fn shown(column: &ArrayRef, row: usize) -> Option<String> {
    column.is_valid(row).then(|| match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            let items: Vec<String> = items.as_primitive::<UInt64Type>().values().iter().map(u64::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        other => panic!("a column of {other}"),
    })
}

#[tokio::test]
async fn every_value_of_every_table_is_as_it_was_committed() {
    for method in [LoadJobs, StorageWrite] {
        let (to, ready) = dataset().await;
        let fixture = filled().await;
        for table in TABLES {
            let export = export(&fixture.store, &ready, method, table);
            export.export(START).await.expect("exported");
            let rows = export.rows(1, u64::from(u32::MAX)).await.expect("read");
            assert!(rows.num_rows() >= 2, "{table}");
            let mut expected: Vec<Vec<Option<String>>> = (0..rows.num_rows())
                .map(|row| rows.columns().iter().map(|column| shown(column, row)).collect())
                .collect();
            expected.sort();
            let (names, mut found) = emulator().query(&to, &format!("SELECT * FROM {table}")).await;
            found.sort();
            let schema = rows.schema();
            assert_eq!(names, schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{table} by {method:?}");
        }
    }
}
