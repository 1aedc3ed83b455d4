//! Reads a plan's files back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use convoke_core::journal::{IntentRow, Operation};
use convoke_core::ledger::{LedgerEntry, OrderValue};
use convoke_core::plan::{PlanContent, PlanFile, PlannedBatch};
use convoke_core::{ContentHash, KeyHash, RowId};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::error::EngineError;
use crate::files;
use crate::ledger::segment::SegmentReader;
use crate::plan::schema::{CHANGE_COLUMNS, INVALID_COLUMNS};
use crate::text_column::text_at;

/// Rows of invalid records read at once.
const INVALID_BATCH_ROWS: usize = 1_024;

/// Confirmed records read at once.
const CONFIRMED_BATCH_ROWS: usize = 8_192;

/// The order in which a plan is delivered.
const DELIVERY_ORDER: [Operation; 3] = [Operation::Update, Operation::Create, Operation::Delete];

/// A plan's changes as the batches in which they are delivered: updates, then creates, then deletes.
///
/// Batches are cut the same way each time, so a batch is known by its number. Memory is bounded by one row group.
/// Blocks on files: call it from a thread that may.
pub struct PlanBatches {
    files: VecDeque<(Operation, ChangeReader)>,
    next_number: u32,
}

impl PlanBatches {
    /// Opens a plan's files after holding each against its digest.
    pub fn open(
        folder: &Path,
        files: &[PlanFile],
        upsert_rows: usize,
        delete_rows: usize,
    ) -> Result<Self, EngineError> {
        let mut readers = VecDeque::new();
        for operation in DELIVERY_ORDER {
            let batch_rows = if operation == Operation::Delete { delete_rows } else { upsert_rows };
            for file in files.iter().filter(|file| file.content == PlanContent::Changes(operation)) {
                readers.push_back((operation, ChangeReader::open(folder, file, batch_rows.max(1))?));
            }
        }
        Ok(Self { files: readers, next_number: 0 })
    }
}

impl Iterator for PlanBatches {
    type Item = Result<PlannedBatch, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((operation, reader)) = self.files.front_mut() {
            let number = self.next_number;
            match reader.next_batch(*operation, number) {
                Ok(Some(batch)) => {
                    self.next_number += 1;
                    return Some(Ok(batch));
                }
                Ok(None) => {
                    self.files.pop_front();
                }
                Err(error) => {
                    self.files.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Reads one file of changes in batches of one size, across the borders of row groups.
struct ChangeReader {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    batch_rows: usize,
    pending: Option<RecordBatch>,
}

impl ChangeReader {
    fn open(folder: &Path, file: &PlanFile, batch_rows: usize) -> Result<Self, EngineError> {
        let path = folder.join(&file.name);
        let reader = open_verified(&path, file, batch_rows)?;
        Ok(Self { path, reader, batch_rows, pending: None })
    }

    fn next_batch(&mut self, operation: Operation, number: u32) -> Result<Option<PlannedBatch>, EngineError> {
        let mut gathered: Vec<RecordBatch> = self.pending.take().into_iter().collect();
        let mut rows: usize = gathered.iter().map(RecordBatch::num_rows).sum();
        while rows < self.batch_rows {
            let Some(batch) = self.reader.next() else { break };
            let batch = batch.map_err(|_| damaged(&self.path))?;
            rows += batch.num_rows();
            gathered.push(batch);
        }
        let Some(first) = gathered.first() else { return Ok(None) };
        let joined = concat_batches(first.schema_ref(), &gathered).map_err(|_| damaged(&self.path))?;
        if rows > self.batch_rows {
            self.pending = Some(joined.slice(self.batch_rows, rows - self.batch_rows));
        }
        let cut = joined.slice(0, rows.min(self.batch_rows));
        decode(&cut, operation, number).map(Some).ok_or_else(|| damaged(&self.path))
    }
}

fn decode(batch: &RecordBatch, operation: Operation, number: u32) -> Option<PlannedBatch> {
    if batch.num_columns() < CHANGE_COLUMNS {
        return None;
    }
    let binary = |index: usize| batch.column(index).as_binary_opt::<i32>();
    let (keys, contents, orders) = (binary(0)?, binary(1)?, binary(2)?);
    let row_ids = batch.column(3).as_string_opt::<i32>()?;
    let origins = batch.column(4).as_string_opt::<i32>()?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        rows.push(IntentRow {
            key: KeyHash(keys.value(row).try_into().ok()?),
            content: ContentHash(contents.value(row).try_into().ok()?),
            order: OrderValue::from_slice(orders.value(row)),
            row_id: text_at(row_ids, row).map(RowId::new),
        });
    }
    let is_delete = operation == Operation::Delete;
    let origins = if is_delete { StringArray::new_null(0) } else { origins.clone() };
    let columns: Vec<_> = (CHANGE_COLUMNS..batch.num_columns()).collect();
    let cells = batch.project(&columns).ok()?;
    Some(PlannedBatch { number, operation, rows, cells, origins })
}

/// A plan's confirmed records, a part at a time: hashes and order values, no cells. Blocks on files.
pub struct ConfirmedRecords(ChangeReader);

impl ConfirmedRecords {
    /// Opens a plan's file of them after holding it against its digest; none if the plan has no such file.
    pub fn open(folder: &Path, files: &[PlanFile]) -> Result<Option<Self>, EngineError> {
        let file = files.iter().find(|file| file.content == PlanContent::Confirmed);
        file.map(|file| Ok(Self(ChangeReader::open(folder, file, CONFIRMED_BATCH_ROWS)?))).transpose()
    }

    pub(crate) fn next_part(&mut self) -> Result<Option<Vec<IntentRow>>, EngineError> {
        Ok(self.0.next_batch(Operation::Update, 0)?.map(|batch| batch.rows))
    }
}

/// Entries of rows that a plan found to be gone, a part at a time. Blocks on files.
pub struct AbsentRows(SegmentReader);

impl AbsentRows {
    /// Opens a plan's file of them after holding it against its digest; none if the plan has no such file.
    pub fn open(folder: &Path, files: &[PlanFile]) -> Result<Option<Self>, EngineError> {
        let Some(file) = files.iter().find(|file| file.content == PlanContent::Absent) else { return Ok(None) };
        let path = folder.join(&file.name);
        verify(&path, file)?;
        Ok(Some(Self(SegmentReader::open(&path)?)))
    }

    /// Empty at the end.
    pub(crate) fn next_part(&mut self) -> Result<Vec<LedgerEntry>, EngineError> {
        self.0.by_ref().take(CONFIRMED_BATCH_ROWS).collect()
    }
}

/// A record that a plan refuses. Personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRecord {
    /// `file:line`.
    pub origin: String,
    /// The key that it has, or would have if it were valid; none if that cannot be read.
    pub key: Option<KeyHash>,
    /// Stable short reason: `invalid_email`, `empty_key`, `malformed`, `owned_by_other_sync`.
    pub code: String,
    /// The mapped column it is about, if one.
    pub column: Option<String>,
    /// One sentence without values.
    pub reason: String,
    /// Mapped column and text as it came out of the mapping.
    pub cells: Vec<(String, Option<String>)>,
}

/// A plan's invalid records: malformed ones, then the others in the order of the source.
pub struct InvalidRecords {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    current: std::vec::IntoIter<InvalidRecord>,
}

impl Iterator for InvalidRecords {
    type Item = Result<InvalidRecord, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.current.next() {
                return Some(Ok(record));
            }
            match self.reader.next()?.ok().and_then(|batch| decode_invalid(&batch)) {
                Some(records) => self.current = records.into_iter(),
                None => return Some(Err(damaged(&self.path))),
            }
        }
    }
}

