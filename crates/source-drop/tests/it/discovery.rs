//! Which files are read, and which were read before.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::source::{Settling, Source};
use convoke_core::spec::{DropMode, DropPlace};
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{Meanwhile, TestFolder, names};

#[tokio::test]
async fn the_newest_file_is_the_whole_truth() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("b.csv", "a\n1\n", 1);
    folder.write_at("a.csv", "a\n2\n", 3);
    folder.write_at("c.csv", "a\n3\n", 2);
    let discovery = folder.discover(None).await;
    assert_eq!(names(&discovery), ["a.csv"]);
    assert_eq!(discovery.notices.len(), 2, "{:?}", discovery.notices);
}

#[tokio::test]
async fn files_of_one_moment_are_ordered_by_name() {
    let folder = TestFolder::new(DropMode::Append);
    for name in ["b.csv", "a.csv", "c.csv"] {
        folder.write_at(name, format!("a\n{name}\n"), 1);
    }
    assert_eq!(names(&folder.discover(None).await), ["a.csv", "b.csv", "c.csv"]);
}

#[tokio::test]
async fn a_file_older_than_the_one_read_last_is_noticed_and_skipped() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("new.csv", "a\n1\n", 5);
    let stored = folder.run(None).await;
    folder.write_at("old.csv", "a\n22\n", 4);
    let discovery = folder.discover(Some(&stored)).await;
    assert!(discovery.unchanged);
    assert!(discovery.notices[0].contains("touch it"), "{:?}", discovery.notices);
}

#[tokio::test]
async fn contents_that_were_added_before_are_recognised_under_another_name() {
    let folder = TestFolder::new(DropMode::Append);
    folder.write("monday.csv", "a\n1\n");
    let stored = folder.run(None).await;
    folder.write("tuesday.csv", "a\n1\n");
    let discovery = folder.discover(Some(&stored)).await;
    assert!(discovery.unchanged);
    assert!(discovery.notices[0].contains("same contents as `monday.csv`"), "{:?}", discovery.notices);
    // The same size alone does not make the same file.
    folder.write("wednesday.csv", "a\n2\n");
    assert_eq!(names(&folder.discover(Some(&stored)).await), ["wednesday.csv"]);
}

#[tokio::test]
async fn a_snapshot_that_was_read_is_recognised_when_it_is_put_back() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("a.csv", "a\n1\n", 1);
    let stored = folder.run(None).await;
    folder.write_at("a.csv", "a\n1\n", 1);
    let discovery = folder.discover(Some(&stored)).await;
    assert!(discovery.unchanged);
    assert_eq!(discovery.settled.len(), 1);
    assert!(discovery.notices[0].contains("same contents as `a.csv`"), "{:?}", discovery.notices);
}

#[tokio::test]
async fn two_new_files_with_the_same_contents_are_read_once() {
    let folder = TestFolder::new(DropMode::Append);
    folder.write("a.csv", "a\n1\n");
    folder.write("b.csv", "a\n1\n");
    let discovery = folder.discover(None).await;
    assert_eq!(names(&discovery), ["a.csv"]);
    assert!(discovery.notices[0].contains("read once"), "{:?}", discovery.notices);
}

#[tokio::test]
async fn a_file_that_is_kept_is_told_by_its_identity_without_reading_it() {
    let folder = TestFolder::keeping(DropMode::Snapshot);
    folder.write("a.csv", "a\n1\n");
    let stored = folder.run(None).await;
    let discovery = folder.discover(Some(&stored)).await;
    assert!(discovery.unchanged && discovery.notices.is_empty(), "{discovery:?}");
}

#[tokio::test]
async fn an_empty_folder_is_unchanged_if_something_was_read_and_else_an_error() {
    let folder = TestFolder::new(DropMode::Snapshot);
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("no file matching `*.csv` in") && error.contains("drop one"), "{error}");
    folder.write("a.csv", "a\n1\n");
    let stored = folder.run(None).await;
    assert!(folder.names("").is_empty());
    assert!(folder.discover(Some(&stored)).await.unchanged);
}

