//! Objects that are no whole Parquet file.

use arrow::datatypes::DataType;
use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, large_file, names, small_file};

fn broken_files() -> Vec<(&'static str, Vec<u8>)> {
    let whole = large_file(0);
    let mut no_footer = whole[..whole.len() - 4_000].to_vec();
    no_footer.extend_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
    no_footer.extend_from_slice(b"PAR1");
    let mut torn_footer = vec![0; 64];
    torn_footer.extend_from_slice(&[32, 0, 0, 0]);
    torn_footer.extend_from_slice(b"PAR1");
    vec![
        ("empty.parquet", Vec::new()),
        ("short.parquet", b"PAR1".to_vec()),
        ("cut.parquet", whole[..whole.len() / 2].to_vec()),
        ("text.parquet", b"id,name\n1,this is no Parquet at all\n".to_vec()),
        ("length.parquet", no_footer),
        ("noise.parquet", torn_footer),
    ]
}

#[tokio::test]
async fn a_broken_object_does_not_hide_the_others_and_is_read_all_the_same() {
    for objects in [
        TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet"),
        TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await,
    ] {
        objects.put_at(1, "whole.parquet", &small_file("id", "1"));
        for (name, contents) in broken_files() {
            objects.put_at(2, name, &contents);
        }
        let discovery = objects.discover(None).await;
        assert_eq!(discovery.splits.len(), 7);
        assert_eq!(objects.columns().await, [("id".to_owned(), DataType::Utf8)]);
        for split in &discovery.splits {
            let parquet = objects.open_split(split).await;
            let whole = 0..parquet.file.size();
            let read = parquet.file.read(std::slice::from_ref(&whole)).await.unwrap();
            assert_eq!(read.concat().len() as u64, split.bytes.unwrap(), "{}", split.name);
        }
    }
}

#[tokio::test]
async fn objects_none_of_which_can_be_read_are_an_error_with_the_reason() {
    let expected = [
        "it has only 0 bytes",
        "it has only 4 bytes",
        "it does not end as a Parquet file does, so a part is missing",
        "it does not end as a Parquet file does, so a part is missing",
        "its footer is said to be longer than it can be",
        "",
    ];
    for ((name, contents), reason) in broken_files().into_iter().zip(expected) {
        let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
        objects.put_object(name, &contents);
        for discovered in [false, true] {
            if discovered {
                assert_eq!(names(&objects.discover(None).await), [name]);
            }
            let error = objects.source().describe().await.unwrap_err().to_string();
            let told = format!("/in/{name}` is no whole Parquet file: {reason}");
            assert!(error.contains(&told) && error.contains("write it again, whole"), "{error}");
        }
    }
}

#[tokio::test]
async fn additions_none_of_which_can_be_read_have_no_columns_and_are_settled_as_broken() {
    let objects = TestObjects::on_s3(ObjectsMode::Append, "*.parquet").await;
    objects.put_at(1, "whole.parquet", &small_file("id", "1"));
    let stored = objects.run(None, &[]).await;
    for (name, contents) in broken_files() {
        objects.put_at(2, name, &contents);
    }
    let discovery = objects.discover(Some(&stored)).await;
    assert_eq!(discovery.splits.len(), 6);
    assert!(objects.columns().await.is_empty());
    let broken: Vec<&str> = names(&discovery);
    let stored = objects.run(Some(&stored), &broken).await;
    assert!(objects.discover(Some(&stored)).await.unchanged);
    // Before a discovery, somebody asks what a mapping may name.
    objects.remove("whole.parquet");
    objects.settled(Some(&stored), &discovery).await;
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("is no whole Parquet file"), "{error}");
}
