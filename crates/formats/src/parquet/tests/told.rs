//! How every type of a file is told. The files are written value by value, as other writers write them.

use arrow::array::Array;
use arrow::util::display::array_value_to_string;
use parquet::data_type::*;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

/// A file with one column of this declaration and these values.
fn file_of<T: DataType>(column: &str, values: &[T::T], levels: Option<(&[i16], &[i16])>) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {column} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut written = group.next_column().unwrap().unwrap();
    let (definitions, repetitions) = levels.unzip();
    written.typed::<T>().write_batch(values, definitions, repetitions).unwrap();
    written.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// The type in which the only column is told, and its values as text.
async fn told(contents: Vec<u8>) -> (String, Vec<String>) {
    let file = MemoryFile::of(contents).open().await;
    let data_type = file.schema().field(0).data_type().to_string();
    let batches = read_all(&file, PLENTY).await.unwrap();
    let text = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
    let values = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| text(batch.column(0), row)));
    (data_type, values.collect())
}

async fn assert_told<T: DataType>(column: &str, value: T::T, data_type: &str, text: &str) {
    let (told_type, values) = told(file_of::<T>(column, &[value], None)).await;
    assert_eq!((told_type.as_str(), values), (data_type, vec![text.to_owned()]), "{column}");
}

#[tokio::test]
async fn whole_numbers_of_every_width_and_decimals_of_every_form() {
    assert_told::<Int32Type>("required int32 v (UINT_8);", 200, "UInt8", "200").await;
    assert_told::<Int32Type>("required int32 v (INTEGER(32, false));", -1, "UInt32", "4294967295").await;
    assert_told::<Int64Type>("required int64 v (UINT_64);", -1, "UInt64", "18446744073709551615").await;
    assert_told::<Int32Type>("required int32 v (INT_8);", -5, "Int8", "-5").await;
    assert_told::<Int32Type>("required int32 v (DECIMAL(9, 2));", -12345, "Decimal128(9, 2)", "-123.45").await;
    assert_told::<Int64Type>("required int64 v (DECIMAL(18, 4));", 12345, "Decimal128(18, 4)", "1.2345").await;
    let bytes = || ByteArray::from(vec![0xff, 0x85]);
    assert_told::<ByteArrayType>("required binary v (DECIMAL(9, 2));", bytes(), "Decimal128(9, 2)", "-1.23").await;
    let fixed = FixedLenByteArray::from(vec![0, 0, 0x30, 0x39]);
    let declared = "required fixed_len_byte_array(4) v (DECIMAL(9, 2));";
    assert_told::<FixedLenByteArrayType>(declared, fixed, "Decimal128(9, 2)", "123.45").await;
    let mut wide = vec![0; 32];
    wide[31] = 7;
    let declared = "required fixed_len_byte_array(32) v (DECIMAL(76, 1));";
    assert_told::<FixedLenByteArrayType>(declared, wide.into(), "Decimal256(76, 1)", "0.7").await;
}

#[tokio::test]
async fn times_of_every_unit_with_and_without_zone() {
    let cases = [
        ("TIMESTAMP_MILLIS", 1_500, "Timestamp(ms, \"UTC\")", "1970-01-01T00:00:01.500Z"),
        ("TIMESTAMP(MILLIS, false)", 1_500, "Timestamp(ms)", "1970-01-01T00:00:01.500"),
        ("TIMESTAMP_MICROS", -1, "Timestamp(µs, \"UTC\")", "1969-12-31T23:59:59.999999Z"),
        ("TIMESTAMP(NANOS, true)", 1, "Timestamp(ns, \"UTC\")", "1970-01-01T00:00:00.000000001Z"),
        ("TIMESTAMP(NANOS, false)", 1, "Timestamp(ns)", "1970-01-01T00:00:00.000000001"),
        ("TIME_MICROS", 1_500_000, "Time64(µs)", "00:00:01.500"),
        ("TIME(NANOS, true)", 1, "Time64(ns)", "00:00:00.000000001"),
    ];
    for (annotation, value, data_type, text) in cases {
        assert_told::<Int64Type>(&format!("required int64 v ({annotation});"), value, data_type, text).await;
    }
    assert_told::<Int32Type>("required int32 v (TIME_MILLIS);", 1_500, "Time32(ms)", "00:00:01.500").await;
    assert_told::<Int32Type>("required int32 v (DATE);", -1, "Date32", "1969-12-31").await;
}

