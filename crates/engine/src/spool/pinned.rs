//! Pinned Parquet: files of the source's own, read where they are.
//!
//! A pin gives the same bytes each time or fails, so such a file can be gone over twice without a copy. Its records are
//! numbered from 1 in the order of the file. What a file has in another type than the source's schema tells is cast, what it
//! lacks is NULL, and what its place tells (hive partitions) is the same for all its records.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use convoke_core::source::PinnedParquet;
use convoke_core::{Origin, SourceError};
use convoke_formats::parquet::{BatchStream, GroupRequest, ParquetFile, ReadError};
use futures::StreamExt;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::file::metadata::ParquetMetaData;

use super::cast_exactly;
use crate::engine::BATCH_ROWS;
use crate::error::{DamagedSplit, EngineError};

/// Bytes of a pinned file that are held for each row group under way. Many columns share it: a request of a few hundred
/// kilobytes is long enough to be worth its latency.
pub(crate) const GROUP_BUDGET_BYTES: u64 = 16 << 20;

/// A pinned file whose footer was read.
#[derive(Debug)]
pub(crate) struct PinnedSplit {
    name: String,
    file: Arc<ParquetFile>,
    constants: Vec<(String, Option<String>)>,
    /// Why reading failed: it cannot pass through the query engine's errors.
    failure: Mutex<Option<ReadError>>,
}

impl PinnedSplit {
    /// Reads the footer. The inner error says why the file is broken.
    pub(crate) async fn open(name: &str, parquet: PinnedParquet) -> Result<Result<Self, String>, SourceError> {
        let PinnedParquet { file, constants } = parquet;
        let opened = ParquetFile::open(file).await?;
        let split = opened.map(|file| Self {
            name: name.to_owned(),
            file: Arc::new(file),
            constants,
            failure: Mutex::default(),
        });
        Ok(split.map_err(|reason| format!("it is no whole Parquet file ({reason}); write it again, whole")))
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    pub(crate) fn fingerprint(&self) -> &str {
        self.file.fingerprint()
    }

    pub(crate) fn constants(&self) -> &[(String, Option<String>)] {
        &self.constants
    }

    /// Whether the file or its place has this column.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.arrow_schema().column_with_name(name).is_some() || self.constants.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.file.metadata()
    }

    pub(crate) fn arrow_schema(&self) -> &SchemaRef {
        self.file.schema()
    }

    /// Rows of each row group.
    pub(crate) fn group_rows(&self) -> impl Iterator<Item = u64> {
        self.file.group_rows()
    }

    /// Streams the columns of `wanted` that the file has, of all rows of a group or of those selected.
    pub(crate) fn group(
        &self,
        group: usize,
        wanted: &SchemaRef,
        selection: Option<RowSelection>,
        budget_bytes: u64,
    ) -> BatchStream {
        let columns = wanted.fields().iter().map(|field| field.name().clone()).collect();
        self.file.read_group(GroupRequest { group, columns, selection, batch_rows: BATCH_ROWS, budget_bytes })
    }

    /// Brings a batch of [`PinnedSplit::group`] to the types and order of `wanted`. A value that does not fit is an error:
    /// it must not look like an empty cell.
    pub(crate) fn adapt(&self, batch: &RecordBatch, wanted: &SchemaRef) -> Result<Vec<ArrayRef>, SourceError> {
        let rows = batch.num_rows();
        let adapted = wanted.fields().iter().map(|field| {
            let constant = || self.constants.iter().find(|(name, _)| name == field.name());
            let column = match (batch.column_by_name(field.name()), constant()) {
                (Some(column), _) => Arc::clone(column),
                (None, Some((_, Some(value)))) => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
                }
                (None, _) => return Ok(new_null_array(field.data_type(), rows)),
            };
            cast_exactly(&column, field.data_type()).ok_or_else(|| does_not_fit(field))
        });
        adapted.collect()
    }

    /// Reads these columns of every row group and keeps nothing; tells why that fails, if it does.
    pub(crate) async fn check(&self, wanted: &SchemaRef) -> Result<(), ReadError> {
        for group in 0..self.metadata().num_row_groups() {
            let mut batches = self.group(group, wanted, None, GROUP_BUDGET_BYTES);
            while let Some(batch) = batches.next().await {
                batch?;
            }
        }
        Ok(())
    }

    /// Notes why reading failed, unless that is known already.
    pub(crate) fn note(&self, cause: ReadError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(cause);
    }

    /// Why a query failed, if it did for this file.
    pub(crate) fn take_failure(&self) -> Option<EngineError> {
        let noted = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        noted.map(|cause| self.failed(cause))
    }

    /// An error that names this file.
    pub(crate) fn failed(&self, cause: ReadError) -> EngineError {
        match cause {
            ReadError::Source(cause) => EngineError::Source { split: self.name.clone(), cause },
            ReadError::Damaged(reason) => EngineError::DamagedSplits(vec![self.damaged(reason)]),
        }
    }

    pub(crate) fn damaged(&self, reason: String) -> DamagedSplit {
        DamagedSplit { split: self.name.clone(), reason }
    }
}

fn does_not_fit(field: &Field) -> SourceError {
    let message = format!(
        "column `{}` holds values that do not fit the type {}, which it has over all files; write it in one type",
        field.name(),
        field.data_type()
    );
    SourceError::new(Origin::User, message)
}
