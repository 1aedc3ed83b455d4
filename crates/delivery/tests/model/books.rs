//! What is durable: the journal, the notes of keys that were created again, the ledger, the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use convoke_core::journal::{Entry, EntryId, Intent, IntentRow, Operation, RowOutcome, pack_outcomes, pack_rows};
use convoke_core::sink::AttemptTag;
use convoke_core::state::Recreated;
use convoke_core::{AudienceKey, ConnectionName, ContentHash, KeyHash, PlanId, RowId, SyncName, Timestamp};
use convoke_delivery::protocol::{Resume, rows_named_by};

use crate::destination::{Content, Id, Key, id_of, key_hash, row_id};

/// An entry of the journal, and whether it is folded.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) entry: Rc<Entry>,
    pub(crate) is_folded: bool,
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Entry { id, intent, outcomes } = &*self.entry;
        (id, intent.plan, intent.batch, intent.operation, intent.attempt, intent.tag).hash(state);
        (pack_rows(&intent.rows), outcomes.as_deref().map(pack_outcomes), self.is_folded).hash(state);
    }
}

/// What the ledger knows of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    pub(crate) row: Id,
    /// None: not known.
    pub(crate) content: Option<Content>,
    /// False: somebody removed it at the destination.
    pub(crate) is_live: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Planned {
    pub(crate) key: Key,
    pub(crate) content: Content,
    pub(crate) row: Option<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    pub(crate) number: u8,
    pub(crate) batches: Vec<(Operation, Vec<Planned>)>,
}

impl Plan {
    pub(crate) fn intent_rows(&self, batch: u32) -> Vec<IntentRow> {
        self.batches[batch as usize].1.iter().map(intent_row).collect()
    }

    /// Tags of a batch begin here: apart for each plan and batch.
    pub(crate) fn tag_seed(&self, batch: u32) -> u32 {
        1_000 * u32::from(self.number) + 100 * batch
    }
}

fn intent_row(planned: &Planned) -> IntentRow {
    IntentRow {
        key: key_hash(planned.key),
        content: ContentHash([planned.content; 16]),
        order: Default::default(),
        row_id: planned.row.map(row_id),
    }
}

/// What survives the process.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Books {
    pub(crate) journal: Vec<Kept>,
    last_entry: i64,
    /// Jobs that the deletes of entries became.
    pub(crate) jobs: BTreeMap<EntryId, u8>,
    /// Tags of keys that were created again, and the lease they were noted under last.
    pub(crate) noted: BTreeMap<Key, (BTreeSet<AttemptTag>, u8)>,
    pub(crate) ledger: BTreeMap<Key, Known>,
    /// Ticks that an earlier request may still commit for.
    pub(crate) quiet: u8,
    /// The plan that is being applied.
    pub(crate) plan: Option<Plan>,
    pub(crate) plans: u8,
    /// Number of the lease.
    pub(crate) fence: u8,
}

impl Books {
    /// Writes an intent; returns the id of its entry.
    pub(crate) fn intend(&mut self, batch: u32, rows: &[u32], attempt: u32, tag: AttemptTag) -> EntryId {
        let plan = self.plan.as_ref().expect("intents belong to a plan");
        let of_batch = plan.intent_rows(batch);
        let intent = Intent {
            plan: plan_id(plan.number),
            sync: SyncName::new("sync"),
            audience: AudienceKey { connection: ConnectionName::new("gtm"), audience_id: "1".to_owned() },
            batch,
            operation: plan.batches[batch as usize].0,
            attempt,
            tag,
            intended_at: Timestamp(0),
            rows: rows.iter().map(|row| of_batch[*row as usize].clone()).collect(),
        };
        self.add(intent)
    }

    /// Writes an intent for some of an entry's rows, which is about to be closed.
    pub(crate) fn intend_rest(&mut self, entry: &Entry, rows: Vec<IntentRow>) {
        self.add(Intent { rows, ..entry.intent.clone() });
    }

    fn add(&mut self, intent: Intent) -> EntryId {
        self.last_entry += 1;
        let id = EntryId(self.last_entry);
        self.journal.push(Kept { entry: Rc::new(Entry { id, intent, outcomes: None }), is_folded: false });
        id
    }

