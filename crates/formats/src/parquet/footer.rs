//! The end of a file, where its schema and the places of its columns stand.

use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::Arc;

use arrow::datatypes::Fields;
use bytes::{Bytes, BytesMut};
use convoke_core::SourceError;
use convoke_core::source::PinnedFile;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FooterTail, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};

use super::decoder::{Failure, outside_contract, what_is_wrong};
use super::{shape, types};

/// Bytes read from the end of a file in the hope that its footer is among them.
const FOOTER_GUESS: u64 = 64 << 10;

/// The end of the footer: its length and a mark.
const END_BYTES: usize = 8;

/// A footer that is said to be longer than this is none: its length was read from anything but a footer.
const LONGEST_FOOTER: u64 = 256 << 20;

/// Records that a file has at most. Nulls take no bytes, so that nothing else bounds what a footer claims.
pub const MOST_RECORDS: u64 = (1 << 36) - 1;

/// Reads the footer, without the indexes of pages. The inner error says what is wrong with it.
pub(super) async fn read(file: &Arc<dyn PinnedFile>) -> Result<Result<ParquetMetaData, String>, SourceError> {
    let size = file.size();
    let start = size.saturating_sub(FOOTER_GUESS);
    let tail = bytes_of(file, start..size).await?;
    let length = match length_of(&tail, size) {
        Ok(length) => length,
        Err(reason) => return Ok(Err(reason)),
    };
    let begin = size - length;
    let whole = if begin < start {
        let mut whole = BytesMut::from(bytes_of(file, begin..start).await?);
        whole.extend_from_slice(&tail);
        whole.freeze()
    } else {
        tail.slice(tail.len() - usize::try_from(length).unwrap_or(0)..)
    };
    Ok(decode(&whole[..whole.len() - END_BYTES], ParquetMetaDataReader::decode_metadata))
}

async fn bytes_of(file: &Arc<dyn PinnedFile>, range: Range<u64>) -> Result<Bytes, SourceError> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let length = range.end - range.start;
    let read = file.read(&[range]).await?.pop();
    read.filter(|read| read.len() as u64 == length).ok_or_else(outside_contract)
}

/// The length of the footer with its length and mark, from the last bytes of a file. The error says why it has none.
pub fn length_of(tail: &[u8], file_size: u64) -> Result<u64, String> {
    let end: &[u8; END_BYTES] = tail.last_chunk().ok_or_else(|| format!("it has only {file_size} bytes"))?;
    let end = FooterTail::try_new(end).map_err(|_| "it does not end as a Parquet file does, so a part is missing")?;
    if end.is_encrypted_footer() {
        return Err("its footer is encrypted".to_owned());
    }
    let length = (end.metadata_length() + END_BYTES) as u64;
    if length > file_size.min(LONGEST_FOOTER) {
        return Err("its footer is said to be longer than it can be".to_owned());
    }
    Ok(length)
}

/// The columns that a footer names, in the types in which a file is told. `footer` is all of it but its length and mark; the
/// error says what is wrong with it and holds no values. Whatever the bytes are, the process goes on.
pub fn footer_fields(footer: &[u8]) -> Result<Fields, String> {
    decode(footer, |footer| types::told_fields(ParquetMetaDataReader::decode_schema(footer)?.as_ref()))
}

/// Decodes a footer whose shape does no harm. What the reader makes of the rest may be a panic.
fn decode<T>(footer: &[u8], decode: fn(&[u8]) -> Result<T, ParquetError>) -> Result<T, String> {
    shape::check(footer)?;
    match catch_unwind(|| decode(footer)) {
        Ok(decoded) => decoded.map_err(|error| what_is_wrong(&error)),
        Err(_) => Err("its footer cannot be decoded".to_owned()),
    }
}

/// Reads the places of the pages of all row groups of `metadata`; those of a group that has none are missing.
pub(super) async fn read_page_places(
    metadata: ParquetMetaData,
    file: &Arc<dyn PinnedFile>,
    failure: &Failure,
) -> Result<ParquetMetaData, ParquetError> {
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let indexes = columns.filter_map(places_of).collect();
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Optional);
    reader.load_page_index(Fetch { file, failure, indexes }).await?;
    reader.finish()
}

/// Tells what cannot be in a footer, or cannot be read; nothing of it may be relied on before.
pub(super) fn check(metadata: &ParquetMetaData, size: u64) -> Result<(), String> {
    let mut records = 0_u64;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let own = u64::try_from(group.num_rows()).ok().and_then(|own| records.checked_add(own));
        records = own.filter(|records| *records <= MOST_RECORDS).ok_or_else(|| {
            let claimed = group.num_rows();
            format!(
                "row group {number} is said to have {claimed} records, which with those before are more than can be"
            )
        })?;
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

/// Where the places of a column's pages stand.
fn places_of(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(column.offset_index_offset()?).ok()?;
    Some(start..start.checked_add(u64::try_from(column.offset_index_length()?).ok()?)?)
}

struct Fetch<'a> {
    file: &'a Arc<dyn PinnedFile>,
    failure: &'a Failure,
    /// Where each column's places stand, which are looked at before they are decoded.
    indexes: Vec<Range<u64>>,
}

impl Fetch<'_> {
    fn check(&self, start: u64, read: &[u8]) -> Result<(), ParquetError> {
        for index in &self.indexes {
            let within = |place: u64| usize::try_from(place.checked_sub(start)?).ok();
            let places = within(index.start).zip(within(index.end)).and_then(|(start, end)| read.get(start..end));
            places.map_or(Ok(()), shape::check_places).map_err(|what| ParquetError::General(what.to_owned()))?;
        }
        Ok(())
    }
}

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            if range.start > range.end || range.end > self.file.size() || range.end - range.start > LONGEST_FOOTER {
                return Err(ParquetError::General(
                    "the places of its pages cannot be where they are said to be".to_owned(),
                ));
            }
            let start = range.start;
            let read = bytes_of(self.file, range).await.map_err(|cause| self.failure.note(cause))?;
            self.check(start, &read)?;
            Ok(read)
        }
        .boxed()
    }
}
