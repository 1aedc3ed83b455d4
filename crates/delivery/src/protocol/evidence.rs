//! What look-ups show of entries that were left open, and what follows from it.

use std::collections::{HashMap, HashSet};

use convoke_core::journal::{Entry, IntentRow, Operation};
use convoke_core::sink::{AttemptTag, FoundRow, KeyCell};
use convoke_core::state::Recreated;
use convoke_core::{KeyHash, RowId};

use super::{Fate, settled_fate};

/// What the audience holds of the rows in question.
#[derive(Debug)]
pub struct Evidence {
    /// Tags that a key may exist under, those of open entries last.
    tags: HashMap<KeyHash, Vec<AttemptTag>>,
    /// By key cell: the rows found.
    created: HashMap<KeyCell, Vec<RowId>>,
    ids: HashSet<RowId>,
}

/// What to write about an entry that was left open: first the notes, then the fates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Keys that the sweep looks up once more, with the tag to note for each.
    pub to_sweep: Vec<(KeyHash, AttemptTag)>,
    /// One fate per row of the entry.
    pub fates: Vec<Fate>,
}

impl Evidence {
    /// Nothing looked up yet. `recreated` are the keys noted as created again.
    pub fn new(recreated: Vec<Recreated>, open: &[Entry]) -> Self {
        let mut tags: HashMap<KeyHash, Vec<AttemptTag>> =
            recreated.into_iter().map(|known| (known.key, known.tags)).collect();
        for entry in open.iter().filter(|entry| entry.intent.operation == Operation::Create) {
            for row in &entry.intent.rows {
                let of_key = tags.entry(row.key).or_default();
                of_key.retain(|tag| *tag != entry.intent.tag);
                of_key.push(entry.intent.tag);
            }
        }
        Self { tags, created: HashMap::new(), ids: HashSet::new() }
    }

    /// What to look up: key cells and row ids of whatever has not been found yet.
    pub fn wanted(&self, open: &[Entry]) -> (Vec<KeyCell>, Vec<RowId>) {
        let mut cells = Vec::new();
        let mut ids = Vec::new();
        for entry in open {
            for row in entry.intent.rows.iter().filter(|row| self.found(entry, row).is_none()) {
                match (entry.intent.operation, &row.row_id) {
                    (Operation::Create, _) => cells.extend(self.cells(row.key)),
                    (_, Some(row_id)) => ids.push(row_id.clone()),
                    (_, None) => {}
                }
            }
        }
        (cells, ids)
    }

    /// Takes what look-ups by key cell and by row id found.
    pub fn add(&mut self, by_cell: Vec<FoundRow>, by_id: Vec<FoundRow>) {
        for FoundRow { row_id, key_cell } in by_cell {
            if let Some(cell) = key_cell {
                self.created.entry(cell).or_default().push(row_id);
            }
        }
        self.ids.extend(by_id.into_iter().map(|found| found.row_id));
    }

    /// Whether a row of the entry has not been found.
    pub fn misses(&self, entry: &Entry) -> bool {
        entry.intent.rows.iter().any(|row| self.found(entry, row).is_none())
    }

    /// What became of the rows of an entry, once nothing of it can commit any more and it was looked up twice.
    pub fn verdict(&self, entry: &Entry) -> Verdict {
        let intent = &entry.intent;
        let fates = intent.rows.iter().map(|row| settled_fate(intent.operation, self.found(entry, row)));
        let is_unclear = |row: &&IntentRow| intent.operation == Operation::Create && self.copies(row.key) != 1;
        let to_sweep = intent.rows.iter().filter(is_unclear).map(|row| (row.key, intent.tag));
        Verdict { to_sweep: to_sweep.collect(), fates: fates.collect() }
    }

    /// Key cells a key may stand under, the newest attempt last.
    fn cells(&self, key: KeyHash) -> impl Iterator<Item = KeyCell> {
        let tags = self.tags.get(&key).map(Vec::as_slice).unwrap_or_default();
        tags.iter().map(move |tag| KeyCell { key, tag: *tag })
    }

    fn found(&self, entry: &Entry, row: &IntentRow) -> Option<RowId> {
        if entry.intent.operation != Operation::Create {
            return row.row_id.clone().filter(|row_id| self.ids.contains(row_id));
        }
        let mut newest = None;
        for cell in self.cells(row.key) {
            newest = self.created.get(&cell).and_then(|rows| rows.first().cloned()).or(newest);
        }
        newest
    }

    /// Rows of ours that stand under this key.
    fn copies(&self, key: KeyHash) -> usize {
        self.cells(key).filter_map(|cell| self.created.get(&cell)).map(Vec::len).sum()
    }
}
