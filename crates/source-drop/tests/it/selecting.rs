//! What a backfill reads.

use convoke_core::Timestamp;
use convoke_core::source::{Coverage, Selection};
use convoke_core::spec::DropMode;

use crate::test_folder::{TestFolder, names};

/// A moment of 1970, in minutes.
fn minute(minute: i64) -> Option<Timestamp> {
    Some(Timestamp(minute * 60_000))
}

/// An append folder with two files that were read, and one that was not.
async fn folder() -> TestFolder {
    let folder = TestFolder::new(DropMode::Append);
    folder.write_at("a-1.csv", "a\n1\n", 1);
    folder.write_at("b-2.csv", "a\n2\n", 2);
    folder.run(None).await;
    folder.write_at("a-3.csv", "b\n3\n", 3);
    folder
}

#[tokio::test]
async fn all_files_that_are_still_there_are_selected_in_the_order_in_which_they_were_dropped() {
    let folder = folder().await;
    let all = folder.select(Selection::All).await.unwrap();
    assert_eq!(names(&all), ["a-1.csv", "b-2.csv", "a-3.csv"]);
    assert_eq!(all.coverage, Coverage::Delta);
    let read = folder.outcomes(&all).await;
    assert_eq!(read.len(), 3);
    assert_eq!(folder.names("processed"), ["a-1.csv", "b-2.csv"], "nothing has moved");
}

#[tokio::test]
async fn files_are_selected_by_name() {
    let folder = folder().await;
    let some = folder.select(Selection::Objects("a-*.csv".to_owned())).await.unwrap();
    assert_eq!(names(&some), ["a-1.csv", "a-3.csv"]);
    let none = folder.select(Selection::Objects("c-*.csv".to_owned())).await.unwrap();
    assert!(none.unchanged && none.splits.is_empty());
    assert!(none.notices[0].contains("is of the kind that was asked for"), "{:?}", none.notices);
    let error = folder.select(Selection::Objects("a[".to_owned())).await.unwrap_err().to_string();
    assert!(error.contains("`a[` is no file name pattern"), "{error}");
}

#[tokio::test]
async fn files_are_selected_by_when_they_were_written_with_the_end_left_out() {
    let folder = folder().await;
    let cases: [(_, _, &[&str]); 4] = [
        (minute(1), minute(3), &["a-1.csv", "b-2.csv"]),
        (minute(2), None, &["b-2.csv", "a-3.csv"]),
        (None, minute(2), &["a-1.csv"]),
        (minute(4), None, &[]),
    ];
    for (from, to, expected) in cases {
        let found = folder.select(Selection::Between { from, to }).await.unwrap();
        assert_eq!(names(&found), expected, "{from:?} to {to:?}");
        assert_eq!(found.unchanged, expected.is_empty());
    }
}

#[tokio::test]
async fn of_snapshots_only_the_newest_can_be_selected() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("newer.csv", "a\n2\n", 2);
    folder.run(None).await;
    folder.write_at("older.csv", "a\n1\n", 1);
    assert_eq!(names(&folder.select(Selection::All).await.unwrap()), ["newer.csv"]);
    for selection in [Selection::Objects("*".to_owned()), Selection::Between { from: minute(0), to: None }] {
        let error = folder.select(selection).await.unwrap_err().to_string();
        assert!(error.contains("replaces the one before"), "{error}");
    }
}
