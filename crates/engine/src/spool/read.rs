//! Reads the spool back, row group by row group, for the wide pass.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions, StringArray, StringBuilder, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use convoke_formats::parquet::ReadError;
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};

use super::malformed::MalformedOrigin;
use super::names::SplitNames;
use super::pinned::{GROUP_BUDGET_BYTES, PinnedSplit};
use super::{ColumnGap, Held, HeldSplit, LINE_COLUMN, Spool};
use crate::error::{DamagedSplit, EngineError};
use crate::files;

/// Skipping from record to record pays only where fewer than one in this many are wanted.
const SPARSE_SHARE: usize = 4;

/// One row group of the spool.
#[derive(Clone, Debug)]
pub(crate) struct SpoolGroup {
    held: HeldGroup,
    names: Arc<SplitNames>,
    index: usize,
    /// Number of the group's first record among those of its split, or of the splits that share its file, from 0.
    first_record: u64,
    pub(crate) first_position: u64,
    pub(crate) rows: u64,
}

#[derive(Clone, Debug)]
enum HeldGroup {
    File(PathBuf),
    Pinned(Arc<PinnedSplit>),
}

/// Some records of a group.
pub(crate) struct GroupRecords {
    /// The wanted columns, in the source's order.
    pub(crate) records: RecordBatch,
    lines: Vec<u64>,
    /// Each record's number, as [`SplitNames`] counts.
    numbers: Vec<u64>,
    names: Arc<SplitNames>,
}

impl GroupRecords {
    /// Where a record came from: `file:line`.
    pub(crate) fn origin(&self, row: usize) -> String {
        format!("{}:{}", self.names.of(self.numbers[row]), self.lines[row])
    }

    /// [`GroupRecords::origin`] of every record.
    pub(crate) fn origins(&self) -> StringArray {
        let typical = self.numbers.first().map_or(0, |number| self.names.of(*number).len() + 8);
        let mut origins = StringBuilder::with_capacity(self.lines.len(), self.lines.len() * typical);
        for (line, number) in self.lines.iter().zip(&self.numbers) {
            write!(origins, "{}:{line}", self.names.of(*number)).expect("a string takes every text");
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
        self.records + self.malformed()
    }

    /// Records that could not be carried.
    pub fn malformed(&self) -> u64 {
        self.malformed.count()
    }

    /// Whether some of the records are read where they are, each time that they are gone over.
    pub fn is_read_in_place(&self) -> bool {
        self.pinned().next().is_some()
    }

    /// Columns that the sync reads and some of the splits lack.
    pub fn gaps(&self) -> &[ColumnGap] {
        &self.gaps
    }

    /// Records that were carried.
    pub(crate) fn carried(&self) -> u64 {
        self.records
    }

    /// The records that could not be carried, in the order of the source.
    pub(crate) fn malformed_records(&self) -> impl Iterator<Item = Result<MalformedOrigin, EngineError>> {
        self.malformed.read()
    }

    /// All row groups, in the order of positions.
    pub(crate) fn groups(&self) -> Vec<SpoolGroup> {
        self.splits.iter().flat_map(groups_of).collect()
    }

    /// The source's own failure, if a query over these columns failed for it. Of damage all is told at once: every split is
    /// read, so that whoever leaves the damaged ones out need not find them one by one.
    pub(crate) async fn take_failure(&self, read: &SchemaRef) -> Option<EngineError> {
        let failure = self.pinned().find_map(|split| split.take_failure())?;
        let EngineError::DamagedSplits(found) = failure else { return Some(failure) };
        let mut damaged: Vec<DamagedSplit> = Vec::new();
        for split in self.pinned() {
            match split.check(read).await {
                Ok(()) => {}
                Err(ReadError::Damaged(reason)) => damaged.push(split.damaged(reason)),
                Err(cause) => return Some(split.failed(cause)),
            }
        }
        Some(EngineError::DamagedSplits(if damaged.is_empty() { found } else { damaged }))
    }

    fn pinned(&self) -> impl Iterator<Item = &Arc<PinnedSplit>> {
        self.splits.iter().filter_map(|split| match &split.held {
            Held::File { .. } => None,
            Held::Pinned(pinned) => Some(pinned),
        })
    }
}

fn groups_of(split: &HeldSplit) -> Vec<SpoolGroup> {
    let group_rows: Vec<u64> = match &split.held {
        Held::File { group_rows, .. } => group_rows.clone(),
        Held::Pinned(pinned) => pinned.group_rows().to_vec(),
    };
    let mut first_record = 0;
    let mut groups = Vec::with_capacity(group_rows.len());
    for (index, rows) in group_rows.into_iter().enumerate() {
        let held = match &split.held {
            Held::File { path, .. } => HeldGroup::File(path.clone()),
            Held::Pinned(pinned) => HeldGroup::Pinned(Arc::clone(pinned)),
        };
        let (names, first_position) = (Arc::clone(&split.names), split.first_position + first_record);
        groups.push(SpoolGroup { held, names, index, first_record, first_position, rows });
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
            HeldGroup::Pinned(split) => self.read_pinned(split, wanted, offsets, take).await,
        }
    }

