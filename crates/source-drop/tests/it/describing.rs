//! Whose header it is that is described.

use convoke_core::SourceError;
use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{TestFolder, names};

/// The columns, and where they were found.
async fn described(folder: &TestFolder) -> (Vec<String>, String) {
    let described = folder.source().describe().await.unwrap();
    (described.schema.fields().iter().map(|field| field.name().clone()).collect(), described.origin)
}

async fn refused(folder: &TestFolder) -> SourceError {
    folder.source().describe().await.unwrap_err()
}

#[tokio::test]
async fn before_a_discovery_the_newest_header_that_can_be_read_counts() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("read.csv", "a,b\n1,2\n");
    folder.run(None).await;
    folder.write("broken.csv", "a,a\n1,2\n");
    folder.write("empty.csv", "");
    let (columns, origin) = described(&folder).await;
    assert_eq!(columns, ["a", "b"]);
    assert!(origin.ends_with("processed/read.csv"), "{origin}");
    folder.write("newer.csv", "c\n1\n");
    folder.write("nameless.csv", "c,\n1,2\n");
    assert_eq!(described(&folder).await.0, ["c"]);
}

#[tokio::test]
async fn before_a_discovery_a_folder_without_any_readable_header_is_refused_with_the_reason() {
    let folder = TestFolder::new(DropMode::Snapshot);
    assert!(refused(&folder).await.to_string().contains("no file matching `*.csv`"));
    folder.write("broken.csv", "a,a\n1,2\n");
    folder.write("empty.csv", "");
    let error = refused(&folder).await.to_string();
    assert!(error.contains("empty.csv`: the file is empty"), "{error}");
}

#[tokio::test]
async fn a_discovery_whose_files_have_no_readable_header_is_described_without_columns() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("older.csv", "a,b\n1,2\n");
    folder.write("broken.csv", "a,a\n1,2\n");
    assert_eq!(names(&folder.discover(None).await), ["broken.csv"]);
    let (columns, origin) = described(&folder).await;
    assert_eq!(columns, [""; 0], "an older file's columns say nothing about it");
    assert!(origin.ends_with("broken.csv"), "{origin}");
}

#[tokio::test]
async fn a_snapshot_that_is_read_again_is_described_by_its_own_header() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write_at("last.csv", "a,b\n1,2\n", 5);
    let stored = folder.run(None).await;
    folder.write_at("older.csv", "c\n1\n", 4);
    let discovery = folder.try_discover(Some(&stored), true).await.unwrap();
    assert_eq!(names(&discovery), ["last.csv"]);
    let (columns, origin) = described(&folder).await;
    assert_eq!(columns, ["a", "b"]);
    assert!(origin.ends_with("processed/last.csv"), "{origin}");
    folder.source().acknowledge(&folder.outcomes(&discovery).await).await.unwrap();
    assert_eq!(described(&folder).await.0, ["c"], "what is done with describes nothing any more");
}

#[tokio::test]
async fn additions_are_described_together_and_what_one_of_them_lacks_is_noticed() {
    let folder = TestFolder::new(DropMode::Append);
    folder.write("a.csv", "id,name\n1,2\n");
    folder.write("broken.csv", "id,id\n1,2\n");
    folder.write("b.csv", "phone,id\n1,2\n");
    let discovery = folder.discover(None).await;
    let (columns, origin) = described(&folder).await;
    assert_eq!(columns, ["phone", "id", "name"]);
    assert!(origin.ends_with("b.csv and 2 more files"), "{origin}");
    let [notice] = discovery.notices.as_slice() else { panic!("{:?}", discovery.notices) };
    assert!(notice.contains("`b.csv` lacks `name`, `a.csv` lacks `phone`"), "{notice}");
}
