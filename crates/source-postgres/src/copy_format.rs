//! The framing of PostgreSQL's binary COPY: a header, records of fields with their lengths, an end mark.
//!
//! PostgreSQL sends about one record at a time, but the protocol promises nothing: pieces may be cut anywhere.

use crate::batch::{Batch, Misread};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// In the place of a record's number of fields.
const END_MARK: i16 = -1;

/// A COPY as far as it has come.
#[derive(Default)]
pub(crate) struct CopyFormat {
    place: Place,
    /// The beginning of what has not come whole.
    pending: Vec<u8>,
}

#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    Header,
    Records,
    End,
}

/// What lies at the beginning of some bytes.
enum Next {
    /// A record of so many bytes.
    Record(usize),
    End,
    Incomplete,
}

impl CopyFormat {
    /// Whether the end mark has come.
    pub(crate) fn is_ended(&self) -> bool {
        self.place == Place::End && self.pending.is_empty()
    }

    /// Puts the records that are whole by now into the batch.
    pub(crate) fn feed(&mut self, piece: &[u8], batch: &mut Batch) -> Result<(), Misread> {
        if self.pending.is_empty() {
            let taken = self.take(piece, batch)?;
            self.pending.extend_from_slice(&piece[taken..]);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(piece);
        let taken = self.take(&pending, batch)?;
        pending.drain(..taken);
        self.pending = pending;
        Ok(())
    }

    /// Tells how many bytes were used.
    fn take(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<usize, Misread> {
        let mut taken = 0;
        if self.place == Place::Header {
            let Some(length) = header_length(bytes)? else { return Ok(0) };
            taken = length;
            self.place = Place::Records;
        }
        while self.place == Place::Records {
            let rest = &bytes[taken..];
            match next(rest, batch.width())? {
                Next::Record(length) => {
                    batch.push(&rest[2..length])?;
                    taken += length;
                }
                Next::End => {
                    taken += 2;
                    self.place = Place::End;
                }
                Next::Incomplete => break,
            }
        }
        Ok(taken)
    }
}

/// The length of the header; none if it is not whole.
fn header_length(bytes: &[u8]) -> Result<Option<usize>, Misread> {
    let start = &bytes[..bytes.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(start) {
        return Err(Misread::Framing);
    }
    let Some(extension) = bytes.get(HEADER_BYTES - 4..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
    let length = HEADER_BYTES + u32::from_be_bytes(*extension) as usize;
    Ok((bytes.len() >= length).then_some(length))
}

fn next(bytes: &[u8], width: usize) -> Result<Next, Misread> {
    let Some(count) = bytes.first_chunk() else { return Ok(Next::Incomplete) };
    let count = i16::from_be_bytes(*count);
    if count == END_MARK {
        return Ok(Next::End);
    }
    if usize::try_from(count) != Ok(width) {
        return Err(Misread::Framing);
    }
    let mut end = 2;
    for _ in 0..width {
        let Some(length) = bytes.get(end..).and_then(<[u8]>::first_chunk) else { return Ok(Next::Incomplete) };
        end += 4;
        // A NULL has a length of -1, and no bytes.
        end += usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    }
    Ok(if bytes.len() >= end { Next::Record(end) } else { Next::Incomplete })
}

#[cfg(test)]
mod tests;
