//! Plans from spool to files, held against a naive reading.

use std::collections::BTreeMap;

use convoke_core::hash::encode_part;
use convoke_core::journal::{Operation, RowOutcome};
use convoke_core::plan::PlanCounts;
use convoke_core::source::{Coverage, MalformedRecord, SplitItem};
use convoke_core::spec::{Dedupe, Filter, Keep, Limit, RemovedRows, SyncMode, SyncSpec};
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};
use proptest::prelude::*;

use crate::fixture::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn key(world: &World, email: &str) -> KeyHash {
    convoke_engine::key_of(&spec(SyncMode::Upsert), &world.hash_key, &[email.to_owned()]).unwrap()
}

#[tokio::test]
async fn a_second_run_over_the_same_source_changes_nothing() {
    let mut world = World::new();
    let records: Vec<_> = (0..1_200).map(|index| record(&[&format!("p{index}@x.co"), "N", "1"])).collect();
    let first = world.settle(&spec(SyncMode::Mirror), &records).await;
    assert_eq!((first.counts.creates, first.counts.changes()), (1_200, 1_200));
    let second = world.settle(&spec(SyncMode::Mirror), &records).await;
    assert_eq!((second.counts.unchanged, second.counts.changes()), (1_200, 0));
    assert_eq!(second.files, []);
}

#[tokio::test]
async fn a_mirror_deletes_what_is_gone_only_from_a_complete_snapshot() {
    let mut world = World::new();
    let mirror = spec(SyncMode::Mirror);
    world.settle(&mirror, &[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]).await;
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A2", "1"]), record(&["e@f.co", "E", "1"])]]).await;
    let (planned, folder) = world.plan(&mirror, &spool, None).await;
    assert_eq!((planned.counts.creates, planned.counts.updates, planned.counts.deletes), (1, 1, 1));
    let batches = batches(&folder, &planned);
    let shape: Vec<_> = batches.iter().map(|batch| (batch.number, batch.operation, batch.rows.len())).collect();
    assert_eq!(shape, [(0, Operation::Update, 1), (1, Operation::Create, 1), (2, Operation::Delete, 1)]);
    assert_eq!(batches[0].rows[0].row_id, Some(RowId::new(format!("row-{}", key(&world, "a@b.co")))));
    assert_eq!((batches[0].origin(0), batches[2].origin(0)), (Some("file-0.csv:2"), None));
    assert_eq!((batches[0].cells.num_columns(), batches[2].cells.num_columns()), (2, 0));
    assert_eq!(batches[2].rows[0].key, key(&world, "c@d.co"));

    world.is_complete = false;
    assert_eq!(world.plan(&mirror, &spool, None).await.0.counts.deletes, 0);
}

#[tokio::test]
async fn a_key_of_another_sync_is_a_counted_reject() {
    let mut world = World::new();
    let mut other = spec(SyncMode::Upsert);
    other.name = SyncName::new("other");
    world.settle(&other, &[record(&["a@b.co", "A", "1"])]).await;
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "B", "1"])]]).await;
    let (planned, folder) = world.plan(&spec(SyncMode::Mirror), &spool, None).await;
    assert_eq!((planned.counts.invalid, planned.counts.changes()), (1, 0));
    let invalid: Vec<_> =
        convoke_engine::read_invalid(&folder, &planned.files[0]).unwrap().map(Result::unwrap).collect();
    assert_eq!((invalid[0].code.as_str(), &invalid[0].column), ("owned_by_other_sync", &None));
    assert_eq!(invalid[0].cells[1], ("Name".to_owned(), Some("B".to_owned())));
}

#[tokio::test]
async fn the_order_of_reading_does_not_matter_when_records_have_an_order() {
    let world = World::new();
    let mut ordered = spec(SyncMode::Upsert);
    ordered.dedupe.by = vec![by("updated_at")];
    let mut records: Vec<_> = (0..3_000)
        .map(|index| record(&[&format!("p{}@x.co", index % 700), &format!("N{index}"), &format!("{}", index % 5)]))
        .collect();
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let spool = world.spool(&columns(), &[&records[..1_000], &records[1_000..]]).await;
        let (planned, folder) = world.plan(&ordered, &spool, None).await;
        let rows = batches(&folder, &planned).into_iter().flat_map(|batch| batch.rows);
        let changes: BTreeMap<_, _> = rows.map(|row| (row.key, (row.content, row.order))).collect();
        assert_eq!((planned.counts.creates, planned.counts.superseded), (700, 2_300));
        outcomes.push(changes);
        records.reverse();
        records.swap(0, 1_500);
    }
    assert_eq!(outcomes[0], outcomes[1]);
}

