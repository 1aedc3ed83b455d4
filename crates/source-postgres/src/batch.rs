//! The batch under way.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use convoke_core::source::SourceBatch;
use convoke_core::spec::OutOfRange;

use crate::cells::Cells;
use crate::columns::Columns;
use crate::scalar::Written;
use crate::tracker::{Seen, Tracker};

/// A batch is passed on once its fields take this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or once it has this many records, so that narrow tables make no long batches.
const BATCH_RECORDS: usize = 16_384;

/// What came is not what the format, or the type of a column, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misread {
    Framing,
    /// The number of the column.
    Field(usize),
    /// A text in another encoding; the number of the column.
    NotUtf8(usize),
    /// A value that the column's type has no place for; the number of the column.
    OutOfRange(usize),
    /// No value in the column that tells changes.
    WithoutCursor(usize),
}

/// Records by column.
pub(crate) struct Batch {
    schema: SchemaRef,
    cells: Vec<Cells>,
    /// Values of each column that are NULL because nothing could hold them.
    lost: Vec<u64>,
    may_lose: bool,
    tracker: Option<Tracker>,
    rows: usize,
    bytes: usize,
    rows_before: u64,
    bytes_before: u64,
}

impl Batch {
    pub(crate) fn new(columns: &Columns, policy: OutOfRange, tracker: Option<Tracker>) -> Self {
        let cells: Vec<Cells> = columns.types().map(Cells::new).collect();
        let lost = vec![0; cells.len()];
        Self {
            schema: columns.schema(),
            cells,
            lost,
            may_lose: policy == OutOfRange::Empty,
            tracker,
            rows: 0,
            bytes: 0,
            rows_before: 0,
            bytes_before: 0,
        }
    }

    /// Number of columns.
    pub(crate) fn width(&self) -> usize {
        self.cells.len()
    }

    /// Appends a record: of each field its length and its bytes.
    pub(crate) fn push(&mut self, fields: &[u8]) -> Result<(), Misread> {
        let mut rest = fields;
        for (index, cells) in self.cells.iter_mut().enumerate() {
            let (length, behind) = rest.split_first_chunk().ok_or(Misread::Framing)?;
            let field = match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    let (field, behind) = behind.split_at_checked(length).ok_or(Misread::Framing)?;
                    rest = behind;
                    Some(field)
                }
                Err(_) => {
                    rest = behind;
                    None
                }
            };
            if cells.append(field).map_err(|_| Misread::Field(index))? == Written::Lost {
                if !self.may_lose {
                    return Err(Misread::OutOfRange(index));
                }
                self.lost[index] += 1;
            }
            if let Some(tracker) = self.tracker.as_mut().filter(|tracker| tracker.column == index) {
                tracker.see(field).map_err(|_| Misread::Field(index))?;
                if field.is_none() && tracker.refuses_nulls {
                    return Err(Misread::WithoutCursor(index));
                }
            }
        }
        self.rows += 1;
        self.bytes += fields.len();
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.rows >= BATCH_RECORDS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Gives the records so far, and begins anew.
    pub(crate) fn take(&mut self) -> Result<SourceBatch, Misread> {
        let arrays = self.cells.iter_mut().enumerate();
        let arrays = arrays.map(|(index, cells)| cells.finish().map_err(|_| Misread::NotUtf8(index)));
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, _>>()?;
        let records = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .expect("each record puts one cell of its column's type into every column");
        let first = self.rows_before + 1;
        self.rows_before += self.rows as u64;
        self.bytes_before += self.bytes as u64;
        (self.rows, self.bytes) = (0, 0);
        let positions = (first..=self.rows_before).collect();
        Ok(SourceBatch { records, positions, bytes_read: self.bytes_before })
    }

    /// What was seen of the column that tells changes.
    pub(crate) fn seen(&self) -> Seen {
        self.tracker.as_ref().map_or_else(Seen::default, |tracker| tracker.seen)
    }

    /// Logs what could not be held.
    pub(crate) fn tell_lost(&self, columns: &Columns, relation: &str) {
        for (column, lost) in columns.names().zip(&self.lost).filter(|(_, lost)| **lost > 0) {
            tracing::warn!(
                column,
                cells = lost,
                relation,
                "values that are not finite, or outside the years 1 to 9999, were read as NULL"
            );
        }
    }
}
