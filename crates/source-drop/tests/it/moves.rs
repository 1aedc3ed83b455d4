//! Where files go once their run has settled.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use convoke_core::source::Source;
use convoke_core::spec::DropMode;
use convoke_source_drop::{CsvDrop, Taker};
use convoke_testkit::clock::TestClock;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{TestFolder, names};

#[tokio::test]
async fn settled_files_move_and_never_overwrite() {
    let folder = TestFolder::new(DropMode::Append);
    let mut stored = None;
    for contents in ["a\n1\n", "a\n2\n", "a\n3\n"] {
        folder.write("contacts.csv", contents);
        stored = Some(folder.run(stored.as_ref()).await);
    }
    assert_eq!(folder.names("processed"), ["contacts.1.csv", "contacts.2.csv", "contacts.csv"]);
    assert_eq!(fs::read_to_string(folder.path("processed/contacts.csv")).unwrap(), "a\n1\n");
    let again = folder.try_discover(stored.as_ref(), true).await.unwrap();
    assert_eq!(again.splits.len(), 3);
    let mut records = Vec::new();
    for split in &again.splits {
        records.extend(folder.read(split).await.records.concat());
    }
    let expected: Vec<_> = ["1", "2", "3"].iter().map(|cell| Some((*cell).to_owned())).collect();
    assert_eq!(records, expected);
}

#[tokio::test]
async fn a_name_that_recurs_gets_the_next_number() {
    let folder = TestFolder::new(DropMode::Append);
    fs::create_dir(folder.path("processed")).unwrap();
    fs::write(folder.path("processed/a.csv"), "old").unwrap();
    for number in 1..=100 {
        fs::write(folder.path(&format!("processed/a.{number}.csv")), "old").unwrap();
    }
    folder.write("a.csv", "a\n1\n");
    folder.run(None).await;
    assert_eq!(fs::read_to_string(folder.path("processed/a.101.csv")).unwrap(), "a\n1\n");
}

#[tokio::test]
async fn one_file_that_cannot_be_moved_stops_neither_others_nor_the_release_of_the_claim() {
    let folder = TestFolder::new(DropMode::Append);
    let taker = |installation: &str| Taker {
        installation: installation.to_owned(),
        sync: "people".to_owned(),
        holder: "host (process 1)".to_owned(),
    };
    let source = CsvDrop::open(folder.spec(), None, TestClock::leaping()).unwrap().for_taker(taker("one"));
    folder.write("bad.csv", "a,a\n1,2\n");
    folder.write("good.csv", "a\n1\n");
    let found = folder.discover(None).await;
    let outcomes = folder.outcomes(&found).await;
    source.claim(&found.splits).await.unwrap();
    fs::write(folder.path("quarantine"), "in the way").unwrap();
    let error = source.acknowledge(&outcomes).await.unwrap_err().to_string();
    assert!(error.contains("quarantine"), "{error}");
    assert_eq!(folder.names(""), ["bad.csv", "quarantine"]);
    assert_eq!(folder.names("processed"), ["good.csv"]);
    let claims = fs::read_to_string(folder.path(".convoke/claims.json")).unwrap();
    assert!(!claims.contains("bad.csv"), "{claims}");
}

#[tokio::test]
async fn a_broken_file_that_is_to_be_kept_stays_and_is_read_again_once_it_has_changed() {
    let folder = TestFolder::keeping(DropMode::Append);
    folder.write("bad.csv", "a,a\n1,2\n");
    folder.write("good.csv", "a\n1\n");
    let stored = folder.run(None).await;
    assert_eq!(folder.names(""), ["bad.csv", "good.csv"]);
    assert!(!folder.path("quarantine").exists());
    let after = folder.discover(Some(&stored)).await;
    assert!(after.unchanged, "{after:?}");
    assert!(after.notices[0].contains("`bad.csv` could not be read and is as it was: "), "{after:?}");
    assert_eq!(folder.source().arrivals(Some(&stored)).await.unwrap().unwrap().count, 0);
    let whole = folder.try_discover(Some(&stored), true).await.unwrap();
    assert_eq!(names(&whole), ["good.csv", "bad.csv"], "with other settings it may be read");
    folder.write("bad.csv", "a\n2\n");
    assert_eq!(names(&folder.discover(Some(&stored)).await), ["bad.csv"]);
}

