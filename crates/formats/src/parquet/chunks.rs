//! The columns of one row group, as Parquet's reader asks for them: by places in the file.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::window::Window;

/// Columns with their windows, in the order of the file; none lies within another.
#[derive(Debug)]
pub(super) struct GroupChunks(Vec<Chunk>);

/// One column of a row group.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) range: Range<u64>,
    pub(super) window: Arc<Window>,
    /// A page that claims to be larger than this is damaged. It is not decompressed to find out.
    pub(super) largest_page: u64,
}

impl GroupChunks {
    pub(super) fn new(mut chunks: Vec<Chunk>) -> Self {
        // Of two that begin at one place, one is empty.
        chunks.sort_by_key(|chunk| (chunk.range.start, chunk.range.end));
        Self(chunks)
    }

    fn chunk_at(&self, place: u64) -> Result<&Chunk, ParquetError> {
        let after = self.0.partition_point(|chunk| chunk.range.start <= place);
        let chunk = after.checked_sub(1).map(|index| &self.0[index]);
        // A column may end right where a page was expected.
        let chunk = chunk.filter(|chunk| place <= chunk.range.end);
        chunk.ok_or_else(|| ParquetError::EOF("a page lies outside of its column".to_owned()))
    }
}

impl Length for GroupChunks {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, |chunk| chunk.range.end)
    }
}

impl ChunkReader for GroupChunks {
    type T = HeaderRead;

    fn get_read(&self, start: u64) -> Result<HeaderRead, ParquetError> {
        Ok(HeaderRead { chunk: self.chunk_at(start)?.clone(), place: start, bytes: Bytes::new(), is_begun: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.chunk_at(start)?.window.exactly(start, length)
    }
}

/// Reads the header of a page, whose length is not known beforehand. Asks for nothing before it is read from.
#[derive(Debug)]
pub(super) struct HeaderRead {
    chunk: Chunk,
    place: u64,
    bytes: Bytes,
    is_begun: bool,
}

impl Read for HeaderRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            if self.place >= self.chunk.range.end {
                return Ok(0);
            }
            self.bytes = self.chunk.window.some(self.place).map_err(io::Error::other)?;
        }
        if !self.is_begun {
            self.is_begun = true;
            if claimed_size(&self.bytes).is_some_and(|size| size > self.chunk.largest_page) {
                return Err(io::Error::other("a page claims to be larger than its column"));
            }
        }
        let length = buffer.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut buffer[..length]);
        self.place += length as u64;
        Ok(length)
    }
}

/// The size that a page's header claims for its contents; none if that is not to be seen.
///
/// In Thrift's compact form a header begins with two numbers, kind and size, each after a byte that is the same in all.
fn claimed_size(header: &[u8]) -> Option<u64> {
    const NEXT_FIELD_IS_I32: u8 = 0x15;
    let rest = header.strip_prefix(&[NEXT_FIELD_IS_I32])?;
    let (_, rest) = zigzag(rest)?;
    let (size, _) = zigzag(rest.strip_prefix(&[NEXT_FIELD_IS_I32])?)?;
    u64::try_from(size).ok()
}

/// A number in Thrift's compact form, and what follows it.
fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    const LONGEST: usize = 10;
    let last = bytes.iter().take(LONGEST).position(|byte| byte & 0x80 == 0)?;
    let number = bytes[..=last].iter().rev().fold(0_u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
    Some(((number >> 1).cast_signed() ^ -(number & 1).cast_signed(), &bytes[last + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_that_a_header_claims_is_found() {
        assert_eq!(claimed_size(&[0x15, 0x00, 0x15, 0x80, 0x10, 0x15]), Some(1024));
        assert_eq!(claimed_size(&[0x15, 0x04, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f]), Some(i32::MAX as u64));
        assert_eq!(claimed_size(&[0x15, 0x00, 0x15, 0x01]), None, "negative");
        for other in [&[][..], &[0x15], &[0x15, 0x80], &[0x18, 0x00, 0x15, 0x00], &[0x15, 0x00, 0x25, 0x00]] {
            assert_eq!(claimed_size(other), None);
        }
    }
}
