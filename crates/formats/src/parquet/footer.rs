//! The end of a file, where its schema and the places of its columns stand.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use convoke_core::source::PinnedFile;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::decoder::Failure;

/// Bytes read from the end of a file in the hope that its footer is among them.
const FOOTER_GUESS: usize = 64 << 10;

/// A footer that is said to be longer than this is none: its length was read from anything but a footer.
const LONGEST_FOOTER: u64 = 256 << 20;

/// Reads the footer, without the indexes of pages.
pub(super) async fn read(file: &Arc<dyn PinnedFile>, failure: &Failure) -> Result<ParquetMetaData, ParquetError> {
    let size = file.size();
    let guess = FOOTER_GUESS.min(usize::try_from(size).unwrap_or(FOOTER_GUESS));
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Skip)
        .with_prefetch_hint(Some(guess))
        .load_and_finish(Fetch { file, failure }, size)
        .await
}

/// Reads the places of the pages of all row groups of `metadata`; those of a group that has none are missing.
pub(super) async fn read_page_places(
    metadata: ParquetMetaData,
    file: &Arc<dyn PinnedFile>,
    failure: &Failure,
) -> Result<ParquetMetaData, ParquetError> {
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Optional);
    reader.load_page_index(Fetch { file, failure }).await?;
    reader.finish()
}

/// Tells what cannot be in a footer, or cannot be read; nothing of it may be relied on before.
pub(super) fn check(metadata: &ParquetMetaData, size: u64) -> Result<(), String> {
    for (number, group) in metadata.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            return Err(format!("row group {number} is said to have {} records", group.num_rows()));
        }
        for column in group.columns() {
            let name = column.column_path();
            if column.file_path().is_some_and(|path| !path.is_empty()) {
                return Err(format!("its column `{name}` lies in another file, which is not read"));
            }
            if range_of(column).is_none_or(|range| range.end > size) {
                return Err(format!("its column `{name}` is said to lie outside of the file"));
            }
            let codec = match column.compression() {
                Compression::BROTLI(_) => "BROTLI",
                Compression::LZO => "LZO",
                _ => continue,
            };
            return Err(format!("it is compressed with {codec}, which is not read; use ZSTD, SNAPPY, GZIP or LZ4_RAW"));
        }
    }
    Ok(())
}

/// Where a column's pages lie; none if that is nowhere.
pub(super) fn range_of(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let start = u64::try_from(start).ok()?;
    Some(start..start.checked_add(u64::try_from(column.compressed_size()).ok()?)?)
}

struct Fetch<'a> {
    file: &'a Arc<dyn PinnedFile>,
    failure: &'a Failure,
}

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            if range.start > range.end || range.end > self.file.size() || range.end - range.start > LONGEST_FOOTER {
                return Err(ParquetError::General("a part of its footer is said to lie where it cannot be".to_owned()));
            }
            let mut read = self.file.read(&[range]).await.map_err(|cause| self.failure.note(cause))?;
            read.pop().ok_or_else(|| self.failure.outside_contract())
        }
        .boxed()
    }
}