#[tokio::test]
async fn the_same_input_gives_the_same_files() {
    let world = World::new();
    let records: Vec<_> = (0..5_000).map(|index| record(&[&format!("p{index}@x.co"), "N", "1"])).collect();
    let spool = world.spool(&columns(), &[&records]).await;
    let (first, _) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    let (second, _) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_plan_larger_than_memory_spills() {
    let world = World::with_memory(24 << 20);
    let records: Vec<_> = (0..300_000)
        .map(|index| record(&[&format!("person-{}@example.com", index % 290_000), "Some Name", "2024-01-01"]))
        .collect();
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, folder) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!((planned.counts.creates, planned.counts.superseded), (290_000, 10_000));
    let rows: usize = batches(&folder, &planned).iter().map(|batch| batch.rows.len()).sum();
    assert_eq!(rows, 290_000);
}

#[tokio::test]
async fn a_changed_plan_file_is_refused() {
    let world = World::new();
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A", "1"])]]).await;
    let (planned, folder) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    let path = folder.join(&planned.files[0].name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = convoke_engine::PlanBatches::open(&folder, &planned.files, 500, 1_000).err().unwrap();
    assert!(error.to_string().contains("creates.parquet"), "{error}");
}

#[tokio::test]
async fn mapped_columns_may_be_named_as_columns_of_the_plan() {
    let world = World::new();
    let mut odd = spec(SyncMode::Upsert);
    odd.columns[1].name = "key".to_owned();
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A", "1"])]]).await;
    let (planned, folder) = world.plan(&odd, &spool, None).await;
    let batch = batches(&folder, &planned).remove(0);
    assert_eq!(batch.cells.num_columns(), 2);
    assert_eq!(batch.cells.schema().field(1).name(), "key");
}

/// What the naive evaluator knows of a row.
#[derive(Clone, Debug)]
struct Row {
    content: Vec<u8>,
    /// What `dedupe.by` said of the record; none if the ledger does not know.
    order: Option<Option<String>>,
    is_mine: bool,
    is_removed: bool,
}

#[derive(Clone, Debug)]
struct Case {
    mode: SyncMode,
    keep: Keep,
    is_delta: bool,
    has_order: bool,
    has_filter: bool,
    limit: Option<u64>,
    tolerates_unreadable: bool,
    restores: bool,
    before: Vec<Record>,
    others: Vec<Record>,
    removed: usize,
    records: Vec<Record>,
    suppressed: Option<(Vec<String>, bool)>,
    /// Names with which people were refused for long enough, by their numbers.
    refused: BTreeMap<u8, Option<String>>,
}

fn records(max: usize) -> impl Strategy<Value = Vec<Record>> {
    let email = prop_oneof![
        8 => (0..12u8).prop_map(|index| Some(format!("p{index}@x.co"))),
        1 => Just(None),
        1 => Just(Some("nobody".to_owned())),
        1 => (0..12u8).prop_map(|index| Some(format!(" P{index}@X.co "))),
    ];
    let name = prop_oneof![Just(None), Just(Some("skip".to_owned())), "[ab]{1}".prop_map(Some)];
    let time = prop_oneof![Just(None), "[0-3]{1}".prop_map(Some)];
    proptest::collection::vec((email, name, time).prop_map(|(email, name, time)| vec![email, name, time]), 0..max)
}

fn cases() -> impl Strategy<Value = Case> {
    let mode = prop_oneof![
        Just(SyncMode::Upsert),
        Just(SyncMode::Mirror),
        Just(SyncMode::InsertOnly),
        Just(SyncMode::UpdateOnly),
        Just(SyncMode::DeleteList)
    ];
    let keep = prop_oneof![Just(Keep::Latest), Just(Keep::First)];
    let limit = prop_oneof![2 => Just(None), 1 => (0..6u64).prop_map(Some)];
    let list = proptest::collection::vec((0..12u8).prop_map(|index| format!("P{index}@x.CO")), 1..4);
    let suppressed = proptest::option::of((list, any::<bool>()));
    let name = prop_oneof![Just(None), "[ab]{1}".prop_map(Some)];
    let refused = proptest::collection::btree_map(0..12u8, name, 0..6);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let ledger = (records(25), records(6), 0..3usize);
    (mode, keep, flags, limit, ledger, records(40), suppressed, refused).prop_map(
        |(mode, keep, flags, limit, (before, others, removed), records, suppressed, refused)| Case {
            mode,
            keep,
            has_order: flags.0,
            has_filter: flags.1,
            limit,
            tolerates_unreadable: flags.2,
            is_delta: flags.3,
            restores: flags.4,
            before,
            others,
            removed,
            records,
            suppressed,
            refused,
        },
    )
}

#[tokio::test]
async fn a_row_whose_record_is_there_but_invalid_is_not_deleted() {
    let mut world = World::new();
    let mirror = spec(SyncMode::Mirror);
    world.settle(&mirror, &[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]).await;
    let too_long = "x".repeat(2_000);
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", &too_long, "1"])]]).await;
    let (planned, folder) = world.plan(&mirror, &spool, None).await;
    assert_eq!((planned.counts.invalid, planned.counts.deletes, planned.counts.changes()), (1, 1, 1));
    assert_eq!(batches(&folder, &planned)[0].rows[0].key, key(&world, "c@d.co"));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_may_be_that_of_any_row() {
    let mut world = World::new();
    let mut mirror = spec(SyncMode::Mirror);
    let before = ["a@b.co", "c@d.co", "e@f.co"].map(|email| record(&[email, "A", "1"]));
    world.settle(&mirror, &before).await;
    let nobody = record(&["nobody", "X", "1"]);
    let too_long = record(&["c@d.co", &"x".repeat(2_000), "1"]);
    let mut ragged =
        items(&columns(), &[record(&["a@b.co", "B", "1"]), nobody, too_long, record(&["g@h.co", "G", "1"])]);
    ragged.insert(0, SplitItem::Malformed(MalformedRecord { position: 9, reason: "2 fields instead of 3".to_owned() }));
    let spool = world.spool_of(ragged).await;
    for (limit, withheld) in [(Limit::records(1), 1), (Limit::percent(39.0), 1), (Limit::records(2), 0)] {
        mirror.guards.max_unreadable = limit;
        let (planned, folder) = world.plan(&mirror, &spool, None).await;
        let PlanCounts { invalid, creates, updates, deletes, .. } = planned.counts;
        // The row whose record is invalid but has its key stays in any case, and is not withheld.
        assert_eq!((invalid, creates, updates, deletes), (3, 1, 1, 1 - withheld), "{limit:?}");
        assert_eq!(planned.counts.withheld, withheld, "{limit:?}");
        let told = planned.withheld.as_ref().map(|told| (told.deletes, told.unreadable, told.first.as_str()));
        assert_eq!(told, (withheld > 0).then_some((1, 2, "file-0.csv:9")), "{limit:?}");
        let sent: u64 = batches(&folder, &planned).iter().map(|batch| batch.rows.len() as u64).sum();
        assert_eq!(sent, planned.counts.changes(), "{limit:?}");
    }
}

#[tokio::test]
async fn the_first_record_without_a_readable_key_is_told_and_lists_delete_all_the_same() {
    let mut world = World::new();
    let mirror = spec(SyncMode::Mirror);
    world.settle(&mirror, &["a@b.co", "c@d.co"].map(|email| record(&[email, "A", "1"]))).await;
    world.suppressions = vec![crate::suppressions::list(&world, &["a@b.co".to_owned()], true)];
    let spool = world.spool(&columns(), &[&[record(&["", "X", "1"]), record(&["nobody", "X", "1"])]]).await;
    let (planned, folder) = world.plan(&mirror, &spool, None).await;
    assert_eq!((planned.counts.deletes, planned.counts.withheld), (1, 1));
    assert_eq!(batches(&folder, &planned)[0].rows[0].key, key(&world, "a@b.co"));
    assert_eq!(planned.withheld.unwrap().first, "file-0.csv:2");
}

#[tokio::test]
async fn of_what_only_adds_an_older_record_does_not_overwrite_a_newer_row() {
    let mut world = World::new();
    let mut upsert = spec(SyncMode::Upsert);
    upsert.dedupe.by = vec![by("updated_at")];
    let before = ["a@b.co", "c@d.co", "e@f.co", "g@h.co"].map(|email| record(&[email, "B", "2"]));
    world.settle(&upsert, &before).await;
    let older = record(&["a@b.co", "A", "1"]);
    let untimed = record(&["c@d.co", "A", ""]);
    let same_time = record(&["e@f.co", "A", "2"]);
    let newer = record(&["g@h.co", "A", "3"]);
    let spool = world.spool(&columns(), &[&[older, untimed, same_time, newer]]).await;
    let counts_of = |planned: convoke_engine::Planned| (planned.counts.superseded, planned.counts.updates);
    assert_eq!(counts_of(world.plan(&upsert, &spool, None).await.0), (0, 4), "a snapshot is the whole truth");
    world.coverage = Coverage::Delta;
    let (planned, folder) = world.plan(&upsert, &spool, None).await;
    let mut sent: Vec<_> = batches(&folder, &planned).iter().flat_map(|batch| &batch.rows).map(|row| row.key).collect();
    sent.sort();
    let mut expected = ["e@f.co", "g@h.co"].map(|email| key(&world, email));
    expected.sort();
    assert_eq!((counts_of(planned), sent.as_slice()), ((2, 2), expected.as_slice()));
    upsert.dedupe.by = vec![by("concat(updated_at, '')")];
    assert_eq!(counts_of(world.plan(&upsert, &spool, None).await.0), (0, 4), "other criteria cannot be compared");
    upsert.dedupe.by = vec![];
    assert_eq!(counts_of(world.plan(&upsert, &spool, None).await.0), (0, 4), "without criteria the later file wins");
}

#[tokio::test]
async fn a_row_keeps_the_order_of_the_record_that_made_it_through_delivery_and_fold() {
    let mut world = World::new();
    world.coverage = Coverage::Delta;
    let mut upsert = spec(SyncMode::Upsert);
    upsert.dedupe = Dedupe { keep: Keep::First, by: vec![by("updated_at")] };
    for (time, changes) in [("5", 1), ("7", 0), ("4", 1), ("5", 0), ("3", 1)] {
        let planned = world.settle(&upsert, &[record(&["a@b.co", &format!("at {time}"), time])]).await;
        assert_eq!(planned.counts.changes(), changes, "{time}");
        assert_eq!(planned.counts.superseded, 1 - changes, "{time}");
    }
}

#[tokio::test]
async fn cells_that_move_to_another_column_are_sent_again() {
    let mut world = World::new();
    let mut upsert = spec(SyncMode::Upsert);
    world.settle(&upsert, &[record(&["a@b.co", "A", "1"])]).await;
    upsert.columns[1].name = "Full Name".to_owned();
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A", "1"])]]).await;
    let (planned, _) = world.plan(&upsert, &spool, None).await;
    assert_eq!((planned.counts.updates, planned.counts.unchanged), (1, 0));
}

/// Canonical e-mail, if the record is valid.
fn email_of(record: &Record) -> Option<String> {
    let email = record[0].as_ref()?.trim().to_lowercase();
    email.contains('@').then_some(email)
}

fn content_of(world: &World, record: &Record) -> Vec<u8> {
    let cells = [email_of(record), record[1].clone()];
    let contents = world.hash_key.contents_of(["Email", "Name"]);
    let mut encoded = Vec::new();
    contents.order().iter().for_each(|index| encode_part(&mut encoded, cells[*index].as_deref()));
    contents.hash(&encoded).0.to_vec()
}

/// What is held back, by e-mail.
fn refused_contents(world: &World, case: &Case) -> BTreeMap<String, Vec<u8>> {
    let refused = case.refused.iter().map(|(number, name)| {
        let email = format!("p{number}@x.co");
        let content = content_of(world, &vec![Some(email.clone()), name.clone(), None]);
        (email, content)
    });
    refused.collect()
}

/// The naive reading of a plan: one record after the other, maps and sorts.
fn naive(world: &World, case: &Case, ledger: &BTreeMap<String, Row>) -> PlanCounts {
    let mut counts = PlanCounts { read: case.records.len() as u64, ..PlanCounts::default() };
    let mut groups: BTreeMap<String, Vec<(usize, &Record)>> = BTreeMap::new();
    for (position, record) in case.records.iter().enumerate() {
        let is_filtered = case.has_filter && record[1].as_deref().is_none_or(|name| name == "skip");
        match email_of(record) {
            _ if is_filtered => counts.filtered += 1,
            None => counts.invalid += 1,
            Some(email) => groups.entry(email).or_default().push((position, record)),
        }
    }
    // An invalid record of these has no key.
    let unreadable = counts.invalid;
    let listed = |email: &str| {
        let (list, removes) = case.suppressed.as_ref()?;
        list.iter().any(|entry| entry.to_lowercase() == email).then_some(*removes)
    };
    let refused = refused_contents(world, case);
    for (email, group) in &groups {
        counts.superseded += group.len() as u64 - 1;
        let winner = winner(world, case, group);
        let content = content_of(world, winner);
        let row = ledger.get(email);
        let is_refused = refused.get(email).is_some_and(|refused| *refused == content);
        let counter = match (case.mode, row) {
            _ if listed(email).is_some() => &mut counts.suppressed,
            (_, Some(row)) if !row.is_removed && !row.is_mine => &mut counts.invalid,
            (SyncMode::DeleteList, Some(row)) if !row.is_removed && case.limit.is_some() => &mut counts.held_back,
            (SyncMode::DeleteList, Some(row)) if !row.is_removed => &mut counts.listed,
            (SyncMode::DeleteList, _) => &mut counts.skipped_by_mode,
            (mode, Some(row)) if row.is_removed && (!case.restores || mode == SyncMode::UpdateOnly) => {
                &mut counts.removed_respected
            }
            (_, Some(row)) if row.is_removed && case.is_delta && loses(case.keep, winner, row) => {
                &mut counts.superseded
            }
            (_, Some(row)) if row.is_removed && is_refused => &mut counts.refused_before,
            (_, Some(row)) if row.is_removed => &mut counts.creates,
            (SyncMode::UpdateOnly, None) => &mut counts.skipped_by_mode,
            (_, None) if is_refused => &mut counts.refused_before,
            (_, None) => &mut counts.creates,
            (_, Some(row)) if row.content == content => &mut counts.unchanged,
            (SyncMode::InsertOnly, _) => &mut counts.skipped_by_mode,
            (_, Some(row)) if case.is_delta && loses(case.keep, winner, row) => &mut counts.superseded,
            _ if is_refused => &mut counts.refused_before,
            _ => &mut counts.updates,
        };
        *counter += 1;
    }
    for (email, row) in ledger {
        let lacks_record = listed(email).is_none() && !groups.contains_key(email);
        let is_deleted = match listed(email) {
            Some(removes) => removes,
            None if lacks_record => case.mode == SyncMode::Mirror && !case.is_delta,
            None => case.mode == SyncMode::DeleteList,
        };
        let is_withheld = lacks_record && unreadable > 0 && !case.tolerates_unreadable;
        let counter = if is_withheld { &mut counts.withheld } else { &mut counts.deletes };
        *counter += u64::from(is_deleted && row.is_mine && !row.is_removed && case.limit.is_none());
    }
    if let Some(limit) = case.limit {
        let creates = counts.creates.min(limit);
        let updates = counts.updates.min(limit - creates);
        counts.held_back += counts.creates - creates + counts.updates - updates;
        (counts.creates, counts.updates) = (creates, updates);
    }
    counts
}

/// Whether the row stands for a record that the order of the records puts before this one.
fn loses(keep: Keep, record: &Record, row: &Row) -> bool {
    match (&record[2], row.order.as_ref().and_then(Option::as_ref), keep) {
        (_, None, _) => false,
        (None, Some(_), _) => true,
        (Some(new), Some(old), Keep::Latest) => new < old,
        (Some(new), Some(old), Keep::First) => new > old,
    }
}

fn winner<'r>(world: &World, case: &Case, group: &[(usize, &'r Record)]) -> &'r Record {
    let mut group = group.to_vec();
    let content = |record: &Record| content_of(world, record);
    group.sort_by(|(left_position, left), (right_position, right)| {
        let by_position = match case.keep {
            Keep::Latest => left_position.cmp(right_position),
            Keep::First => right_position.cmp(left_position),
        };
        if !case.has_order {
            return by_position;
        }
        let by_order = match (&left[2], &right[2], case.keep) {
            (Some(left), Some(right), Keep::First) => right.cmp(left),
            (left, right, _) => left.cmp(right),
        };
        by_order.then_with(|| content(left).cmp(&content(right))).then(by_position)
    });
    group.last().unwrap().1
}

