//! A trace says of one key what a plan does with it.

use convoke_core::source::{Coverage, MalformedRecord, SplitItem};
use convoke_core::spec::{Dedupe, Expression, Filter, Keep, SyncMode, SyncSpec};
use convoke_core::{DataType, Timestamp};
use convoke_engine::{Fate, Spool, Trace, TraceRequest, key_of};

use crate::fixture::*;
use crate::suppressions::list;

pub(crate) async fn trace(world: &World, spec: &SyncSpec, spool: &Spool, key: &str) -> Trace {
    let key = key_of(spec, &world.hash_key, &[key.to_owned()]).unwrap();
    let entries = world.engine.look_up_all(&world.segments(), &[key]).await.unwrap();
    let request = TraceRequest {
        spec,
        spool,
        coverage: world.coverage,
        complete: world.is_complete,
        keys: &[key],
        entries: &entries,
        hash_key: &world.hash_key,
        suppressions: &world.suppressions,
        refusals: &world.refusals,
        now: Timestamp(0),
    };
    world.engine.trace(request).await.unwrap()
}

#[tokio::test]
async fn the_record_that_stands_for_a_key_is_the_one_that_a_plan_takes() {
    let mut world = World::new();
    let latest =
        SyncSpec { dedupe: Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] }, ..spec(SyncMode::Mirror) };
    let records = [
        record(&["a@b.co", "old", "1"]),
        record(&["A@b.co ", "newest", "3"]),
        record(&["c@d.co", "C", "1"]),
        record(&["a@b.co", "newer", "2"]),
    ];
    let spool = world.spool(&columns(), &[&records]).await;
    let traced = trace(&world, &latest, &spool, "a@b.co").await.keys.remove(0);
    assert_eq!(traced.winner, Some(("file-0.csv:3".to_owned(), Fate::Create)));
    assert_eq!(traced.superseded.named, ["file-0.csv:2", "file-0.csv:5"]);
    world.settle(&latest, &records).await;
    let traced = trace(&world, &latest, &spool, "a@b.co").await.keys.remove(0);
    assert_eq!(traced.winner, Some(("file-0.csv:3".to_owned(), Fate::Unchanged)));
    let spool = world.spool(&columns(), &[&records[..1], &[]]).await;
    let fate = |traced: &Trace| traced.keys[0].winner.as_ref().map(|(_, fate)| *fate);
    assert_eq!(fate(&trace(&world, &latest, &spool, "a@b.co").await), Some(Fate::Update), "a snapshot is the truth");
    world.coverage = Coverage::Delta;
    assert_eq!(fate(&trace(&world, &latest, &spool, "a@b.co").await), Some(Fate::Superseded));
}

#[tokio::test]
async fn a_row_is_deleted_for_want_of_a_record_where_a_plan_deletes_it() {
    let mut world = World::new();
    let mut mirror = spec(SyncMode::Mirror);
    mirror.columns.push(column("Score", "updated_at", DataType::Integer));
    world.settle(&mirror, &[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]).await;
    let other = record(&["c@d.co", "C", "1"]);
    let spool = world.spool(&columns(), &[std::slice::from_ref(&other)]).await;
    assert!(trace(&world, &mirror, &spool, "a@b.co").await.keys[0].deletes_row);
    assert!(!trace(&world, &mirror, &spool, "c@d.co").await.keys[0].deletes_row, "its record is there");
    let invalid = world.spool(&columns(), &[&[other.clone(), record(&["a@b.co", "A", "many"])]]).await;
    let traced = trace(&world, &mirror, &invalid, "a@b.co").await.keys.remove(0);
    assert_eq!((traced.deletes_row, traced.invalid.count), (false, 1), "its record is there, but invalid");
    assert_eq!(traced.problem.unwrap().column, "Score");
    let mut items = items(&columns(), &[other]);
    items.insert(0, SplitItem::Malformed(MalformedRecord { position: 9, reason: "ragged".to_owned() }));
    let unreadable = world.spool_of(items).await;
    let traced = trace(&world, &mirror, &unreadable, "a@b.co").await;
    assert_eq!(
        (traced.unreadable, traced.keys[0].deletes_row),
        (1, false),
        "its record may be the one that is malformed"
    );
}

#[tokio::test]
async fn a_record_on_which_the_mapping_would_fail_is_only_filtered_if_the_filter_leaves_it_out() {
    let world = World::new();
    let mut filtered = spec(SyncMode::Mirror);
    filtered.columns.push(column("Day", "to_timestamp(updated_at)", DataType::Date));
    filtered.filter = Some(Filter::Sql("updated_at <> 'never'".to_owned()));
    let records = [record(&["a@b.co", "A", "never"]), record(&["c@d.co", "C", "2026-01-01"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let traced = trace(&world, &filtered, &spool, "a@b.co").await.keys.remove(0);
    assert_eq!((traced.filtered.named.as_slice(), traced.winner), (&["file-0.csv:2".to_owned()][..], None));
    // Where the key itself fails, that record has none; the others have theirs.
    filtered.columns[0].expression =
        Expression::Sql("nullif(email, CAST(to_timestamp(updated_at) AS VARCHAR))".to_owned());
    let traced = trace(&world, &filtered, &spool, "c@d.co").await;
    assert_eq!((traced.unreadable, traced.keys[0].filtered.count), (0, 0));
    assert_eq!(traced.keys[0].winner.as_ref().map(|(place, _)| place.as_str()), Some("file-0.csv:3"));
}

#[tokio::test]
async fn each_list_that_names_a_record_or_its_key_is_told() {
    let mut world = World::new();
    let mirror = spec(SyncMode::Mirror);
    world.settle(&mirror, &[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]).await;
    world.suppressions = vec![
        list(&world, &["x@y.co".to_owned()], true),
        list(&world, &["A@b.co".to_owned()], true),
        list(&world, &["c@d.co".to_owned(), "a@b.co".to_owned()], false),
    ];
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A", "1"])]]).await;
    let traced = trace(&world, &mirror, &spool, "a@b.co").await.keys.remove(0);
    assert_eq!((traced.lists.len(), traced.deletes_row), (2, true));
    assert_eq!(traced.winner.map(|(_, fate)| fate), Some(Fate::Suppressed));
    let traced = trace(&world, &mirror, &spool, "c@d.co").await.keys.remove(0);
    assert_eq!((traced.lists.len(), traced.winner, traced.deletes_row), (1, None, false), "its row is left");
}
