//! Files that count only when a manifest lists them and all of it is there.

use std::os::unix::fs::MetadataExt;

use convoke_core::source::Source;
use convoke_core::spec::{DropMode, DropPlace};
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord, obeys_the_contract};

use crate::test_folder::{Meanwhile, TestFolder, csv_of, names};

fn with_manifests(mode: DropMode) -> TestFolder {
    TestFolder::with(mode, |spec| spec.manifest = Some("*.manifest".to_owned()))
}

/// A folder in which each addition comes as two files and their manifest.
struct Listed(TestFolder);

#[async_trait::async_trait]
impl SourceSetUp for Listed {
    fn source(&self) -> &dyn Source {
        &self.0.source
    }

    async fn put(&self, records: &[SuiteRecord]) {
        let number = self.0.puts();
        let (first, second) = records.split_at(records.len() / 2);
        let (one, other) = (format!("a-{number}.csv"), format!("b-{number}.csv"));
        self.0.write(&one, csv_of(first));
        self.0.write(&other, csv_of(second));
        self.0.write(&format!("{number}.manifest"), format!("{one}\n{other}\n"));
    }
}

#[tokio::test]
async fn folders_with_manifests_obey_the_contract() {
    for mode in [DropMode::Snapshot, DropMode::Append] {
        obeys_the_contract(async || Listed(with_manifests(mode))).await;
    }
}

/// What stands in it may be data of people.
#[tokio::test]
async fn a_manifest_that_lists_what_is_no_file_of_records_is_told_without_a_word_of_it() {
    for (pattern, lines, told) in [
        ("*.csv", "a.csv\nada@example.com,Ada\n", "its 2. entry is no name that `pattern` admits"),
        ("*.csv", "ada@example.com,Ada\nada@example.com,Ada\n", "its 2. entry lists a name that is listed before it"),
        ("*", "a.csv\nada@example.com,Ada\n", "something whose name looks like a value is missing"),
        ("*", "Ada,London\n", "something whose name looks like a value is missing"),
    ] {
        let folder = TestFolder::with(DropMode::Append, |spec| {
            (spec.manifest, spec.pattern) = (Some("*.txt".to_owned()), pattern.to_owned());
        });
        folder.write("a.csv", "email\na@b.co\n");
        folder.write("people.txt", lines);
        let error = folder.try_discover(None, false).await.unwrap_err().to_string();
        assert!(error.contains("`people.txt`") && error.contains(told), "{error}");
        assert!(!error.to_lowercase().contains("ada"), "{error}");
    }
}

