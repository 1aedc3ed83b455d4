//! Objects that are read from front to back.

use std::io::Write;

use apache_avro::types::Value;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::util::display::array_value_to_string;
use convoke_core::SourceError;
use convoke_core::error::SourceErrorKind;
use convoke_core::source::{Split, SplitContent, SplitItem};
use convoke_core::spec::{ObjectFormat, ObjectsMode};
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord};
use futures::StreamExt;

use crate::fixture::{TestObjects, csv, ending, file_of, streamed};

async fn items(objects: &TestObjects, split: &Split) -> Result<Vec<SplitItem>, SourceError> {
    let SplitContent::Stream(stream) = objects.source().read(split).await? else { panic!("a stream") };
    stream.collect::<Vec<_>>().await.into_iter().collect()
}

/// Each format, in a folder and on a server.
async fn everywhere(mode: ObjectsMode) -> Vec<(ObjectFormat, TestObjects)> {
    let mut all = Vec::new();
    for format in streamed() {
        let pattern = format!("**/*.{}*", ending(&format));
        all.push((format.clone(), TestObjects::in_folder_as(mode, &pattern, |spec| spec.format = format.clone())));
        let on_s3 = TestObjects::on_s3_as(mode, &pattern, |spec| spec.format = format.clone()).await;
        all.push((format, on_s3));
    }
    all
}

fn some_records(count: usize) -> Vec<SuiteRecord> {
    (0..count).map(|number| (format!("id {number}"), format!("Name {number}"))).collect()
}

