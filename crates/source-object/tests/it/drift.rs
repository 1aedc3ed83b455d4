//! Objects whose columns are not all the same.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
    Int64Array, LargeStringArray, NullArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    UInt8Array,
};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use convoke_core::spec::{CsvObjects, ObjectFormat, ObjectsMode, SchemaPolicy};
use convoke_testkit::contract::source::SourceSetUp;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::fixture::{TestObjects, parquet_file, small_file, texts};

fn array<A: arrow::array::Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

/// The type of a column that an older and a newer object hold in these forms, or why there is none.
async fn merged(older: ArrayRef, newer: ArrayRef) -> Result<DataType, String> {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    objects.put_at(1, "older.parquet", &parquet_file([("value", older)]));
    objects.put_at(2, "newer.parquet", &parquet_file([("value", newer)]));
    objects.discover(None).await;
    let described = objects.source().describe().await.map_err(|error| error.to_string())?;
    Ok(described.schema.field(0).data_type().clone())
}

#[tokio::test]
async fn types_that_fit_together_are_widened() {
    let decimal = |digits| array(Decimal128Array::from(vec![1]).with_precision_and_scale(digits, 2).unwrap());
    let dictionary: DictionaryArray<Int32Type> = ["a"].into_iter().collect();
    let cases = [
        (array(Int8Array::from(vec![1])), array(Int64Array::from(vec![1])), DataType::Int64),
        (array(UInt8Array::from(vec![1])), array(Int32Array::from(vec![1])), DataType::Int32),
        (texts(["a"]), array(LargeStringArray::from(vec!["a"])), DataType::Utf8),
        (texts(["a"]), array(StringViewArray::from(vec!["a"])), DataType::Utf8),
        (array(dictionary), texts(["a"]), DataType::Utf8),
        (array(NullArray::new(1)), texts(["a"]), DataType::Utf8),
        (decimal(9), decimal(20), DataType::Decimal128(20, 2)),
        (
            array(TimestampMillisecondArray::from(vec![1]).with_timezone("Europe/Berlin")),
            array(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        ),
    ];
    for (older, newer, expected) in cases {
        let types = format!("{} and {}", older.data_type(), newer.data_type());
        assert_eq!(merged(Arc::clone(&older), Arc::clone(&newer)).await.as_ref(), Ok(&expected), "{types}");
        assert_eq!(merged(newer, older).await, Ok(expected), "{types}, the other way round");
    }
}

#[tokio::test]
async fn types_that_do_not_fit_are_told_with_both_objects() {
    let cases = [
        (texts(["a"]), array(Int64Array::from(vec![1]))),
        (array(Int32Array::from(vec![1])), array(Float64Array::from(vec![1.0]))),
        (array(Float32Array::from(vec![1.5])), array(Float64Array::from(vec![1.5]))),
        (array(Date32Array::from(vec![1])), array(TimestampMillisecondArray::from(vec![1]))),
        (
            array(TimestampMillisecondArray::from(vec![1])),
            array(TimestampMillisecondArray::from(vec![1]).with_timezone("UTC")),
        ),
    ];
    for (older, newer) in cases {
        let types = format!("is {} in `newer.parquet` and {} in `older.parquet`", newer.data_type(), older.data_type());
        let error = merged(older, newer).await.unwrap_err();
        assert!(error.contains(&format!("column `value` {types}")), "{error}");
        assert!(error.contains("write the column in one type"), "{error}");
    }
}

/// A file without records whose columns are declared so.
fn declared(columns: &str) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {columns} }}")).unwrap());
    let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_moment_in_the_form_of_old_writers_is_in_microseconds() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    objects.put_at(1, "old.parquet", &declared("optional int64 id; optional int96 seen_at;"));
    objects.put_at(2, "new.parquet", &declared("optional int64 seen_at (TIMESTAMP(MICROS, false));"));
    objects.discover(None).await;
    let microseconds = DataType::Timestamp(TimeUnit::Microsecond, None);
    let expected = [("seen_at".to_owned(), microseconds), ("id".to_owned(), DataType::Int64)];
    assert_eq!(objects.columns().await, expected);
}

#[tokio::test]
async fn columns_that_come_and_go_are_described_together_with_the_newest_in_front() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    objects.put_at(1, "a.parquet", &parquet_file([("id", texts(["1"])), ("fax", texts(["2"]))]));
    objects.put_at(2, "b.parquet", &parquet_file([("phone", texts(["3"])), ("id", texts(["4"]))]));
    objects.discover(None).await;
    let columns = objects.columns().await;
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["phone", "id", "fax"]);
    let origin = objects.source().describe().await.unwrap().origin;
    assert!(origin.ends_with("b.parquet and 1 more objects"), "{origin}");
}

#[tokio::test]
async fn names_that_differ_only_in_case_are_refused() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    objects.put_at(1, "a.parquet", &small_file("Email", "1"));
    objects.put_at(2, "b.parquet", &small_file("email", "1"));
    objects.discover(None).await;
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(
        error.contains("columns `email` and `Email` differ only in case, in `b.parquet` and in `a.parquet`"),
        "{error}"
    );
}

