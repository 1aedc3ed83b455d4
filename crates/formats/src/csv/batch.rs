//! The batch under way.

use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use convoke_core::source::SourceBatch;

use super::records::{Cells, Records};

/// A batch is passed on once its cells take this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or once it has this many records, so that narrow files make no long batches.
const BATCH_RECORDS: usize = 16_384;

/// The schema of a file with these columns.
pub(super) fn schema_of<'a>(columns: impl Iterator<Item = &'a String>) -> SchemaRef {
    Arc::new(Schema::new(columns.map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

pub(super) struct Batch {
    schema: SchemaRef,
    /// Of each column of the file, what is built of it; none if it is not wanted.
    builders: Vec<Option<StringBuilder>>,
    positions: Vec<u64>,
    bytes: usize,
    are_declared: bool,
}

impl Batch {
    /// A batch of those columns of the file that are wanted: all, unless some are named.
    /// `are_declared`: they stand in no header.
    pub(super) fn new(columns: &[String], wanted: Option<&SchemaRef>, are_declared: bool) -> Self {
        let is_wanted = |name: &String| wanted.is_none_or(|schema| schema.column_with_name(name).is_some());
        Self {
            schema: schema_of(columns.iter().filter(|name| is_wanted(name))),
            builders: columns.iter().map(|name| is_wanted(name).then(|| StringBuilder::with_capacity(0, 0))).collect(),
            positions: Vec::new(),
            bytes: 0,
            are_declared,
        }
    }

    /// Appends a record; the error says what is wrong with it and never shows a value.
    pub(super) fn push(&mut self, records: &Records<'_>, cell_count: usize, line: u64) -> Result<(), String> {
        let expected = self.builders.len();
        if records.has_stray_text() {
            return Err("text behind a closing quote, so a quote may be missing and lines may run together".to_owned());
        }
        if cell_count != expected {
            let of_what = if self.are_declared { "`columns` names" } else { "the header has" };
            return Err(format!("{cell_count} fields where {of_what} {expected}"));
        }
        let not_text = || format!("bytes that are not {}; is that the `encoding` of the file?", records.encoding());
        let Cells { bytes, spans, are_apart } = records.cells();
        let text = std::str::from_utf8(bytes).map_err(|_| not_text())?;
        // With nothing between them, two cells may join to valid text although each ends within a character.
        if !are_apart && !spans.iter().all(|span| text.is_char_boundary(span.end)) {
            return Err(not_text());
        }
        for (builder, span) in self.builders.iter_mut().zip(spans) {
            if let Some(builder) = builder {
                match &text[span.clone()] {
                    "" => builder.append_null(),
                    cell => builder.append_value(cell),
                }
            }
        }
        self.bytes += text.len() + spans.len();
        self.positions.push(line);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.positions.len() >= BATCH_RECORDS
    }

    pub(super) fn take(&mut self, bytes_read: u64) -> SourceBatch {
        let arrays: Vec<ArrayRef> = self.builders.iter_mut().flatten().map(finish).collect();
        // Of no columns, a batch still has its records.
        let options = RecordBatchOptions::new().with_row_count(Some(self.positions.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("each record puts one cell into every column");
        self.bytes = 0;
        SourceBatch { records, positions: std::mem::take(&mut self.positions), bytes_read }
    }
}

/// Finishes a column; the next batch of it will be about as large.
fn finish(builder: &mut StringBuilder) -> ArrayRef {
    let next = StringBuilder::with_capacity(builder.len(), builder.values_slice().len());
    Arc::new(std::mem::replace(builder, next).finish())
}