#[tokio::test]
async fn broken_files_go_to_quarantine_with_their_reason() {
    let folder = TestFolder::new(DropMode::Snapshot);
    for _ in 0..2 {
        folder.write("bad.csv", "a,a\n1,2\n");
        let outcomes = folder.outcomes(&folder.discover(None).await).await;
        folder.source().acknowledge(&outcomes).await.unwrap();
        folder.source().acknowledge(&outcomes).await.unwrap();
    }
    assert!(folder.names("").is_empty());
    let expected = ["bad.1.csv", "bad.1.csv.reason.txt", "bad.csv", "bad.csv.reason.txt"];
    assert_eq!(folder.names("quarantine"), expected);
    let reason = fs::read_to_string(folder.path("quarantine/bad.csv.reason.txt")).unwrap();
    assert!(reason.contains("both named `a`"), "{reason}");
}

#[tokio::test]
async fn a_reason_written_before_a_crash_is_used_after_it() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("bad.csv", "a,a\n1,2\n");
    let outcomes = folder.outcomes(&folder.discover(None).await).await;
    folder.source().acknowledge(&outcomes).await.unwrap();
    // As if the crash had come between the reason and the move.
    fs::rename(folder.path("quarantine/bad.csv"), folder.path("bad.csv")).unwrap();
    folder.source().acknowledge(&outcomes).await.unwrap();
    assert_eq!(folder.names("quarantine"), ["bad.csv", "bad.csv.reason.txt"]);
}

#[tokio::test]
async fn a_reason_is_for_its_owner_alone() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("bad.csv", "a,a\n1,2\n");
    folder.run(None).await;
    let mode = fs::metadata(folder.path("quarantine/bad.csv.reason.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[tokio::test]
async fn files_without_a_header_that_can_be_read_go_to_quarantine_too() {
    for bytes in [&b""[..], b"\n\n", b"a,a\n1,2\n", b"a,\n1,2\n"] {
        for mode in [DropMode::Snapshot, DropMode::Append] {
            let folder = TestFolder::new(mode);
            folder.write("bad.csv", bytes);
            folder.run(None).await;
            assert!(folder.names("").is_empty(), "{bytes:?}");
            assert_eq!(folder.names("quarantine"), ["bad.csv", "bad.csv.reason.txt"], "{bytes:?}");
        }
    }
}

#[tokio::test]
async fn a_file_dropped_over_the_one_that_was_read_stays() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("contacts.csv", "a\n1\n");
    let outcomes = folder.outcomes(&folder.discover(None).await).await;
    folder.write("contacts.csv", "a\n1\n2\n");
    folder.source().acknowledge(&outcomes).await.unwrap();
    assert_eq!(folder.names(""), ["contacts.csv"]);
    assert!(folder.names("processed").is_empty());
}

#[tokio::test]
async fn files_that_got_a_number_are_described_and_read_again() {
    let folder = TestFolder::with(DropMode::Append, |spec| spec.pattern = "contacts.csv".to_owned());
    folder.write("contacts.csv", "a\n1\n");
    let stored = folder.run(None).await;
    folder.write("contacts.csv", "a,b\n1,2\n");
    let stored = folder.run(Some(&stored)).await;
    assert!(folder.names("").is_empty());
    let described = folder.source().describe().await.unwrap();
    assert!(described.origin.ends_with("processed/contacts.1.csv"), "{}", described.origin);
    assert_eq!(folder.try_discover(Some(&stored), true).await.unwrap().splits.len(), 2);
}

#[tokio::test]
async fn that_files_cannot_be_moved_is_told_before_they_are() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("contacts.csv", "a\n1\n");
    let splits = folder.discover(None).await.splits;
    folder.source().can_acknowledge(&splits).await.unwrap();
    assert_eq!(folder.names("processed"), Vec::<String>::new(), "nothing is made yet");
    fs::write(folder.path("processed"), "in the way").unwrap();
    let error = folder.source().can_acknowledge(&splits).await.unwrap_err().to_string();
    assert!(error.contains("processed`; move away the file"), "{error}");
    let keeping = TestFolder::keeping(DropMode::Snapshot);
    keeping.write("contacts.csv", "a\n1\n");
    fs::write(keeping.path("processed"), "in the way").unwrap();
    let splits = keeping.discover(None).await;
    keeping.source().can_acknowledge(&splits.splits).await.unwrap();
}

#[tokio::test]
async fn a_folder_without_the_right_to_write_is_named() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("contacts.csv", "a\n1\n");
    let splits = folder.discover(None).await.splits;
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o555)).unwrap();
    let may_write = fs::create_dir(folder.path("probe")).is_ok();
    let told = folder.source().can_acknowledge(&splits).await;
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    // To whoever may do anything, root, no folder is read-only.
    match told {
        Ok(()) => assert!(may_write),
        Err(error) => {
            assert!(!may_write);
            assert!(error.to_string().contains("give this user the right to write it"), "{error}");
        }
    }
}
