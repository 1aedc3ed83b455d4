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
    /// How often each was looked up.
    cells_asked: HashMap<KeyCell, u8>,
    ids_asked: HashMap<RowId, u8>,
}

/// What to write about an entry that was left open: first the notes, then the fates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Keys that the sweep looks up once more, with the tag to note for each.
    pub to_sweep: Vec<(KeyHash, AttemptTag)>,
    /// Keys that no row of ours stands under. That is a sweep of them: what was noted before is done with, so that a key
    /// which is tried again and again is not looked up under ever more tags. To be counted before the notes.
    pub swept: Vec<KeyHash>,
    /// One fate per row of the entry.
    pub fates: Vec<Fate>,
    /// Rows of which it is not known yet; their fate here is that they were not applied, so an entry of their own has to
    /// be open before this is written.
    pub rest: Vec<IntentRow>,
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
        let (created, ids, cells_asked, ids_asked) = Default::default();
        Self { tags, created, ids, cells_asked, ids_asked }
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

    /// Takes note that these were looked up once more.
    pub fn asked(&mut self, cells: &[KeyCell], ids: &[RowId]) {
        cells.iter().for_each(|cell| *self.cells_asked.entry(*cell).or_default() += 1);
        ids.iter().for_each(|row_id| *self.ids_asked.entry(row_id.clone()).or_default() += 1);
    }

    /// Those of the key cells and row ids whose row has not been found.
    pub fn missing(&self, cells: &[KeyCell], ids: &[RowId]) -> (Vec<KeyCell>, Vec<RowId>) {
        let cells = cells.iter().filter(|cell| self.newest(cell.key).is_none()).copied();
        (cells.collect(), ids.iter().filter(|row_id| !self.ids.contains(row_id)).cloned().collect())
    }

    /// What became of the rows of an entry, of which nothing can commit any more, as far as that is known: they were found,
    /// or looked up twice in vain.
    pub fn verdict(&self, entry: &Entry) -> Verdict {
        let intent = &entry.intent;
        let mut verdict = Verdict::default();
        for row in &intent.rows {
            if !self.is_known(entry, row) {
                verdict.rest.push(row.clone());
                verdict.fates.push(Fate::NotApplied);
                continue;
            }
            if intent.operation == Operation::Create && self.copies(row.key) != 1 {
                verdict.to_sweep.push((row.key, intent.tag));
            }
            if intent.operation == Operation::Create && self.copies(row.key) == 0 {
                verdict.swept.push(row.key);
            }
            verdict.fates.push(settled_fate(intent.operation, self.found(entry, row)));
        }
        verdict
    }

    fn is_known(&self, entry: &Entry, row: &IntentRow) -> bool {
        let needed = if self.found(entry, row).is_some() { 1 } else { 2 };
        match (entry.intent.operation, &row.row_id) {
            // Under all its tags: the newest row counts, and doubles are to be seen.
            (Operation::Create, _) => {
                self.cells(row.key).all(|cell| self.cells_asked.get(&cell).is_some_and(|asked| *asked >= needed))
            }
            (_, Some(row_id)) => self.ids_asked.get(row_id).is_some_and(|asked| *asked >= needed),
            // Without the id it should have it was never a request.
            (_, None) => true,
        }
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
        self.newest(row.key)
    }

    /// The row of the newest attempt that was found.
    fn newest(&self, key: KeyHash) -> Option<RowId> {
        let found = self.cells(key).filter_map(|cell| self.created.get(&cell)?.first());
        found.last().cloned()
    }

    /// Rows of ours that stand under this key.
    fn copies(&self, key: KeyHash) -> usize {
        self.cells(key).filter_map(|cell| self.created.get(&cell)).map(Vec::len).sum()
    }
}
