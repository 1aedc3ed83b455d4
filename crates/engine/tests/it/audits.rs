//! An audience held against its ledger.

use std::collections::{BTreeMap, HashSet};

use convoke_core::audit::{AuditCounts, Finding};
use convoke_core::hash::encode_part;
use convoke_core::journal::Operation;
use convoke_core::plan::PlanFile;
use convoke_core::sink::{AttemptTag, KeyCell, ScannedRow};
use convoke_core::source::Coverage;
use convoke_core::spec::{Dedupe, Filter, Keep, SyncMode, SyncSpec};
use convoke_core::{KeyHash, RowId, SinkError, SyncName};
use convoke_engine::{
    AuditRequest, Audited, EngineError, FindRows, FoldRequest, MissingRows, PlanBatches, ledger_identity,
};
use futures::{FutureExt, StreamExt};

use crate::fixture::*;

/// An audience as a map, which tests edit as people would.
#[derive(Clone, Default)]
struct Audience(BTreeMap<String, ScannedRow>);

impl Audience {
    fn edit(&mut self, email: &str) -> &mut ScannedRow {
        self.0.get_mut(&id(email)).unwrap()
    }

    fn add(&mut self, row_id: &str, key_cell: Option<KeyCell>, cells: &[&str]) {
        let row = ScannedRow { row_id: RowId::new(row_id), key_cell, cells: record(cells) };
        self.0.insert(row_id.to_owned(), row);
    }

    /// Another row of ours for the same record.
    fn double(&mut self, email: &str, row_id: &str) {
        let row = ScannedRow { row_id: RowId::new(row_id), ..self.edit(email).clone() };
        self.0.insert(row_id.to_owned(), row);
    }
}

fn email(number: usize) -> String {
    format!("person{number}@example.com")
}

fn person(number: usize) -> Record {
    record(&[&email(number), "Name", "1"])
}

fn key_of(world: &World, email: &str) -> KeyHash {
    let mut encoded = Vec::new();
    encode_part(&mut encoded, Some(email));
    world.hash_key.hash_key(&encoded)
}

/// The id that a row is given, known before anything is sent.
fn id(email: &str) -> String {
    format!("row of {email}")
}

/// A world whose ledger and audience hold these people, each with a key cell of ours.
async fn filled(sync: &SyncSpec, people: usize) -> (World, Audience) {
    let mut world = World::new();
    let records: Vec<_> = (0..people).map(person).collect();
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, folder) = world.plan(sync, &spool, None).await;
    let ids: BTreeMap<KeyHash, String> =
        (0..people).map(|number| (key_of(&world, &email(number)), email(number))).collect();
    let mut entries = Vec::new();
    let mut audience = Audience::default();
    for batch in batches(&folder, &planned) {
        let mut outcomes = Vec::new();
        for row in &batch.rows {
            let email = &ids[&row.key];
            let key_cell = KeyCell { key: row.key, tag: AttemptTag(7) };
            audience.add(&id(email), Some(key_cell), &[email, "Name"]);
            outcomes.push(convoke_core::journal::RowOutcome::Acknowledged { row_id: RowId::new(id(email)) });
        }
        entries.push(entry(sync, batch.operation, batch.rows, outcomes));
    }
    world.fold(sync, entries).await;
    (world, audience)
}

async fn audit(world: &World, sync: &SyncSpec, audience: &Audience) -> Audited {
    audit_in(world, sync, audience, &world.fresh("audit")).await
}

async fn audit_in(world: &World, sync: &SyncSpec, audience: &Audience, folder: &std::path::Path) -> Audited {
    let shown = (audience.0.values().cloned().collect(), audience);
    let audited = try_audit(world, sync, shown, MissingRows::MadeAgain, folder).await.unwrap();
    let live = world.manifest.as_ref().map_or(0, |manifest| manifest.live);
    assert!(audited.counts.is_balanced(), "{:?}", audited.counts);
    assert_eq!((audited.counts.rows, audited.counts.ledger_rows), (audience.0.len() as u64, live));
    assert!(audited.folded.counts.is_balanced(), "{:?}", audited.folded.counts);
    audited
}

/// Audits what a scan showed of an audience.
async fn try_audit(
    world: &World,
    sync: &SyncSpec,
    (shown, audience): (Vec<ScannedRow>, &Audience),
    missing: MissingRows,
    folder: &std::path::Path,
) -> Result<Audited, EngineError> {
    let identity = ledger_identity(sync, &world.hash_key);
    let key = fixture_audience();
    let there: HashSet<RowId> = audience.0.values().map(|row| row.row_id.clone()).collect();
    let find = move |ids: Vec<RowId>| {
        let found: Vec<_> = ids.into_iter().filter(|id| there.contains(id)).collect();
        async move { Ok::<_, SinkError>(found) }.boxed()
    };
    let find: &FindRows<'_> = &find;
    std::fs::create_dir(folder).unwrap();
    let segments = world.segments();
    let request = AuditRequest {
        ledger: FoldRequest {
            audience: &key,
            manifest: world.manifest.as_ref(),
            identity: &identity,
            segments: &world.store,
        },
        segments: &segments,
        spec: sync,
        hash_key: &world.hash_key,
        samples: 3,
        missing,
        find,
        find_rows: 2,
        folder,
    };
    let audited = world.engine.audit(request, futures::stream::iter(shown.into_iter().map(Ok)).boxed()).await?;
    if let Some(file) = &audited.doubles {
        assert_eq!(deletes_in(folder, file).len() as u64, audited.counts.doubled);
    }
    Ok(audited)
}

