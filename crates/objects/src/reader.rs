//! Reads a pinned object from its beginning to its end, on a thread that may block.
//!
//! Bytes are asked for in parts, each of them under the pin, and one part is fetched ahead. So memory is bounded however
//! large the object is and however long its reader takes, no connection stands idle meanwhile, and a connection that breaks
//! costs no more than a part.

use std::io::{self, Read};
use std::ops::Range;

use bytes::{Buf, Bytes};
use convoke_core::{Origin, SourceError};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::pin::Pin;
use crate::store::Store;

/// Bytes of a part; two of them are held. Large enough that the wait for the first byte hardly counts.
const PART_BYTES: u64 = 4 << 20;

/// The bytes of a pinned object.
///
/// An error holds a [`SourceError`], which [`source_error`] takes out again; after it, reading may be tried again and goes
/// on at the byte that was reached.
#[derive(Debug)]
pub struct ObjectReader {
    store: Store,
    pin: Pin,
    runtime: Handle,
    part: Bytes,
    /// Where the part behind `part` begins.
    next: u64,
    ahead: Option<JoinHandle<Result<Bytes, SourceError>>>,
}

impl Store {
    /// Reads an object as it was pinned. To be called within a runtime; the reader itself belongs on a thread that may
    /// block.
    pub fn reader(&self, pin: Pin) -> ObjectReader {
        let (store, runtime) = (self.clone(), Handle::current());
        ObjectReader { store, pin, runtime, part: Bytes::new(), next: 0, ahead: None }
    }
}

impl ObjectReader {
    fn part_at(&self, start: u64) -> Range<u64> {
        start..start.saturating_add(PART_BYTES).min(self.pin.size)
    }

    fn fetch(&self, range: Range<u64>) -> JoinHandle<Result<Bytes, SourceError>> {
        let (store, pin) = (self.store.clone(), self.pin.clone());
        self.runtime.spawn(async move { store.get(&pin, range).await })
    }

    fn advance(&mut self) -> Result<(), SourceError> {
        let range = self.part_at(self.next);
        if range.is_empty() {
            return Ok(());
        }
        let fetching = self.ahead.take().unwrap_or_else(|| self.fetch(range.clone()));
        let fetched = self.runtime.block_on(fetching);
        self.part = fetched.map_err(|error| {
            SourceError::new(Origin::Internal, "reading an object ended unexpectedly").caused_by(error)
        })??;
        self.next = range.end;
        let ahead = self.part_at(self.next);
        self.ahead = (!ahead.is_empty()).then(|| self.fetch(ahead));
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() && !buffer.is_empty() {
            self.advance().map_err(io::Error::other)?;
        }
        let count = self.part.len().min(buffer.len());
        self.part.split_to(count).copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            ahead.abort();
        }
    }
}

/// What stopped an [`ObjectReader`]; the error itself if it came from elsewhere.
pub fn source_error(error: io::Error) -> Result<SourceError, io::Error> {
    error.downcast::<SourceError>()
}
