//! What a process leaves behind beside the checkpoint store: segments of the ledger, and plans that were begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use convoke_core::journal::{Entry, IntentRow, Operation, RowOutcome};
use convoke_core::plan::PlannedBatch;
use convoke_core::{ContentHash, KeyHash, PlanId, RowId};

use crate::source::{Record, Source, content_hash, key_hash};

/// Rows per batch.
const BATCH: usize = 8;

/// What the ledger knows of a key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) row: RowId,
    /// None: not known.
    pub(crate) content: Option<ContentHash>,
    /// False: somebody removed it at the destination.
    pub(crate) is_live: bool,
}

pub(crate) type Ledger = BTreeMap<KeyHash, Known>;

/// A plan that was begun.
pub(crate) struct Plan {
    pub(crate) id: PlanId,
    /// What it was made from.
    pub(crate) source_version: u32,
    pub(crate) ledger_version: u64,
    pub(crate) batches: Vec<PlannedBatch>,
}

impl Plan {
    pub(crate) fn changes(&self, operation: Operation) -> u64 {
        self.batches.iter().filter(|batch| batch.operation == operation).map(|batch| batch.rows.len() as u64).sum()
    }
}

#[derive(Default)]
struct Kept {
    /// Each fold writes one of its own; the manifest in the store names the newest.
    segments: BTreeMap<String, Ledger>,
    applying: Vec<Arc<Plan>>,
    /// For each plan the version of the source that it was made from.
    made: BTreeMap<PlanId, u32>,
    numbers: u64,
}

#[derive(Default)]
pub(crate) struct Books {
    kept: Mutex<Kept>,
}

impl Books {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_number(&self) -> u64 {
        let mut kept = self.kept();
        kept.numbers += 1;
        kept.numbers
    }

    pub(crate) fn segment(&self, name: &str) -> Ledger {
        self.kept().segments.get(name).cloned().expect("a segment that the manifest names exists")
    }

    /// Writes a segment; returns its name.
    pub(crate) fn add_segment(&self, ledger: Ledger) -> String {
        let name = format!("segment-{}", self.next_number());
        self.kept().segments.insert(name.clone(), ledger);
        name
    }

    pub(crate) fn begin(&self, plan: Plan) -> Arc<Plan> {
        let plan = Arc::new(plan);
        let mut kept = self.kept();
        kept.made.insert(plan.id, plan.source_version);
        kept.applying.push(Arc::clone(&plan));
        plan
    }

    /// Plans that were begun, the newest first.
    pub(crate) fn applying(&self) -> Vec<Arc<Plan>> {
        self.kept().applying.iter().rev().cloned().collect()
    }

    pub(crate) fn end(&self, plan: PlanId) {
        self.kept().applying.retain(|known| known.id != plan);
    }

    /// The files of every plan are lost; their rows stay, and nothing can be read of them. True if there was one.
    pub(crate) fn lose_plans(&self) -> bool {
        let lost = std::mem::take(&mut self.kept().applying);
        let is_any = !lost.is_empty();
        for plan in lost {
            let Plan { id, ledger_version, ref batches, .. } = *plan;
            let lost = Plan { id, source_version: u32::MAX, ledger_version, batches: batches.clone() };
            self.kept().applying.push(Arc::new(lost));
        }
        is_any
    }

    pub(crate) fn version_of(&self, plan: PlanId) -> Option<u32> {
        self.kept().made.get(&plan).copied()
    }
}

/// The changes from what the ledger knows to what the source says.
pub(crate) fn diff(source: &Source, ledger: &Ledger) -> Vec<PlannedBatch> {
    let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    for (key, record) in source {
        match ledger.get(&key_hash(*key)) {
            None => creates.push((*key, Some(record), None)),
            Some(known) if known.is_live && known.content != Some(content_hash(*key, record)) => {
                updates.push((*key, Some(record), Some(known.row.clone())));
            }
            Some(_) => {}
        }
    }
    let known_keys: BTreeMap<KeyHash, u32> = source.keys().map(|key| (key_hash(*key), *key)).collect();
    for (key, known) in ledger.iter().filter(|(key, known)| known.is_live && !known_keys.contains_key(key)) {
        deletes.push((u32::from_be_bytes([key.0[0], key.0[1], key.0[2], key.0[3]]), None, Some(known.row.clone())));
    }
    let mut batches = Vec::new();
    for (operation, rows) in [(Operation::Create, creates), (Operation::Update, updates), (Operation::Delete, deletes)]
    {
        for rows in rows.chunks(BATCH) {
            batches.push(batch(batches.len() as u32, operation, rows));
        }
    }
    batches
}

type Change<'a> = (u32, Option<&'a Record>, Option<RowId>);

fn batch(number: u32, operation: Operation, changes: &[Change<'_>]) -> PlannedBatch {
    let row = |(key, record, row_id): &Change<'_>| IntentRow {
        key: key_hash(*key),
        content: record.map_or(ContentHash::UNKNOWN, |record| content_hash(*key, record)),
        order: Default::default(),
        row_id: row_id.clone(),
    };
    let texts: StringArray = changes.iter().map(|(key, record, _)| record.map(|record| record.text(*key))).collect();
    let cells = match operation {
        Operation::Delete => RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
        _ => RecordBatch::try_from_iter([("Email", Arc::new(texts) as ArrayRef)]).expect("one column fits itself"),
    };
    let origins = changes.iter().map(|(key, ..)| Some(format!("people.csv:{key}"))).collect::<StringArray>();
    PlannedBatch { number, operation, rows: changes.iter().map(row).collect(), cells, origins }
}

/// Takes what a closed entry says into the ledger.
pub(crate) fn fold_entry(ledger: &mut Ledger, entry: &Entry) {
    for (row, outcome) in entry.intent.rows.iter().zip(entry.outcomes.iter().flatten()) {
        let known = |row: &RowId, content| Known { row: row.clone(), content, is_live: true };
        match (entry.intent.operation, outcome) {
            (_, RowOutcome::NotApplied | RowOutcome::Rejected) => {}
            (Operation::Delete, _) => {
                ledger.remove(&row.key);
            }
            (_, RowOutcome::Acknowledged { row_id }) => {
                ledger.insert(row.key, known(row_id, Some(row.content)));
            }
            (_, RowOutcome::Incomplete { row_id } | RowOutcome::Failed { row_id }) => {
                ledger.insert(row.key, known(row_id, None));
            }
            (_, RowOutcome::RemovedAtDestination) => {
                if let Some(known) = ledger.get_mut(&row.key) {
                    known.is_live = false;
                }
            }
        }
    }
}