/// Writers of JSON leave out what has no value.
#[tokio::test]
async fn a_column_that_new_additions_lack_is_described_as_it_was_known() {
    let format = ObjectFormat::Ndjson { max_malformed: 0.0 };
    let objects = TestObjects::in_folder_as(ObjectsMode::Append, "*.ndjson", |spec| spec.format = format);
    let columns = async || {
        let mut columns = objects.columns().await;
        columns.sort_by(|one, other| one.0.cmp(&other.0));
        columns
    };
    let whole = br#"{"id":1,"phone":"1","user":{"email":"a","name":"A"},"plans":["x"],"paid":true}"#;
    objects.put_at(1, "a.ndjson", whole);
    let discovery = objects.discover(None).await;
    let known = columns().await;
    let mut stored = objects.settled(None, &discovery).await;
    let lacking = br#"{"id":2,"user":{"email":"b"},"plans":null,"paid":true}"#;
    // Told when it goes, and not again while it is away, nor when it is back.
    let told = "column `phone` is gone: `b.ndjson` has it not";
    for (minute, name, contents, told) in [
        (2, "b.ndjson", &lacking[..], vec![told.to_owned()]),
        (3, "c.ndjson", &lacking[..], Vec::new()),
        (4, "d.ndjson", &whole[..], Vec::new()),
        (5, "e.ndjson", &whole[..], Vec::new()),
    ] {
        objects.put_at(minute, name, contents);
        let discovery = objects.discover(Some(&stored)).await;
        assert_eq!(discovery.notices, told, "{name}");
        assert_eq!(columns().await, known, "{name}");
        stored = objects.settled(Some(&stored), &discovery).await;
    }
    // Of a snapshot, what no object has is not there.
    let whole = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    whole.put_at(1, "a.parquet", &small_file("old", "1"));
    let stored = whole.run(None, &[]).await;
    whole.put_at(2, "a.parquet", &small_file("new", "1"));
    whole.discover(Some(&stored)).await;
    assert_eq!(whole.columns().await, [("new".to_owned(), DataType::Utf8)]);
}

/// To read the old one as empty would empty the cells of whoever maps it.
#[tokio::test]
async fn another_spelling_of_a_known_column_does_not_stand_beside_it() {
    let format = ObjectFormat::Ndjson { max_malformed: 0.0 };
    let objects = TestObjects::in_folder_as(ObjectsMode::Append, "*.ndjson", |spec| spec.format = format);
    objects.put_at(1, "a.ndjson", br#"{"Email":"a"}"#);
    let discovery = objects.discover(None).await;
    objects.source().describe().await.unwrap();
    let stored = objects.settled(None, &discovery).await;
    objects.put_at(2, "b.ndjson", br#"{"email":"b"}"#);
    objects.discover(Some(&stored)).await;
    assert_eq!(objects.column_names().await, ["email"]);
}

/// The first record of a file without a header.
#[tokio::test]
async fn a_name_that_may_be_a_value_is_not_told() {
    let csv =
        CsvObjects { delimiter: Some(','), encoding: "utf-8".to_owned(), aliases: Vec::new(), max_malformed: 0.0 };
    let objects = TestObjects::in_folder_as(ObjectsMode::Append, "*.csv", |spec| spec.format = ObjectFormat::Csv(csv));
    objects.put_at(1, "a.csv", b"email,name\na@b.co,A\n");
    let discovery = objects.discover(None).await;
    objects.source().describe().await.unwrap();
    let stored = objects.settled(None, &discovery).await;
    objects.put_at(2, "b.csv", b"ada@example.com,Ada\nb@b.co,B\n");
    let discovery = objects.discover(Some(&stored)).await;
    let told = discovery.notices.join("; ");
    assert!(told.contains("a column whose name looks like a value (Utf8) is new, in `b.csv`"), "{told}");
    assert!(told.contains("column `email` is gone"), "{told}");
    assert!(!told.to_lowercase().contains("ada"), "{told}");
    assert_eq!(objects.column_names().await.len(), 2, "of files that name their columns none is kept");
}

#[tokio::test]
async fn before_a_discovery_the_newest_objects_that_can_be_read_are_described() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("no object matches"), "{error}");
    objects.put_at(1, "a.parquet", &small_file("a", "1"));
    objects.put_at(2, "b.parquet", &small_file("b", "1"));
    objects.put_at(3, "torn.parquet", b"PAR1 and no end");
    assert_eq!(objects.column_names().await, ["b", "a"]);
    // What does not fit stands in the way of reading only.
    objects.put_at(4, "c.parquet", &parquet_file([("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]));
    assert_eq!(objects.column_names().await, ["a", "b"]);
    let alike =
        TestObjects::in_folder_as(ObjectsMode::Snapshot, "*.parquet", |spec| spec.schema = SchemaPolicy::Strict);
    alike.put_at(1, "a.parquet", &small_file("a", "1"));
    alike.put_at(2, "b.parquet", &small_file("b", "1"));
    assert_eq!(alike.column_names().await, ["b"]);
    // What is wrong with the newest itself is told.
    objects.put_at(5, "d.parquet", &parquet_file([("a", texts(["1"])), ("A", texts(["1"]))]));
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("differ only in case"), "{error}");
}