/// Opens the file of a plan that holds its invalid records, after holding it against its digest.
pub fn read_invalid(folder: &Path, file: &PlanFile) -> Result<InvalidRecords, EngineError> {
    let path = folder.join(&file.name);
    let reader = open_verified(&path, file, INVALID_BATCH_ROWS)?;
    Ok(InvalidRecords { path, reader, current: Vec::new().into_iter() })
}

fn decode_invalid(batch: &RecordBatch) -> Option<Vec<InvalidRecord>> {
    if batch.num_columns() < INVALID_COLUMNS {
        return None;
    }
    let columns: Option<Vec<&StringArray>> =
        batch.columns().iter().map(|column| column.as_string_opt::<i32>()).collect();
    let columns = columns?;
    let text = |column: usize, row: usize| text_at(columns[column], row).map(str::to_owned);
    let mut records = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let names = batch.schema_ref().fields().iter().enumerate().skip(INVALID_COLUMNS);
        records.push(InvalidRecord {
            origin: text(0, row)?,
            key: text_at(columns[1], row).and_then(KeyHash::from_hex),
            code: text(2, row)?,
            column: text(3, row),
            reason: text(4, row)?,
            cells: names.map(|(column, field)| (field.name().clone(), text(column, row))).collect(),
        });
    }
    Some(records)
}

fn verify(path: &Path, file: &PlanFile) -> Result<(), EngineError> {
    if files::digest(path)? == file.digest {
        return Ok(());
    }
    Err(EngineError::damaged(path, "its contents are not those of the plan"))
}

fn open_verified(path: &Path, file: &PlanFile, batch_rows: usize) -> Result<ParquetRecordBatchReader, EngineError> {
    verify(path, file)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(files::open(path)?);
    let reader = builder.and_then(|builder| builder.with_batch_size(batch_rows).build());
    reader.map_err(|cause| EngineError::parquet("read", path, cause))
}

fn damaged(path: &Path) -> EngineError {
    EngineError::damaged(path, "it does not hold what a plan's file holds")
}
