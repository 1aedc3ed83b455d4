//! What is read from a file of the folder.

use std::fs;

use convoke_core::error::SourceErrorKind;
use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{Contents, TestFolder};

#[tokio::test]
async fn a_file_with_more_malformed_records_than_allowed_is_broken() {
    for (max_malformed, is_broken) in [(0.5, false), (0.4, true)] {
        let folder = TestFolder::with(DropMode::Snapshot, |spec| spec.max_malformed = max_malformed);
        let contents = folder.read_file("a,b\n1,2\n1\n").await;
        assert_eq!(contents.broken.is_some(), is_broken, "{max_malformed}");
    }
}

#[tokio::test]
async fn files_without_records_are_read_as_empty_snapshots() {
    for bytes in ["a,b", "a,b\n", "\u{feff}a,b\r\n\r\n"] {
        let contents = TestFolder::new(DropMode::Snapshot).read_file(bytes).await;
        let fingerprint = Some(blake3::hash(bytes.as_bytes()).to_hex().to_string());
        assert_eq!(contents, Contents { fingerprint, ..Contents::default() }, "{bytes:?}");
    }
}

#[tokio::test]
async fn header_names_are_trimmed_and_replaced_by_their_aliases() {
    let folder = TestFolder::with(DropMode::Snapshot, |spec| {
        spec.aliases = vec![("E-Mail Address".to_owned(), "email".to_owned())];
        spec.delimiter = Some(';');
    });
    let contents = folder.read_file(" e-mail address ; Name \n1;2\n").await;
    assert_eq!(contents.columns, ["email", "Name"]);
    let described = folder.source().describe().await.unwrap();
    let names: Vec<&str> = described.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["email", "Name"]);
    assert!(described.origin.ends_with("file.csv"));
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_listed_is_an_error_and_not_records() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("file.csv", "a\n1\n");
    let discovery = folder.discover(None).await;
    folder.write("file.csv", "a\n1\n2\n");
    let error = folder.try_read(&discovery.splits[0]).await.unwrap_err();
    assert!(error.to_string().contains("changed while it was read; run again"), "{error}");
    assert_eq!(error.kind, SourceErrorKind::Changed);
    fs::remove_file(folder.path("file.csv")).unwrap();
    let error = folder.try_read(&discovery.splits[0]).await.unwrap_err();
    assert!(error.to_string().contains("file.csv` went away"), "{error}");
    assert_eq!(error.kind, SourceErrorKind::Changed);
}
