//! Files in memory, and what all tests do with them.

mod claims;
mod damage;
mod reading;
mod told;

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use async_trait::async_trait;
use bytes::Bytes;
use convoke_core::SourceError;
use convoke_core::source::PinnedFile;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::file::properties::WriterProperties;

use super::{GroupRequest, ParquetFile, ReadError};

/// Larger than any file of a test.
const PLENTY: u64 = 1 << 30;

/// A file in memory that notes what is read of it.
#[derive(Debug, Default)]
struct MemoryFile {
    contents: Bytes,
    /// The ranges of each request.
    requests: Mutex<Vec<Vec<Range<u64>>>>,
    /// From this request on the source fails.
    fails_from: Option<usize>,
}

#[async_trait]
impl PinnedFile for MemoryFile {
    fn size(&self) -> u64 {
        self.contents.len() as u64
    }

    fn fingerprint(&self) -> &str {
        "print"
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(ranges.to_vec());
            requests.len()
        };
        if self.fails_from.is_some_and(|first| number > first) {
            return Err(SourceError::changed("it was replaced"));
        }
        Ok(ranges.iter().map(|range| self.contents.slice(range.start as usize..range.end as usize)).collect())
    }
}

impl MemoryFile {
    fn of(contents: impl Into<Bytes>) -> Arc<Self> {
        Arc::new(Self { contents: contents.into(), ..Self::default() })
    }

    async fn open(self: &Arc<Self>) -> Arc<ParquetFile> {
        let opened = ParquetFile::open(Arc::clone(self) as Arc<dyn PinnedFile>).await;
        Arc::new(opened.unwrap().unwrap())
    }

    /// How many requests were made, and the bytes that they asked for.
    fn asked(&self) -> (usize, u64) {
        let requests = self.requests.lock().unwrap();
        (requests.len(), requests.iter().flatten().map(|range| range.end - range.start).sum())
    }
}

fn written(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut contents = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut contents, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    contents
}

fn columns_of(file: &ParquetFile) -> Vec<String> {
    file.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// Reads all columns of a row group.
async fn read_group(
    file: &Arc<ParquetFile>,
    group: usize,
    selection: Option<RowSelection>,
    budget_bytes: u64,
) -> Result<Option<RecordBatch>, ReadError> {
    let request = GroupRequest { group, columns: columns_of(file), selection, batch_rows: 1_000, budget_bytes };
    let batches: Vec<_> = file.read_group(request).try_collect().await?;
    let Some(first) = batches.first() else { return Ok(None) };
    Ok(Some(concat_batches(&first.schema(), &batches).unwrap()))
}

/// Reads all columns of all row groups.
async fn read_all(file: &Arc<ParquetFile>, budget_bytes: u64) -> Result<Vec<RecordBatch>, ReadError> {
    let mut batches = Vec::new();
    for group in 0..file.metadata().num_row_groups() {
        batches.extend(read_group(file, group, None, budget_bytes).await?);
    }
    Ok(batches)
}

fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}