fn dedupe(case: &Case) -> Dedupe {
    let by = if case.has_order { vec![by("updated_at")] } else { vec![] };
    Dedupe { keep: case.keep, by }
}

async fn prepare(world: &mut World, case: &Case) -> BTreeMap<String, Row> {
    let mut ledger = BTreeMap::new();
    for (name, records) in [("booth-scans", &case.before), ("other", &case.others)] {
        let mut writer = spec(SyncMode::InsertOnly);
        writer.name = SyncName::new(name);
        writer.dedupe = dedupe(case);
        world.settle(&writer, records).await;
        let mut groups: BTreeMap<String, Vec<(usize, &Record)>> = BTreeMap::new();
        for (position, record) in records.iter().enumerate() {
            email_of(record).into_iter().for_each(|email| groups.entry(email).or_default().push((position, record)));
        }
        for (email, group) in groups {
            let winner = winner(world, case, &group);
            let (content, order) = (content_of(world, winner), case.has_order.then(|| winner[2].clone()));
            ledger.entry(email).or_insert(Row { content, order, is_mine: name == "booth-scans", is_removed: false });
        }
    }
    let gone: Vec<_> = ledger.iter_mut().filter(|(_, row)| row.is_mine).take(case.removed).collect();
    let mut rows = Vec::new();
    for (email, row) in gone {
        row.is_removed = true;
        let row_id = Some(RowId::new("gone"));
        rows.push(convoke_core::journal::IntentRow {
            key: key(world, email),
            content: Default::default(),
            order: Default::default(),
            row_id,
        });
    }
    let outcomes = rows.iter().map(|_| RowOutcome::RemovedAtDestination).collect();
    world.fold(&spec(SyncMode::Upsert), vec![entry(&spec(SyncMode::Upsert), Operation::Update, rows, outcomes)]).await;
    ledger
}

