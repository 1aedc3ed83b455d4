//! Footers of pinned files that were read lately.
//!
//! A footer tells of every column of every row group, so those of many files together are large, and few of them are needed
//! at a time. One that was let go of is read again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use convoke_formats::parquet::ParquetFile;

/// Bytes of footers that are held: hundreds of usual ones.
const HELD_BYTES: usize = 64 << 20;

/// Holds the footers that were read last, up to a number of bytes.
#[derive(Debug)]
pub(super) struct Footers {
    most_bytes: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: VecDeque<(Arc<ParquetFile>, usize)>,
    bytes: usize,
}

impl Default for Footers {
    fn default() -> Self {
        Self::holding(HELD_BYTES)
    }
}

impl Footers {
    pub(super) fn holding(most_bytes: usize) -> Self {
        Self { most_bytes, held: Mutex::default() }
    }

    /// Holds a footer until later ones need its room.
    pub(super) fn hold(&self, file: &Arc<ParquetFile>) {
        let bytes = file.metadata().memory_size();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes += bytes;
        held.files.push_back((Arc::clone(file), bytes));
        while held.bytes > self.most_bytes {
            let Some((_, bytes)) = held.files.pop_front() else { break };
            held.bytes -= bytes;
        }
    }
}