fn packed(contents: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(contents).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn a_torn_object_is_told_with_the_reason_and_does_not_hide_the_others() {
    for (format, objects) in everywhere(ObjectsMode::Snapshot).await {
        let whole = file_of(&format, &some_records(2_000));
        let torn = packed(&whole);
        objects.put_at(1, &format!("whole.{}", ending(&format)), &whole);
        objects.put_at(2, &format!("torn.{}.gz", ending(&format)), &torn[..torn.len() / 2]);
        let discovery = objects.discover(None).await;
        let [whole, torn] = discovery.splits.as_slice() else { panic!("{discovery:?}") };
        assert!(matches!(items(&objects, whole).await.unwrap().last(), Some(SplitItem::End { .. })), "{format:?}");
        let read = items(&objects, torn).await.unwrap();
        assert!(matches!(read.last(), Some(SplitItem::Broken { reason }) if !reason.is_empty()), "{format:?}");
        assert_eq!(objects.columns().await.len(), 2, "{format:?}");
    }
}

#[tokio::test]
async fn records_that_cannot_be_read_are_told_with_their_lines_up_to_a_limit_and_break_the_object_above_it() {
    let objects = TestObjects::in_folder_as(ObjectsMode::Append, "*.csv", |spec| spec.format = csv());
    objects.put_at(1, "few.csv", b"id,name\n1,a\n2\n3,c\n4,d\n");
    objects.put_at(2, "many.csv", b"id,name\n1,a\n2\n3\n");
    let discovery = objects.discover(None).await;
    let few = items(&objects, &discovery.splits[0]).await.unwrap();
    let lines: Vec<u64> = few
        .iter()
        .filter_map(|item| match item {
            SplitItem::Malformed(record) => Some(record.position),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [3]);
    assert!(matches!(few.last(), Some(SplitItem::End { .. })), "{few:?}");
    let many = items(&objects, &discovery.splits[1]).await.unwrap();
    assert!(matches!(many.last(), Some(SplitItem::Broken { .. })), "{many:?}");
}

#[tokio::test]
async fn folders_are_columns_of_all_records_beneath_them() {
    for format in streamed() {
        let objects = TestObjects::in_folder_as(ObjectsMode::Snapshot, "**/*", |spec| {
            (spec.format, spec.hive_partitions) = (format.clone(), true);
        });
        let name = |folder: &str| format!("{folder}/a.{}", ending(&format));
        objects.put_at(1, &name("dt=1/id=folder"), &file_of(&format, &some_records(2)));
        objects.put_at(2, &name("dt=__HIVE_DEFAULT_PARTITION__"), &file_of(&format, &some_records(1)));
        let discovery = objects.discover(None).await;
        let columns: Vec<String> = objects.columns().await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(columns, ["id", "name", "dt"], "{format:?}");
        let mut days = Vec::new();
        for split in &discovery.splits {
            for item in items(&objects, split).await.unwrap() {
                let SplitItem::Records(batch) = item else { continue };
                let column = |name: &str| batch.records.column_by_name(name).unwrap().as_string::<i32>().clone();
                assert_eq!(column("id").value(0), "id 0", "a column of the file goes before its folder");
                days.extend(column("dt").iter().map(|day| day.map(str::to_owned)));
            }
        }
        assert_eq!(days, [Some("1".to_owned()), Some("1".to_owned()), None], "{format:?}");
    }
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_told_as_changed_and_never_mixed() {
    for (format, objects) in everywhere(ObjectsMode::Snapshot).await {
        let name = format!("a.{}", ending(&format));
        objects.put_object(&name, &file_of(&format, &some_records(600_000)));
        let discovery = objects.discover(None).await;
        let SplitContent::Stream(mut stream) = objects.source().read(&discovery.splits[0]).await.unwrap() else {
            panic!("a stream")
        };
        assert!(matches!(stream.next().await, Some(Ok(SplitItem::Records(_)))), "{format:?}");
        objects.put_object(&name, &file_of(&format, &some_records(600_001)));
        let rest: Vec<_> = stream.collect().await;
        let error = rest.into_iter().find_map(Result::err).expect("the object was replaced");
        assert_eq!(error.kind, SourceErrorKind::Changed, "{format:?}: {error}");
    }
}

#[tokio::test]
async fn a_fingerprint_is_of_the_pin_and_of_the_contents() {
    let objects = TestObjects::on_s3_as(ObjectsMode::Append, "*.csv", |spec| spec.format = csv()).await;
    objects.put_object("a.csv", b"id,name\n1,a\n");
    let discovery = objects.discover(None).await;
    let read = items(&objects, &discovery.splits[0]).await.unwrap();
    let Some(SplitItem::End { fingerprint }) = read.last() else { panic!("{read:?}") };
    let (pin, contents) = fingerprint.split_once(' ').unwrap();
    assert_eq!((pin.len(), contents.len()), (32, 64), "an MD5 and a BLAKE3");
}

#[tokio::test]
async fn an_object_without_fields_fits_one_with_any() {
    let format = ObjectFormat::Ndjson { max_malformed: 0.0 };
    let objects = TestObjects::in_folder_as(ObjectsMode::Snapshot, "*.ndjson", |spec| spec.format = format.clone());
    objects.put_at(1, "a.ndjson", b"{\"id\":1,\"address\":{}}\n{\"id\":2,\"address\":{}}\n");
    objects.put_at(2, "b.ndjson", b"{\"id\":3,\"address\":{\"city\":\"Rom\"}}\n");
    let discovery = objects.discover(None).await;
    let city = Fields::from(vec![Field::new("city", DataType::Utf8, true)]);
    let expected = [("id", DataType::Int64), ("address", DataType::Struct(city))];
    assert_eq!(objects.columns().await, expected.map(|(name, data_type)| (name.to_owned(), data_type)));
    for split in &discovery.splits {
        let read = items(&objects, split).await.unwrap();
        assert!(matches!(read.as_slice(), [SplitItem::Records(_), SplitItem::End { .. }]), "{read:?}");
    }
}

/// An Avro file of one person with an address of these parts.
fn of_address(parts: &[(&str, &str)]) -> Vec<u8> {
    let fields = parts.iter().map(|(name, _)| format!(r#"{{"name":"{name}","type":"string"}}"#));
    let fields = fields.collect::<Vec<_>>().join(",");
    let schema = format!(
        r#"{{"type":"record","name":"p","fields":[{{"name":"address","type":{{"type":"record","name":"a","fields":[{fields}]}}}}]}}"#
    );
    let schema = apache_avro::Schema::parse_str(&schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    let parts = parts.iter().map(|(name, text)| ((*name).to_owned(), Value::String((*text).to_owned())));
    writer.append_value(Value::Record(vec![("address".to_owned(), Value::Record(parts.collect()))])).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_part_that_only_newer_objects_have_is_null_in_the_records_of_older_ones() {
    let format = ObjectFormat::Avro { max_malformed: 0.0 };
    let objects = TestObjects::in_folder_as(ObjectsMode::Snapshot, "*.avro", |spec| spec.format = format);
    objects.put_at(1, "older.avro", &of_address(&[("city", "Köln")]));
    objects.put_at(2, "newer.avro", &of_address(&[("country", "BE"), ("city", "Gent")]));
    let mut found = Vec::new();
    for split in objects.discover(None).await.splits {
        for item in items(&objects, &split).await.unwrap() {
            match item {
                SplitItem::Records(batch) => {
                    let address = array_value_to_string(batch.records.column(0), 0).unwrap();
                    found.push(format!("{}: {address}", split.name));
                }
                SplitItem::End { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    found.sort();
    assert_eq!(found, ["newer.avro: {country: BE, city: Gent}", "older.avro: {country: , city: Köln}"]);
}