fn deletes_in(folder: &std::path::Path, file: &PlanFile) -> Vec<RowId> {
    let batches = PlanBatches::open(folder, std::slice::from_ref(file), 500, 1_000).unwrap().map(Result::unwrap);
    batches.flat_map(|batch| batch.rows).map(|row| row.row_id.unwrap()).collect()
}

fn fixture_audience() -> convoke_core::AudienceKey {
    crate::fixture::audience()
}

fn rows_of(audited: &Audited, finding: Finding) -> Vec<&str> {
    let samples = audited.samples.iter().filter(|sample| sample.finding == finding);
    samples.map(|sample| sample.row_id.as_str()).collect()
}

#[tokio::test]
async fn an_audience_as_it_was_written_is_in_step() {
    let sync = spec(SyncMode::Mirror);
    let (world, audience) = filled(&sync, 20).await;
    let audited = audit(&world, &sync, &audience).await;
    let expected = AuditCounts { rows: 20, ledger_rows: 20, in_step: 20, ..AuditCounts::default() };
    assert_eq!((audited.counts, audited.corrections), (expected, 0));
    assert!(audited.samples.is_empty() && audited.doubles.is_none());
}

#[tokio::test]
async fn each_kind_of_interference_is_told_apart_and_mended_in_the_ledger() {
    let sync = spec(SyncMode::Mirror);
    let (mut world, mut audience) = filled(&sync, 20).await;
    let emails: Vec<String> = (0..20).map(email).collect();
    audience.0.remove(&id(&emails[0]));
    audience.edit(&emails[1]).cells[1] = Some("Edited".to_owned());
    audience.edit(&emails[2]).key_cell = None;
    audience.double(&emails[3], "copy of 3");
    audience.add("by hand", None, &[&emails[4], "Name"]);
    audience.add("somebody", None, &["somebody@example.com", "Name"]);
    audience.add("nobody", None, &["", "Name"]);
    let lost = KeyCell { key: key_of(&world, "lost@example.com"), tag: AttemptTag(9) };
    audience.add("lost", Some(lost), &["lost@example.com", "Name"]);
    // A row of ours that was made again, of which only the second is left.
    audience.double(&emails[5], "second");
    audience.0.remove(&id(&emails[5]));

    let folder_of_audit = world.fresh("audit");
    let audited = audit_in(&world, &sync, &audience, &folder_of_audit).await;
    let expected = AuditCounts {
        rows: 24,
        ledger_rows: 20,
        in_step: 16,
        drifted: 1,
        moved: 1,
        doubled: 1,
        doubled_by_others: 1,
        extra: 2,
        extra_of_others: 2,
        missing: 2,
        ..AuditCounts::default()
    };
    assert_eq!(audited.counts, expected);
    assert_eq!(rows_of(&audited, Finding::Drifted), [id(&emails[1])]);
    assert_eq!(rows_of(&audited, Finding::Doubled), ["copy of 3"]);
    assert_eq!(rows_of(&audited, Finding::DoubledByOthers), ["by hand"]);
    let doubled = audited.samples.iter().find(|sample| sample.finding == Finding::Doubled).unwrap();
    assert_eq!((doubled.ledger_row.clone(), doubled.attempt), (Some(RowId::new(id(&emails[3]))), Some(AttemptTag(7))));

    // The source wants everybody of before: the edited row is put right, and the missing one made again only by a plan that
    // is told of it.
    world.manifest = Some(audited.folded.manifest.clone());
    let records: Vec<_> = (0..20).map(person).collect();
    let spool = world.spool(&columns(), &[&records]).await;
    let (untold, _) = world.plan(&sync, &spool, None).await;
    let counts = untold.counts;
    assert_eq!((counts.creates, counts.updates, counts.deletes, counts.unchanged), (0, 1, 1, 19));
    world.overlay = audited.absent.as_ref().map(|file| folder_of_audit.join(&file.name));
    let (planned, folder) = world.plan(&sync, &spool, None).await;
    let counts = planned.counts;
    assert_eq!((counts.creates, counts.updates, counts.deletes, counts.unchanged), (1, 1, 1, 18));
    let deleted: Vec<_> = batches(&folder, &planned)
        .into_iter()
        .filter(|batch| batch.operation == Operation::Delete)
        .flat_map(|batch| batch.rows)
        .map(|row| row.row_id.unwrap())
        .collect();
    assert_eq!(deleted, [RowId::new("lost")], "what the source does not want is deleted as any row of ours");
    let described =
        world.engine.describe_samples(audited, (&sync, &world.hash_key), &folder, &planned.files).await.unwrap();
    let drifted = described.samples.iter().find(|sample| sample.finding == Finding::Drifted).unwrap();
    assert_eq!((drifted.columns.as_slice(), drifted.origin.is_some()), (&["Name".to_owned()][..], true));

    // What the plan would leave is in step, but for what is not ours to touch; until it is applied, a row is missing.
    audience.0.remove("copy of 3");
    audience.0.remove("by hand");
    let again = audit(&world, &sync, &audience).await.counts;
    assert_eq!((again.differences(), again.missing, again.extra_of_others), (1, 1, 2));
}

