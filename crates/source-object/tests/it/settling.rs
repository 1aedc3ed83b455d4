//! Objects that are young, late, replaced or gone.

use std::time::Duration;

use convoke_core::Clock;
use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, names, small_file};

const SETTLE: Duration = Duration::from_secs(60);

async fn both(mode: ObjectsMode) -> [TestObjects; 2] {
    let settling = |spec: &mut convoke_core::spec::ObjectsSpec| spec.settle = SETTLE;
    [TestObjects::in_folder_as(mode, "*.parquet", settling), TestObjects::on_s3_as(mode, "*.parquet", settling).await]
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_young_object_is_left_for_the_next_run_and_told() {
    for objects in both(ObjectsMode::Append).await {
        objects.put_ago(seconds(120), "old.parquet", &small_file("id", "1"));
        objects.put_ago(seconds(10), "young.parquet", &small_file("id", "2"));
        let discovery = objects.discover(None).await;
        assert_eq!(names(&discovery), ["old.parquet"]);
        assert!(discovery.notices[0].contains("left for the next run: `young.parquet`"), "{:?}", discovery.notices);
        let stored = objects.run(None, &[]).await;
        objects.clock().advance(seconds(51));
        assert_eq!(names(&objects.discover(Some(&stored)).await), ["young.parquet"]);
    }
}

#[tokio::test]
async fn a_snapshot_waits_for_its_young_objects() {
    for objects in both(ObjectsMode::Snapshot).await {
        objects.put_ago(seconds(120), "old.parquet", &small_file("id", "1"));
        objects.put_ago(seconds(10), "young.parquet", &small_file("id", "2"));
        let waited_for = objects.source().settling().await.unwrap().unwrap();
        assert_eq!((waited_for.what.as_str(), waited_for.wait.as_secs()), ("`young.parquet`", 50));
        let before = objects.clock().elapsed();
        assert_eq!(names(&objects.discover(None).await), ["old.parquet", "young.parquet"]);
        assert_eq!((objects.clock().elapsed() - before).as_secs(), 50);
        assert!(objects.source().settling().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_store_whose_clock_is_ahead_makes_nobody_wait_longer_than_asked_for() {
    for objects in both(ObjectsMode::Snapshot).await {
        // The time of a real file, which is long after that of the test's clock.
        objects.put_object("a.parquet", &small_file("id", "1"));
        let before = objects.clock().elapsed();
        assert_eq!(names(&objects.discover(None).await), ["a.parquet"]);
        assert_eq!(objects.clock().elapsed() - before, SETTLE);
    }
}

#[tokio::test]
async fn an_object_that_comes_late_with_an_older_time_or_in_the_same_second_is_found() {
    let [in_folder, on_s3] = both(ObjectsMode::Append).await;
    for objects in [in_folder, on_s3] {
        objects.put_at(5, "b.parquet", &small_file("id", "1"));
        let stored = objects.run(None, &[]).await;
        objects.put_at(1, "late.parquet", &small_file("id", "2"));
        objects.put_at(5, "a.parquet", &small_file("id", "3"));
        assert_eq!(names(&objects.discover(Some(&stored)).await), ["late.parquet", "a.parquet"]);
        let stored = objects.run(Some(&stored), &[]).await;
        assert!(objects.discover(Some(&stored)).await.unchanged);
    }
}

#[tokio::test]
async fn an_object_that_was_overwritten_with_others_of_the_same_size_and_second_is_read_again() {
    let [_, objects] = both(ObjectsMode::Append).await;
    objects.put_at(5, "a.parquet", &small_file("id", "1"));
    let stored = objects.run(None, &[]).await;
    objects.put_at(5, "a.parquet", &small_file("id", "2"));
    assert_eq!(names(&objects.discover(Some(&stored)).await), ["a.parquet"]);
}

#[tokio::test]
async fn objects_that_are_gone_are_told_once_and_forgotten() {
    for objects in both(ObjectsMode::Append).await {
        for name in ["a.parquet", "b.parquet", "c.parquet"] {
            objects.put_at(1, name, &small_file("id", name));
        }
        let full = objects.run(None, &[]).await;
        objects.remove("a.parquet");
        objects.remove("b.parquet");
        assert!(objects.discover(Some(&full)).await.unchanged);
        objects.put_at(2, "d.parquet", &small_file("id", "d"));
        let told = objects.discover(Some(&full)).await.notices;
        assert!(
            told[0].contains("2 objects that were read before are there no more; what they added stays"),
            "{told:?}"
        );
        let after = objects.run(Some(&full), &[]).await;
        assert!(after.0.to_string().len() < full.0.to_string().len(), "{after:?}");
        objects.put_at(3, "e.parquet", &small_file("id", "e"));
        assert!(objects.discover(Some(&after)).await.notices.is_empty());
    }
}

#[tokio::test]
async fn an_object_that_was_put_again_as_it_was_is_neither_read_again_nor_forgotten_while_it_is_young() {
    let [_, objects] = both(ObjectsMode::Append).await;
    objects.put_ago(seconds(120), "a.parquet", &small_file("id", "1"));
    let stored = objects.run(None, &[]).await;
    objects.put_ago(seconds(10), "a.parquet", &small_file("id", "1"));
    objects.put_ago(seconds(120), "b.parquet", &small_file("id", "2"));
    assert_eq!(names(&objects.discover(Some(&stored)).await), ["b.parquet"]);
    let stored = objects.run(Some(&stored), &[]).await;
    objects.clock().advance(SETTLE);
    let settled = objects.discover(Some(&stored)).await;
    assert!(settled.unchanged, "{:?}", names(&settled));
    // One that was replaced is read once it has settled.
    objects.put_ago(seconds(10), "a.parquet", &small_file("id", "3"));
    objects.put_ago(seconds(120), "c.parquet", &small_file("id", "4"));
    let stored = objects.run(Some(&stored), &[]).await;
    objects.clock().advance(SETTLE);
    assert_eq!(names(&objects.discover(Some(&stored)).await), ["a.parquet"]);
}