    fn total(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(usize::MAX)
    }

    async fn read_pinned(
        &self,
        split: &Arc<PinnedSplit>,
        wanted: &SchemaRef,
        offsets: &[usize],
        mut take: impl FnMut(GroupRecords, Range<usize>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let is_dense = offsets.len() > self.total() / SPARSE_SHARE;
        let selection =
            (!is_dense).then(|| RowSelection::from_consecutive_ranges(runs(offsets).into_iter(), self.total()));
        let mut batches = split.group(self.index, wanted, selection, GROUP_BUDGET_BYTES);
        let (mut start, mut row) = (0, 0);
        while let Some(batch) = batches.next().await {
            let mut batch = batch.map_err(|cause| split.failed(cause))?;
            let end = if is_dense {
                row += batch.num_rows();
                let end = start + offsets[start..].partition_point(|offset| *offset < row);
                let first = row - batch.num_rows();
                if end - start < batch.num_rows() {
                    let within = offsets[start..end].iter().map(|offset| (offset - first) as u32);
                    let within = UInt32Array::from_iter_values(within);
                    batch = take_record_batch(&batch, &within).expect("the rows are of this batch");
                }
                end
            } else {
                start + batch.num_rows()
            };
            if end == start {
                continue;
            }
            // The reader sees to it that there are as many records as were selected.
            let numbers = self.numbers(&offsets[start..end]);
            let lines = numbers.iter().map(|number| number + 1).collect();
            let columns = split.adapt(&batch, wanted).map_err(|cause| split.failed(ReadError::Source(cause)))?;
            let options = RecordBatchOptions::new().with_row_count(Some(end - start));
            let nullable = wanted.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
            let records = RecordBatch::try_new_with_options(schema, columns, &options);
            let records = records.expect("the columns were brought to this schema");
            take(GroupRecords { records, lines, numbers, names: Arc::clone(&self.names) }, start..end)?;
            start = end;
        }
        Ok(())
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
        self.split_lines(batch, wanted, offsets).ok_or_else(damaged)
    }

    fn numbers(&self, offsets: &[usize]) -> Vec<u64> {
        offsets.iter().map(|offset| self.first_record + *offset as u64).collect()
    }

    fn split_lines(&self, batch: RecordBatch, wanted: &SchemaRef, offsets: &[usize]) -> Option<GroupRecords> {
        let lines = batch.column_by_name(LINE_COLUMN)?.as_primitive_opt::<UInt64Type>()?.values().to_vec();
        let names = wanted.fields().iter().map(|field| batch.schema_ref().index_of(field.name()));
        let projection = names.collect::<Result<Vec<_>, _>>().ok()?;
        let projected = batch.project(&projection).ok()?;
        let fields = projected.schema().fields().clone();
        let records = projected.with_schema(Arc::new(Schema::new(fields))).ok()?;
        Some(GroupRecords { records, lines, numbers: self.numbers(offsets), names: Arc::clone(&self.names) })
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