async fn hold_against_naive(case: Case) {
    let mut world = World::new();
    let ledger = Box::pin(prepare(&mut world, &case)).await;
    let mut sync = spec(case.mode);
    sync.dedupe = dedupe(&case);
    if case.is_delta {
        world.coverage = Coverage::Delta;
    }
    if case.restores {
        sync.removed_at_destination = RemovedRows::Restore;
    }
    if case.has_filter {
        sync.filter = Some(Filter::Sql("name <> 'skip'".to_owned()));
    }
    if case.tolerates_unreadable {
        sync.guards.max_unreadable = Limit::unlimited();
    }
    if let Some((entries, removes)) = &case.suppressed {
        world.suppressions = vec![crate::suppressions::list(&world, entries, *removes)];
    }
    let refused = refused_contents(&world, &case);
    for (email, content) in &refused {
        world.refusals.add(key(&world, email), Some(ContentHash(content.as_slice().try_into().unwrap())));
    }
    let half = case.records.len() / 2;
    let spool = world.spool(&columns(), &[&case.records[..half], &case.records[half..]]).await;
    let (planned, folder) = world.plan(&sync, &spool, case.limit).await;
    assert!(planned.counts.is_balanced(), "{:?}", planned.counts);
    assert_eq!(planned.counts, naive(&world, &case, &ledger), "{case:#?}");
    let convoke_engine::RefusalFates { held, sent, settled } = &planned.refusals;
    assert_eq!(held.len() as u64, planned.counts.refused_before);
    assert!(held.len() + sent.len() + settled.len() <= refused.len(), "each key has one fate");
    let mut sent = [0; 3];
    for batch in batches(&folder, &planned) {
        sent[batch.operation as usize] += batch.rows.len() as u64;
    }
    assert_eq!(sent, [planned.counts.creates, planned.counts.updates, planned.counts.deletes]);
    let invalid = planned.files.iter().find(|file| file.name == "invalid.parquet").map_or(0, |file| file.rows);
    assert_eq!(invalid, planned.counts.invalid);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_balances_and_counts_as_a_naive_reading_does(case in cases()) {
        runtime().block_on(hold_against_naive(case));
    }
}

