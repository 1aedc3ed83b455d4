//! What is known to be a part of a drop is never taken for the whole truth.

use std::sync::Arc;

use convoke_core::source::{Coverage, SourcePosition};
use convoke_core::spec::{DropMode, DropPlace, ProcessedFiles};
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{Meanwhile, TestFolder, names};

const BROKEN: &str = "a,a\n1,2\n";

fn with_manifests(mode: DropMode) -> TestFolder {
    TestFolder::with(mode, |spec| spec.manifest = Some("*.manifest".to_owned()))
}

/// Reads what is found and puts it away.
async fn run(folder: &TestFolder, stored: Option<&SourcePosition>, reread: bool) -> (Coverage, SourcePosition) {
    let discovery = folder.try_discover(stored, reread).await.unwrap();
    let outcomes = folder.outcomes(&discovery).await;
    let proposed = folder.source().propose(stored, &outcomes);
    folder.source().acknowledge(&outcomes).await.unwrap();
    (discovery.coverage, proposed)
}

#[tokio::test]
async fn the_readable_rest_of_a_drop_is_no_whole_truth_when_it_is_read_again() {
    for processed in [ProcessedFiles::Move, ProcessedFiles::Keep] {
        let folder = TestFolder::with(DropMode::Snapshot, |spec| {
            (spec.manifest, spec.processed) = (Some("*.manifest".to_owned()), processed);
        });
        folder.write("bad.csv", BROKEN);
        folder.write("good.csv", "a\n1\n");
        folder.write("1.manifest", "bad.csv\ngood.csv\n");
        let (_, mut stored) = run(&folder, None, false).await;
        for _ in 0..2 {
            let again = folder.try_discover(Some(&stored), true).await.unwrap();
            assert_eq!((names(&again).as_slice(), again.coverage), (&["good.csv"][..], Coverage::Delta));
            assert!(again.notices.iter().any(|notice| notice.contains("`bad.csv` could not be read")), "{again:?}");
            stored = run(&folder, Some(&stored), true).await.1;
        }
        folder.write("whole.csv", "a\n1\n2\n");
        folder.write("2.manifest", "whole.csv\n");
        let (coverage, stored) = run(&folder, Some(&stored), false).await;
        assert_eq!(coverage, Coverage::Snapshot);
        assert_eq!(run(&folder, Some(&stored), true).await.0, Coverage::Snapshot);
    }
}

#[tokio::test]
async fn a_newer_manifest_that_is_not_complete_does_not_tear_an_older_one_apart() {
    for mode in [DropMode::Snapshot, DropMode::Append] {
        let folder = with_manifests(mode);
        for name in ["p1.csv", "p2.csv", "p3.csv"] {
            folder.write(name, format!("a\n{name}\n"));
        }
        folder.write("1.manifest", "p1.csv\np2.csv\np3.csv\n");
        folder.wait_for_a_later_moment();
        let listed = |contents: &str| blake3::hash(contents.as_bytes()).to_hex().to_string();
        let (p1, p2) = ("a\nnew 1\n", "a\nnew 2\n");
        folder.write("2.manifest", format!("blake3:{} p1.csv\nblake3:{} p2.csv\n", listed(p1), listed(p2)));
        assert_eq!(names(&folder.discover(None).await), ["p1.csv", "p2.csv", "p3.csv"], "{mode:?}");
        folder.write("p1.csv", p1);
        let half = folder.try_discover(None, false).await;
        match mode {
            DropMode::Snapshot => {
                let error = half.unwrap_err().to_string();
                assert!(error.contains("`p1.csv` was replaced by that of a newer manifest"), "{error}");
            }
            DropMode::Append => assert_eq!(names(&half.unwrap()), ["p2.csv", "p3.csv"]),
        }
        folder.write("p2.csv", p2);
        let whole = folder.discover(None).await;
        let expected: &[&str] = match mode {
            DropMode::Snapshot => &["p1.csv", "p2.csv"],
            DropMode::Append => &["p3.csv", "p1.csv", "p2.csv"],
        };
        assert_eq!(names(&whole), expected);
    }
}