#[tokio::test]
async fn a_drop_counts_when_all_that_its_manifest_lists_is_there() {
    for mode in [DropMode::Snapshot, DropMode::Append] {
        let folder = with_manifests(mode);
        folder.write("a.csv", "a\n1\n");
        folder.write("stray.csv", "a\n9\n");
        folder.write("1.manifest", r#"{"files": [{"name": "a.csv", "size": 4}, {"name": "b.csv", "size": 4}]}"#);
        let error = folder.try_discover(None, false).await.unwrap_err().to_string();
        assert!(error.contains("`1.manifest` is not complete: `b.csv` is missing"), "{error}");
        assert!(error.contains("`stray.csv` stands in no manifest yet"), "{error}");
        folder.write("b.csv", "a\n222\n");
        let error = folder.try_discover(None, false).await.unwrap_err().to_string();
        assert!(error.contains("`b.csv` has 6 bytes and not 4"), "{error}");
        folder.write("b.csv", "a\n2\n");
        let discovery = folder.discover(None).await;
        assert_eq!(names(&discovery), ["a.csv", "b.csv"]);
        let stored = folder.run(None).await;
        assert_eq!(folder.names(""), ["stray.csv"]);
        assert_eq!(folder.names("processed"), ["1.manifest", "a.csv", "b.csv"]);
        assert!(folder.discover(Some(&stored)).await.unchanged);
    }
}

#[tokio::test]
async fn a_file_with_another_checksum_than_listed_keeps_its_drop_waiting() {
    let folder = with_manifests(DropMode::Append);
    let checksum = |text: &str| blake3::hash(text.as_bytes()).to_hex();
    folder.write("a.csv", "a\n1\n");
    folder.write("1.manifest", format!("blake3:{} a.csv\n", checksum("a\n2\n")));
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`a.csv` has another checksum"), "{error}");
    folder.write("a.csv", "a\n2\n");
    assert_eq!(names(&folder.discover(None).await), ["a.csv"]);
}

#[tokio::test]
async fn a_listed_file_without_a_checksum_that_is_still_being_written_keeps_its_drop_waiting() {
    let inbox = tempfile::TempDir::new().unwrap();
    let (path, growing) = (inbox.path().to_path_buf(), inbox.path().join("a.csv"));
    let clock = Meanwhile(move || std::fs::write(&growing, "a\n1\n2\n").unwrap());
    let folder = TestFolder::with_clock(DropMode::Snapshot, std::sync::Arc::new(clock), |spec| {
        spec.manifest = Some("*.manifest".to_owned());
        spec.place = DropPlace::Folder { path };
    });
    std::fs::write(inbox.path().join("1.manifest"), "a.csv\n").unwrap();
    let moment = std::fs::metadata(inbox.path().join("1.manifest")).unwrap();
    // Its upload begins right after that of its manifest.
    let is_later =
        || std::fs::metadata(inbox.path().join("a.csv")).is_ok_and(|one| one.ctime_nsec() != moment.ctime_nsec());
    while !is_later() {
        std::fs::write(inbox.path().join("a.csv"), "a\n1\n").unwrap();
    }
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`a.csv` is still being written; not read"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_told_and_waits() {
    let folder = with_manifests(DropMode::Append);
    folder.write("a.csv", "a\n1\n");
    folder.write("1.manifest", "{\"files\": [");
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`1.manifest` cannot be used as a manifest: line 1"), "{error}");
    assert_eq!(folder.names(""), ["1.manifest", "a.csv"]);
}

#[tokio::test]
async fn in_a_folder_of_snapshots_the_files_of_the_newest_manifest_are_the_whole_truth() {
    let folder = with_manifests(DropMode::Snapshot);
    folder.write("a.csv", "a\n1\n");
    folder.write("1.manifest", "a.csv\n");
    folder.write("b.csv", "a\n2\n");
    folder.write("c.csv", "a\n3\n");
    folder.write("2.manifest", "b.csv\nc.csv\n");
    let discovery = folder.discover(None).await;
    assert_eq!(names(&discovery), ["b.csv", "c.csv"]);
    assert!(discovery.notices[0].contains("`1.manifest` is older than `2.manifest`"), "{:?}", discovery.notices);
    let stored = folder.run(None).await;
    assert_eq!(folder.names(""), ["1.manifest", "a.csv"]);
    let discovery = folder.discover(Some(&stored)).await;
    assert!(discovery.unchanged && discovery.notices[0].contains("skipped"), "{discovery:?}");
    let again = folder.try_discover(Some(&stored), true).await.unwrap();
    assert_eq!(names(&again), ["b.csv", "c.csv"]);
}

#[tokio::test]
async fn a_manifest_goes_to_quarantine_with_a_file_of_it_and_supersedes_older_ones() {
    let folder = with_manifests(DropMode::Snapshot);
    folder.write("old.csv", "a\n1\n");
    folder.write("1.manifest", "old.csv\n");
    folder.write("bad.csv", "a,a\n1,2\n");
    folder.write("2.manifest", "bad.csv\n");
    let outcomes = folder.outcomes(&folder.discover(None).await).await;
    folder.source().acknowledge(&outcomes).await.unwrap();
    assert_eq!(folder.names("quarantine"), ["2.manifest", "2.manifest.reason.txt", "bad.csv", "bad.csv.reason.txt"]);
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`1.manifest` is older than `2.manifest`, which lies in `quarantine/`"), "{error}");
}

#[tokio::test]
async fn a_drop_that_a_crash_left_half_moved_is_put_away_whole() {
    for mode in [DropMode::Snapshot, DropMode::Append] {
        let folder = with_manifests(mode);
        folder.write("a.csv", "a\n1\n");
        folder.write("b.csv", "a\n2\n");
        folder.write("1.manifest", "a.csv\nb.csv\n");
        let stored = folder.run(None).await;
        for name in ["b.csv", "1.manifest"] {
            std::fs::rename(folder.path("processed").join(name), folder.path(name)).unwrap();
        }
        // The manifest is moved after its files, so in such a crash it was not moved yet.
        let moved_later = folder.path("processed/a.csv");
        std::fs::rename(&moved_later, folder.path("processed/a.tmp")).unwrap();
        std::fs::rename(folder.path("processed/a.tmp"), &moved_later).unwrap();
        let discovery = folder.discover(Some(&stored)).await;
        assert!(discovery.unchanged, "{discovery:?}");
        assert_eq!(discovery.settled.len(), 1);
        folder.source().acknowledge(&discovery.settled).await.unwrap();
        assert!(folder.names("").is_empty(), "{:?}", folder.names(""));
        assert_eq!(folder.names("processed"), ["1.manifest", "a.csv", "b.csv"]);
    }
}