#[tokio::test]
async fn a_record_seen_again_unchanged_under_a_later_value_protects_its_row_from_those_in_between() {
    let mut world = World::new();
    world.coverage = Coverage::Delta;
    let sync = SyncSpec { dedupe: Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] }, ..spec(SyncMode::Upsert) };
    world.settle(&sync, &[record(&["a@b.co", "A", "2026-01"]), record(&["c@d.co", "C", "2026-01"])]).await;
    let again = world.settle(&sync, &[record(&["a@b.co", "A", "2026-03"])]).await;
    assert_eq!((again.counts.unchanged, again.counts.changes()), (1, 0));
    let between = [record(&["a@b.co", "Between", "2026-02"]), record(&["c@d.co", "Between", "2026-02"])];
    let planned = world.settle(&sync, &between).await;
    assert_eq!((planned.counts.superseded, planned.counts.updates), (1, 1));
    // Nothing later was seen: there is nothing to keep.
    let same = world.settle(&sync, &[record(&["a@b.co", "A", "2026-03"])]).await;
    assert_eq!(same.files, []);
}

#[tokio::test]
async fn a_source_without_records_and_columns_is_an_empty_snapshot() {
    let mut world = World::new();
    let sync = SyncSpec {
        filter: Some(Filter::Sql("name <> 'B'".to_owned())),
        dedupe: Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] },
        ..spec(SyncMode::Mirror)
    };
    world.settle(&sync, &[record(&["a@b.co", "A", "1"])]).await;
    let nothing = world.spool(&schema(&[]), &[]).await;
    let (planned, _) = world.plan(&sync, &nothing, None).await;
    assert_eq!(planned.counts, PlanCounts { deletes: 1, ..PlanCounts::default() });
}

