//! Folding, adopting and looking up, held against a plain map.

use std::collections::BTreeMap;

use convoke_core::journal::{IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{RowOrigin, RowState};
use convoke_core::sink::ScannedRow;
use convoke_core::spec::SyncMode;
use convoke_core::{ContentHash, KeyHash, RowId};
use convoke_engine::{AdoptRequest, FoldRequest, ledger_identity};
use futures::StreamExt;
use proptest::prelude::*;

use crate::fixture::*;

fn row(key: u64, content: u8, row_id: Option<&str>) -> IntentRow {
    let mut bytes = [0; 16];
    // Spread over the row groups as hashes are.
    bytes[..8].copy_from_slice(&key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    IntentRow {
        key: KeyHash(bytes),
        content: ContentHash([content; 16]),
        order: [content].into_iter().collect(),
        row_id: row_id.map(RowId::new),
    }
}

fn acknowledged(id: &str) -> RowOutcome {
    RowOutcome::Acknowledged { row_id: RowId::new(id) }
}

#[tokio::test]
async fn small_folds_onto_a_large_base_make_one_delta() {
    let mut world = World::new();
    let sync = spec(SyncMode::Upsert);
    let rows: Vec<_> = (0..250_000).map(|key| row(key, 1, None)).collect();
    let outcomes = (0..250_000).map(|key| acknowledged(&format!("r{key}"))).collect();
    let first = world.fold(&sync, vec![entry(&sync, Operation::Create, rows, outcomes)]).await;
    assert_eq!((first.counts.created, first.counts.live_after), (250_000, 250_000));
    assert_eq!(first.manifest.segments.len(), 1);
    let update = entry(&sync, Operation::Update, vec![row(7, 2, Some("r7"))], vec![acknowledged("r7")]);
    let second = world.fold(&sync, vec![update]).await;
    assert_eq!((second.manifest.segments.len(), second.obsolete.len()), (2, 0));
    let delete = entry(&sync, Operation::Delete, vec![row(8, 0, Some("r8"))], vec![acknowledged("r8")]);
    let third = world.fold(&sync, vec![delete]).await;
    assert_eq!((third.manifest.segments.len(), third.obsolete.len()), (2, 1));
    assert_eq!(third.manifest.segments[1].entries, 2);
    assert_eq!((third.counts.deleted, third.manifest.live, third.manifest.version), (1, 249_999, 3));
    let keys = [row(7, 0, None).key, row(8, 0, None).key, row(9, 0, None).key, row(250_000, 0, None).key];
    let found = world.engine.look_up(&world.segments(), &keys).await.unwrap();
    let contents: BTreeMap<_, _> = found.iter().map(|entry| (entry.key, entry.content.0[0])).collect();
    assert_eq!(contents, BTreeMap::from([(keys[0], 2), (keys[2], 1)]));
    // The plan reads base and delta as one.
    let spool = world.spool(&columns(), &[&[]]).await;
    let (planned, _) = world.plan(&spec(SyncMode::Mirror), &spool, None).await;
    assert_eq!(planned.counts.deletes, 249_999);
}

#[tokio::test]
async fn a_ledger_made_with_another_key_is_refused() {
    let mut world = World::new();
    let sync = spec(SyncMode::Upsert);
    world.fold(&sync, vec![]).await;
    let mut identity = ledger_identity(&sync, &world.hash_key);
    assert_eq!(identity.key_spec, "Email:EMAIL");
    identity.hash_key_id = "other".to_owned();
    let audience = audience();
    let request = FoldRequest {
        audience: &audience,
        manifest: world.manifest.as_ref(),
        identity: &identity,
        segments: &world.store,
    };
    let error = world.engine.fold(request, futures::stream::empty().boxed(), None).await.unwrap_err();
    assert!(error.to_string().contains("hash key"), "{error}");
}

#[tokio::test]
async fn adopted_rows_are_known_by_their_key_and_doubles_are_reported() {
    let mut world = World::new();
    let sync = spec(SyncMode::Upsert);
    let scanned = |id: &str, email: Option<&str>, name: &str| ScannedRow {
        row_id: RowId::new(id),
        key_cell: None,
        cells: vec![email.map(str::to_owned), Some(name.to_owned())],
    };
    let rows = [
        scanned("1", Some("a@b.co"), "A"),
        scanned("2", Some("c@d.co"), "C"),
        scanned("3", Some("a@b.co"), "B"),
        scanned("4", None, "D"),
        scanned("1", Some("a@b.co"), "A"),
    ];
    let identity = ledger_identity(&sync, &world.hash_key);
    let audience = audience();
    let ledger = FoldRequest { audience: &audience, manifest: None, identity: &identity, segments: &world.store };
    let request = AdoptRequest { ledger, spec: &sync, hash_key: &world.hash_key };
    let adopted = world.engine.adopt(request, futures::stream::iter(rows.map(Ok)).boxed()).await.unwrap();
    assert_eq!((adopted.scanned, adopted.folded.counts.adopted, adopted.unexplained, adopted.known), (5, 2, 1, 1));
    assert_eq!((adopted.duplicates, adopted.duplicate_count), (vec![RowId::new("3")], 1));
    world.manifest = Some(adopted.folded.manifest);
    let records = [record(&["a@b.co", "A", "1"]), record(&["c@d.co", "new", "1"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, _) = world.plan(&sync, &spool, None).await;
    assert_eq!((planned.counts.unchanged, planned.counts.updates, planned.counts.creates), (1, 1, 0));
}

#[tokio::test]
async fn a_row_that_the_ledger_names_keeps_its_key_whatever_its_cells_say() {
    let mut world = World::new();
    let sync = spec(SyncMode::Mirror);
    let scanned = |id: &str, email: Option<&str>| ScannedRow {
        row_id: RowId::new(id),
        key_cell: None,
        cells: vec![email.map(str::to_owned), Some("A".to_owned())],
    };
    let identity = ledger_identity(&sync, &world.hash_key);
    let audience = audience();
    let first = [scanned("1", Some("a@b.co")), scanned("2", Some("c@d.co"))];
    // Somebody edits one address, empties another, and adds a row under the first row's key.
    let second = [scanned("1", Some("edited@b.co")), scanned("2", None), scanned("3", Some("a@b.co"))];
    for (rows, outcome) in [(first.to_vec(), (2, 0, 0, 0)), (second.to_vec(), (0, 2, 0, 1))] {
        let manifest = world.manifest.as_ref();
        let ledger = FoldRequest { audience: &audience, manifest, identity: &identity, segments: &world.store };
        let request = AdoptRequest { ledger, spec: &sync, hash_key: &world.hash_key };
        let adopted =
            world.engine.adopt(request, futures::stream::iter(rows.into_iter().map(Ok)).boxed()).await.unwrap();
        let counts = adopted.folded.counts;
        assert_eq!((counts.adopted, adopted.known, adopted.unexplained, adopted.duplicate_count), outcome);
        world.manifest = Some(adopted.folded.manifest);
    }
    let records = [record(&["a@b.co", "A", "1"]), record(&["c@d.co", "A", "1"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, _) = world.plan(&sync, &spool, None).await;
    assert_eq!((planned.counts.unchanged, planned.counts.creates, planned.counts.deletes), (2, 0, 0));
}

#[tokio::test]
async fn a_typed_key_is_hashed_as_the_mapping_would_have_it() {
    let world = World::new();
    let sync = spec(SyncMode::Upsert);
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A", "1"])]]).await;
    let (planned, folder) = world.plan(&sync, &spool, None).await;
    let stored = batches(&folder, &planned)[0].rows[0].key;
    let keys = world.engine.keys_of(&sync, &world.hash_key, Some(&columns()), &[" A@B.co".to_owned()]).unwrap();
    assert!(keys.contains(&stored));
    assert!(world.engine.keys_of(&sync, &world.hash_key, None, &["nobody".to_owned()]).is_err());
    assert!(world.engine.keys_of(&sync, &world.hash_key, None, &[]).is_err());
}

/// One journal entry of one row, as a test makes it up.
#[derive(Clone, Debug)]
struct Step {
    operation: Operation,
    key: u64,
    content: u8,
    outcome: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operation = prop_oneof![Just(Operation::Create), Just(Operation::Update), Just(Operation::Delete)];
    let step = (operation, 0..8u64, 1..4u8, 0..5u8).prop_map(|(operation, key, content, outcome)| Step {
        operation,
        key,
        content,
        outcome,
    });
    proptest::collection::vec(step, 0..30)
}

/// A plain map, moved one step.
fn model(ledger: &mut BTreeMap<KeyHash, (ContentHash, RowState, RowOrigin)>, step: &Step) {
    let key = row(step.key, 0, None).key;
    let content = if step.outcome == 1 { ContentHash::UNKNOWN } else { ContentHash([step.content; 16]) };
    let live = ledger.get(&key).filter(|known| known.1 == RowState::Live).copied();
    let applied = step.outcome <= 1;
    let gone = step.outcome == 2;
    match step.operation {
        Operation::Create if applied => {
            ledger.insert(key, (content, RowState::Live, RowOrigin::Created));
        }
        Operation::Update if applied => {
            let origin = live.map_or(RowOrigin::Adopted, |known| known.2);
            ledger.insert(key, (content, RowState::Live, origin));
        }
        Operation::Delete if (applied || gone) && live.is_some() => {
            ledger.remove(&key);
        }
        Operation::Update if gone => {
            if let Some(known) = live {
                ledger.insert(key, (known.0, RowState::RemovedAtDestination, known.2));
            }
        }
        _ => {}
    }
}

async fn hold_against_model(folds: Vec<Vec<Step>>) {
    let mut world = World::new();
    let sync = spec(SyncMode::Upsert);
    let mut expected = BTreeMap::new();
    for steps in folds {
        let mut entries = Vec::new();
        for step in &steps {
            let outcome = match step.outcome {
                0 => acknowledged("id"),
                1 => RowOutcome::Incomplete { row_id: RowId::new("id") },
                2 if step.operation != Operation::Create => RowOutcome::RemovedAtDestination,
                3 => RowOutcome::Rejected,
                _ => RowOutcome::NotApplied,
            };
            entries.push(entry(&sync, step.operation, vec![row(step.key, step.content, Some("id"))], vec![outcome]));
            model(&mut expected, step);
        }
        let folded = world.fold(&sync, entries).await;
        let live = expected.values().filter(|known| known.1 == RowState::Live).count() as u64;
        assert_eq!((folded.manifest.live, folded.manifest.live_of(&sync.name)), (live, live));
    }
    let keys: Vec<_> = (0..8).map(|key| row(key, 0, None).key).collect();
    let found = world.engine.look_up(&world.segments(), &keys).await.unwrap();
    let found: BTreeMap<_, _> =
        found.into_iter().map(|entry| (entry.key, (entry.content, entry.state, entry.origin))).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn folds_leave_what_a_plain_map_would_hold(folds in proptest::collection::vec(steps(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(hold_against_model(folds));
    }
}
