//! Columns that differ from what was known, under each policy.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array};
use convoke_core::source::{Discovery, SourcePosition};
use convoke_core::spec::{ObjectsMode, SchemaPolicy};
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, parquet_file, texts};

fn narrow() -> ArrayRef {
    Arc::new(Int32Array::from(vec![1]))
}

fn wide() -> ArrayRef {
    Arc::new(Int64Array::from(vec![1]))
}

type Columns = Vec<(&'static str, ArrayRef)>;

/// What the second of two objects has, and how that is told: refused, and taken in.
fn differences() -> Vec<(Columns, &'static str, &'static str)> {
    vec![
        (
            vec![("id", narrow()), ("name", texts(["a"])), ("phone", texts(["1"]))],
            "`b.parquet` has a column `phone` (Utf8), which what was read before has not",
            "column `phone` (Utf8) is new, in `b.parquet`",
        ),
        (
            vec![("id", narrow())],
            "`b.parquet` lacks column `name` (Utf8), which what was read before has",
            "column `name` is gone: `b.parquet` has it not",
        ),
        (
            vec![("id", wide()), ("name", texts(["a"]))],
            "`b.parquet` has column `id` as Int64, and in what was read before it is Int32",
            "column `id` was Int32 before and is Int64 in `b.parquet`",
        ),
        (
            vec![("name", texts(["a"])), ("id", narrow())],
            "`b.parquet` has its columns in another order than what was read before, from `name` on",
            "columns stand in another order than before in `b.parquet`, from `name` on",
        ),
    ]
}

async fn settled(policy: SchemaPolicy) -> (TestObjects, SourcePosition) {
    let objects = TestObjects::in_folder_as(ObjectsMode::Append, "*.parquet", |spec| spec.schema = policy);
    objects.put_at(1, "a.parquet", &parquet_file([("id", narrow()), ("name", texts(["a"]))]));
    let stored = settle(&objects, None).await;
    (objects, stored)
}

/// A whole run, in which the columns are asked for as a run does.
async fn settle(objects: &TestObjects, stored: Option<&SourcePosition>) -> SourcePosition {
    let discovery = objects.discover(stored).await;
    objects.source().describe().await.unwrap();
    objects.settled(stored, &discovery).await
}

#[tokio::test]
async fn any_difference_is_refused_where_the_policy_is_strict() {
    for (columns, refused, _) in differences() {
        let (objects, stored) = settled(SchemaPolicy::Strict).await;
        objects.put_at(2, "b.parquet", &parquet_file(columns));
        objects.discover(Some(&stored)).await;
        let error = objects.source().describe().await.unwrap_err().to_string();
        assert!(error.contains(refused) && error.contains("set `schema: widen`"), "{error}");
    }
    let (objects, stored) = settled(SchemaPolicy::Strict).await;
    objects.put_at(2, "b.parquet", &parquet_file([("ID", narrow()), ("name", texts(["a"]))]));
    objects.discover(Some(&stored)).await;
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("`b.parquet` spells column `id`, as it is in what was read before, `ID`"), "{error}");
}

#[tokio::test]
async fn what_is_as_it_was_is_let_through_where_the_policy_is_strict() {
    let (objects, stored) = settled(SchemaPolicy::Strict).await;
    objects.put_at(2, "b.parquet", &parquet_file([("id", narrow()), ("name", texts(["b"]))]));
    assert!(objects.discover(Some(&stored)).await.notices.is_empty());
    assert_eq!(objects.column_names().await, ["id", "name"]);
}

#[tokio::test]
async fn before_anything_is_known_the_newest_object_is_the_measure() {
    let objects = TestObjects::in_folder_as(ObjectsMode::Snapshot, "*.parquet", |spec| {
        spec.schema = SchemaPolicy::Strict;
    });
    objects.put_at(1, "a.parquet", &parquet_file([("id", narrow())]));
    objects.put_at(2, "b.parquet", &parquet_file([("id", wide())]));
    objects.discover(None).await;
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("`a.parquet` has column `id` as Int32, and in `b.parquet` it is Int64"), "{error}");
}

#[tokio::test]
async fn differences_are_told_once_and_known_from_then_on_where_columns_may_widen() {
    for (columns, _, told) in differences() {
        let (objects, stored) = settled(SchemaPolicy::Widen).await;
        objects.put_at(2, "b.parquet", &parquet_file(columns.clone()));
        let discovery = objects.discover(Some(&stored)).await;
        assert!(is_told(&discovery, told), "{told}: {:?}", discovery.notices);
        let stored = settle(&objects, Some(&stored)).await;
        objects.put_at(3, "c.parquet", &parquet_file(columns));
        assert!(objects.discover(Some(&stored)).await.notices.is_empty());
    }
}

#[tokio::test]
async fn columns_that_were_not_known_are_left_out_and_told_where_new_ones_are_ignored() {
    let (objects, stored) = settled(SchemaPolicy::IgnoreNew).await;
    let mut stored = stored;
    for (minute, name) in [(2, "b.parquet"), (3, "c.parquet")] {
        let columns = [("id", wide()), ("phone", texts(["1"])), ("name", texts(["a"]))];
        objects.put_at(minute, name, &parquet_file(columns));
        let discovery = objects.discover(Some(&stored)).await;
        assert!(is_told(&discovery, &format!("left out: column `phone` of `{name}`")), "{:?}", discovery.notices);
        assert_eq!(objects.column_names().await, ["id", "name"]);
        stored = settle(&objects, Some(&stored)).await;
    }
}

#[tokio::test]
async fn a_snapshot_remembers_its_columns_too() {
    let objects = TestObjects::in_folder_as(ObjectsMode::Snapshot, "*.parquet", |spec| {
        spec.schema = SchemaPolicy::IgnoreNew;
    });
    objects.put_at(1, "a.parquet", &parquet_file([("id", narrow())]));
    let stored = settle(&objects, None).await;
    objects.put_at(2, "a.parquet", &parquet_file([("id", narrow()), ("phone", texts(["1"]))]));
    let discovery = objects.discover(Some(&stored)).await;
    assert!(is_told(&discovery, "left out: column `phone` of `a.parquet`"), "{:?}", discovery.notices);
    assert_eq!(objects.column_names().await, ["id"]);
}

fn is_told(discovery: &Discovery, told: &str) -> bool {
    discovery.notices.iter().any(|notice| notice.contains(told))
}