#[tokio::test]
async fn a_manifest_that_is_still_being_written_says_already_whose_a_file_is() {
    let inbox = tempfile::TempDir::new().unwrap();
    let (place, growing) = (inbox.path().to_path_buf(), inbox.path().join("2.manifest"));
    let clock = Meanwhile(move || std::fs::write(&growing, "p1.csv\np2.csv\np3.csv\n").unwrap());
    let folder = TestFolder::with_clock(DropMode::Snapshot, Arc::new(clock), |spec| {
        spec.place = DropPlace::Folder { path: place };
        spec.manifest = Some("*.manifest".to_owned());
    });
    let write = |name: &str, contents: &str| std::fs::write(inbox.path().join(name), contents).unwrap();
    write("p1.csv", "a\n1\n");
    write("p2.csv", "a\n2\n");
    write("1.manifest", "p1.csv\np2.csv\n");
    folder.wait_for_a_later_moment();
    write("p1.csv", "a\n3\n");
    write("2.manifest", "p1.csv\n");
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`p1.csv` was replaced by that of a newer manifest"), "{error}");
    assert!(error.contains("`2.manifest` is still being written"), "{error}");
}

#[tokio::test]
async fn what_was_moved_for_an_older_snapshot_is_not_taken_for_a_part_of_a_newer_one() {
    let folder = with_manifests(DropMode::Snapshot);
    folder.write("people.csv", "a\n1\n");
    folder.write("x.csv", "a\n2\n");
    folder.write("1.manifest", "people.csv\nx.csv\n");
    let found = folder.discover(None).await;
    let outcomes = folder.outcomes(&found).await;
    // Dropped while the first is delivered.
    folder.write("b.csv", "a\n3\n");
    folder.write("2.manifest", "people.csv\nb.csv\n");
    folder.write("3.manifest", "people.csv\n");
    folder.wait_for_a_later_moment();
    let stored = folder.source().propose(None, &outcomes);
    folder.source().acknowledge(&outcomes).await.unwrap();
    assert_eq!(folder.names(""), ["2.manifest", "3.manifest", "b.csv"]);
    let waiting = folder.discover(Some(&stored)).await;
    assert!(waiting.unchanged, "{waiting:?}");
    let told = "`2.manifest` is not complete: `people.csv` is missing";
    assert!(waiting.notices.iter().any(|notice| notice.contains(told)), "{waiting:?}");
    std::fs::remove_file(folder.path("3.manifest")).unwrap();
    folder.write("people.csv", "a\n4\n");
    let whole = folder.discover(Some(&stored)).await;
    assert_eq!((names(&whole).as_slice(), whole.coverage), (&["b.csv", "people.csv"][..], Coverage::Snapshot));
}

#[tokio::test]
async fn a_number_that_is_the_files_own_makes_it_no_other_file() {
    let folder = with_manifests(DropMode::Append);
    folder.write("1.manifest", "people.csv\n");
    folder.write("people.20260101.csv", "a\n1\n");
    folder.write("2.manifest", "people.20260101.csv\n");
    folder.run(None).await;
    assert_eq!(folder.names("processed"), ["2.manifest", "people.20260101.csv"]);
    assert_eq!(folder.names(""), ["1.manifest"], "its file has not come yet");
}

#[tokio::test]
async fn a_snapshot_half_moved_by_a_crash_is_put_away_with_its_manifest() {
    let folder = with_manifests(DropMode::Snapshot);
    folder.write("a.csv", "a\n1\n");
    folder.write("b.csv", "a\n2\n");
    folder.write("1.manifest", "a.csv\nb.csv\n");
    let stored = folder.run(None).await;
    std::fs::rename(folder.path("processed/1.manifest"), folder.path("1.manifest")).unwrap();
    assert!(folder.discover(Some(&stored)).await.unchanged);
    folder.source().acknowledge(&[]).await.unwrap();
    assert_eq!(folder.names("processed"), ["1.manifest", "a.csv", "b.csv"]);
}
