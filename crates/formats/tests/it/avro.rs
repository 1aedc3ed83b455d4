//! Avro container files, written by another implementation.

use std::sync::Arc;

use apache_avro::types::Value;
use apache_avro::{Codec, Days, Decimal, DeflateSettings, Duration, Millis, Months, Writer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_formats::{FileFormat, FileReader};
use proptest::prelude::*;

use crate::contents::{Contents, OneByOne, cells, digest};

const READER: FileReader<'_> = FileReader { format: &FileFormat::Avro, max_malformed: 1.0 };

fn read(bytes: &[u8]) -> Contents {
    let contents = Contents::of(&FileFormat::Avro, bytes);
    assert_eq!(Contents::of(&FileFormat::Avro, OneByOne(bytes)), contents, "however the bytes arrive");
    contents
}

fn file(schema: &str, codec: Codec, records: Vec<Vec<(&str, Value)>>) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    for record in records {
        let fields = record.into_iter().map(|(name, value)| (name.to_owned(), value));
        writer.append_value(Value::Record(fields.collect())).unwrap();
    }
    writer.into_inner().unwrap()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

/// A file of one field with one value.
fn one(field_type: &str, value: Value) -> Vec<u8> {
    file(&record(&format!(r#"{{"name":"x","type":{field_type}}}"#)), Codec::Null, vec![vec![("x", value)]])
}

#[test]
fn every_type_is_read_as_what_it_means() {
    for (field_type, value, shown) in [
        (r#""boolean""#, Value::Boolean(true), "true"),
        (r#""int""#, Value::Int(-3), "-3"),
        (r#""long""#, Value::Long(i64::MIN), "-9223372036854775808"),
        (r#""float""#, Value::Float(1.5), "1.5"),
        (r#""double""#, Value::Double(-0.1), "-0.1"),
        (r#""bytes""#, Value::Bytes(vec![1, 255]), "01ff"),
        (r#""string""#, Value::String("Zoë".into()), "Zoë"),
        (r#"{"type":"fixed","name":"f","size":2}"#, Value::Fixed(2, vec![1, 2]), "0102"),
        (r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, Value::Enum(1, "B".into()), "B"),
        (r#"{"type":"int","logicalType":"date"}"#, Value::Date(1), "1970-01-02"),
        (r#"{"type":"int","logicalType":"time-millis"}"#, Value::TimeMillis(1), "00:00:00.001"),
        (r#"{"type":"long","logicalType":"time-micros"}"#, Value::TimeMicros(1), "00:00:00.000001"),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, Value::TimestampMillis(-1), "1969-12-31T23:59:59.999Z"),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            Value::TimestampMicros(1),
            "1970-01-01T00:00:00.000001Z",
        ),
        (
            r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
            Value::TimestampNanos(1),
            "1970-01-01T00:00:00.000000001Z",
        ),
        (
            r#"{"type":"long","logicalType":"local-timestamp-millis"}"#,
            Value::LocalTimestampMillis(1),
            "1970-01-01T00:00:00.001",
        ),
        (
            r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
            Value::LocalTimestampMicros(1),
            "1970-01-01T00:00:00.000001",
        ),
        (r#"{"type":"long","logicalType":"unheard-of"}"#, Value::Long(7), "7"),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#,
            Value::Decimal(Decimal::from((-12345_i32).to_be_bytes())),
            "-123.45",
        ),
        (
            r#"{"type":"fixed","name":"d","size":3,"logicalType":"decimal","precision":5,"scale":2}"#,
            Value::Decimal(Decimal::from([0, 0x30, 0x39])),
            "123.45",
        ),
        (
            r#"{"type":"string","logicalType":"uuid"}"#,
            Value::Uuid("67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap()),
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
        ),
        (
            r#"{"type":"fixed","name":"du","size":12,"logicalType":"duration"}"#,
            Value::Duration(Duration::new(Months::new(1), Days::new(2), Millis::new(3_004))),
            "P1M2DT3.004S",
        ),
        (r#"["null","string"]"#, Value::Union(1, Box::new(Value::String("a".into()))), "a"),
        (r#"["string","null"]"#, Value::Union(1, Box::new(Value::Null)), ""),
        (
            r#"["null",{"type":"enum","name":"e","symbols":["A"]},"string"]"#,
            Value::Union(1, Box::new(Value::Enum(0, "A".into()))),
            "A",
        ),
        (r#"{"type":"array","items":"int"}"#, Value::Array(vec![Value::Int(1), Value::Int(2)]), "[1, 2]"),
        (r#"{"type":"map","values":"int"}"#, Value::Map([("k".to_owned(), Value::Int(1))].into()), "{k: 1}"),
        (
            r#"{"type":"record","name":"inner","fields":[{"name":"y","type":["null","int"]}]}"#,
            Value::Record(vec![("y".into(), Value::Union(1, Box::new(Value::Int(4))))]),
            "{y: 4}",
        ),
    ] {
        let contents = read(&one(field_type, value));
        assert_eq!(contents.broken, None, "{field_type}");
        assert_eq!(contents.records, [cells(&[shown])], "{field_type}");
    }
}

const PEOPLE: &str = r#"{"type":"record","name":"p","fields":[
    {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}"#;

fn people(count: i64, codec: Codec) -> Vec<u8> {
    let name = |id: i64| match id % 3 {
        0 => Value::Union(0, Box::new(Value::Null)),
        _ => Value::Union(1, Box::new(Value::String(format!("name {id}")))),
    };
    file(PEOPLE, codec, (0..count).map(|id| vec![("id", Value::Long(id)), ("name", name(id))]).collect())
}

fn codecs() -> Vec<Codec> {
    vec![Codec::Null, Codec::Deflate(DeflateSettings::default())]
}

#[test]
fn records_of_many_blocks_are_counted_from_one_and_known_by_the_bytes_of_the_file() {
    for codec in codecs() {
        let bytes = people(20_000, codec);
        let contents = Contents::of(&FileFormat::Avro, bytes.as_slice());
        assert_eq!(contents.columns, ["id", "name"]);
        assert_eq!(contents.positions, (1..=20_000).collect::<Vec<u64>>());
        assert_eq!(contents.records[19_999], cells(&["19999", "name 19999"]));
        assert_eq!(contents.records[3], cells(&["3", ""]));
        assert_eq!((contents.fingerprint, contents.broken), (digest(&bytes), None));
    }
}

#[test]
fn wherever_a_file_is_cut_off_or_damaged_no_wrong_record_is_believed() {
    for codec in codecs() {
        let (bytes, whole) = (people(5, codec), read(&people(5, codec)).records);
        let empty = people(0, codec).len();
        for length in 0..bytes.len() {
            let contents = read(&bytes[..length]);
            // A file of no block is whole.
            assert!(contents.broken.is_some() || length == empty, "{length} bytes: {contents:?}");
        }
        for at in empty..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            let contents = read(&damaged);
            // Without a checksum, letters and numbers may be others; their count may not.
            assert!(contents.broken.is_some() || contents.records.len() == whole.len(), "damaged at {at}");
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_broken_with_a_reason() {
    let recursive = r#"{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}"#;
    let bomb: String = (0..40)
        .map(|level| {
            let next = if level == 39 { "\"int\"".to_owned() } else { format!("\"t{}\"", level + 1) };
            format!(r#"{{"type":"record","name":"t{level}","fields":[{{"name":"a","type":{next}}},{{"name":"b","type":{next}}}]}}"#)
        })
        .rev()
        .collect::<Vec<_>>()
        .join(",");
    let bomb = record(&format!(r#"{{"name":"x","type":[{bomb}]}}"#));
    let several = record(r#"{"name":"x","type":["null","string","int"]}"#);
    let nothing = record(r#"{"name":"x","type":{"type":"array","items":"null"}}"#);
    let digits = record(r#"{"name":"x","type":{"type":"bytes","logicalType":"decimal","precision":50}}"#);
    for (bytes, expected) in [
        (Vec::new(), "no Avro container"),
        (b"id,name\n".to_vec(), "no Avro container"),
        (head(r#""string""#, "null"), "is not that of records"),
        (head("no JSON", "null"), "holds no schema"),
        (head(recursive, "null"), "contains itself, which a table cannot hold (in `next`)"),
        (head(&bomb, "null"), "has more than 65536 fields (in `x`)"),
        (
            head(&several, "null"),
            "union of several types, which a column cannot hold; write it as one of them (in `x`)",
        ),
        (head(&nothing, "null"), "takes no bytes"),
        (head(&digits, "null"), "1 to 38 digits"),
        (head(PEOPLE, "bzip2"), "a codec other than"),
    ] {
        let reason = read(&bytes).broken.unwrap_or_default();
        assert!(reason.contains(expected), "{reason:?} is not {expected:?}");
    }
}

/// The head of a file with this schema.
fn head(schema: &str, codec: &str) -> Vec<u8> {
    let mut bytes = b"Obj\x01\x04".to_vec();
    for text in ["avro.schema", schema, "avro.codec", codec] {
        let mut length = text.len() << 1;
        while length > 0x7f {
            bytes.push((length & 0x7f | 0x80) as u8);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(text.bytes());
    }
    bytes.push(0);
    bytes.extend([7; 16]);
    bytes
}

#[test]
fn the_schema_given_is_what_comes_out_and_what_does_not_fit_is_malformed() {
    let wanted = |fields: &[(&str, DataType)]| -> SchemaRef {
        let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    };
    let schema = record(r#"{"name":"n","type":"string"},{"name":"id","type":"int"}"#);
    let row = |name: &str, id| vec![("n", Value::String(name.into())), ("id", Value::Int(id))];
    let bytes = file(&schema, Codec::Null, vec![row("1", 1), row("secret", 2), row("3", 3)]);
    let fields = wanted(&[("id", DataType::Int64), ("more", DataType::Utf8), ("n", DataType::Int32)]);
    let contents = Contents::with(READER, bytes.as_slice(), Some(&fields));
    assert_eq!(contents.columns, ["id", "more", "n"]);
    assert_eq!(contents.records, [cells(&["1", "", "1"]), cells(&["3", "", "3"])]);
    assert_eq!(contents.positions, [1, 3]);
    assert_eq!(contents.told(), [(2, "`n` has a value that does not fit its type")]);
    let fields = wanted(&[("n", DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into()))]);
    assert!(Contents::with(READER, bytes.as_slice(), Some(&fields)).broken.unwrap().contains("`n` is Utf8"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_another_implementation_writes_comes_back(
        records in proptest::collection::vec((any::<i64>(), any::<i32>(), proptest::option::of("\\PC{0,9}"), any::<bool>()), 0..50),
        packed: bool,
    ) {
        let schema = record(
            r#"{"name":"l","type":"long"},{"name":"i","type":"int"},{"name":"t","type":["null","string"]},{"name":"b","type":"boolean"}"#,
        );
        let text = |text: &Option<String>| match text {
            Some(text) => Value::Union(1, Box::new(Value::String(text.clone()))),
            None => Value::Union(0, Box::new(Value::Null)),
        };
        let rows = records.iter().map(|(l, i, t, b)| {
            vec![("l", Value::Long(*l)), ("i", Value::Int(*i)), ("t", text(t)), ("b", Value::Boolean(*b))]
        });
        let bytes = file(&schema, codecs()[usize::from(packed)], rows.collect());
        let contents = read(&bytes);
        let expected: Vec<Vec<Option<String>>> = records
            .iter()
            .map(|(l, i, t, b)| vec![Some(l.to_string()), Some(i.to_string()), t.clone(), Some(b.to_string())])
            .collect();
        prop_assert_eq!(contents.broken, None);
        prop_assert_eq!(contents.records, expected);
    }
}