/// Midnight of 9999-12-31 in the form of old writers: nanoseconds of the day, and the Julian day.
fn never() -> Int96 {
    let mut value = Int96::new();
    value.set_data(0, 0, 5_373_484);
    value
}

#[tokio::test]
async fn the_time_of_old_writers_reaches_as_far_as_theirs_did_at_any_depth() {
    assert_told::<Int96Type>("required int96 v;", never(), "Timestamp(µs)", "9999-12-31T00:00:00").await;
    let nested = "optional group v { optional int96 at; }";
    let (_, values) = told(file_of::<Int96Type>(nested, &[never()], Some((&[2], &[0])))).await;
    assert_eq!(values, ["{at: 9999-12-31T00:00:00}"]);
    let list = "optional group v (LIST) { repeated group list { optional int96 element; } }";
    let (_, values) = told(file_of::<Int96Type>(list, &[never()], Some((&[3], &[0])))).await;
    assert_eq!(values, ["[9999-12-31T00:00:00]"]);
}

#[tokio::test]
async fn texts_identifiers_and_small_floats() {
    let text = || ByteArray::from("ä");
    for declared in ["(UTF8)", "(STRING)", "(ENUM)", "(JSON)"] {
        assert_told::<ByteArrayType>(&format!("required binary v {declared};"), text(), "Utf8", "ä").await;
    }
    assert_told::<ByteArrayType>("required binary v;", ByteArray::from(vec![0, 255]), "Binary", "00ff").await;
    assert_told::<ByteArrayType>("required binary v (BSON);", ByteArray::from(vec![0, 255]), "Binary", "00ff").await;
    let uuid: Vec<u8> = (0..16).map(|byte| byte * 17).collect();
    let expected = "00112233-4455-6677-8899-aabbccddeeff";
    let declared = "required fixed_len_byte_array(16) v (UUID);";
    assert_told::<FixedLenByteArrayType>(declared, uuid.clone().into(), "Utf8", expected).await;
    let nested =
        "optional group v (LIST) { repeated group list { optional fixed_len_byte_array(16) element (UUID); } }";
    let (_, values) = told(file_of::<FixedLenByteArrayType>(nested, &[uuid.into()], Some((&[3], &[0])))).await;
    assert_eq!(values, [format!("[{expected}]")]);
    let half = FixedLenByteArray::from(vec![0x00, 0x3e]);
    assert_told::<FixedLenByteArrayType>("required fixed_len_byte_array(2) v (FLOAT16);", half, "Float16", "1.5").await;
}

#[tokio::test]
async fn lists_in_the_forms_of_old_and_new_writers() {
    let levels: (&[i16], &[i16]) = (&[2, 2, 1], &[0, 1, 0]);
    let two = "optional group v (LIST) { repeated int32 element; }";
    assert_eq!(told(file_of::<Int32Type>(two, &[1, 2], Some(levels))).await.1, ["[1, 2]", "[]"]);
    let three = "optional group v (LIST) { repeated group list { optional int32 element; } }";
    let levels: (&[i16], &[i16]) = (&[3, 2, 1, 0], &[0, 1, 0, 0]);
    assert_eq!(told(file_of::<Int32Type>(three, &[1], Some(levels))).await.1, ["[1, ]", "[]", ""]);
    let levels: (&[i16], &[i16]) = (&[1, 1, 0], &[0, 1, 0]);
    assert_eq!(told(file_of::<Int32Type>("repeated int32 v;", &[1, 2], Some(levels))).await.1, ["[1, 2]", "[]"]);
}

