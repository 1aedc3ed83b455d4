//! Folders `name=value` as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::DataType;
use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, parquet_file, small_file};

fn partitioned() -> TestObjects {
    TestObjects::in_folder_with(ObjectsMode::Snapshot, "**/*.parquet", true)
}

type Constant = (String, Option<String>);

async fn constants(objects: &TestObjects) -> Vec<Vec<Constant>> {
    let mut constants = Vec::new();
    for split in &objects.discover(None).await.splits {
        constants.push(objects.open_split(split).await.constants);
    }
    constants
}

fn constant(name: &str, value: &str) -> Constant {
    (name.to_owned(), Some(value.to_owned()))
}

#[tokio::test]
async fn partitions_are_text_columns_that_may_be_null() {
    let objects = partitioned();
    objects.put_at(1, "country=DE/day=2026-01-01/a.parquet", &small_file("id", "1"));
    objects.put_at(2, "country=__HIVE_DEFAULT_PARTITION__/b.parquet", &small_file("id", "2"));
    let found = constants(&objects).await;
    let first = vec![constant("country", "DE"), constant("day", "2026-01-01")];
    assert_eq!(found, [first, vec![("country".to_owned(), None)]]);
    let columns = objects.columns().await;
    let text = |name: &str| (name.to_owned(), DataType::Utf8);
    assert_eq!(columns, [text("id"), text("country"), text("day")]);
}

#[tokio::test]
async fn a_column_of_the_file_goes_before_a_partition_of_the_same_name() {
    let objects = partitioned();
    objects.put_at(1, "day=1/a.parquet", &small_file("id", "1"));
    objects.put_at(2, "day=2/b.parquet", &small_file("day", "second"));
    assert_eq!(constants(&objects).await, [vec![constant("day", "1")], vec![]]);
    let days: ArrayRef = Arc::new(Int32Array::from(vec![3]));
    objects.put_at(3, "day=3/c.parquet", &parquet_file([("day", days)]));
    objects.discover(None).await;
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("column `day` is Int32 in `day=3/c.parquet` and Utf8 in `day=2/b.parquet`"), "{error}");
}

#[tokio::test]
async fn folders_are_no_columns_unless_asked_for() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "**/*.parquet");
    objects.put_object("country=DE/a.parquet", &small_file("id", "1"));
    assert_eq!(constants(&objects).await, [vec![]]);
    assert_eq!(objects.columns().await, [("id".to_owned(), DataType::Utf8)]);
}