#[tokio::test]
async fn a_backfill_leaves_a_row_alone_of_which_it_is_unknown_how_new_it_is() {
    let mut world = World::new();
    world.coverage = Coverage::Delta;
    world.settle(&spec(SyncMode::Upsert), &[record(&["a@b.co", "A", "2026-03"])]).await;
    let sync = SyncSpec { dedupe: Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] }, ..spec(SyncMode::Upsert) };
    world.keeps_unknown = true;
    let same = world.settle(&sync, &[record(&["a@b.co", "A", "2026-01"])]).await;
    assert_eq!((same.counts.unchanged, same.files.len()), (1, 0), "an old value would protect less than none");
    let backfilled = [record(&["a@b.co", "Older", "2026-02"]), record(&["c@d.co", "C", "2026-02"])];
    let planned = world.settle(&sync, &backfilled).await;
    assert_eq!((planned.counts.superseded, planned.counts.creates, planned.counts.updates), (1, 1, 0));
    world.keeps_unknown = false;
    let live = world.settle(&sync, &[record(&["a@b.co", "Newer", "2026-04"])]).await;
    assert_eq!(live.counts.updates, 1);
}

#[tokio::test]
async fn of_a_snapshot_that_is_not_whole_no_older_value_is_taken() {
    let mut world = World::new();
    let dedupe = Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] };
    let sync = SyncSpec { dedupe, ..spec(SyncMode::Mirror) };
    world.settle(&sync, &[record(&["a@b.co", "New", "2026-02"])]).await;
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "Older", "2026-01"])]]).await;
    for (is_complete, superseded, updates) in [(false, 1, 0), (true, 0, 1)] {
        world.is_complete = is_complete;
        let counts = world.plan(&sync, &spool, None).await.0.counts;
        assert_eq!((counts.superseded, counts.updates), (superseded, updates), "whole: {is_complete}");
    }
}
