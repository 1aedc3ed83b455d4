//! What is to be read, given what was read before.

use convoke_core::source::Coverage;
use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, names, small_file};

#[tokio::test]
async fn a_snapshot_is_all_objects_together_until_one_of_them_changes() {
    for objects in [
        TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet"),
        TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await,
    ] {
        objects.put_at(2, "a.parquet", &small_file("id", "1"));
        objects.put_at(1, "b.parquet", &small_file("id", "2"));
        let stored = objects.run(None, &[]).await;
        assert!(objects.discover(Some(&stored)).await.unchanged);
        objects.put_at(3, "b.parquet", &small_file("id", "3"));
        let discovery = objects.discover(Some(&stored)).await;
        assert_eq!((names(&discovery), discovery.coverage), (vec!["a.parquet", "b.parquet"], Coverage::Snapshot));
        let stored = objects.run(Some(&stored), &[]).await;
        objects.remove("a.parquet");
        let discovery = objects.discover(Some(&stored)).await;
        assert_eq!((names(&discovery), discovery.unchanged), (vec!["b.parquet"], false));
    }
}

#[tokio::test]
async fn a_snapshot_that_is_unchanged_is_listed_and_not_opened() {
    let objects = TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await;
    objects.put_object("a.parquet", &small_file("id", "1"));
    objects.put_object("b.parquet", &small_file("id", "2"));
    let stored = objects.run(None, &[]).await;
    objects.server().forget_requests();
    assert!(objects.discover(Some(&stored)).await.unchanged);
    let server = objects.server();
    let counts = ["ListObjectsV2", "HeadObject", "GetObject"].map(|operation| server.requests(operation));
    assert_eq!(counts, [1, 0, 0]);
    assert_eq!(objects.try_discover(Some(&stored), true).await.unwrap().splits.len(), 2, "unless asked to");
    assert_eq!(server.requests("GetObject"), 0, "also then: who reads, opens");
}

#[tokio::test]
async fn the_same_contents_put_again_on_s3_are_unchanged() {
    let objects = TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await;
    objects.put_at(1, "a.parquet", &small_file("id", "1"));
    let before = objects.discover(None).await;
    let stored = objects.run(None, &[]).await;
    objects.put_at(2, "a.parquet", &small_file("id", "1"));
    assert!(objects.discover(Some(&stored)).await.unchanged);
    let again = objects.try_discover(Some(&stored), true).await.unwrap();
    assert_eq!(again.splits, before.splits, "a plan made from them stands");
}

#[tokio::test]
async fn additions_are_read_once_in_the_order_in_which_they_were_written() {
    for objects in [
        TestObjects::in_folder(ObjectsMode::Append, "*.parquet"),
        TestObjects::on_s3(ObjectsMode::Append, "*.parquet").await,
    ] {
        objects.put_at(2, "a.parquet", &small_file("id", "1"));
        objects.put_at(1, "c.parquet", &small_file("id", "2"));
        objects.put_at(1, "b.parquet", &small_file("id", "3"));
        let discovery = objects.discover(None).await;
        assert_eq!(names(&discovery), ["b.parquet", "c.parquet", "a.parquet"]);
        assert_eq!(discovery.coverage, Coverage::Delta);
        let stored = objects.run(None, &[]).await;
        objects.put_at(3, "b.parquet", &small_file("id", "4"));
        objects.put_at(0, "d.parquet", &small_file("id", "5"));
        assert_eq!(names(&objects.discover(Some(&stored)).await), ["d.parquet", "b.parquet"]);
        let stored = objects.run(Some(&stored), &[]).await;
        assert!(objects.discover(Some(&stored)).await.unchanged);
        assert_eq!(objects.try_discover(Some(&stored), true).await.unwrap().splits.len(), 4);
    }
}

#[tokio::test]
async fn a_broken_object_is_met_again_in_a_snapshot_and_waits_for_its_replacement_among_additions() {
    for mode in [ObjectsMode::Snapshot, ObjectsMode::Append] {
        let objects = TestObjects::in_folder(mode, "*.parquet");
        objects.put_at(1, "a.parquet", &small_file("id", "1"));
        objects.put_at(2, "torn.parquet", b"PAR1 and no end");
        let stored = objects.run(None, &["torn.parquet"]).await;
        let again = objects.discover(Some(&stored)).await;
        match mode {
            ObjectsMode::Snapshot => assert_eq!(names(&again), ["a.parquet", "torn.parquet"]),
            ObjectsMode::Append => assert!(again.unchanged, "{again:?}"),
        }
        objects.put_at(3, "torn.parquet", &small_file("id", "2"));
        let mended = objects.discover(Some(&stored)).await;
        assert!(names(&mended).contains(&"torn.parquet"));
    }
}

#[tokio::test]
async fn additions_that_are_gone_are_forgotten_with_the_next_ones() {
    let objects = TestObjects::on_s3(ObjectsMode::Append, "*.parquet").await;
    objects.put_at(1, "a.parquet", &small_file("id", "1"));
    let first = objects.run(None, &[]).await;
    objects.remove("a.parquet");
    assert!(objects.discover(Some(&first)).await.unchanged);
    objects.put_at(2, "b.parquet", &small_file("id", "2"));
    let second = objects.run(Some(&first), &[]).await;
    assert_eq!(second.0.to_string().len(), first.0.to_string().len(), "{second:?}");
}

#[tokio::test]
async fn nothing_at_all_is_an_error_on_the_first_day_and_an_empty_snapshot_later() {
    for objects in [
        TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet"),
        TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await,
    ] {
        let error = objects.try_discover(None, false).await.unwrap_err().to_string();
        assert!(error.contains("no object matches `") && error.contains("put one there, or correct `url`"), "{error}");
        objects.put_object("a.parquet", &small_file("id", "1"));
        let stored = objects.run(None, &[]).await;
        objects.remove("a.parquet");
        let discovery = objects.discover(Some(&stored)).await;
        assert!(!discovery.unchanged && discovery.splits.is_empty(), "{discovery:?}");
        assert!(discovery.notices[0].contains("the snapshot is empty"), "{:?}", discovery.notices);
        assert_eq!(objects.columns().await, []);
        let stored = objects.run(Some(&stored), &[]).await;
        assert!(objects.discover(Some(&stored)).await.unchanged, "an empty snapshot that was settled");
    }
}

#[tokio::test]
async fn additions_that_are_all_gone_are_unchanged() {
    let objects = TestObjects::in_folder(ObjectsMode::Append, "*.parquet");
    objects.put_object("a.parquet", &small_file("id", "1"));
    let stored = objects.run(None, &[]).await;
    objects.remove("a.parquet");
    assert!(objects.discover(Some(&stored)).await.unchanged);
    assert!(objects.try_discover(Some(&stored), true).await.unwrap().unchanged);
}

#[tokio::test]
async fn a_single_object_is_told_apart_from_a_folder_and_from_nothing() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "a.parquet");
    let error = objects.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("a.parquet/*.parquet` if it is a folder"), "{error}");
    objects.put_object("a.parquet", &small_file("id", "1"));
    objects.put_object("b.parquet", &small_file("id", "1"));
    assert_eq!(names(&objects.discover(None).await), ["a.parquet"]);
    let described = objects.source().describe().await.unwrap();
    assert!(described.origin.starts_with("file:///") && described.origin.ends_with("/in/a.parquet"), "{described:?}");
}
