//! In snapshot mode a file that a later one has superseded never becomes the truth again.

use std::fs;

use convoke_core::source::SourcePosition;
use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{TestFolder, names};

const BROKEN: &str = "a,a\n1,2\n";

/// Takes the newest file, which is broken, to quarantine. A run that finds its only file broken stores no position.
async fn quarantine_newest(folder: &TestFolder, stored: Option<&SourcePosition>) -> SourcePosition {
    let outcomes = folder.outcomes(&folder.discover(stored).await).await;
    folder.source().acknowledge(&outcomes).await.unwrap();
    folder.source().propose(stored, &outcomes)
}

#[tokio::test]
async fn a_file_skipped_before_known_contents_were_dropped_again_stays_skipped() {
    for folder in [TestFolder::new(DropMode::Snapshot), TestFolder::keeping(DropMode::Snapshot)] {
        folder.write_at("first.csv", "a\n1\n", 1);
        let stored = folder.run(None).await;
        folder.write_at("between.csv", "a\n2\n", 2);
        folder.write_at("again.csv", "a\n1\n", 3);
        let discovery = folder.discover(Some(&stored)).await;
        assert_eq!(names(&discovery), ["again.csv"], "it is read, so that the position moves");
        let stored = folder.run(Some(&stored)).await;
        let _ = fs::remove_file(folder.path("again.csv"));
        assert_eq!(names(&folder.discover(Some(&stored)).await), [""; 0]);
    }
}

#[tokio::test]
async fn an_older_file_does_not_stand_in_for_a_broken_one() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("good.csv", "a\n1\n", 1);
    let stored = folder.run(None).await;
    folder.write_at("older.csv", "a\n2\n", 2);
    folder.write_at("bad.csv", BROKEN, 3);
    quarantine_newest(&folder, Some(&stored)).await;
    let discovery = folder.discover(Some(&stored)).await;
    assert!(discovery.unchanged);
    let notice = &discovery.notices[0];
    assert!(notice.contains("`older.csv` is older than `bad.csv`, which lies in `quarantine/`"), "{notice}");
    let again = folder.try_discover(Some(&stored), true).await.unwrap();
    assert_eq!(names(&again), ["good.csv"]);
    // Touching a file is the way to say that it is the truth after all.
    folder.write_at("older.csv", "a\n2\n", 4);
    assert_eq!(names(&folder.discover(Some(&stored)).await), ["older.csv"]);
}

#[tokio::test]
async fn an_older_file_does_not_stand_in_for_a_broken_one_on_the_first_day_either() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("older.csv", "a\n2\n", 2);
    folder.write_at("bad.csv", BROKEN, 3);
    quarantine_newest(&folder, None).await;
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`older.csv` is older than `bad.csv`") && error.contains("touch it"), "{error}");
}

#[tokio::test]
async fn a_position_remembers_a_broken_file_that_was_cleared_away() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("good.csv", "a\n1\n", 1);
    let stored = folder.run(None).await;
    folder.write_at("older.csv", "a\n2\n", 2);
    folder.write_at("bad.csv", BROKEN, 3);
    let proposed = quarantine_newest(&folder, Some(&stored)).await;
    fs::remove_dir_all(folder.path("quarantine")).unwrap();
    let discovery = folder.discover(Some(&proposed)).await;
    assert!(discovery.unchanged);
    assert!(discovery.notices[0].contains("`older.csv` is older than"), "{:?}", discovery.notices);
}

/// A minute of the year 2170 or so.
const FAR_AHEAD: u64 = 60 * 24 * 365 * 200;

#[tokio::test]
async fn a_snapshot_whose_time_lies_ahead_is_superseded_by_what_comes_after_it() {
    for contents in ["a\n1\n", BROKEN] {
        for folder in [TestFolder::new(DropMode::Snapshot), TestFolder::keeping(DropMode::Snapshot)] {
            folder.write_at("ahead.csv", contents, FAR_AHEAD);
            let outcomes = folder.outcomes(&folder.discover(None).await).await;
            folder.source().acknowledge(&outcomes).await.unwrap();
            let stored = (contents != BROKEN).then(|| folder.source().propose(None, &outcomes));
            folder.wait_for_a_later_moment();
            fs::write(folder.path("right.csv"), "a\n2\n").unwrap();
            assert_eq!(names(&folder.discover(stored.as_ref()).await), ["right.csv"]);
            let stored = folder.run(stored.as_ref()).await;
            let after = folder.discover(Some(&stored)).await;
            assert!(after.unchanged, "{after:?}");
        }
    }
}

#[tokio::test]
async fn a_quarantined_file_that_is_put_back_is_read() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("bad.csv", BROKEN);
    let proposed = quarantine_newest(&folder, None).await;
    fs::rename(folder.path("quarantine/bad.csv"), folder.path("bad.csv")).unwrap();
    for stored in [None, Some(&proposed)] {
        assert_eq!(names(&folder.discover(stored).await), ["bad.csv"]);
    }
}

#[tokio::test]
async fn reasons_and_files_of_others_in_quarantine_supersede_nothing() {
    let folder = TestFolder::with(DropMode::Snapshot, |spec| spec.pattern = "contacts*".to_owned());
    fs::create_dir(folder.path("quarantine")).unwrap();
    folder.write_at("contacts.csv", "a\n1\n", 1);
    folder.write_at("quarantine/contacts.csv.reason.txt", "some reason\n", 2);
    folder.write_at("quarantine/companies.csv", BROKEN, 2);
    assert_eq!(names(&folder.discover(None).await), ["contacts.csv"]);
}

#[tokio::test]
async fn reading_an_older_copy_again_does_not_take_the_position_back() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("a.csv", "a\n1\n", 5);
    let stored = folder.run(None).await;
    folder.write_at("processed/a.csv", "a\n1\n", 1);
    let again = folder.try_discover(Some(&stored), true).await.unwrap();
    let outcomes = folder.outcomes(&again).await;
    let stored = folder.source().propose(Some(&stored), &outcomes);
    folder.write_at("b.csv", "a\n2\n", 3);
    assert!(folder.discover(Some(&stored)).await.unchanged);
}

#[tokio::test]
async fn a_position_from_before_there_was_a_mark_is_understood() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("a.csv", "a\n1\n", 5);
    let mut stored = folder.run(None).await;
    stored.0.as_object_mut().unwrap().retain(|key, _| key == "files");
    folder.write_at("older.csv", "a\n2\n", 4);
    assert!(folder.discover(Some(&stored)).await.unchanged);
    folder.write_at("newer.csv", "a\n2\n", 6);
    assert_eq!(names(&folder.discover(Some(&stored)).await), ["newer.csv"]);
}
