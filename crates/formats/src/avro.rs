//! Avro object container files, decoded by the schema in their head.
//!
//! Every field may be NULL. A union with `null` is what its other type is; one of several types is read if all of them are
//! the same to Arrow, as an enum and a string are. Enums and UUIDs are text, durations are text as ISO 8601 writes them,
//! `fixed` is binary. A damaged block makes the file broken; a file that was cut off between two blocks does not show it,
//! because nothing in an Avro file tells how many there are.

mod column;
mod conforming;
mod container;
mod decoding;
mod types;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use convoke_core::source::SourceBatch;

use self::column::Column;
use self::conforming::Conforming;
use self::container::{Block, Container};
use self::decoding::{Encoded, decode};
use self::types::{Record, record_of};
use crate::cells::Cells;
use crate::input::{Raw, Seen};
use crate::outlet::{Outlet, Stop};
use crate::unpacking::unpacked;

/// A batch is passed on once its records took this many bytes, symbols in full …
const BATCH_BYTES: usize = 1 << 20;
/// … or there are this many of them …
const BATCH_RECORDS: usize = 16_384;
/// … or this many cells, nested ones and NULL counted.
const BATCH_CELLS: usize = 1 << 20;

/// The fields of the records.
pub(crate) fn schema(raw: Raw<'_>) -> Result<SchemaRef, Stop> {
    let container = Container::open(unpacked(raw)?)?;
    Ok(schema_of(&record_of(container.schema())?))
}

/// Passes on all records, with those fields of the given schema that the file has, or else all of its own.
pub(crate) fn read(raw: Raw<'_>, schema: Option<&SchemaRef>, outlet: &mut Outlet<'_>) -> Result<(), Stop> {
    let seen = raw.seen();
    let mut container = Container::open(unpacked(raw)?)?;
    let record = record_of(container.schema())?;
    let own = schema_of(&record);
    let wanted = schema.map_or_else(|| Arc::clone(&own), |schema| those_in(&own, schema));
    let conforming = Conforming::new(&own, &wanted)?;
    let mut batch = Batch::new(&record, own);
    while let Some(Block { number: block_number, record_count, data }) = container.next_block()? {
        let mut encoded = Encoded::new(&data);
        for _ in 0..record_count {
            batch.push(&mut encoded).map_err(|damage| {
                let number = batch.number;
                Stop::Broken(format!("block {block_number} of the file cannot be read: record {number} {damage}"))
            })?;
            if batch.is_full() {
                batch.pass(seen, &conforming, outlet)?;
            }
        }
        if !encoded.is_empty() {
            let reason = format!("block {block_number} of the file is damaged: it holds more than its records");
            return Err(Stop::Broken(reason));
        }
    }
    batch.pass(seen, &conforming, outlet)
}

fn schema_of(record: &Record) -> SchemaRef {
    Arc::new(Schema::new(record.to_arrow()))
}

fn those_in(own: &SchemaRef, wanted: &SchemaRef) -> SchemaRef {
    let fields = wanted.fields().iter().filter(|field| own.column_with_name(field.name()).is_some());
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// The batch under way.
struct Batch<'a> {
    record: &'a Record,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Of each record of the batch.
    positions: Vec<u64>,
    /// Of the record that was begun last.
    number: u64,
    bytes: usize,
    cells: usize,
}

impl<'a> Batch<'a> {
    fn new(record: &'a Record, schema: SchemaRef) -> Self {
        let columns = record.fields.iter().map(|field| Column::of(&field.kind)).collect();
        Self { record, schema, columns, positions: Vec::new(), number: 0, bytes: 0, cells: 0 }
    }

    fn push(&mut self, encoded: &mut Encoded<'_>) -> Result<(), &'static str> {
        self.number += 1;
        let before = encoded.len();
        let mut cells = Cells::of_record();
        for (field, column) in self.record.fields.iter().zip(&mut self.columns) {
            decode(&field.kind, encoded, column, &mut cells)?;
        }
        self.cells += cells.taken();
        self.bytes += before - encoded.len() + cells.text();
        self.positions.push(self.number);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.positions.len() >= BATCH_RECORDS || self.cells >= BATCH_CELLS
    }

    /// Passes on what there is.
    fn pass(&mut self, seen: &Seen, conforming: &Conforming, outlet: &mut Outlet<'_>) -> Result<(), Stop> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.positions.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("each record puts one value into every column");
        (self.bytes, self.cells) = (0, 0);
        let positions = std::mem::take(&mut self.positions);
        let batch = SourceBatch { records, positions, bytes_read: seen.bytes() };
        conforming.pass(batch, outlet)
    }
}
