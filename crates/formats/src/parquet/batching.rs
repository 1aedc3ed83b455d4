//! How many records of a row group are decoded at once.
//!
//! One array holds 2 GiB of text, and all of a batch is in memory. So a batch has fewer records where they are long, as far as
//! the footer tells; where it does not, as of texts that stand in a dictionary once and in many records, the decoder
//! says that they are too many, and what is left is read again with fewer.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::file::metadata::RowGroupMetaData;

use super::decoder::{Failure, ReadError};
use super::file::ParquetFile;
use super::group::{BatchStream, GroupRequest};

/// What the records of a batch should take together.
const BATCH_BYTES: u64 = 32 << 20;

/// By how much fewer records are tried where they were too many.
const FEWER: usize = 16;

/// How many records take about as much as a batch should, in these columns.
pub(super) fn rows_at_once(group: &RowGroupMetaData, mask: &ProjectionMask) -> usize {
    let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
    let bytes = columns.map(|(_, column)| {
        let told = column.uncompressed_size().max(column.unencoded_byte_array_data_bytes().unwrap_or(0));
        u64::try_from(told).unwrap_or(0)
    });
    let bytes = bytes.fold(0, u64::saturating_add);
    let rows = u64::try_from(group.num_rows()).unwrap_or(0);
    let fit = u128::from(BATCH_BYTES) * u128::from(rows) / u128::from(bytes.max(1));
    usize::try_from(fit).unwrap_or(usize::MAX).max(1)
}

/// A row group that is being read, once or with fewer records at once again.
pub(super) struct Batching {
    file: Arc<ParquetFile>,
    request: GroupRequest,
    under_way: Option<(BatchStream, Failure)>,
    /// Records that were passed on.
    passed: usize,
    /// Of what is under way, the records that were passed on before.
    to_skip: usize,
}

impl Batching {
    pub(super) fn new(file: Arc<ParquetFile>, request: GroupRequest) -> Self {
        Self { file, request, under_way: None, passed: 0, to_skip: 0 }
    }

    pub(super) fn batches(self) -> BatchStream {
        let batches = futures::stream::unfold(Some(self), |batching| async move {
            let mut batching = batching?;
            let batch = batching.next_batch().await?;
            let goes_on = batch.is_ok();
            Some((batch, goes_on.then_some(batching)))
        });
        batches.boxed()
    }

    async fn next_batch(&mut self) -> Option<Result<RecordBatch, ReadError>> {
        loop {
            if self.under_way.is_none() {
                match open(Arc::clone(&self.file), self.request.clone()).await {
                    Ok(opened) => self.under_way = Some(opened),
                    Err(error) => return Some(Err(error)),
                }
            }
            let (batches, failure) = self.under_way.as_mut()?;
            match batches.next().await? {
                Ok(batch) if batch.num_rows() <= self.to_skip && self.to_skip > 0 => self.to_skip -= batch.num_rows(),
                Ok(batch) => {
                    let batch = batch.slice(self.to_skip, batch.num_rows() - self.to_skip);
                    self.to_skip = 0;
                    self.passed += batch.num_rows();
                    return Some(Ok(batch));
                }
                Err(_) if failure.is_overflow() && self.request.batch_rows > 1 => {
                    self.request.batch_rows = (self.request.batch_rows / FEWER).max(1);
                    self.to_skip = self.passed;
                    self.under_way = None;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

async fn open(file: Arc<ParquetFile>, request: GroupRequest) -> Result<(BatchStream, Failure), ReadError> {
    let failure = Failure::default();
    let batches = file.open_group(request, failure.clone()).await?;
    Ok((batches, failure))
}
