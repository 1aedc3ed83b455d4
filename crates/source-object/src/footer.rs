//! The end of a Parquet file, where its schema stands.

use arrow::datatypes::Fields;
use bytes::{Bytes, BytesMut};
use convoke_core::SourceError;
use convoke_formats::parquet::{footer_fields, footer_length};
use convoke_objects::{Pin, Store};

/// Read from the end of an object in the hope that the whole footer is among it. The engine reads as much.
const TAIL_SIZE: u64 = 64 << 10;

/// The end of the footer: its length and a mark.
const END_SIZE: usize = 8;

/// The shortest file: the mark, an empty footer, its end.
const SHORTEST_FILE: u64 = 12;

/// What was read of the end of an object.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

impl Tail {
    /// The bytes of a range that lies within it.
    pub(crate) fn slice(&self, range: &std::ops::Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

/// A footer that was understood.
pub(crate) struct Footer {
    /// The columns, as the file's own types say and not as its writer's notes would have them.
    pub(crate) fields: Fields,
    /// Holds the footer whole.
    pub(crate) tail: Tail,
}

/// Reads the footer of an object, or takes it from what was read before. The inner error says why it has none.
pub(crate) async fn read_footer(
    store: &Store,
    pin: &Pin,
    known: Option<Tail>,
) -> Result<Result<Footer, String>, SourceError> {
    if pin.size < SHORTEST_FILE {
        return Ok(Err(format!("it has only {} bytes", pin.size)));
    }
    let tail = match known {
        Some(tail) => tail,
        None => {
            let start = pin.size.saturating_sub(TAIL_SIZE);
            Tail { start, bytes: store.get(pin, start..pin.size).await? }
        }
    };
    let length = match footer_length(&tail.bytes, pin.size) {
        Ok(length) => length,
        Err(reason) => return Ok(Err(reason)),
    };
    let tail = whole_tail(store, pin, tail, pin.size - length).await?;
    let footer = tail.bytes.slice(tail.bytes.len() - usize::try_from(length).unwrap_or(0)..tail.bytes.len() - END_SIZE);
    Ok(footer_fields(&footer).map(|fields| Footer { fields, tail }))
}

/// The tail with what lies before it from `start` on.
async fn whole_tail(store: &Store, pin: &Pin, tail: Tail, start: u64) -> Result<Tail, SourceError> {
    if start >= tail.start {
        return Ok(tail);
    }
    let mut bytes = BytesMut::from(store.get(pin, start..tail.start).await?);
    bytes.extend_from_slice(&tail.bytes);
    Ok(Tail { start, bytes: bytes.freeze() })
}
