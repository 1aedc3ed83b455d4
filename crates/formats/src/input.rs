//! The bytes of a file as they lie in their store, counted and digested on their way.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind, Read};

use thiserror::Error;

use crate::outlet::Stop;

/// The bytes of a file could not be read; nothing is known of what they say.
#[derive(Debug, Error)]
#[error("cannot read the bytes of the file")]
pub struct InputError(#[source] pub io::Error);

/// What has been seen of a file so far.
#[derive(Default)]
pub(crate) struct Seen {
    bytes: Cell<u64>,
    hasher: RefCell<blake3::Hasher>,
}

impl Seen {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.hasher.borrow().finalize().to_hex().to_string()
    }
}

/// Reads a file and notes what was seen. Its errors can be told from those of what decodes the bytes.
pub(crate) struct Raw<'a> {
    input: &'a mut dyn Read,
    seen: &'a Seen,
}

impl<'a> Raw<'a> {
    pub(crate) fn new(input: &'a mut dyn Read, seen: &'a Seen) -> Self {
        Self { input, seen }
    }

    pub(crate) fn seen(&self) -> &'a Seen {
        self.seen
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = loop {
            match self.input.read(buffer) {
                Ok(length) => break length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(RawError(error))),
            }
        };
        self.seen.hasher.borrow_mut().update(&buffer[..length]);
        self.seen.bytes.set(self.seen.bytes.get() + length as u64);
        Ok(length)
    }
}

/// Marks an error of the input on its way through decoders.
#[derive(Debug)]
struct RawError(io::Error);

impl fmt::Display for RawError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the input failed")
    }
}

impl std::error::Error for RawError {}

/// Whether the input failed, and not what decodes it.
pub(crate) fn is_of_input(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<RawError>())
}

impl From<io::Error> for Stop {
    /// What is not an error of the input is damage that a decoder has found.
    fn from(error: io::Error) -> Self {
        match error.downcast::<RawError>() {
            Ok(RawError(error)) => Self::Input(InputError(error)),
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}
