//! Files that count only once their marker lies beside them.

use std::fs;

use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{TestFolder, names};

fn with_markers() -> TestFolder {
    TestFolder::with(DropMode::Append, |spec| spec.done_suffix = Some(".done".to_owned()))
}

#[tokio::test]
async fn a_file_counts_when_its_marker_lies_beside_it() {
    let folder = with_markers();
    folder.write("a.csv", "a\n1\n");
    folder.write("b.csv", "a\n2\n");
    folder.write("b.csv.done", "");
    let discovery = folder.discover(None).await;
    assert_eq!(names(&discovery), ["b.csv"]);
    assert!(discovery.notices[0].contains("`a.csv` has no marker"), "{:?}", discovery.notices);
    folder.run(None).await;
    assert_eq!(folder.names(""), ["a.csv"]);
    assert_eq!(folder.names("processed"), ["b.csv", "b.csv.done"]);
}

#[tokio::test]
async fn a_marker_does_not_count_for_what_was_written_after_it() {
    let folder = with_markers();
    folder.write("a.csv", "a\n1\n");
    folder.write("a.csv.done", "");
    folder.write("a.csv", "a\n1\n2");
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`a.csv` was written to after its marker"), "{error}");
    folder.write("a.csv", "a\n1\n2\n3\n");
    folder.write("a.csv.done", "");
    assert_eq!(names(&folder.discover(None).await), ["a.csv"]);
}

#[tokio::test]
async fn a_marker_goes_where_its_file_went_and_is_called_like_it() {
    let folder = with_markers();
    let mut stored = None;
    for contents in ["a\n1\n", "a\n2\n"] {
        folder.write("a.csv", contents);
        folder.write("a.csv.done", "");
        stored = Some(folder.run(stored.as_ref()).await);
    }
    assert!(folder.names("").is_empty());
    assert_eq!(folder.names("processed"), ["a.1.csv", "a.1.csv.done", "a.csv", "a.csv.done"]);
}

#[tokio::test]
async fn a_marker_that_lost_its_file_to_a_crash_follows_it() {
    for (contents, target) in [("a\n1\n", "processed"), ("a,a\n1,2\n", "quarantine")] {
        let folder = with_markers();
        folder.write("a.csv", contents);
        folder.write("a.csv.done", "");
        folder.run(None).await;
        // As if the crash had come after the file was moved and before its marker was.
        fs::rename(folder.path(target).join("a.csv.done"), folder.path("a.csv.done")).unwrap();
        folder.source().acknowledge(&[]).await.unwrap();
        assert!(folder.names("").is_empty(), "{target}");
        assert!(folder.names(target).contains(&"a.csv.done".to_owned()), "{target}");
    }
}

#[tokio::test]
async fn a_file_whose_time_lies_ahead_is_complete_with_a_marker_that_is_written_after_it() {
    let folder = with_markers();
    folder.write_at("a.csv", "a\n1\n", 60 * 24 * 365 * 200);
    folder.wait_for_a_later_moment();
    fs::write(folder.path("a.csv.done"), "").unwrap();
    assert_eq!(names(&folder.discover(None).await), ["a.csv"]);
}

#[tokio::test]
async fn a_marker_that_waits_for_its_file_stays() {
    let folder = with_markers();
    folder.write("a.csv", "a\n1\n");
    folder.write("a.csv.done", "");
    let stored = folder.run(None).await;
    /// Minutes from 1970 to some day that the file's move lies before.
    const FAR_AHEAD: u64 = 60 * 24 * 365 * 200;
    folder.write_at("a.csv.done", "", FAR_AHEAD);
    folder.write_at("b.csv.done", "", 1);
    folder.source().acknowledge(&[]).await.unwrap();
    assert_eq!(folder.names(""), ["a.csv.done", "b.csv.done"]);
    assert!(folder.discover(Some(&stored)).await.unchanged);
}
