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
use crate::input::{Raw, Seen};
use crate::outlet::{Outlet, Stop};
use crate::unpacking::unpacked;

/// A batch is passed on once its records took this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or there are this many of them …
const BATCH_RECORDS: usize = 16_384;
/// … or this many cells, most of which may be NULL.
const BATCH_CELLS: usize = 1 << 20;

/// The fields of the records.
pub(crate) fn schema(raw: Raw<'_>) -> Result<SchemaRef, Stop> {
    let container = Container::open(unpacked(raw)?)?;
    Ok(schema_of(&record_of(container.schema())?))
}

/// Passes on all records, under the given schema or else the file's own.
pub(crate) fn read(raw: Raw<'_>, schema: Option<&SchemaRef>, outlet: &mut Outlet<'_>) -> Result<(), Stop> {
    let seen = raw.seen();
    let mut container = Container::open(unpacked(raw)?)?;
    let record = record_of(container.schema())?;
    let own = schema_of(&record);
    let conforming = Conforming::new(&own, schema.unwrap_or(&own))?;
    let mut batch = Batch::new(&record, own);
    while let Some(Block { number: block_number, record_count, data }) = container.next_block()? {
        let mut encoded = Encoded::new(&data);
        for _ in 0..record_count {
            batch.push(&mut encoded).map_err(|damage| {
                let number = batch.number;
                Stop::Broken(format!("block {block_number} of the file is damaged: record {number} {damage}"))
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
    /// How many cells a record has, also those within others.
    width: usize,
}

impl<'a> Batch<'a> {
    fn new(record: &'a Record, schema: SchemaRef) -> Self {
        let columns = record.fields.iter().map(|field| Column::of(&field.kind)).collect();
        Self { record, schema, columns, positions: Vec::new(), number: 0, bytes: 0, width: record.width() }
    }

    fn push(&mut self, encoded: &mut Encoded<'_>) -> Result<(), &'static str> {
        self.number += 1;
        let before = encoded.len();
        for (field, column) in self.record.fields.iter().zip(&mut self.columns) {
            decode(&field.kind, encoded, column)?;
        }
        self.bytes += before - encoded.len();
        self.positions.push(self.number);
        Ok(())
    }

    fn is_full(&self) -> bool {
        let records = self.positions.len();
        self.bytes >= BATCH_BYTES || records >= BATCH_RECORDS || records * self.width >= BATCH_CELLS
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
        self.bytes = 0;
        let positions = std::mem::take(&mut self.positions);
        let batch = SourceBatch { records, positions, bytes_read: seen.bytes() };
        conforming.pass(batch, outlet)
    }
}
