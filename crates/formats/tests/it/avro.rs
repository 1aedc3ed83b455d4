//! Avro container files, written by another implementation.

use std::ops::ControlFlow;
use std::sync::Arc;

use apache_avro::types::Value;
use apache_avro::{Codec, Days, Decimal, DeflateSettings, Duration, Millis, Months, Writer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::source::SplitItem;
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
    assert_eq!(contents.columns, ["id", "n"], "what the file does not have is no column of it");
    assert_eq!(contents.records, [cells(&["1", "1"]), cells(&["3", "3"])]);
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

/// A byte of such a file is a thousand values.
#[test]
fn a_record_of_more_than_a_million_values_is_refused() {
    let fields: Vec<String> =
        (0..1_000).map(|number| format!(r#"{{"name":"f{number}","type":["null","int"]}}"#)).collect();
    let item = format!(r#"["null",{{"type":"record","name":"wide","fields":[{}]}}]"#, fields.join(","));
    let array = format!(r#"{{"type":"array","items":{item}}}"#);
    let nulls = |count: usize| one(&array, Value::Array(vec![Value::Union(0, Box::new(Value::Null)); count]));
    let refused = read(&nulls(2_000));
    assert_eq!(
        refused.broken.as_deref(),
        Some("block 1 of the file cannot be read: record 1 has more than a million values, nested ones counted")
    );
    assert_eq!(read(&nulls(900)).broken, None);
}

/// Fields of which each may be NULL.
fn fields(fields: &[(&str, DataType)]) -> Vec<Field> {
    fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect()
}

#[test]
fn a_field_within_a_field_that_one_file_lacks_is_null_and_no_record_is_lost() {
    let address =
        r#"{"type":"record","name":"a","fields":[{"name":"city","type":"string"},{"name":"zip","type":"int"}]}"#;
    let old = || Value::Record(vec![("city".into(), Value::String("Köln".into())), ("zip".into(), Value::Int(5))]);
    let merged = fields(&[("city", DataType::Utf8), ("country", DataType::Utf8), ("zip", DataType::Int64)]);
    let merged = DataType::Struct(merged.into());
    let item = Arc::new(Field::new_list_field(merged.clone(), true));
    let entries = fields(&[("value", merged.clone())]).remove(0);
    let entries = DataType::Struct(vec![Field::new("key", DataType::Utf8, false), entries].into());
    let entries = Arc::new(Field::new("entries", entries, false));
    for (field_type, value, wanted, shown) in [
        (address.to_owned(), old(), merged, "{city: Köln, country: , zip: 5}"),
        (
            format!(r#"{{"type":"array","items":{address}}}"#),
            Value::Array(vec![old()]),
            DataType::List(item),
            "[{city: Köln, country: , zip: 5}]",
        ),
        (
            format!(r#"{{"type":"map","values":{address}}}"#),
            Value::Map([("home".to_owned(), old())].into()),
            DataType::Map(entries, false),
            "{home: {city: Köln, country: , zip: 5}}",
        ),
    ] {
        let wanted: SchemaRef = Arc::new(Schema::new(fields(&[("x", wanted)])));
        let contents = Contents::with(READER, one(&field_type, value).as_slice(), Some(&wanted));
        assert_eq!((contents.broken.as_deref(), contents.told()), (None, vec![]), "{field_type}");
        assert_eq!(contents.records, [cells(&[shown])], "{field_type}");
    }
}

#[test]
fn a_value_within_a_field_that_does_not_fit_makes_its_record_malformed() {
    let until = r#"{"name":"until","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    let schema = record(&format!(r#"{{"name":"x","type":{{"type":"record","name":"a","fields":[{until}]}}}}"#));
    let row = |millis| vec![("x", Value::Record(vec![("until".into(), Value::TimestampMillis(millis))]))];
    let bytes = file(&schema, Codec::Null, vec![row(0), row(253_402_214_400_000)]);
    let nanos = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("+00:00".into()));
    let wanted = DataType::Struct(fields(&[("until", nanos)]).into());
    let wanted: SchemaRef = Arc::new(Schema::new(fields(&[("x", wanted)])));
    let contents = Contents::with(READER, bytes.as_slice(), Some(&wanted));
    assert_eq!(contents.positions, [1]);
    assert_eq!(contents.told(), [(2, "`x` has a value that does not fit its type")]);
}

/// A block of records that were encoded already.
fn block(record_count: usize, data: &[u8]) -> Vec<u8> {
    let number = |mut number: usize| {
        number <<= 1;
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push((number & 0x7f | 0x80) as u8);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    };
    [&number(record_count), &number(data.len()), data, &[7; 16]].concat()
}

#[test]
fn symbols_that_many_fields_share_take_memory_once() {
    let symbols: Vec<_> = (0..20_000).map(|symbol| format!(r#""S{symbol}""#)).collect();
    let first = format!(r#"{{"name":"f0","type":{{"type":"enum","name":"e","symbols":[{}]}}}}"#, symbols.join(","));
    let rest = (1..50_000).map(|number| format!(r#"{{"name":"f{number}","type":"e"}}"#));
    let schema = record(&std::iter::once(first).chain(rest).collect::<Vec<_>>().join(","));
    let contents = Contents::of(&FileFormat::Avro, [head(&schema, "null"), block(1, &[2; 50_000])].concat().as_slice());
    assert_eq!(contents.broken, None);
    assert!(contents.records[0].iter().all(|cell| cell.as_deref() == Some("S1")));
}

#[test]
fn long_names_of_a_type_that_is_named_often_are_refused() {
    let long =
        format!(r#"{{"type":"record","name":"t","fields":[{{"name":"{}","type":"int"}}]}}"#, "n".repeat(1 << 20));
    let rest = (1..100).map(|number| format!(r#",{{"name":"f{number}","type":"t"}}"#));
    let schema = record(&format!(r#"{{"name":"f0","type":{long}}}{}"#, rest.collect::<String>()));
    let reason = read(&head(&schema, "null")).broken.unwrap_or_default();
    assert!(reason.contains("names take more than 16 MB"), "{reason}");
}

/// The letters of a symbol stand in the head of a file once, and each record names it in a byte.
#[test]
fn long_symbols_make_batches_of_few_records_and_a_record_has_no_end_of_them() {
    let symbol = "s".repeat(1 << 20);
    let kind = format!(r#"{{"type":"enum","name":"e","symbols":["{symbol}"]}}"#);
    let bytes =
        [head(&record(&format!(r#"{{"name":"x","type":{kind}}}"#)), "null"), block(2_100, &[0; 2_100])].concat();
    let (mut records, mut most) = (0, 0);
    let mut take = |item| {
        match item {
            SplitItem::Records(batch) => {
                records += batch.positions.len();
                most = most.max(batch.positions.len());
            }
            SplitItem::End { .. } => {}
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    };
    READER.read(bytes.as_slice(), None, &mut take).unwrap();
    assert_eq!((records, most), (2_100, 1));
    let items = format!(r#"{{"name":"x","type":{{"type":"array","items":{kind}}}}}"#);
    let data = [&[200, 1][..], &[0; 100], &[0]].concat();
    let reason = read(&[head(&record(&items), "null"), block(1, &data)].concat()).broken.unwrap_or_default();
    assert!(reason.contains("record 1 has more than 64 MB of text in its symbols"), "{reason}");
}

/// The specification forbids it, and fields are found by name.
#[test]
fn two_fields_of_the_same_name_are_refused() {
    let schema = |fields: &str| {
        let head = r#"{"type":"record","name":"r","fields":["#.to_owned() + fields + "]}";
        let mut file = b"Obj\x01".to_vec();
        for bytes in [b"\x02\x16avro.schema".as_slice(), &length(head.len()), head.as_bytes(), b"\x00", &[7; 16]] {
            file.extend_from_slice(bytes);
        }
        file
    };
    let twice = schema(r#"{"name":"x","type":"long"},{"name":"x","type":"string"}"#);
    let reason = read(&twice).broken.unwrap();
    assert!(reason.contains("has a record with two fields of the same name"), "{reason}");
    assert_eq!(read(&schema(r#"{"name":"x","type":"long"},{"name":"y","type":"string"}"#)).broken, None);
}

/// As Avro writes it.
fn length(length: usize) -> Vec<u8> {
    let (mut rest, mut bytes) = (length * 2, Vec::new());
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}
