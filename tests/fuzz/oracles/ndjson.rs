//! Any bytes as NDJSON. What serde_json reads has to be in the records as it is, and what it refuses must not.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use convoke_formats::FileFormat;
use serde_json::Value;
use serde_json::value::RawValue;

use super::reading::read;

pub(crate) fn check(data: &[u8]) {
    let contents = read(&FileFormat::Ndjson, data);
    for (_, reason) in &contents.malformed {
        assert!(!reason.contains("has a value that is not"), "a file fits its own schema: {reason}");
    }
    // What is packed is not JSON.
    if !contents.is_whole() || data.first().is_some_and(|first| !first.is_ascii()) || data.starts_with(b"PK") {
        return;
    }
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let blank = lines.iter().filter(|line| line.iter().all(u8::is_ascii_whitespace)).count();
    if data.get(1..4) != Some(b"\x2a\x4d\x18") {
        assert_eq!(lines.len() - blank, contents.positions.len() + contents.malformed.len());
    }
    for (line, batch, row) in contents.records() {
        let line = lines[line as usize - 1];
        serde_json::from_slice::<&RawValue>(line).expect("a record is JSON");
        // Refuses some that it takes unparsed: what is nested very deep, or has an escape that is no character.
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(line) else { continue };
        let columns = batch.schema();
        assert!(
            object.keys().all(|name| columns.column_with_name(name).is_some()),
            "what a record has is in its batch"
        );
        for (field, column) in columns.fields().iter().zip(batch.columns()) {
            same(object.get(field.name()).unwrap_or(&Value::Null), column, row);
        }
    }
}

fn same(value: &Value, column: &dyn Array, row: usize) {
    if value.is_null() {
        assert!(column.is_null(row) || *column.data_type() == DataType::Null);
        return;
    }
    assert!(column.is_valid(row), "{value}");
    match (column.data_type(), value) {
        (DataType::Boolean, _) => assert_eq!(Some(column.as_boolean().value(row)), value.as_bool()),
        (DataType::Int64, _) => {
            assert_eq!(Some(column.as_primitive::<Int64Type>().value(row)), value.as_i64().or(minus_zero(value)))
        }
        (DataType::Float64, _) => {
            // serde_json rounds some floats by a bit.
            let (ours, theirs) = (column.as_primitive::<Float64Type>().value(row), value.as_f64().expect("a number"));
            assert!((ours - theirs).abs() <= ours.abs() * 1e-14, "{ours} {theirs}");
        }
        (DataType::Null, Value::Object(object)) => assert!(object.is_empty(), "fields that no type holds"),
        (DataType::Utf8, Value::String(text)) => assert_eq!(column.as_string::<i32>().value(row), text),
        (DataType::Utf8, _) => {
            assert_eq!(serde_json::from_str::<Value>(column.as_string::<i32>().value(row)).ok().as_ref(), Some(value))
        }
        (DataType::List(_), Value::Array(values)) => {
            let list = column.as_list::<i32>().value(row);
            assert_eq!(list.len(), values.len());
            values.iter().enumerate().for_each(|(row, value)| same(value, &list, row));
        }
        (DataType::Struct(fields), Value::Object(object)) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                same(object.get(field.name()).unwrap_or(&Value::Null), column, row);
            }
        }
        (data_type, _) => panic!("{value} as {data_type}"),
    }
}

/// `-0`, which serde_json reads as a float.
fn minus_zero(value: &Value) -> Option<i64> {
    (value.as_f64() == Some(0.0)).then_some(0)
}