    pub(crate) fn close(&mut self, id: EntryId, outcomes: Vec<RowOutcome>) {
        let kept = self.journal.iter_mut().find(|kept| kept.entry.id == id).expect("an open entry is in the journal");
        let entry = &*kept.entry;
        assert!(entry.outcomes.is_none(), "an entry is closed once");
        assert_eq!(entry.intent.rows.len(), outcomes.len(), "one outcome per row");
        kept.entry = Rc::new(Entry { outcomes: Some(outcomes), ..entry.clone() });
    }

    pub(crate) fn open(&self) -> Vec<Entry> {
        let open = self.journal.iter().filter(|kept| kept.entry.outcomes.is_none());
        open.map(|kept| (*kept.entry).clone()).collect()
    }

    /// The newest job of an entry, if one was noted.
    pub(crate) fn note_job(&mut self, id: EntryId, number: u8) {
        self.jobs.insert(id, number);
    }

    pub(crate) fn note(&mut self, key: Key, tag: AttemptTag) {
        let noted = self.noted.entry(key).or_default();
        noted.0.insert(tag);
        noted.1 = self.fence;
    }

    pub(crate) fn recreated(&self) -> Vec<Recreated> {
        let of = |(key, (tags, _)): (&Key, &(BTreeSet<AttemptTag>, u8))| Recreated {
            key: key_hash(*key),
            tags: tags.iter().copied().collect(),
            sweeps: 0,
        };
        self.noted.iter().map(of).collect()
    }

    /// Keys that were swept are dropped if they were noted under an earlier lease.
    pub(crate) fn count_sweep(&mut self, keys: &[Key]) {
        let fence = self.fence;
        self.noted.retain(|key, (_, noted)| !keys.contains(key) || *noted >= fence);
    }

    /// How far the plan is settled.
    pub(crate) fn resume(&self) -> Resume {
        let mut resume = Resume::default();
        let plan = self.plan.as_ref().map(|plan| plan_id(plan.number));
        for kept in self.journal.iter().filter(|kept| Some(kept.entry.intent.plan) == plan) {
            resume.add((*kept.entry).clone());
        }
        resume
    }

    /// The row that journal or ledger names for a key.
    pub(crate) fn named(&self) -> impl Fn(KeyHash) -> Option<RowId> {
        let unfolded = self.journal.iter().filter(|kept| !kept.is_folded);
        let in_journal: BTreeMap<KeyHash, Option<RowId>> =
            unfolded.flat_map(|kept| rows_named_by(&kept.entry).collect::<Vec<_>>()).collect();
        let in_ledger: BTreeMap<KeyHash, RowId> =
            self.ledger.iter().map(|(key, known)| (key_hash(*key), row_id(known.row))).collect();
        move |key| in_journal.get(&key).cloned().unwrap_or_else(|| in_ledger.get(&key).cloned())
    }

    /// Takes what closed entries say into the ledger.
    pub(crate) fn fold(&mut self) {
        for kept in self.journal.iter_mut().filter(|kept| !kept.is_folded && kept.entry.outcomes.is_some()) {
            kept.is_folded = true;
            let Entry { intent, outcomes, .. } = &*kept.entry;
            for (row, outcome) in intent.rows.iter().zip(outcomes.iter().flatten()) {
                fold_row(&mut self.ledger, intent.operation, row, outcome);
            }
        }
    }

    /// The plan is done with, or given up; its entries are forgotten once they are folded.
    pub(crate) fn drop_plan(&mut self) {
        self.plan = None;
        self.journal.retain(|kept| !kept.is_folded);
    }
}

fn fold_row(ledger: &mut BTreeMap<Key, Known>, operation: Operation, row: &IntentRow, outcome: &RowOutcome) {
    let key = row.key.0[0];
    let known = |row_id: &RowId, content| Known { row: id_of(row_id), content, is_live: true };
    match (operation, outcome) {
        (_, RowOutcome::NotApplied | RowOutcome::Rejected) => {}
        (Operation::Delete, _) => {
            ledger.remove(&key);
        }
        (_, RowOutcome::Acknowledged { row_id }) => {
            ledger.insert(key, known(row_id, Some(row.content.0[0])));
        }
        (_, RowOutcome::Incomplete { row_id } | RowOutcome::Failed { row_id }) => {
            ledger.insert(key, known(row_id, None));
        }
        (_, RowOutcome::RemovedAtDestination) => {
            if let Some(known) = ledger.get_mut(&key) {
                known.is_live = false;
            }
        }
    }
}

fn plan_id(number: u8) -> PlanId {
    PlanId::parse(&format!("00000000-0000-0000-0000-{number:012}")).expect("it is a UUID")
}
