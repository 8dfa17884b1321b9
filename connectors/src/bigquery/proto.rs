//! Rows as protobuf messages, which is how the Storage Write API takes them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use prost::encoding;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

/// The message of a row: a field for each column, numbered from 1. A moment is its microseconds.
pub(super) fn descriptor(schema: &Schema) -> DescriptorProto {
    let field = |(number, field): (i32, &std::sync::Arc<arrow::datatypes::Field>)| {
        let kind = match field.data_type() {
            DataType::Int64 | DataType::Timestamp(..) => Type::Int64,
            DataType::Float64 => Type::Double,
            DataType::Boolean => Type::Bool,
            _ => Type::String,
        };
        FieldDescriptorProto {
            name: Some(field.name().clone()),
            number: Some(number),
            label: Some(Label::Optional.into()),
            r#type: Some(kind.into()),
            ..FieldDescriptorProto::default()
        }
    };
    DescriptorProto {
        name: Some("Row".to_owned()),
        field: (1..).zip(schema.fields()).map(field).collect(),
        ..DescriptorProto::default()
    }
}

/// The messages of a batch in BigQuery's types. A null is a field that is left out.
pub(super) fn messages(rows: &RecordBatch) -> Vec<Vec<u8>> {
    let mut messages = vec![Vec::new(); rows.num_rows()];
    for (number, column) in (1..).zip(rows.columns()) {
        for (row, message) in messages.iter_mut().enumerate() {
            if column.is_valid(row) {
                put(number, column, row, message);
            }
        }
    }
    messages
}

fn put(number: u32, column: &dyn Array, row: usize, message: &mut Vec<u8>) {
    match column.data_type() {
        DataType::Int64 => encoding::int64::encode(number, &column.as_primitive::<Int64Type>().value(row), message),
        DataType::Timestamp(..) => {
            encoding::int64::encode(number, &column.as_primitive::<TimestampMicrosecondType>().value(row), message);
        }
        DataType::Float64 => {
            encoding::double::encode(number, &column.as_primitive::<Float64Type>().value(row), message);
        }
        DataType::Boolean => encoding::bool::encode(number, &column.as_boolean().value(row), message),
        DataType::Utf8 => encoding::string::encode(number, &column.as_string::<i32>().value(row).to_owned(), message),
        other => unreachable!("no table of ours has a column of {other}"),
    }
}
