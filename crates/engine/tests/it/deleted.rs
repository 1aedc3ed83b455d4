//! Records that say that they are deleted.

use convoke_core::journal::RowOutcome;
use convoke_core::plan::PlanCounts;
use convoke_core::source::Coverage;
use convoke_core::spec::{Dedupe, Filter, Keep, RemovedRows, SyncMode, SyncSpec};
use convoke_core::{SyncName, Timestamp};
use convoke_engine::{Fate, PreviewOutcome, PreviewRequest, key_of};
use proptest::prelude::*;

use crate::fixture::*;
use crate::traces::trace;

/// Whoever is called `gone` says that it is deleted; the latest `updated_at` decides.
fn soft(mode: SyncMode) -> SyncSpec {
    SyncSpec {
        deleted: Some(Filter::Sql("name = 'gone'".to_owned())),
        dedupe: Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] },
        ..spec(mode)
    }
}

fn fates(counts: &PlanCounts) -> [u64; 5] {
    assert!(counts.is_balanced(), "{counts:?}");
    [counts.creates, counts.updates, counts.deletes, counts.unchanged, counts.deleted]
}

#[tokio::test]
async fn a_deleted_record_takes_its_row_with_it_and_comes_back_when_it_is_undeleted() {
    for mode in [SyncMode::Upsert, SyncMode::Mirror] {
        let mut world = World::new();
        world.coverage = Coverage::Delta;
        let sync = soft(mode);
        let first = [record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"]), record(&["e@f.co", "gone", "1"])];
        assert_eq!(fates(&world.settle(&sync, &first).await.counts), [2, 0, 0, 0, 1]);
        let gone = [record(&["a@b.co", "gone", "2"])];
        assert_eq!(fates(&world.settle(&sync, &gone).await.counts), [0, 0, 1, 0, 1], "{mode:?}");
        assert_eq!(fates(&world.settle(&sync, &gone).await.counts), [0, 0, 0, 0, 1], "it is gone already");
        let again = [record(&["a@b.co", "A", "3"])];
        assert_eq!(fates(&world.settle(&sync, &again).await.counts), [1, 0, 0, 0, 0]);
        assert_eq!(fates(&world.settle(&sync, &gone).await.counts), [0, 0, 0, 0, 0], "it is older than the row");
    }
}

#[tokio::test]
async fn whoever_was_deleted_since_is_not_made_again_by_an_older_record() {
    let mut world = World::new();
    world.coverage = Coverage::Delta;
    let sync = soft(SyncMode::Upsert);
    world.settle(&sync, &[record(&["a@b.co", "A", "1"])]).await;
    // Of the second there never was a row.
    world.settle(&sync, &[record(&["a@b.co", "gone", "3"]), record(&["c@d.co", "gone", "3"])]).await;
    assert_eq!(world.manifest.as_ref().map(|manifest| (manifest.live, manifest.segments.len())), Some((0, 1)));
    let older = [record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "2"])];
    let spool = world.spool(&columns(), &[&older]).await;
    for is_backfill in [true, false] {
        world.keeps_unknown = is_backfill;
        let (planned, _) = world.plan(&sync, &spool, None).await;
        assert_eq!((planned.counts.superseded, planned.counts.changes()), (2, 0), "backfill: {is_backfill}");
        let traced = trace(&world, &sync, &spool, "a@b.co").await.keys.remove(0);
        assert_eq!(traced.winner.map(|(_, fate)| fate), Some(Fate::Superseded));
    }
    world.keeps_unknown = false;
    let other = SyncSpec { name: SyncName::new("other"), ..sync.clone() };
    let (planned, _) = world.plan(&other, &spool, None).await;
    assert_eq!(planned.counts.creates, 2, "what one sync deleted is nothing to another");
    let keys = ["a@b.co", "c@d.co"].map(|email| key_of(&sync, &world.hash_key, &[email.to_owned()]).unwrap());
    assert_eq!(world.engine.look_up(&world.segments(), &keys).await.unwrap(), [], "there is no such row");
    // Deleted again, later: what comes between does not count either.
    world.settle(&sync, &[record(&["a@b.co", "gone", "5"])]).await;
    assert_eq!(world.settle(&sync, &[record(&["a@b.co", "A", "4"])]).await.counts.superseded, 1);
    assert_eq!(world.settle(&sync, &[record(&["a@b.co", "A", "6"])]).await.counts.creates, 1);
    world.coverage = Coverage::Snapshot;
    assert_eq!(fates(&world.settle(&sync, &older).await.counts), [1, 0, 0, 1, 0], "a whole snapshot is the truth");
}