#[tokio::test]
async fn a_missing_row_is_removed_from_the_ledger_only_if_it_is_to_be_made_again() {
    let sync = spec(SyncMode::Mirror);
    let (mut world, mut audience) = filled(&sync, 3).await;
    audience.0.remove(&id(&email(0)));
    let rows: Vec<_> = audience.0.values().cloned().collect();
    let audited =
        try_audit(&world, &sync, (rows, &audience), MissingRows::Removed, &world.fresh("audit")).await.unwrap();
    world.manifest = Some(audited.folded.manifest);
    let records: Vec<_> = (0..4).map(person).collect();
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, _) = world.plan(&sync, &spool, None).await;
    // What neither has is a create, and told apart from what somebody took out.
    assert_eq!((planned.counts.creates, planned.counts.removed_respected), (1, 1));
}

#[tokio::test]
async fn a_scan_that_lacks_or_repeats_a_row_is_no_audit() {
    let sync = spec(SyncMode::Mirror);
    let (world, audience) = filled(&sync, 5).await;
    let whole: Vec<_> = audience.0.values().cloned().collect();
    let lacking = whole[1..].to_vec();
    let repeating = [&whole[..], &whole[..1]].concat();
    for shown in [lacking, repeating] {
        let error = try_audit(&world, &sync, (shown, &audience), MissingRows::MadeAgain, &world.fresh("audit"))
            .await
            .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("changed while it was read"), "{cause}");
    }
}

#[tokio::test]
async fn rows_of_another_sync_are_counted_and_left_alone() {
    let sync = spec(SyncMode::Mirror);
    let (world, mut audience) = filled(&sync, 4).await;
    let other = SyncSpec { name: SyncName::new("other"), ..sync };
    audience.edit(&email(0)).cells[1] = Some("Edited".to_owned());
    audience.0.remove(&id(&email(1)));
    let audited = audit(&world, &other, &audience).await;
    let expected =
        AuditCounts { rows: 3, ledger_rows: 4, other_syncs: 3, missing_of_other_syncs: 1, ..AuditCounts::default() };
    assert_eq!((audited.counts, audited.corrections), (expected, 0));
}

#[tokio::test]
async fn what_is_left_of_a_row_that_a_record_deleted_is_no_row() {
    let sync = SyncSpec {
        deleted: Some(Filter::Sql("name = 'gone'".to_owned())),
        dedupe: Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] },
        ..spec(SyncMode::Upsert)
    };
    let (mut world, mut audience) = filled(&sync, 3).await;
    world.coverage = Coverage::Delta;
    world.settle(&sync, &[record(&[&email(1), "gone", "2"])]).await;
    assert_eq!(world.manifest.as_ref().map(|manifest| manifest.segments[0].entries), Some(3));
    audience.0.remove(&id(&email(1)));
    let audited = audit(&world, &sync, &audience).await;
    let expected = AuditCounts { rows: 2, ledger_rows: 2, in_step: 2, ..AuditCounts::default() };
    assert_eq!((audited.counts, audited.corrections), (expected, 0));
    // Somebody who adds that row adds one that is nobody's.
    audience.add("added", None, &[&email(1), "Name"]);
    assert_eq!(audit(&world, &sync, &audience).await.counts.extra_of_others, 1);
}

#[tokio::test]
async fn an_audience_larger_than_the_memory_is_audited() {
    const PEOPLE: usize = 200_000;
    let sync = spec(SyncMode::Mirror);
    let (filled_world, mut audience) = filled(&sync, PEOPLE).await;
    // Hashes are those of one key, so the ledger of one world can be read in another of little memory.
    let mut world = World::with_memory(24 << 20);
    world.store = filled_world.store;
    world.manifest = filled_world.manifest;
    for number in 0..100 {
        audience.0.remove(&id(&email(number)));
        audience.edit(&email(1_000 + number)).cells[1] = Some("Edited".to_owned());
    }
    let counts = audit(&world, &sync, &audience).await.counts;
    assert_eq!((counts.missing, counts.drifted, counts.in_step), (100, 100, PEOPLE as u64 - 200));
}
