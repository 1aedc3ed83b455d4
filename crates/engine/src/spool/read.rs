//! Reads the spool back: as a table for queries, and row group by row group for the wide pass.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray, StringBuilder, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};

use super::{LINE_COLUMN, Spool, SpooledSplit};
use crate::error::EngineError;
use crate::files;

/// Skipping from record to record pays only where fewer than one in this many are wanted.
const SPARSE_SHARE: usize = 4;

/// One row group of the spool.
#[derive(Clone, Debug)]
pub(crate) struct SpoolGroup {
    path: PathBuf,
    split: Arc<str>,
    index: usize,
    pub(crate) first_position: u64,
    pub(crate) rows: u64,
}

/// Some records of a group.
pub(crate) struct GroupRecords {
    /// The wanted columns, in the source's order.
    pub(crate) records: RecordBatch,
    lines: Vec<u64>,
    split: Arc<str>,
}

impl GroupRecords {
    /// Where a record came from: `file:line`.
    pub(crate) fn origin(&self, row: usize) -> String {
        format!("{}:{}", self.split, self.lines[row])
    }

    /// [`GroupRecords::origin`] of every record.
    pub(crate) fn origins(&self) -> StringArray {
        let mut origins = StringBuilder::with_capacity(self.lines.len(), self.lines.len() * (self.split.len() + 8));
        for line in &self.lines {
            write!(origins, "{}:{line}", self.split).expect("a string takes every text");
            origins.append_value("");
        }
        origins.finish()
    }
}

impl Spool {
    /// The source's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Records read, malformed ones among them.
    pub fn read(&self) -> u64 {
        self.records + self.malformed
    }

    /// Records that could not be carried.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Records that were carried.
    pub(crate) fn carried(&self) -> u64 {
        self.records
    }

    /// The columns of the spool's files.
    pub(crate) fn stored_schema(&self) -> &SchemaRef {
        &self.stored
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.splits.iter().map(|split| split.path.clone()).collect()
    }

    /// Origin and reason of each record that could not be carried.
    pub(crate) fn malformed_records(&self) -> impl Iterator<Item = (String, &str)> {
        self.splits.iter().flat_map(|split| {
            let origin = |line: u64| format!("{}:{line}", split.name);
            split.malformed.iter().map(move |record| (origin(record.position), record.reason.as_str()))
        })
    }

    /// All row groups, in the order of positions.
    pub(crate) fn groups(&self) -> Vec<SpoolGroup> {
        self.splits.iter().flat_map(groups_of).collect()
    }
}

fn groups_of(split: &SpooledSplit) -> Vec<SpoolGroup> {
    let name: Arc<str> = split.name.as_str().into();
    let mut first_position = split.first_position;
    let mut groups = Vec::with_capacity(split.group_rows.len());
    for (index, rows) in split.group_rows.iter().enumerate() {
        groups.push(SpoolGroup {
            path: split.path.clone(),
            split: Arc::clone(&name),
            index,
            first_position,
            rows: *rows,
        });
        first_position += rows;
    }
    groups
}

impl SpoolGroup {
    /// Reads the records at these offsets (ascending, each once) with the columns of `wanted`.
    pub(crate) fn read(&self, wanted: &SchemaRef, offsets: &[usize]) -> Result<GroupRecords, EngineError> {
        let fail = |cause| EngineError::parquet("read", &self.path, cause);
        let builder = ParquetRecordBatchReaderBuilder::try_new(files::open(&self.path)?).map_err(fail)?;
        let names = wanted.fields().iter().map(|field| field.name().as_str()).chain([LINE_COLUMN]);
        let stored = Arc::clone(builder.schema());
        let indices = names.filter_map(|name| stored.index_of(name).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
        let total = usize::try_from(self.rows).unwrap_or(usize::MAX);
        let builder = builder.with_projection(mask).with_row_groups(vec![self.index]).with_batch_size(total.max(1));
        let is_dense = offsets.len() > total / SPARSE_SHARE;
        let builder = if is_dense {
            builder
        } else {
            builder.with_row_selection(RowSelection::from_consecutive_ranges(runs(offsets).into_iter(), total))
        };
        let reader = builder.build().map_err(fail)?;
        let schema = arrow::array::RecordBatchReader::schema(&reader);
        let batches = reader.collect::<Result<Vec<_>, _>>();
        let damaged = || EngineError::damaged(&self.path, "it does not hold the records that were written");
        let mut batch = concat_batches(&schema, &batches.map_err(|_| damaged())?).map_err(|_| damaged())?;
        if is_dense && batch.num_rows() == total && offsets.len() < total {
            let wanted = UInt32Array::from_iter_values(offsets.iter().map(|offset| *offset as u32));
            batch = take_record_batch(&batch, &wanted).map_err(|_| damaged())?;
        }
        if batch.num_rows() != offsets.len() {
            return Err(damaged());
        }
        self.split_lines(batch, wanted).ok_or_else(damaged)
    }

    fn split_lines(&self, batch: RecordBatch, wanted: &SchemaRef) -> Option<GroupRecords> {
        let lines = batch.column_by_name(LINE_COLUMN)?.as_primitive_opt::<UInt64Type>()?.values().to_vec();
        let names = wanted.fields().iter().map(|field| batch.schema_ref().index_of(field.name()));
        let projection = names.collect::<Result<Vec<_>, _>>().ok()?;
        let projected = batch.project(&projection).ok()?;
        let fields = projected.schema().fields().clone();
        let records = projected.with_schema(Arc::new(Schema::new(fields))).ok()?;
        Some(GroupRecords { records, lines, split: Arc::clone(&self.split) })
    }
}

/// Joins neighbouring offsets.
fn runs(offsets: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some(run) if run.end == *offset => run.end += 1,
            _ => runs.push(*offset..offset + 1),
        }
    }
    runs
}
