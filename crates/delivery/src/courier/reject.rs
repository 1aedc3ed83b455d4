//! Rejects found while delivering: what is stored of them, and how many there may be.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType as ArrowType;
use convoke_core::plan::PlannedBatch;
use convoke_core::sink::AudienceBinding;
use convoke_core::state::{RejectRecord, RejectStage};
use convoke_core::{ContentHash, Timestamp};

use super::Terms;
use crate::protocol::Reason;
use crate::report::REJECT_SAMPLES;

/// Stands where a destination's message repeated a value of the record.
const REMOVED_VALUE: &str = "[value]";

/// Counts rejects over all batches, and keeps the first few.
pub(super) struct RejectTally {
    rejected: AtomicU64,
    is_passed: AtomicBool,
    samples: Mutex<Vec<RejectRecord>>,
}

impl RejectTally {
    /// Begins with what earlier processes rejected: the limit may be passed already.
    pub(super) fn new(rejected: u64, terms: &Terms) -> Self {
        let is_passed = rejected > 0 && terms.reject_limit.is_passed(rejected, terms.changes);
        Self {
            rejected: AtomicU64::new(rejected),
            is_passed: AtomicBool::new(is_passed),
            samples: Mutex::new(Vec::new()),
        }
    }

    /// Adds one; true if the limit is passed now.
    pub(super) fn add(&self, record: RejectRecord, terms: &Terms) -> bool {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() < REJECT_SAMPLES {
            samples.push(record);
        }
        let rejected = self.rejected.fetch_add(1, Ordering::Relaxed) + 1;
        let is_passed = terms.reject_limit.is_passed(rejected, terms.changes);
        self.is_passed.fetch_or(is_passed, Ordering::Relaxed);
        is_passed
    }

    /// The number of rejects, if it passed the limit.
    pub(super) fn passed(&self) -> Option<u64> {
        self.is_passed.load(Ordering::Relaxed).then(|| self.rejected.load(Ordering::Relaxed))
    }

    pub(super) fn into_samples(self) -> Vec<RejectRecord> {
        self.samples.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is stored of a row that the destination refused.
pub(super) fn reject_record(
    terms: &Terms,
    audience: &AudienceBinding,
    batch: &PlannedBatch,
    row: usize,
    (reason, at): (Reason, Timestamp),
) -> RejectRecord {
    let cells = named_cells(audience, batch, row);
    // Of a delete there is none.
    let content = Some(batch.rows[row].content).filter(|content| *content != ContentHash::UNKNOWN);
    let known = |text: &str| audience.columns.iter().find(|column| column.id == text || column.name == text);
    let column = reason.column.map(|text| known(&text).map_or(text.clone(), |column| column.name.clone()));
    RejectRecord {
        sync: terms.sync.clone(),
        run: terms.run,
        plan: terms.plan,
        at,
        stage: RejectStage::Refused,
        key: Some(batch.rows[row].key),
        content,
        origin: batch.origin(row).map(str::to_owned),
        code: reason.code,
        column,
        reason: without_values(&reason.detail, &cells),
        cells,
    }
}

fn named_cells(audience: &AudienceBinding, batch: &PlannedBatch, row: usize) -> Vec<(String, Option<String>)> {
    let names = audience.columns.iter().map(|column| column.name.clone());
    names.zip(batch.cells.columns()).map(|(name, column)| (name, cell_text(column.as_ref(), row))).collect()
}

fn cell_text(column: &dyn Array, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        ArrowType::Utf8View => Some(column.as_string_view().value(row).to_owned()),
        _ => column.as_string_opt::<i32>().map(|texts| texts.value(row).to_owned()),
    }
}

/// Takes the record's values out of a message, whatever their case.
///
/// A value that only is a part of a longer word stays: `1` in `PFAPI0001` is no value.
fn without_values(message: &str, cells: &[(String, Option<String>)]) -> String {
    let mut values: Vec<&str> = cells.iter().filter_map(|(_, text)| text.as_deref()).map(str::trim).collect();
    values.retain(|value| !value.is_empty());
    // The longest first: a short value may be a part of it.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.into_iter().fold(message.to_owned(), |text, value| without_value(&text, value))
}

fn without_value(message: &str, value: &str) -> String {
    let (haystack, needle) = (message.to_ascii_lowercase(), value.to_ascii_lowercase());
    let mut kept = String::with_capacity(message.len());
    let mut done = 0;
    for (start, _) in haystack.match_indices(&needle) {
        let end = start + needle.len();
        let joined_before = message[..start].chars().next_back().is_some_and(char::is_alphanumeric);
        let joined_after = message[end..].chars().next().is_some_and(char::is_alphanumeric);
        if start >= done && !joined_before && !joined_after {
            kept.push_str(&message[done..start]);
            kept.push_str(REMOVED_VALUE);
            done = end;
        }
    }
    kept.push_str(&message[done..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_destination_lose_the_records_values() {
        let cell = |text: &str| ("Email".to_owned(), Some(text.to_owned()));
        let cells = [cell("anna@example.com"), cell("1"), cell("Anna"), ("Phone".to_owned(), None), cell(" ")];
        let message = "PFAPI0001: 'ANNA@example.com' of Anna, row 1, is no e-mail (Annabel)";
        let expected = "PFAPI0001: '[value]' of [value], row [value], is no e-mail (Annabel)";
        assert_eq!(without_values(message, &cells), expected);
    }

    #[test]
    fn values_beyond_ascii_do_not_break_a_message() {
        let cells = [("Name".to_owned(), Some("Zoë".to_owned()))];
        assert_eq!(without_values("»Zoë« is too short, Zoëlle", &cells), "»[value]« is too short, Zoëlle");
    }
}