#[tokio::test]
async fn maps_structs_and_columns_without_anything_in_them() {
    let map =
        "optional group v (MAP) { repeated group key_value { required binary key (UTF8); optional int32 value; } }";
    let schema = Arc::new(parse_message_type(&format!("message m {{ {map} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut keys = group.next_column().unwrap().unwrap();
    let two = [ByteArray::from("a"), ByteArray::from("b")];
    keys.typed::<ByteArrayType>().write_batch(&two, Some(&[2, 2]), Some(&[0, 1])).unwrap();
    keys.close().unwrap();
    let mut values = group.next_column().unwrap().unwrap();
    values.typed::<Int32Type>().write_batch(&[1], Some(&[3, 2]), Some(&[0, 1])).unwrap();
    values.close().unwrap();
    group.close().unwrap();
    assert_eq!(told(writer.into_inner().unwrap()).await.1, ["{a: 1, b: }"]);

    let nothing = file_of::<Int32Type>("optional int32 v (UNKNOWN);", &[], Some((&[0, 0], &[0, 0])));
    let file = MemoryFile::of(nothing).open().await;
    assert_eq!(file.schema().field(0).data_type().to_string(), "Null");
    let read = read_all(&file, PLENTY).await.unwrap();
    assert_eq!(read[0].column(0).len(), 2);

    let schema = Arc::new(parse_message_type("message m { required int32 v; }").unwrap());
    let without_groups = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap().into_inner().unwrap();
    let file = MemoryFile::of(without_groups).open().await;
    assert_eq!((file.group_rows().sum::<u64>(), file.schema().fields().len()), (0, 1));
}

/// Names, types and texts of all columns; records are divided by `|`.
async fn all_told(contents: &'static [u8]) -> Vec<String> {
    let file = MemoryFile::of(contents).open().await;
    let batches = read_all(&file, PLENTY).await.unwrap();
    let batch = &batches[0];
    let columns = file.schema().fields().iter().zip(batch.columns());
    let told = columns.map(|(field, column)| {
        let texts: Vec<_> = (0..batch.num_rows()).map(|row| array_value_to_string(column, row).unwrap()).collect();
        format!("{}: {} = {}", field.name(), field.data_type(), texts.join("|"))
    });
    told.collect()
}

#[tokio::test]
async fn files_of_other_writers() {
    let pyarrow = all_told(include_bytes!("writers/pyarrow.parquet")).await;
    let expected = [
        "large: Utf8 = ä|",
        "view: Utf8 = v|",
        "dictionary: Utf8 = d|",
        "decimal: Decimal128(20, 2) = -1.50|",
        "wide: Decimal256(60, 1) = 1.5|",
        "half: Float16 = 1.5|",
        "seconds: Timestamp(ms) = 2026-01-02T12:00:00|",
        "zoned: Timestamp(µs, \"UTC\") = 2026-01-02T12:00:00.005Z|",
        "nothing: Null = |",
    ];
    assert_eq!(pyarrow[..expected.len()], expected);
    let values: Vec<_> = pyarrow[expected.len()..].iter().map(|told| told.split(" = ").last().unwrap()).collect();
    assert_eq!(values, ["[1, ]|", "{k: 1}|", "{a: {b: c}}|"]);

    let spark = all_told(include_bytes!("writers/spark.parquet")).await;
    let values: Vec<_> = spark.iter().map(|told| told.split(" = ").last().unwrap()).collect();
    assert_eq!(values, ["9999-12-31T00:00:00|", "{at: 9999-12-31T00:00:00}|", "12.34|", "[x]|[]"]);

    let duckdb = all_told(include_bytes!("writers/duckdb.parquet")).await;
    let values: Vec<_> = duckdb.iter().map(|told| told.split(" = ").last().unwrap()).collect();
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let zoned = "2026-01-02T12:00:00Z";
    let rest = ["{city: Köln, zip: 50667}", "[a, ]", "{k: 2}", "12:00:01", zoned, "true", r#"{"a": 1}"#];
    assert_eq!(values, [&[uuid, "18446744073709551615"][..], &rest].concat());
}
