//! One JSON object on each line.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_formats::{FileFormat, FileReader};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::contents::{Contents, OneByOne, cells, digest};

const READER: FileReader<'_> = FileReader { format: &FileFormat::Ndjson, max_malformed: 1.0 };

fn schema(bytes: impl AsRef<[u8]>) -> SchemaRef {
    READER.schema(bytes.as_ref()).unwrap().unwrap()
}

/// What comes out under the schema of the file itself.
fn read(bytes: impl AsRef<[u8]>) -> Contents {
    let (bytes, schema) = (bytes.as_ref(), schema(&bytes));
    let contents = Contents::with(READER, bytes, Some(&schema));
    assert_eq!(Contents::with(READER, OneByOne(bytes), Some(&schema)), contents, "however the bytes arrive");
    contents
}

fn of(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

#[test]
fn fields_have_the_type_that_holds_all_their_values_as_written() {
    let nested = DataType::Struct(vec![Field::new("city", DataType::Utf8, true)].into());
    for (values, data_type) in [
        (&["null", "null"][..], DataType::Null),
        (&["true", "null", "false"], DataType::Boolean),
        (&["1", "-9223372036854775808"], DataType::Int64),
        (&["9223372036854775808"], DataType::Utf8),
        (&["1", "2.5", "1e3"], DataType::Float64),
        (&["9007199254740993", "2.5"], DataType::Utf8),
        (&["0.1234567890123456789"], DataType::Utf8),
        (&["1", "\"1\""], DataType::Utf8),
        (&["true", "0"], DataType::Utf8),
        (&["\"a\""], DataType::Utf8),
        (&[r#"{"city":"Rom"}"#, r#"{}"#], nested.clone()),
        (&["{}"], DataType::Null),
        (&["{}", "null"], DataType::Null),
        (&["{}", "1"], DataType::Utf8),
        (&["[{}]"], list(DataType::Null)),
        (&[r#"{"city":"Rom"}"#, r#""Rom""#], DataType::Utf8),
        (&["[1]", "[]", "[null,2]"], list(DataType::Int64)),
        (&["[1]", "[\"a\"]"], list(DataType::Utf8)),
        (&["[]"], list(DataType::Null)),
        (&[r#"[{"city":"Rom"}]"#], list(nested)),
        (&["[1]", "1"], DataType::Utf8),
    ] {
        let lines: Vec<String> = values.iter().map(|value| format!("{{\"x\":{value}}}\n")).collect();
        assert_eq!(schema(lines.concat()).field(0).data_type(), &data_type, "{values:?}");
    }
}

#[test]
fn text_is_what_was_written() {
    let contents =
        read("{\"x\":1.50}\n{\"x\":\"a\\u00e9\\n\"}\n{\"x\":true}\n{\"x\":{\"b\": [1,  2]}}\n{\"x\":null}\n{}\n");
    let expected = ["1.50", "aé\n", "true", "{\"b\": [1,  2]}", "", ""];
    assert_eq!(contents.records, expected.map(|cell| cells(&[cell])));
    assert_eq!(contents.positions, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_field_that_comes_late_is_there_for_all_records() {
    let bytes = "{\"a\":1}\n\n \t\r\n{\"b\":\"x\",\"a\":2}\r\n{\"a\":3}";
    let contents = read(bytes);
    assert_eq!(contents.columns, ["a", "b"]);
    assert_eq!(contents.records, [cells(&["1", ""]), cells(&["2", "x"]), cells(&["3", ""])]);
    assert_eq!(contents.positions, [1, 4, 5]);
    assert_eq!((contents.fingerprint, contents.malformed), (digest(bytes), vec![]));
}

#[test]
fn lines_that_are_no_record_are_told_with_their_line_and_without_their_values() {
    let bytes = [
        &b"{\"a\":1}\n"[..],
        b"secret\n",
        b"[1]\n",
        b"{\"a\":1,\"a\":2}\n",
        b"{\"a\":\xff}\n",
        b"{\"a\":2} {}\n",
        b"{\"a\":\n",
        b"{\"b\":{\"secret\":1,\"secret\":2}}\n",
        b"{\"b\":{\"c\":\"\\ud800\"}}\n",
        b"{\"b\":{\"c\":\"x\"}}\n",
    ]
    .concat();
    let contents = read(&bytes);
    assert_eq!(contents.positions, [1, 10]);
    assert_eq!(
        contents.told(),
        [
            (2, "no JSON object"),
            (3, "no JSON object"),
            (4, "a field that stands in its object twice"),
            (5, "bytes that are not UTF-8"),
            (6, "JSON that is not valid at its 9. byte"),
            (7, "JSON that ends too early"),
            (8, "`b` has a field that stands in its object twice"),
            (9, "`b` has a string with an escape that is no character"),
        ]
    );
}

#[test]
fn a_line_that_is_too_long_is_malformed_and_the_next_one_is_read() {
    let mut bytes = b"{\"a\":1}\n{\"a\":\"".to_vec();
    bytes.resize(40 << 20, b'x');
    bytes.extend(b"\"}\n{\"a\":2}\n");
    let schema = schema(&bytes);
    assert_eq!(schema.field(0).data_type(), &DataType::Int64, "what is malformed adds nothing");
    let contents = Contents::with(READER, bytes.as_slice(), Some(&schema));
    assert_eq!(contents.told(), [(2, "the line is longer than 16 MB")]);
    assert_eq!(contents.positions, [1, 3]);
}

#[test]
fn the_schema_given_is_what_comes_out() {
    let wanted = of(&[("c", DataType::Float64), ("a", DataType::Utf8), ("d", DataType::Null)]);
    let bytes = "{\"a\":1,\"b\":2,\"c\":3}\n{\"c\":\"x\"}\n{\"a\":true,\"d\":null}\n{\"ada@example.com\":1,\"d\":0}\n{\"c\":9007199254740993}\n";
    let contents = Contents::with(READER, bytes.as_bytes(), Some(&wanted));
    assert_eq!(contents.columns, ["c", "a", "d"]);
    assert_eq!(contents.records, [cells(&["3.0", "1", ""]), cells(&["", "true", ""])]);
    assert_eq!(
        contents.told(),
        [
            (2, "`c` has a value that is not a number that a float holds"),
            (4, "`d` has a value that is not null"),
            (5, "`c` has a value that is not a number that a float holds"),
        ]
    );
    let secret = of(&[("ada@example.com", DataType::Int64)]);
    let contents = Contents::with(READER, &b"{\"ada@example.com\":\"x\"}\n"[..], Some(&secret));
    assert_eq!(contents.told(), [(1, "a field has a value that is not an integer of 64 bits")]);
}

#[test]
fn a_file_that_ends_within_a_record_is_broken_and_one_whose_last_line_end_is_missing_is_not() {
    assert_eq!(read("{\"a\":1}\n{\"a\":2}").positions, [1, 2]);
    for bytes in ["{\"a\":1}\n{\"a\":2", "{\"a\":1}\n{", "{\"a\":1}\n{\"a\":tru"] {
        let reason = read(bytes).broken.unwrap();
        assert!(reason.contains("ends in the middle of the record at line 2"), "{reason}");
    }
}

#[test]
fn files_without_records_and_files_that_are_not_utf_8() {
    for bytes in ["", "\n\n", "\u{feff}"] {
        assert_eq!(read(bytes), Contents { fingerprint: digest(bytes), ..Contents::default() });
    }
    assert_eq!(read("\u{feff}{\"a\":1}\n").records, [cells(&["1"])]);
    let reason = READER.schema(&b"\xff\xfe{\0}\0"[..]).unwrap().unwrap_err();
    assert!(reason.contains("UTF-16"), "{reason}");
}

#[test]
fn objects_whose_names_are_values_are_kept_as_text() {
    let many: Vec<String> = (0..2_000).map(|number| format!("\"id{number}\":1")).collect();
    let bytes = format!("{{\"x\":{{{}}}}}\n", many.join(","));
    assert_eq!(schema(&bytes).field(0).data_type(), &DataType::Utf8);
    let deep = format!("{{\"x\":{}1{}}}\n", "[".repeat(5_000), "]".repeat(5_000));
    assert!(read(&deep).records[0][0].as_ref().unwrap().contains("[[[["));
}

/// Values whose fields keep their kinds, so that nothing becomes text.
fn record() -> impl Strategy<Value = Value> {
    let nested = (any::<Option<i64>>(), proptest::collection::vec(any::<Option<bool>>(), 0..3));
    (
        any::<Option<i64>>(),
        any::<Option<bool>>(),
        "\\PC{0,8}|[\"\\\\\n\t é😀]{0,4}",
        any::<f32>(),
        proptest::option::of(nested),
    )
        .prop_map(|(int, bool, text, float, nested)| {
            let nested = nested.map(|(int, list)| json!({ "int": int, "list": list }));
            json!({ "int": int, "bool": bool, "text": text, "float": float, "nested": nested })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_serde_json_writes_comes_back_as_it_was(records in proptest::collection::vec(record(), 1..20)) {
        let bytes: String = records.iter().map(|record| format!("{record}\n")).collect();
        let schema = schema(&bytes);
        let mut read = Vec::new();
        let mut writer_input = Vec::new();
        READER.read(bytes.as_bytes(), Some(&schema), &mut |item| {
            if let convoke_core::source::SplitItem::Records(batch) = item {
                writer_input.push(batch.records);
            }
            std::ops::ControlFlow::Continue(())
        }).unwrap();
        for batch in &writer_input {
            read.extend((0..batch.num_rows()).map(|row| value_of_row(batch, row)));
        }
        prop_assert_eq!(read, records.iter().map(without_nulls).collect::<Vec<_>>());
    }
}

fn value_of_row(batch: &arrow::record_batch::RecordBatch, row: usize) -> Value {
    let fields = batch.schema();
    let values = fields.fields().iter().zip(batch.columns());
    without_nulls(&Value::Object(values.map(|(field, array)| (field.name().clone(), value_of(array, row))).collect()))
}

fn value_of(array: &dyn arrow::array::Array, row: usize) -> Value {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type};
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            (0..list.len()).map(|row| value_of(&list, row)).collect()
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            Value::Object(columns.map(|(field, array)| (field.name().clone(), value_of(array, row))).collect())
        }
        // Only values that are all `null`.
        _ => Value::Null,
    }
}

/// A field that is `null` and one that is missing are the same to a table; so are floats that are whole and integers.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let there = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Number(number) if number.as_i64().is_none() => {
            let float = number.as_f64().unwrap();
            if float.fract() == 0.0 && float.abs() < 1e15 { json!(float as i64) } else { json!(float) }
        }
        other => other.clone(),
    }
}

/// Two bytes of such a line are a thousand values, most of them NULL.
#[test]
fn a_line_of_more_than_a_million_values_is_malformed() {
    let fields: Vec<String> = (0..1_000).map(|number| format!("\"f{number}\":1")).collect();
    let wide = format!("{{\"x\":[{{{}}}]}}\n", fields.join(","));
    for hollow in ["{}", "null"] {
        let line = format!("{{\"x\":[{}]}}\n", vec![hollow; 2_000].join(","));
        let contents = read([wide.clone(), line].concat());
        assert_eq!(contents.told(), [(2, "`x` has more than a million values, nested ones counted")], "{hollow}");
    }
    let fits = format!("{{\"x\":[{}]}}\n", vec!["{}"; 900].join(","));
    assert!(read([wide, fits].concat()).malformed.is_empty());
}

#[test]
fn records_of_many_values_are_passed_on_few_at_a_time() {
    let fields: Vec<String> = (0..1_000).map(|number| format!("\"f{number}\":1")).collect();
    let wide = format!("{{\"x\":{{{}}}}}\n", fields.join(","));
    let contents = read(wide + &"{}\n".repeat(5_000));
    assert_eq!(contents.records.len(), 5_001);
    assert!(contents.most_at_once < 1_100, "{}", contents.most_at_once);
}

/// Names are values there; each would be a column.
#[test]
fn fields_of_nested_objects_count_among_those_that_a_file_may_have() {
    let object = |number: u32| {
        let names: Vec<String> = (0..900).map(|name| format!("\"n{number}_{name}\":1")).collect();
        format!("{{\"o{number}\":{{{}}}}}\n", names.join(","))
    };
    let lines: String = (0..100).map(object).collect();
    let error = READER.schema(lines.as_bytes());
    assert!(format!("{error:?}").contains("more than 65536 different fields"), "{error:?}");
    // What has so many that it is text has none.
    let text: String = (0..200_u32)
        .map(|number| {
            let names: Vec<String> = (0..1_001).map(|name| format!("\"n{name}\":1")).collect();
            format!("{{\"o{number}\":{{{}}}}}\n", names.join(","))
        })
        .collect();
    assert_eq!(schema(text).fields().len(), 200);
}

#[test]
fn an_object_without_fields_is_empty_where_nothing_is_known_of_any() {
    let contents = read("{\"x\":{},\"y\":1}\n{\"y\":2}\n");
    assert_eq!(contents.records, [cells(&["", "1"]), cells(&["", "2"])]);
    let nothing = of(&[("x", DataType::Null)]);
    let told = Contents::with(READER, &b"{\"x\":{\"a\":1}}\n"[..], Some(&nothing));
    assert_eq!(told.told(), [(1, "`x` has a value that is not null")]);
}

#[test]
fn a_field_that_no_record_of_a_batch_has_is_no_column_of_it() {
    let wanted = of(&[("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Utf8)]);
    let columns = |lines: &str| Contents::with(READER, lines.as_bytes(), Some(&wanted)).columns;
    assert_eq!(columns("{\"a\":1}\n{\"c\":null}\n"), ["a", "c"]);
    assert!(columns("{}\n").is_empty());
}
