//! Rows that change hands, and rows that are nobody's.

use convoke_core::journal::{Operation, RowOutcome};
use convoke_core::sink::ScannedRow;
use convoke_core::spec::{RemovedRows, SyncMode, SyncSpec};
use convoke_core::{KeyHash, SyncName};
use convoke_engine::{AdoptRequest, FoldRequest, Folded, NewOwner, RemovalRequest, ledger_identity};
use futures::StreamExt;

use crate::fixture::*;

fn named(name: &str) -> SyncSpec {
    SyncSpec { name: SyncName::new(name), ..spec(SyncMode::Mirror) }
}

fn key(world: &World, email: &str) -> KeyHash {
    convoke_engine::key_of(&named("any"), &world.hash_key, &[email.to_owned()]).unwrap()
}

async fn reassign(world: &mut World, from: &str, to: SyncName) -> Folded {
    let audience = audience();
    let manifest = world.manifest.as_ref().unwrap();
    let request = FoldRequest {
        audience: &audience,
        manifest: Some(manifest),
        identity: &manifest.identity,
        segments: &world.store,
    };
    let owner = NewOwner { from: SyncName::new(from), to };
    let folded = world.engine.reassign(request, owner).await.unwrap();
    world.manifest = Some(folded.manifest.clone());
    folded
}

fn owned(world: &World) -> Vec<(String, u64)> {
    let manifest = world.manifest.as_ref().unwrap();
    manifest.live_by_owner.iter().map(|(name, live)| (name.to_string(), *live)).collect()
}

/// A ledger in which `old` has two rows and another one that was found removed, and `other` one.
async fn world_of_two() -> World {
    let mut world = World::new();
    let old = named("old");
    world.settle(&old, &["a@b.co", "c@d.co", "e@f.co"].map(|email| record(&[email, "A", "1"]))).await;
    world.settle(&SyncSpec { mode: SyncMode::Upsert, ..named("other") }, &[record(&["g@h.co", "A", "1"])]).await;
    let removed = convoke_core::journal::IntentRow {
        key: key(&world, "e@f.co"),
        content: Default::default(),
        order: Default::default(),
        row_id: Some(convoke_core::RowId::new("gone")),
    };
    let outcomes = vec![RowOutcome::RemovedAtDestination];
    world.fold(&old, vec![entry(&old, Operation::Update, vec![removed], outcomes)]).await;
    assert_eq!(owned(&world), [("old".to_owned(), 2), ("other".to_owned(), 1)]);
    world
}

#[tokio::test]
async fn rows_that_change_hands_are_the_new_owner_s_and_nothing_else_changes() {
    let mut world = world_of_two().await;
    let before = world.manifest.clone().unwrap();
    let folded = reassign(&mut world, "old", SyncName::new("new")).await;
    assert!(folded.counts.is_balanced());
    assert_eq!((folded.counts.live_before, folded.counts.live_after), (3, 3));
    assert_eq!((folded.manifest.version, folded.manifest.segments.len()), (before.version + 1, 1));
    assert_eq!(folded.obsolete, before.segments.iter().map(|segment| segment.name.clone()).collect::<Vec<_>>());
    assert_eq!(owned(&world), [("new".to_owned(), 2), ("other".to_owned(), 1)]);
    let spool = world.spool(&columns(), &[&["a@b.co", "e@f.co"].map(|email| record(&[email, "A", "1"]))]).await;
    let (planned, _) = world.plan(&named("new"), &spool, None).await;
    let counts = planned.counts;
    assert_eq!((counts.unchanged, counts.removed_respected, counts.deletes, counts.changes()), (1, 1, 1, 1));
}

#[tokio::test]
async fn what_is_nobody_s_is_neither_changed_nor_made_again_until_it_is_adopted() {
    let mut world = world_of_two().await;
    reassign(&mut world, "old", SyncName::nobody()).await;
    assert_eq!(owned(&world), [(String::new(), 2), ("other".to_owned(), 1)]);
    let heir = named("heir");
    let records = ["a@b.co", "c@d.co", "e@f.co"].map(|email| record(&[email, "B", "1"]));
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, _) = world.plan(&heir, &spool, None).await;
    assert_eq!((planned.counts.invalid, planned.counts.removed_respected, planned.counts.changes()), (2, 1, 0));
    // A row that nobody's sync knew to be removed may be made again by whoever restores rows.
    let restoring = SyncSpec { removed_at_destination: RemovedRows::Restore, ..heir.clone() };
    let (planned, _) = world.plan(&restoring, &spool, None).await;
    assert_eq!((planned.counts.invalid, planned.counts.creates), (2, 1));

    let known = world.engine.look_up(&world.segments(), &[key(&world, "a@b.co")]).await.unwrap().remove(0);
    let scanned = |id: &str, email: &str| ScannedRow {
        row_id: convoke_core::RowId::new(id),
        key_cell: None,
        cells: vec![Some(email.to_owned()), Some("A".to_owned())],
    };
    let rows = [scanned(known.row_id.as_str(), "a@b.co"), scanned("another", "c@d.co")];
    let (identity, audience) = (ledger_identity(&heir, &world.hash_key), audience());
    let manifest = world.manifest.as_ref();
    let ledger = FoldRequest { audience: &audience, manifest, identity: &identity, segments: &world.store };
    let request = AdoptRequest { ledger, spec: &heir, hash_key: &world.hash_key };
    let adopted = world.engine.adopt(request, futures::stream::iter(rows.map(Ok)).boxed()).await.unwrap();
    assert_eq!((adopted.taken_over, adopted.known, adopted.duplicate_count), (1, 0, 1));
    assert!(adopted.folded.counts.is_balanced());
    assert_eq!(adopted.folded.counts.adopted, 0, "it was live before");
    world.manifest = Some(adopted.folded.manifest);
    assert_eq!(owned(&world), [(String::new(), 1), ("heir".to_owned(), 1), ("other".to_owned(), 1)]);
}

#[tokio::test]
async fn a_removal_deletes_the_live_rows_of_its_sync_and_no_others() {
    let world = world_of_two().await;
    let (folder, segments) = (world.fresh("removal"), world.segments());
    let owner = SyncName::new("old");
    let request = RemovalRequest { owner: &owner, segments: &segments, folder: &folder };
    let planned = world.engine.plan_removal(request).await.unwrap();
    assert!(planned.counts.is_balanced());
    assert_eq!((planned.counts.deletes, planned.counts.changes()), (2, 2));
    let mut deleted: Vec<_> = batches(&folder, &planned).into_iter().flat_map(|batch| batch.rows).collect();
    deleted.sort_by_key(|row| row.key);
    let mut keys = ["a@b.co", "c@d.co"].map(|email| key(&world, email));
    keys.sort();
    assert_eq!(deleted.iter().map(|row| row.key).collect::<Vec<_>>(), keys);
    let known = world.engine.look_up(&segments, &keys).await.unwrap();
    let row_ids = known.into_iter().map(|entry| (entry.key, Some(entry.row_id)));
    let row_ids: std::collections::BTreeMap<_, _> = row_ids.collect();
    assert!(deleted.iter().all(|row| row_ids[&row.key] == row.row_id), "rows are deleted by their ids");
}
