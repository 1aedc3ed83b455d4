//! The diff's rows, brought together by key.
//!
//! The join gives one row per record, with what the ledger knows of the record's key, and one per key that only the ledger
//! knows. Within a partition records come sorted by key, and all records of a key are in one partition: so what belongs
//! together follows one another, if need be over the end of a batch.

use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, Decimal128Array, RecordBatch, StringArray, UInt8Array};
use convoke_core::{ContentHash, KeyHash};

use crate::key_number::key_of;
use crate::ledger::segment;
use crate::verdict::KnownRow;

/// What the source and the ledger say of one key.
pub(super) struct Found<'a> {
    pub(super) key: KeyHash,
    /// None if the source has no such record.
    pub(super) group: Option<Group<'a>>,
    /// None if the ledger does not know the key.
    pub(super) known: Option<KnownRow>,
    pub(super) row_id: Option<&'a str>,
    /// There if order values are compared and the ledger knows the key, or that a record has deleted a row of this sync.
    pub(super) order: Option<&'a [u8]>,
}

/// The records with one key.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    /// The greatest.
    pub(super) rank: &'a [u8],
    pub(super) records: u64,
    /// Whether a suppression list names any of them.
    pub(super) is_suppressed: bool,
}

impl<'a> Group<'a> {
    fn and(self, other: Self) -> Self {
        Self {
            rank: self.rank.max(other.rank),
            records: self.records + other.records,
            is_suppressed: self.is_suppressed || other.is_suppressed,
        }
    }
}

/// One partition of the diff, as far as it has been read.
#[derive(Default)]
pub(super) struct Partition {
    /// The group at the end of the last batch, which may go on.
    open: Option<OpenGroup>,
}

struct OpenGroup {
    key: i128,
    rank: Vec<u8>,
    records: u64,
    is_suppressed: bool,
    /// A batch of one row, for what the ledger knows.
    row: RecordBatch,
}

