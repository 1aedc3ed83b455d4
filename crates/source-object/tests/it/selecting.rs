//! What a backfill reads.

use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::source::{Coverage, Discovery, Selection, Source};
use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, names, small_file};

/// A moment of 1970, in minutes.
fn minute(minute: i64) -> Option<Timestamp> {
    Some(Timestamp(minute * 60_000))
}

async fn objects(mode: ObjectsMode) -> TestObjects {
    let objects = TestObjects::on_s3(mode, "**/*.parquet").await;
    objects.put_at(1, "2026/a.parquet", &small_file("a", "1"));
    objects.put_at(2, "b.parquet", &small_file("b", "2"));
    objects.run(None, &[]).await;
    objects.put_at(3, "a.parquet", &small_file("a", "3"));
    objects
}

async fn select(objects: &TestObjects, selection: Selection) -> Discovery {
    let source: &dyn Source = objects.source();
    source.select(&selection).await.unwrap()
}

#[tokio::test]
async fn everything_by_name_or_by_when_it_was_written_is_selected_as_an_addition() {
    for mode in [ObjectsMode::Snapshot, ObjectsMode::Append] {
        let objects = objects(mode).await;
        let between = |from, to| Selection::Between { from, to };
        let glob = |glob: &str| Selection::Objects(glob.to_owned());
        let cases: [(Selection, &[&str]); 7] = [
            (Selection::All, &["2026/a.parquet", "b.parquet", "a.parquet"]),
            (glob("*.parquet"), &["b.parquet", "a.parquet"]),
            (glob("2026/*"), &["2026/a.parquet"]),
            (glob("**/a.parquet"), &["2026/a.parquet", "a.parquet"]),
            (between(minute(1), minute(3)), &["2026/a.parquet", "b.parquet"]),
            (between(minute(2), None), &["b.parquet", "a.parquet"]),
            (between(None, minute(2)), &["2026/a.parquet"]),
        ];
        for (selection, expected) in cases {
            let found = select(&objects, selection.clone()).await;
            assert_eq!(names(&found), expected, "{selection:?}");
            assert_eq!((found.coverage, found.unchanged), (Coverage::Delta, false));
        }
    }
}

#[tokio::test]
async fn what_was_selected_is_described() {
    let objects = objects(ObjectsMode::Append).await;
    select(&objects, Selection::Objects("b.parquet".to_owned())).await;
    let columns = objects.columns().await;
    assert_eq!(columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn a_selection_of_nothing_is_noticed_and_a_pattern_that_is_none_is_refused() {
    let objects = objects(ObjectsMode::Append).await;
    let found = select(&objects, Selection::Between { from: minute(9), to: None }).await;
    assert!(found.unchanged && found.splits.is_empty());
    assert!(found.notices[0].contains("is of the kind that was asked for"), "{:?}", found.notices);
    let error = objects.source().select(&Selection::Objects("a[".to_owned())).await.unwrap_err().to_string();
    assert!(error.contains("`a[` is no pattern of names"), "{error}");
}

#[tokio::test]
async fn an_object_that_has_not_settled_is_not_selected_but_told() {
    let settle = Duration::from_secs(60);
    for mode in [ObjectsMode::Snapshot, ObjectsMode::Append] {
        let objects = TestObjects::in_folder_as(mode, "*.parquet", |spec| spec.settle = settle);
        objects.put_ago(settle * 2, "old.parquet", &small_file("id", "1"));
        objects.put_ago(settle / 2, "young.parquet", &small_file("id", "2"));
        let named = Selection::Named(vec!["old.parquet".to_owned(), "young.parquet".to_owned()]);
        for selection in [Selection::All, Selection::Objects("*".to_owned()), named] {
            let found = select(&objects, selection).await;
            assert_eq!(names(&found), ["old.parquet"]);
            assert!(found.notices[0].contains("left for the next run: `young.parquet`"), "{:?}", found.notices);
        }
    }
}