#[tokio::test]
async fn of_what_no_record_deleted_nothing_is_kept() {
    let mut world = World::new();
    let sync = soft(SyncMode::Mirror);
    world.settle(&sync, &[record(&["a@b.co", "A", "1"])]).await;
    assert_eq!(world.settle(&sync, &[]).await.counts.deletes, 1);
    assert_eq!(world.manifest.as_ref().map(|manifest| manifest.segments[0].entries), Some(0));
    let unordered = SyncSpec { dedupe: spec(SyncMode::Upsert).dedupe, ..soft(SyncMode::Upsert) };
    world.coverage = Coverage::Delta;
    world.settle(&unordered, &[record(&["a@b.co", "A", "1"])]).await;
    assert_eq!(world.settle(&unordered, &[record(&["a@b.co", "gone", "2"])]).await.counts.deletes, 1);
    assert_eq!(
        world.manifest.as_ref().map(|manifest| manifest.segments[0].entries),
        Some(0),
        "nothing to compare with"
    );
}

#[tokio::test]
async fn a_restored_row_is_none_that_a_record_deleted_meanwhile() {
    let mut world = World::new();
    world.coverage = Coverage::Delta;
    let sync = SyncSpec { removed_at_destination: RemovedRows::Restore, ..soft(SyncMode::Upsert) };
    let first = [record(&["a@b.co", "A", "1"])];
    world.settle(&sync, &first).await;
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "B", "2"])]]).await;
    let (planned, folder) = world.plan(&sync, &spool, None).await;
    let update = batches(&folder, &planned).remove(0);
    world.fold(&sync, vec![entry(&sync, update.operation, update.rows, vec![RowOutcome::RemovedAtDestination])]).await;
    assert_eq!(fates(&world.settle(&sync, &[record(&["a@b.co", "gone", "3"])]).await.counts), [0, 0, 0, 0, 1]);
    assert_eq!(world.settle(&sync, &first).await.counts.superseded, 1);
    assert_eq!(world.settle(&sync, &[record(&["a@b.co", "A", "4"])]).await.counts.creates, 1);
}

#[tokio::test]
async fn the_newest_record_of_a_key_decides_whether_it_is_deleted() {
    let mut world = World::new();
    let sync = soft(SyncMode::Mirror);
    world.settle(&sync, &[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]).await;
    let records = [
        record(&["a@b.co", "gone", "2"]),
        record(&["A@b.co", "A", "3"]),
        record(&["c@d.co", "gone", "9"]),
        record(&["c@d.co", "C", "8"]),
    ];
    let planned = world.settle(&sync, &records).await;
    assert_eq!((fates(&planned.counts), planned.counts.superseded), ([0, 0, 1, 1, 1], 2));
}

#[tokio::test]
async fn a_deleted_record_needs_its_key_alone_and_passes_every_filter() {
    let mut world = World::new();
    let sync = SyncSpec { filter: Some(Filter::Sql("updated_at < '5'".to_owned())), ..soft(SyncMode::Upsert) };
    world.settle(&sync, &[record(&["a@b.co", "A", "1"])]).await;
    let planned = world.settle(&sync, &[record(&["a@b.co", "gone", "7"]), record(&["x@y.co", "X", "7"])]).await;
    assert_eq!((fates(&planned.counts), planned.counts.filtered), ([0, 0, 1, 0, 1], 1));
    let erased = SyncSpec {
        deleted: Some(Filter::Sql("updated_at = 'erased'".to_owned())),
        columns: vec![
            column("Email", "lower(trim(email))", convoke_core::DataType::Email),
            column("Name", "name", convoke_core::DataType::Url),
        ],
        ..spec(SyncMode::Upsert)
    };
    let mut world = World::new();
    world.settle(&erased, &[record(&["a@b.co", "https://a.co", "1"])]).await;
    let records = [record(&["a@b.co", "no url", "erased"]), record(&["", "", "erased"])];
    let planned = world.settle(&erased, &records).await;
    assert_eq!((fates(&planned.counts), planned.counts.invalid), ([0, 0, 1, 0, 1], 1));
}

