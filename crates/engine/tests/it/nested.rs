//! Values within values, in mappings, filters and the order of records.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
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
