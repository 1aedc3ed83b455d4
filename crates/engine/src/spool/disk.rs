//! Sees to it that the spool leaves room on its disk.
//!
//! The spool lies beside the state: once it had filled the disk, no journal could be written, of no run. How much a source
//! holds is not known beforehand; a small archive may unpack to any amount.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::EngineError;

/// The disk is looked at each time that so many bytes more were written.
const BYTES_BETWEEN_LOOKS: u64 = 32 << 20;

/// What is left free of a disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve {
    /// As much at most …
    most_bytes: u64,
    /// … or this part of all its room, if that is less.
    part: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { most_bytes: 1 << 30, part: 20 }
    }
}

impl Reserve {
    fn of(self, total_bytes: u64) -> u64 {
        self.most_bytes.min(total_bytes / self.part)
    }
}

/// The room on the disk of a spool, for all its files together.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    reserve: Reserve,
    written_bytes: AtomicU64,
}

impl Room {
    pub(super) fn new(folder: &Path, reserve: Reserve) -> Self {
        Self { folder: folder.to_owned(), reserve, written_bytes: AtomicU64::new(0) }
    }

    /// Takes room for so many bytes that are about to be written. A few are taken without a look: a small source is read
    /// however full the disk is.
    pub(super) fn take(&self, bytes: usize) -> Result<(), EngineError> {
        let before = self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before / BYTES_BETWEEN_LOOKS == (before + bytes as u64) / BYTES_BETWEEN_LOOKS {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&self.folder)
            .map_err(|cause| EngineError::file("see how much room there is for", &self.folder, cause.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve_bytes = self.reserve.of(disk.f_blocks.saturating_mul(disk.f_frsize));
        if free_bytes.saturating_sub(bytes as u64) < reserve_bytes {
            return Err(EngineError::NoRoom { folder: self.folder.clone(), free_bytes, reserve_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use convoke_core::source::{SourceBatch, Split, SplitContent, SplitItem};
    use futures::StreamExt;

    use super::*;
    use crate::SpoolWriter;

    #[test]
    fn a_gigabyte_or_a_twentieth_of_the_disk_stays_free() {
        let reserve = Reserve::default();
        assert_eq!((reserve.of(1 << 40), reserve.of(20 << 20)), (1 << 30, 1 << 20));
    }

    #[tokio::test]
    async fn a_spool_that_would_take_the_last_room_of_its_disk_is_stopped_and_the_last_file_removed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..1_000).map(|row| "x".repeat(1_000 + row % 9))));
        let records = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let stream = |batches: usize| {
            let batch = SourceBatch { records: records.clone(), positions: (0..1_000).collect(), bytes_read: 0 };
            let items = std::iter::repeat_n(SplitItem::Records(batch), batches);
            let items = items.chain([SplitItem::End { fingerprint: "print".to_owned() }]);
            SplitContent::Stream(futures::stream::iter(items.map(Ok).collect::<Vec<_>>()).boxed())
        };
        let files = || std::fs::read_dir(&spool).unwrap().count();
        let split = Split { name: "a.csv".to_owned(), detail: serde_json::Value::Null, bytes: None };
        let mut writer = SpoolWriter::create(&spool, records.schema()).unwrap();
        let all = Reserve { most_bytes: u64::MAX, part: 1 };
        Arc::get_mut(&mut writer.plan).unwrap().room = Arc::new(Room::new(&spool, all));
        // Each has a file of its own, and no more than two of them are few bytes.
        for _ in 0..2 {
            writer.split(&split, stream(10), &|_| {}).await.unwrap();
        }
        let before = files();
        let error = writer.split(&split, stream(20), &|_| {}).await.unwrap_err();
        assert_eq!((before, files()), (2, 2));
        assert!(matches!(&error, EngineError::NoRoom { folder, .. } if *folder == spool), "{error:?}");
        assert!(error.to_string().contains("free some space there"), "{error}");
    }
}