#[tokio::test]
async fn a_missing_folder_is_an_error_with_a_remedy() {
    let folder = TestFolder::with(DropMode::Snapshot, |spec| {
        spec.place = DropPlace::Folder { path: spec.path().unwrap().join("absent") }
    });
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("create it, or correct `path`"), "{error}");
}

#[tokio::test]
async fn a_settled_snapshot_that_is_gone_cannot_be_read_again() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("a.csv", "a\n1\n");
    let stored = folder.run(None).await;
    fs::remove_file(folder.path("processed/a.csv")).unwrap();
    let error = folder.try_discover(Some(&stored), true).await.unwrap_err().to_string();
    assert!(error.contains("`a.csv` was read before") && error.contains("put it back"), "{error}");
}

#[tokio::test]
async fn additions_are_read_again_from_behind_the_last_one_that_is_gone() {
    let folder = TestFolder::new(DropMode::Append);
    let mut stored = None;
    for name in ["a.csv", "b.csv", "c.csv", "d.csv"] {
        folder.write(name, format!("a\n{name}\n"));
        stored = Some(folder.run(stored.as_ref()).await);
    }
    folder.write("e.csv", "a\ne\n");
    for gone in ["a.csv", "c.csv"] {
        fs::remove_file(folder.path("processed").join(gone)).unwrap();
    }
    let discovery = folder.try_discover(stored.as_ref(), true).await.unwrap();
    assert_eq!(names(&discovery), ["d.csv", "e.csv"]);
    let notice = &discovery.notices[0];
    assert!(notice.contains("`c.csv` and 1 more") && notice.contains("only what was read after `c.csv`"), "{notice}");
    // What is not read again is still known to have been read.
    let outcomes = folder.outcomes(&discovery).await;
    let stored = folder.source().propose(stored.as_ref(), &outcomes);
    folder.source().acknowledge(&outcomes).await.unwrap();
    folder.write("again.csv", "a\nc.csv\n");
    assert!(folder.discover(Some(&stored)).await.unchanged);
}

#[tokio::test]
async fn additions_that_are_all_gone_are_noticed_and_no_error() {
    let folder = TestFolder::new(DropMode::Append);
    folder.write("a.csv", "a\n1\n");
    let stored = folder.run(None).await;
    fs::remove_dir_all(folder.path("processed")).unwrap();
    let discovery = folder.try_discover(Some(&stored), true).await.unwrap();
    assert!(discovery.unchanged);
    assert!(discovery.notices[0].contains("`a.csv`, which was read before, is gone"), "{:?}", discovery.notices);
}

#[tokio::test]
async fn only_files_that_match_the_pattern_count() {
    let folder = TestFolder::new(DropMode::Append);
    for name in ["a.csv", "b.txt", ".c.csv", "d.csv.part"] {
        folder.write(name, format!("a\n{name}\n"));
    }
    fs::create_dir(folder.path("folder.csv")).unwrap();
    assert_eq!(names(&folder.discover(None).await), ["a.csv"]);
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_noticed_and_not_read() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let growing = path.clone();
    let clock = Meanwhile(move || fs::write(&growing, "a\n1\n2\n").unwrap());
    let path_of_folder = folder.path().to_path_buf();
    let drop = TestFolder::with_clock(DropMode::Snapshot, Arc::new(clock), |spec| {
        spec.place = DropPlace::Folder { path: path_of_folder }
    });
    assert_eq!(drop.source.settling().await.unwrap(), None, "nothing is there to wait for");
    fs::write(&path, "a\n1\n").unwrap();
    let settling = Settling { what: "`a.csv`".to_owned(), wait: Duration::from_secs(5) };
    assert_eq!(drop.source.settling().await.unwrap(), Some(settling));
    let error = drop.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`a.csv` is still being written"), "{error}");
}
