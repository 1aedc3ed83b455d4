//! Plans from spool to files, held against a naive reading.

use std::collections::BTreeMap;

use convoke_core::hash::encode_part;
use convoke_core::journal::{Operation, RowOutcome};
use convoke_core::plan::PlanCounts;
use convoke_core::spec::{Filter, Keep, SyncMode};
use convoke_core::{KeyHash, RowId, SyncName};
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

    let segments = world.segments();
    let plan_folder = world.fresh("plan");
    let request = convoke_engine::PlanRequest {
        spec: &mirror,
        spool: &spool,
        may_delete: false,
        segments: &segments,
        hash_key: &world.hash_key,
        suppressions: &[],
        limit: None,
        folder: &plan_folder,
        now: convoke_core::Timestamp(0),
    };
    assert_eq!(world.engine.plan(request).await.unwrap().counts.deletes, 0);
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
    is_mine: bool,
    is_removed: bool,
}

#[derive(Clone, Debug)]
struct Case {
    mode: SyncMode,
    keep: Keep,
    has_order: bool,
    has_filter: bool,
    limit: Option<u64>,
    before: Vec<Record>,
    others: Vec<Record>,
    removed: usize,
    records: Vec<Record>,
    suppressed: Option<(Vec<String>, bool)>,
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
    let flags = (any::<bool>(), any::<bool>(), 0..3usize);
    (mode, keep, flags, limit, records(25), records(6), records(40), suppressed).prop_map(
        |(mode, keep, (has_order, has_filter, removed), limit, before, others, records, suppressed)| Case {
            mode,
            keep,
            has_order,
            has_filter,
            limit,
            before,
            others,
            removed,
            records,
            suppressed,
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
    let listed = |email: &str| {
        let (list, removes) = case.suppressed.as_ref()?;
        list.iter().any(|entry| entry.to_lowercase() == email).then_some(*removes)
    };
    for (email, group) in &groups {
        counts.superseded += group.len() as u64 - 1;
        let winner = winner(world, case, group);
        let row = ledger.get(email);
        let counter = match (case.mode, row) {
            _ if listed(email).is_some() => &mut counts.suppressed,
            (_, Some(row)) if !row.is_removed && !row.is_mine => &mut counts.invalid,
            (SyncMode::DeleteList, Some(row)) if !row.is_removed && case.limit.is_some() => &mut counts.held_back,
            (SyncMode::DeleteList, Some(row)) if !row.is_removed => &mut counts.listed,
            (SyncMode::DeleteList, _) => &mut counts.skipped_by_mode,
            (_, Some(row)) if row.is_removed => &mut counts.removed_respected,
            (SyncMode::UpdateOnly, None) => &mut counts.skipped_by_mode,
            (_, None) => &mut counts.creates,
            (_, Some(row)) if row.content == winner => &mut counts.unchanged,
            (SyncMode::InsertOnly, _) => &mut counts.skipped_by_mode,
            _ => &mut counts.updates,
        };
        *counter += 1;
    }
    for (email, row) in ledger {
        let is_deleted = match (listed(email), groups.contains_key(email)) {
            (Some(removes), _) => removes,
            (None, true) => case.mode == SyncMode::DeleteList,
            (None, false) => case.mode == SyncMode::Mirror,
        };
        counts.deletes += u64::from(is_deleted && row.is_mine && !row.is_removed && case.limit.is_none());
    }
    if let Some(limit) = case.limit {
        let creates = counts.creates.min(limit);
        let updates = counts.updates.min(limit - creates);
        counts.held_back += counts.creates - creates + counts.updates - updates;
        (counts.creates, counts.updates) = (creates, updates);
    }
    counts
}

fn winner(world: &World, case: &Case, group: &[(usize, &Record)]) -> Vec<u8> {
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
    content(group.last().unwrap().1)
}

async fn prepare(world: &mut World, case: &Case) -> BTreeMap<String, Row> {
    let mut ledger = BTreeMap::new();
    for (name, records) in [("booth-scans", &case.before), ("other", &case.others)] {
        let mut writer = spec(SyncMode::InsertOnly);
        writer.name = SyncName::new(name);
        world.settle(&writer, records).await;
        for record in records.iter().rev() {
            let Some(email) = email_of(record) else { continue };
            let is_mine = name == "booth-scans";
            if is_mine || !ledger.contains_key(&email) {
                ledger.entry(email).or_insert(Row { content: content_of(world, record), is_mine, is_removed: false });
            }
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
            order: vec![],
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
    sync.dedupe.keep = case.keep;
    if case.has_order {
        sync.dedupe.by = vec![by("updated_at")];
    }
    if case.has_filter {
        sync.filter = Some(Filter::Sql("name <> 'skip'".to_owned()));
    }
    if let Some((entries, removes)) = &case.suppressed {
        world.suppressions = vec![crate::suppressions::list(&world, entries, *removes)];
    }
    let half = case.records.len() / 2;
    let spool = world.spool(&columns(), &[&case.records[..half], &case.records[half..]]).await;
    let (planned, folder) = world.plan(&sync, &spool, case.limit).await;
    assert!(planned.counts.is_balanced(), "{:?}", planned.counts);
    assert_eq!(planned.counts, naive(&world, &case, &ledger), "{case:#?}");
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
