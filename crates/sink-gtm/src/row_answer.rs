//! Matches the rows of an answer to the rows of the request.
//!
//! The API declares that an answer holds the written rows with all their cells, and promises no order. A created row
//! is known by its key cell, an updated one by its id, and none by its position; whatever is ambiguous, foreign or
//! without a key cell is left out and so stays in doubt. One exception: a row whose key cell the destination could not
//! keep would be found by no look-up, and be made again; see [`Matching::claim_keyless`].

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use arrow::record_batch::RecordBatch;
use convoke_core::RowId;
use convoke_core::sink::{AppliedRow, AudienceBinding, FailedCell, KEY_COLUMN, KeyCell};

use crate::echo::Echo;
use crate::row_document::{AnsweredRow, AnsweredRows, Cell};

/// Shown for a failed cell whose summary is missing or could repeat a value.
const NO_SUMMARY: &str = "the destination gives no reason that can be shown";

/// What was sent, as far as its answer must be compared with it.
pub(crate) struct Sent<'a> {
    pub(crate) audience: &'a AudienceBinding,
    pub(crate) cells: &'a RecordBatch,
}

/// The rows that an answer to creates confirms; `None`: the answer is not a list of rows.
pub(crate) fn created(sent: &Sent<'_>, key_cells: &[KeyCell], body: &[u8]) -> Option<Vec<AppliedRow>> {
    let list = AnsweredRows::parse(body)?;
    let index_of = LazyCell::new(|| -> HashMap<KeyCell, usize> {
        key_cells.iter().enumerate().map(|(index, key)| (*key, index)).collect()
    });
    let mut matching = Matching::new(key_cells.len(), &list);
    let mut keyless = Vec::new();
    for (position, row) in list.data.iter().enumerate() {
        let Some(key_cell) = row.key_cell(&sent.audience.key_column_id) else {
            keyless
                .extend(Some(row).filter(|row| row.cell(&sent.audience.key_column_id).is_some_and(Cell::has_failed)));
            continue;
        };
        // Most answers keep the order of the request: then each row is where it is looked for first.
        let is_here = key_cells.get(position) == Some(&key_cell);
        let index = if is_here { Some(position) } else { index_of.get(&key_cell).copied() };
        if let Some(index) = index {
            matching.claim(index, row);
        }
    }
    matching.claim_keyless(&keyless);
    Some(matching.into_applied(sent))
}

/// The rows that an answer to updates confirms; `None`: the answer is not a list of rows.
pub(crate) fn updated(sent: &Sent<'_>, row_ids: &[RowId], body: &[u8]) -> Option<Vec<AppliedRow>> {
    let list = AnsweredRows::parse(body)?;
    let index_of: HashMap<&str, usize> = row_ids.iter().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
    let mut matching = Matching::new(row_ids.len(), &list);
    for row in &list.data {
        if let Some(index) = row.id().and_then(|id| index_of.get(id)) {
            matching.claim(*index, row);
        }
    }
    Some(matching.into_applied(sent))
}

/// Which row of the answer stands for which row of the request.
struct Matching<'a> {
    slots: Vec<Slot<'a>>,
    /// Ids that stand in the answer more than once.
    repeated: HashSet<&'a str>,
}

#[derive(Clone, Copy)]
enum Slot<'a> {
    Open,
    Taken(&'a AnsweredRow<'a>),
    /// Two rows claim to be this one: which is right is not known.
    Ambiguous,
}

impl<'a> Matching<'a> {
    fn new(rows: usize, list: &'a AnsweredRows<'a>) -> Self {
        let mut ids: Vec<&str> = list.data.iter().filter_map(AnsweredRow::id).collect();
        ids.sort_unstable();
        let repeated = ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        Self { slots: vec![Slot::Open; rows], repeated }
    }

    fn claim(&mut self, index: usize, row: &'a AnsweredRow<'a>) {
        let is_single = row.id().is_some_and(|id| self.repeated.is_empty() || !self.repeated.contains(id));
        let slot = &mut self.slots[index];
        *slot = match slot {
            Slot::Open if is_single => Slot::Taken(row),
            _ => Slot::Ambiguous,
        };
    }

    /// Takes rows whose key cell failed for those that are missing, if there are as many.
    ///
    /// They are answers to our creates and nothing else can find them. Which is which is taken from their order, and
    /// need not be right: a row with a failed cell is incomplete, so the next plan writes all its cells by its id.
    fn claim_keyless(&mut self, keyless: &[&'a AnsweredRow<'a>]) {
        let missing: Vec<usize> =
            (0..self.slots.len()).filter(|index| matches!(self.slots[*index], Slot::Open)).collect();
        if missing.len() == keyless.len() {
            missing.into_iter().zip(keyless).for_each(|(index, row)| self.claim(index, row));
        }
    }

    fn into_applied(self, sent: &Sent<'_>) -> Vec<AppliedRow> {
        let echo = LazyCell::new(|| Echo::of(sent.cells));
        let mut applied = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.into_iter().enumerate() {
            let Slot::Taken(row) = slot else { continue };
            let Some(id) = row.id() else { continue };
            let failed_cells = row.cells().iter().filter(|cell| cell.has_failed());
            let failed_cells = failed_cells.filter_map(|cell| failed_cell(sent.audience, cell, || &echo)).collect();
            applied.push(AppliedRow { index, row_id: RowId::new(id), failed_cells });
        }
        applied
    }
}

/// `None`: not a cell that we fill.
fn failed_cell<'e>(audience: &AudienceBinding, cell: &Cell<'_>, echo: impl FnOnce() -> &'e Echo) -> Option<FailedCell> {
    let column = if cell.column_id == audience.key_column_id {
        KEY_COLUMN
    } else {
        &audience.columns.iter().find(|column| column.id == cell.column_id)?.name
    };
    let summary = cell.summary().and_then(|summary| echo().clean_detail(summary));
    Some(FailedCell { column: column.to_owned(), summary: summary.unwrap_or_else(|| NO_SUMMARY.to_owned()) })
}

#[cfg(test)]
mod tests;
