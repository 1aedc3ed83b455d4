//! What earlier processes settled of a plan, as its journal entries tell.
//!
//! Bounded memory: a batch that is settled as a whole is one number; keys are held for batches in between only.

use std::collections::{HashMap, HashSet};

use convoke_core::KeyHash;
use convoke_core::journal::{Entry, IntentRow, Operation, RowOutcome};
use convoke_core::plan::{DeliveryCounts, OperationCounts};

/// How far a plan is settled.
#[derive(Debug, Default)]
pub struct Resume {
    batches: HashMap<u32, BatchState>,
    /// What is settled, but for updates that are to be sent again.
    pub counts: DeliveryCounts,
}

#[derive(Debug)]
struct BatchState {
    operation: Operation,
    /// Rows of the batch: those of its first entry.
    rows: usize,
    attempts: u32,
    settled: Settled,
    /// Updates that may not have been applied in full: sent again by this plan.
    unsure: HashSet<KeyHash>,
    /// In an entry that stays open.
    in_doubt: HashSet<KeyHash>,
}

#[derive(Debug)]
enum Settled {
    Whole,
    Part(HashSet<KeyHash>),
}

impl Resume {
    /// Takes the next entry of the plan; they come in the order of their ids.
    pub fn add(&mut self, entry: Entry) {
        let intent = entry.intent;
        let batch = self.batches.entry(intent.batch).or_insert_with(|| BatchState {
            operation: intent.operation,
            rows: intent.rows.len(),
            attempts: 0,
            settled: Settled::Part(HashSet::new()),
            unsure: HashSet::new(),
            in_doubt: HashSet::new(),
        });
        batch.attempts = batch.attempts.max(intent.attempt);
        let keys = intent.rows.iter().map(|row| row.key);
        let Some(outcomes) = entry.outcomes else {
            batch.in_doubt.extend(keys);
            return;
        };
        let counts = self.counts.of_mut(intent.operation);
        for (key, outcome) in keys.zip(&outcomes) {
            batch.add(key, outcome, counts);
        }
        batch.collapse();
    }

    /// Counts with those updates that are to be sent again, for when they no longer can be.
    pub fn into_counts(self) -> DeliveryCounts {
        let mut counts = self.counts;
        for batch in self.batches.values() {
            let unsure = batch.unsure.len() as u64;
            let of = counts.of_mut(batch.operation);
            of.acknowledged += unsure;
            of.incomplete += unsure;
        }
        counts
    }

    /// Rows of a batch, by its number, that are still to be sent.
    pub fn left_of(&self, batch: u32, rows: &[IntentRow]) -> Vec<u32> {
        let rows = (0u32..).zip(rows);
        match self.batches.get(&batch) {
            None => rows.map(|(index, _)| index).collect(),
            Some(known) => rows.filter(|(_, row)| known.is_left(row.key)).map(|(index, _)| index).collect(),
        }
    }

    /// Highest attempt number that was used for the batch.
    pub fn attempts_of(&self, batch: u32) -> u32 {
        self.batches.get(&batch).map_or(0, |known| known.attempts)
    }

    /// Rows in entries that stay open.
    pub fn in_doubt(&self) -> u64 {
        self.batches.values().map(|batch| batch.in_doubt.len() as u64).sum()
    }
}

impl BatchState {
    fn add(&mut self, key: KeyHash, outcome: &RowOutcome, counts: &mut OperationCounts) {
        self.in_doubt.remove(&key);
        if !outcome.is_final() {
            return;
        }
        let is_unsure = self.operation == Operation::Update && matches!(outcome, RowOutcome::Incomplete { .. });
        if is_unsure {
            self.unsure.insert(key);
            return;
        }
        self.unsure.remove(&key);
        let Settled::Part(settled) = &mut self.settled else { return };
        if !settled.insert(key) {
            return;
        }
        match outcome {
            RowOutcome::Acknowledged { .. } => counts.acknowledged += 1,
            RowOutcome::Incomplete { .. } => {
                counts.acknowledged += 1;
                counts.incomplete += 1;
            }
            RowOutcome::Failed { .. } => {
                counts.acknowledged += 1;
                counts.incomplete += 1;
                counts.failed += 1;
            }
            RowOutcome::Rejected => counts.rejected += 1,
            RowOutcome::RemovedAtDestination => counts.found_removed += 1,
            RowOutcome::NotApplied => {}
        }
    }

    fn collapse(&mut self) {
        if matches!(&self.settled, Settled::Part(keys) if keys.len() >= self.rows) {
            self.settled = Settled::Whole;
        }
    }

    fn is_left(&self, key: KeyHash) -> bool {
        match &self.settled {
            Settled::Whole => false,
            Settled::Part(settled) => !settled.contains(&key) && !self.in_doubt.contains(&key),
        }
    }
}