#[tokio::test]
async fn a_canary_run_holds_deleted_records_back() {
    let mut world = World::new();
    let sync = soft(SyncMode::Upsert);
    world.settle(&sync, &[record(&["a@b.co", "A", "1"])]).await;
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "gone", "2"])]]).await;
    let (planned, _) = world.plan(&sync, &spool, Some(5)).await;
    assert_eq!((planned.counts.held_back, planned.counts.deletes), (1, 0));
}

#[tokio::test]
async fn a_trace_and_a_preview_tell_of_it() {
    let mut world = World::new();
    let sync = soft(SyncMode::Upsert);
    world.settle(&sync, &[record(&["a@b.co", "A", "1"])]).await;
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "gone", "2"])]]).await;
    let traced = trace(&world, &sync, &spool, "a@b.co").await.keys.remove(0);
    assert_eq!(traced.winner.map(|(_, fate)| fate), Some(Fate::Deleted));
    assert!(traced.deletes_row);
    let request = PreviewRequest { spec: &sync, spool: &spool, suppressions: &[], count: 10, now: Timestamp(0) };
    let shown = world.engine.preview(request).await.unwrap();
    assert_eq!(shown[0].outcome, PreviewOutcome::Deleted);
}

#[tokio::test]
async fn a_condition_that_does_not_fit_the_source_is_told_with_its_place() {
    let world = World::new();
    let sync = SyncSpec { deleted: Some(Filter::Sql("removed IS NOT NULL".to_owned())), ..spec(SyncMode::Upsert) };
    let problems = world.engine.check(&sync, &columns()).await;
    assert!(problems.len() == 1 && problems[0].place == "deleted.sql", "{problems:?}");
    assert!(problems[0].message.contains("`removed`"), "{problems:?}");
    let read = world.engine.columns_read(&soft(SyncMode::Upsert), &columns());
    assert_eq!(read.into_iter().collect::<Vec<_>>(), ["email", "name", "updated_at"]);
}

/// Days of changes: for each key what it is called from then on, `gone` among others.
fn days() -> impl Strategy<Value = Vec<Vec<(u8, String)>>> {
    let change = (0_u8..6, prop_oneof![Just("gone".to_owned()), "[abc]"]);
    proptest::collection::vec(proptest::collection::vec(change, 0..8), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_is_what_was_not_deleted_last_whatever_is_backfilled(days in days()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            world.coverage = Coverage::Delta;
            let sync = soft(SyncMode::Upsert);
            let (mut live, mut stamp) = (std::collections::BTreeMap::new(), 0);
            let mut read = Vec::new();
            for day in days {
                let mut records = Vec::new();
                for (key, name) in day {
                    stamp += 1;
                    records.push(record(&[&format!("k{key}@x.co"), &name, &format!("{stamp:06}")]));
                    match name.as_str() {
                        "gone" => live.remove(&key),
                        _ => live.insert(key, name),
                    };
                }
                let counts = world.settle(&sync, &records).await.counts;
                assert!(counts.is_balanced(), "{counts:?}");
                let held = world.manifest.as_ref().map_or(0, |manifest| manifest.live_of(&sync.name));
                assert_eq!(held, live.len() as u64, "{live:?}");
                read.push(records);
            }
            world.keeps_unknown = true;
            for records in read {
                let counts = world.settle(&sync, &records).await.counts;
                assert_eq!(counts.changes(), 0, "{counts:?}");
            }
        });
    }
}
