//! Reads the spool back, row group by row group, for the wide pass.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions, StringArray, StringBuilder, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};

use super::pinned::PinnedSplit;
use super::{ColumnGap, Held, HeldSplit, LINE_COLUMN, Spool};
use crate::engine::BATCH_ROWS;
use crate::error::EngineError;
use crate::files;

/// Skipping from record to record pays only where fewer than one in this many are wanted.
const SPARSE_SHARE: usize = 4;

/// One row group of the spool.
#[derive(Clone, Debug)]
pub(crate) struct SpoolGroup {
    held: HeldGroup,
    split: Arc<str>,
    index: usize,
    pub(crate) first_position: u64,
    pub(crate) rows: u64,
}

#[derive(Clone, Debug)]
enum HeldGroup {
    File(PathBuf),
    Pinned {
        split: Arc<PinnedSplit>,
        /// Number of the group's first record in the file, counted from 0.
        first_record: u64,
    },
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

    /// Columns that the sync reads and some of the splits lack.
    pub fn gaps(&self) -> &[ColumnGap] {
        &self.gaps
    }

    /// Records that were carried.
    pub(crate) fn carried(&self) -> u64 {
        self.records
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

    /// The source's own failure, if a query failed for it.
    pub(crate) fn take_failure(&self) -> Option<EngineError> {
        self.splits.iter().find_map(|split| match &split.held {
            Held::File { .. } => None,
            Held::Pinned(pinned) => pinned.take_failure(),
        })
    }
}

fn groups_of(split: &HeldSplit) -> Vec<SpoolGroup> {
    let name: Arc<str> = split.name.as_str().into();
    let group_rows: Vec<u64> = match &split.held {
        Held::File { group_rows, .. } => group_rows.clone(),
        Held::Pinned(pinned) => pinned.group_rows().collect(),
    };
    let mut first_record = 0;
    let mut groups = Vec::with_capacity(group_rows.len());
    for (index, rows) in group_rows.into_iter().enumerate() {
        let held = match &split.held {
            Held::File { path, .. } => HeldGroup::File(path.clone()),
            Held::Pinned(pinned) => HeldGroup::Pinned { split: Arc::clone(pinned), first_record },
        };
        let first_position = split.first_position + first_record;
        groups.push(SpoolGroup { held, split: Arc::clone(&name), index, first_position, rows });
        first_record += rows;
    }
    groups
}

impl SpoolGroup {
    /// Reads the records at these offsets (ascending, each once) with the columns of `wanted`, and hands them on part by
    /// part, in order, each with the range of `offsets` that it holds.
    pub(crate) async fn read(
        &self,
        wanted: &SchemaRef,
        offsets: &[usize],
        mut take: impl FnMut(GroupRecords, Range<usize>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        match &self.held {
            HeldGroup::File(path) => take(self.read_file(path, wanted, offsets)?, 0..offsets.len()),
            HeldGroup::Pinned { split, first_record } => {
                self.read_pinned((split, *first_record), wanted, offsets, take).await
            }
        }
    }

    fn total(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(usize::MAX)
    }

    async fn read_pinned(
        &self,
        (split, first_record): (&PinnedSplit, u64),
        wanted: &SchemaRef,
        offsets: &[usize],
        mut take: impl FnMut(GroupRecords, Range<usize>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let is_dense = offsets.len() > self.total() / SPARSE_SHARE;
        let selection =
            (!is_dense).then(|| RowSelection::from_consecutive_ranges(runs(offsets).into_iter(), self.total()));
        let opened = split.group(self.index, wanted, selection, BATCH_ROWS);
        let mut batches = opened.map_err(|_| split.explain())?;
        let (mut start, mut row) = (0, 0);
        while let Some(batch) = batches.next().await {
            let mut batch = batch.map_err(|_| split.explain())?;
            let end = if is_dense {
                row += batch.num_rows();
                let end = start + offsets[start..].partition_point(|offset| *offset < row);
                let first = row - batch.num_rows();
                if end - start < batch.num_rows() {
                    let within = offsets[start..end].iter().map(|offset| (offset - first) as u32);
                    let within = UInt32Array::from_iter_values(within);
                    batch = take_record_batch(&batch, &within).map_err(|_| split.explain())?;
                }
                end
            } else {
                start + batch.num_rows()
            };
            if end == start {
                continue;
            }
            let found = offsets.get(start..end).ok_or_else(|| split.explain())?;
            let lines = found.iter().map(|offset| first_record + *offset as u64 + 1).collect();
            let columns = split.adapt(&batch, wanted).map_err(|cause| split.failed(cause))?;
            let options = RecordBatchOptions::new().with_row_count(Some(end - start));
            let nullable = wanted.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
            let records = RecordBatch::try_new_with_options(schema, columns, &options);
            let records = records.map_err(|_| split.explain())?;
            take(GroupRecords { records, lines, split: Arc::clone(&self.split) }, start..end)?;
            start = end;
        }
        if start < offsets.len() { Err(split.explain()) } else { Ok(()) }
    }

    fn read_file(&self, path: &Path, wanted: &SchemaRef, offsets: &[usize]) -> Result<GroupRecords, EngineError> {
        let fail = |cause| EngineError::parquet("read", path, cause);
        let builder = ParquetRecordBatchReaderBuilder::try_new(files::open(path)?).map_err(fail)?;
        let names = wanted.fields().iter().map(|field| field.name().as_str()).chain([LINE_COLUMN]);
        let stored = Arc::clone(builder.schema());
        let indices = names.filter_map(|name| stored.index_of(name).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
        let total = self.total();
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
        let damaged = || EngineError::damaged(path, "it does not hold the records that were written");
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
fn runs(offsets: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some(run) if run.end == *offset => run.end += 1,
            _ => runs.push(*offset..offset + 1),
        }
    }
    runs
}