impl Partition {
    /// Passes on what is complete with this batch.
    pub(super) fn take(&mut self, batch: &RecordBatch, mut pass_on: impl FnMut(&Found<'_>)) {
        let columns = Columns::new(batch);
        let rows = batch.num_rows();
        let mut row = 0;
        while row < rows {
            let Some(key) = columns.record_key(row) else {
                pass_on(&columns.found(row, None));
                row += 1;
                continue;
            };
            let mut group = columns.record(row);
            let first = row;
            row += 1;
            while row < rows && columns.record_key(row) == Some(key) {
                group = group.and(columns.record(row));
                row += 1;
            }
            if self.open.as_ref().is_some_and(|open| open.key != key) {
                self.finish(&mut pass_on);
            }
            if row == rows {
                self.keep_open(key, group, batch.slice(first, 1));
            } else if let Some(open) = self.open.take() {
                pass_on(&columns.found(first, Some(open.group().and(group))));
            } else {
                pass_on(&columns.found(first, Some(group)));
            }
        }
    }

    /// Passes on the group that nothing has followed.
    pub(super) fn finish(&mut self, mut pass_on: impl FnMut(&Found<'_>)) {
        if let Some(open) = self.open.take() {
            pass_on(&Columns::new(&open.row).found(0, Some(open.group())));
        }
    }

    fn keep_open(&mut self, key: i128, group: Group<'_>, row: RecordBatch) {
        let known = self.open.take();
        let group = known.as_ref().map_or(group, |open| open.group().and(group));
        let Group { rank, records, is_suppressed } = group;
        self.open = Some(OpenGroup { key, rank: rank.to_vec(), records, is_suppressed, row });
    }
}

impl OpenGroup {
    fn group(&self) -> Group<'_> {
        Group { rank: &self.rank, records: self.records, is_suppressed: self.is_suppressed }
    }
}

/// A batch of the diff, column by column.
struct Columns<'a> {
    key: &'a Decimal128Array,
    rank: &'a BinaryArray,
    suppressed: &'a BooleanArray,
    ledger_key: &'a Decimal128Array,
    ledger_content: &'a BinaryArray,
    row_id: &'a StringArray,
    mine: &'a BooleanArray,
    state: &'a UInt8Array,
    /// There if order values are compared.
    ledger_order: Option<&'a BinaryArray>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a RecordBatch) -> Self {
        Self {
            key: batch.column(0).as_primitive(),
            rank: batch.column(1).as_binary(),
            suppressed: batch.column(2).as_boolean(),
            ledger_key: batch.column(3).as_primitive(),
            ledger_content: batch.column(4).as_binary(),
            row_id: batch.column(5).as_string(),
            mine: batch.column(6).as_boolean(),
            state: batch.column(7).as_primitive(),
            ledger_order: batch.columns().get(8).map(|column| column.as_binary()),
        }
    }

    fn record_key(&self, row: usize) -> Option<i128> {
        self.key.is_valid(row).then(|| self.key.value(row))
    }

    fn record(&self, row: usize) -> Group<'a> {
        Group { rank: self.rank.value(row), records: 1, is_suppressed: self.suppressed.value(row) }
    }

    fn found<'f>(&'f self, row: usize, group: Option<Group<'f>>) -> Found<'f> {
        let key = if group.is_some() { self.key } else { self.ledger_key };
        Found {
            key: key_of(key.value(row)),
            group,
            known: self.known(row),
            row_id: self.row_id.is_valid(row).then(|| self.row_id.value(row)),
            order: self.order(row),
        }
    }

    fn order(&self, row: usize) -> Option<&[u8]> {
        let order = self.ledger_order.filter(|orders| orders.is_valid(row))?.value(row);
        let counts = self.state.value(row) != segment::DELETED || (self.mine.value(row) && !order.is_empty());
        counts.then_some(order)
    }

    fn known(&self, row: usize) -> Option<KnownRow> {
        if self.ledger_key.is_null(row) || self.state.value(row) == segment::DELETED {
            return None;
        }
        if self.state.value(row) != segment::LIVE {
            return Some(KnownRow::RemovedAtDestination { is_mine: self.mine.value(row) });
        }
        // A content of another length is damaged, and compares as unknown: the row is updated.
        let content = self.ledger_content.value(row).try_into().map_or(ContentHash::UNKNOWN, ContentHash);
        Some(KnownRow::Live { content, is_mine: self.mine.value(row) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;

    use super::*;
    use crate::key_number::column_of;

    /// Rows of (key of the record, rank, suppressed, key in the ledger).
    type Row<'a> = (Option<i128>, &'a str, bool, Option<i128>);

    fn batch(rows: &[Row<'_>]) -> RecordBatch {
        let keys = |keys: Vec<Option<i128>>| -> ArrayRef {
            let numbers = column_of(keys.iter().map(|key| key.unwrap_or(0)).collect());
            let nulls = arrow::compute::is_null(&Decimal128Array::from(keys)).expect("any array");
            arrow::compute::nullif(&numbers, &nulls).expect("of one length")
        };
        let known = |row: &Row<'_>| row.3.map(|key| format!("row-{key}"));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", keys(rows.iter().map(|row| row.0).collect())),
            ("rank", Arc::new(BinaryArray::from_iter(rows.iter().map(|row| row.0.map(|_| row.1))))),
            ("suppressed", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.2))))),
            ("ledger_key", keys(rows.iter().map(|row| row.3).collect())),
            ("content", Arc::new(BinaryArray::from_iter(rows.iter().map(|row| row.3.map(|_| [7; 16]))))),
            ("row_id", Arc::new(StringArray::from_iter(rows.iter().map(known)))),
            ("mine", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.3.map(|_| true))))),
            ("state", Arc::new(UInt8Array::from_iter(rows.iter().map(|row| row.3.map(|_| segment::LIVE))))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .expect("columns of one length")
    }

    fn told(batches: &[&[Row<'_>]]) -> Vec<String> {
        let mut told = Vec::new();
        let mut tell = |found: &Found<'_>| {
            let group = found.group.map_or("-".to_owned(), |group| {
                let rank = String::from_utf8_lossy(group.rank);
                format!("{rank} of {}{}", group.records, if group.is_suppressed { ", suppressed" } else { "" })
            });
            told.push(format!("{group} / {}", found.row_id.unwrap_or("-")));
        };
        let mut partition = Partition::default();
        for rows in batches {
            partition.take(&batch(rows), &mut tell);
        }
        partition.finish(&mut tell);
        told
    }

    #[test]
    fn the_greatest_rank_of_a_key_wins_and_all_its_records_count() {
        let rows: &[Row<'_>] = &[
            (Some(1), "b", false, Some(1)),
            (Some(1), "mm", true, Some(1)),
            (Some(1), "a", false, Some(1)),
            (None, "", false, Some(2)),
            (Some(3), "z", false, None),
        ];
        assert_eq!(told(&[rows]), ["mm of 3, suppressed / row-1", "- / row-2", "z of 1 / -"]);
    }

    #[test]
    fn a_key_goes_on_over_the_ends_of_batches() {
        let one = (Some(1), "a", false, Some(1));
        let two = (Some(1), "c", false, Some(1));
        let three = (Some(1), "b", true, Some(1));
        let other = (Some(2), "x", false, None);
        let gone = (None, "", false, Some(9));
        let expected = ["c of 3, suppressed / row-1", "x of 1 / -"];
        assert_eq!(told(&[&[one], &[two], &[three, other]]), expected);
        assert_eq!(told(&[&[one, two, three], &[other]]), expected);
        assert_eq!(told(&[&[one, two], &[three], &[other]]), expected);
        assert_eq!(told(&[&[one], &[], &[two, three], &[other]]), expected);
        assert_eq!(told(&[&[one], &[gone]]).len(), 2);
        assert_eq!(told(&[&[one], &[gone, two]]), ["- / row-9", "c of 2 / row-1"]);
    }
}
