//! Values within values, in mappings, filters and the order of records.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, Int64Builder, ListArray, ListBuilder, MapBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use convoke_core::DataType;
use convoke_core::rule::{Condition, Literal, Operator, Rule};
use convoke_core::source::{PinnedParquet, SourceBatch, SplitContent, SplitItem};
use convoke_core::spec::{Dedupe, Expression, Filter, Keep, OrderBy, SyncMode, SyncSpec};
use convoke_engine::*;
use futures::StreamExt;

use crate::fixture::*;
use crate::pinned::{changes, parquet_of};

/// Two people with an address, tags, properties and a JSON text; the second has none of them.
fn people() -> RecordBatch {
    let emails: ArrayRef = Arc::new(StringArray::from(vec!["a@x.co", "b@x.co"]));
    let cities: ArrayRef = Arc::new(StringArray::from(vec![Some("Köln"), Some("hidden")]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
    let fields = vec![Field::new("city", ArrowType::Utf8, true), Field::new("number", ArrowType::Int64, true)];
    let address = StructArray::new(fields.into(), vec![cities, numbers], Some(NullBuffer::from(vec![true, false])));
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("vip"), None, Some("a \"b\"")]);
    tags.append_null();
    let mut props = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    props.keys().append_value("visits");
    props.values().append_value(3);
    props.append(true).unwrap();
    props.append(false).unwrap();
    let payload =
        StringArray::from(vec![Some(r#"{"user": {"name": "Ada", "age": 36}, "n": [1, 2]}"#), Some("no JSON")]);
    RecordBatch::try_from_iter_with_nullable([
        ("email", emails, true),
        ("address", Arc::new(address) as ArrayRef, true),
        ("tags", Arc::new(tags.finish()), true),
        ("props", Arc::new(props.finish()), true),
        ("payload", Arc::new(payload), true),
    ])
    .unwrap()
}

fn named(name: &str, column: &str) -> convoke_core::spec::ColumnSpec {
    let expression = Expression::Column(column.to_owned());
    convoke_core::spec::ColumnSpec { name: name.to_owned(), expression, data_type: DataType::LargeText }
}

fn sync() -> SyncSpec {
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![
        column("Email", "email", DataType::Email),
        named("City", "address.city"),
        named("Number", "address['number']"),
        named("First", "tags[1]"),
        named("Last", "tags[-1]"),
        named("Beyond", "tags[4]"),
        named("Visits", "props.visits"),
        named("Absent", "props.nothing"),
        column("Upper", "upper(address['city'])", DataType::Text),
        column("Dotted", "address.city", DataType::Text),
        column("Name", "payload->'user'->>'name'", DataType::Text),
        column("Age", "json_text(payload, '$.user.age')", DataType::Integer),
        column("Second", "payload->'n'->>1", DataType::Integer),
        named("Address", "address"),
        named("Tags", "tags"),
        named("Props", "props"),
    ];
    sync
}

async fn streamed(world: &World, batch: &RecordBatch) -> Spool {
    let mut writer = SpoolWriter::create(&world.fresh("spool"), batch.schema()).unwrap();
    let positions = (1..=batch.num_rows() as u64).collect();
    let records = SplitItem::Records(SourceBatch { records: batch.clone(), positions, bytes_read: 0 });
    let items = vec![Ok(records), Ok(SplitItem::End { fingerprint: "print".to_owned() })];
    let content = SplitContent::Stream(futures::stream::iter(items).boxed());
    writer.split(&split("x"), content, &|_| {}).await.unwrap();
    writer.finish().await.unwrap()
}

async fn pinned(world: &World, batch: &RecordBatch) -> Spool {
    let mut writer = SpoolWriter::create(&world.fresh("spool"), batch.schema()).unwrap();
    let content = SplitContent::Parquet(PinnedParquet { file: parquet_of(batch, 1), constants: vec![] });
    writer.split(&split("x"), content, &|_| {}).await.unwrap();
    writer.finish().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_wholes_become_cells_whether_records_are_streamed_or_pinned() {
    let world = World::new();
    let batch = people();
    assert_eq!(world.engine.check(&sync(), &batch.schema()).await, []);
    let full = r#"Create Some("x:1") ["a@x.co", "Köln", "7", "vip", "a \"b\"", "", "3", "", "KÖLN", "Köln", "Ada", "36", "2", "{\"city\":\"Köln\",\"number\":7}", "[\"vip\",null,\"a \\\"b\\\"\"]", "{\"visits\":3}"]"#;
    let empty = r#"Create Some("x:2") ["b@x.co", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""]"#;
    for spool in [streamed(&world, &batch).await, pinned(&world, &batch).await] {
        let (planned, folder) = world.plan(&sync(), &spool, None).await;
        assert_eq!(changes(&folder, &planned), [full, empty]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_the_order_of_records_may_name_parts_and_only_whole_columns_are_read() {
    let world = World::new();
    let batch = people();
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![column("Email", "email", DataType::Email)];
    let equals = Condition {
        column: "address.city".to_owned(),
        operator: Operator::Equals,
        values: vec![Literal::Text("köln".to_owned())],
    };
    sync.filter = Some(Filter::Rule(Rule::Condition(equals)));
    let by = OrderBy { expression: Expression::Column("address.number".to_owned()), descending: false };
    sync.dedupe = Dedupe { keep: Keep::Latest, by: vec![by] };
    assert_eq!(world.engine.check(&sync, &batch.schema()).await, []);
    let read = world.engine.columns_read(&sync, &batch.schema());
    assert_eq!(read.into_iter().collect::<Vec<_>>(), ["address", "email"]);
    let (planned, _) = world.plan(&sync, &pinned(&world, &batch).await, None).await;
    assert_eq!((planned.counts.creates, planned.counts.filtered), (1, 1));
}

#[tokio::test]
async fn parts_that_are_not_there_are_told_with_what_is() {
    let world = World::new();
    let schema = people().schema();
    let problem = async |column: &str| {
        let mut sync = spec(SyncMode::Upsert);
        sync.columns = vec![named("Email", column)];
        let problems = world.engine.check(&sync, &schema).await;
        assert_eq!(problems.len(), 1, "{column}: {problems:?}");
        problems[0].message.clone()
    };
    assert!(problem("address.town").await.contains("`address` has no field `town`; it has `city`, `number`"));
    assert!(problem("tags.first").await.contains("`tags[1]` is the first"));
    assert!(problem("tags[0]").await.contains("counted from 1"));
    assert!(problem("payload.user").await.contains("`payload->>'name'`"));
    assert!(problem("adress.city").await.contains("no column `adress.city`"));
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![column("Email", "email", DataType::Email)];
    let by = OrderBy { expression: Expression::Column("address".to_owned()), descending: false };
    sync.dedupe = Dedupe { keep: Keep::Latest, by: vec![by] };
    let problems = world.engine.check(&sync, &schema).await;
    assert!(problems[0].message.contains("have no order"), "{problems:?}");
}

#[tokio::test]
async fn a_column_whose_name_looks_like_a_path_is_that_column() {
    let world = World::new();
    let text = |name: &str| Field::new(name, ArrowType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![text("a"), text("a.b"), text("email")]));
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![column("Email", "email", DataType::Email), named("B", "a.b")];
    assert_eq!(world.engine.check(&sync, &schema).await, []);
    assert!(world.engine.columns_read(&sync, &schema).contains("a.b"));
}

fn struct_of(parts: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    Arc::new(StructArray::from(parts.into_iter().map(|(name, array)| (field(name, &array), array)).collect::<Vec<_>>()))
}

/// One record with its address, alone and in a list.
fn person(email: &str, address: ArrayRef) -> RecordBatch {
    let emails: ArrayRef = Arc::new(StringArray::from_iter_values([email]));
    let item = Arc::new(Field::new("element", address.data_type().clone(), true));
    let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::clone(&address), None));
    RecordBatch::try_from_iter_with_nullable([
        ("email", emails, true),
        ("address", address, true),
        ("addresses", list, true),
    ])
    .unwrap()
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values([value]))
}

/// What the spool of these files, pinned and streamed, makes of a sync.
async fn both_spools(world: &World, schema: &SchemaRef, files: &[RecordBatch]) -> [Result<Spool, EngineError>; 2] {
    let mut spools = Vec::new();
    for is_pinned in [true, false] {
        let mut writer = SpoolWriter::create(&world.fresh("spool"), Arc::clone(schema)).unwrap();
        let mut failed = None;
        for batch in files {
            let positions = (1..=batch.num_rows() as u64).collect();
            let records = SplitItem::Records(SourceBatch { records: batch.clone(), positions, bytes_read: 0 });
            let items = vec![Ok(records), Ok(SplitItem::End { fingerprint: "print".to_owned() })];
            let content = match is_pinned {
                true => SplitContent::Parquet(PinnedParquet { file: parquet_of(batch, 1), constants: vec![] }),
                false => SplitContent::Stream(futures::stream::iter(items).boxed()),
            };
            failed = writer.split(&split("x"), content, &|_| {}).await.err().or(failed);
        }
        spools.push(match failed {
            Some(error) => Err(error),
            None => Ok(writer.finish().await.unwrap()),
        });
    }
    spools.try_into().unwrap_or_else(|_| unreachable!())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_some_files_lack_is_null_in_their_records() {
    let world = World::new();
    let old = person("old@x.co", struct_of(vec![("city", text("Köln")), ("zip", text("50667"))]));
    let new = struct_of(vec![("zip", text("1000")), ("country", text("BE")), ("city", text("Gent"))]);
    let new = person("new@x.co", new);
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![
        column("Email", "email", DataType::Email),
        column("City", "address.city", DataType::Text),
        column("Country", "address.country", DataType::Text),
        named("Addresses", "addresses"),
    ];
    for spool in both_spools(&world, &new.schema(), &[old, new]).await {
        let (planned, folder) = world.plan(&sync, &spool.unwrap(), None).await;
        assert_eq!(
            changes(&folder, &planned),
            [
                r#"Create Some("x:1") ["new@x.co", "Gent", "BE", "[{\"zip\":\"1000\",\"country\":\"BE\",\"city\":\"Gent\"}]"]"#,
                r#"Create Some("x:1") ["old@x.co", "Köln", "", "[{\"zip\":\"50667\",\"city\":\"Köln\"}]"]"#,
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_does_not_fit_the_type_over_all_files_is_no_empty_cell() {
    let world = World::new();
    let far: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![253_402_214_400_000]));
    let near: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![0]));
    let [far, near] = [far, near].map(|until| person("a@x.co", struct_of(vec![("until", until)])));
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![column("Email", "email", DataType::Email), column("Until", "address.until", DataType::Text)];
    let [pinned, streamed] = both_spools(&world, &near.schema(), &[far]).await;
    let failed = world.try_plan(&sync, &pinned.unwrap(), None, &world.fresh("plan")).await.unwrap_err();
    let EngineError::Source { cause, .. } = failed else { panic!("{failed:?}") };
    assert!(cause.message.contains("`address`"), "{}", cause.message);
    assert!(matches!(streamed, Err(EngineError::Source { .. })), "{:?}", streamed.err());
}
