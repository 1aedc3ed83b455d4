//! One file for small splits that follow one another.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use super::intake::CarriedBatch;
use super::names::SplitNames;
use super::spool_file::SpoolFile;
use super::{Held, HeldSplit, SpoolPlan};
use crate::engine::BATCH_ROWS;
use crate::error::EngineError;

/// A file that takes one small split after the other. Its records have positions that follow one another, from that of
/// the first: the next split with a file of its own has a greater one all the same.
pub(super) struct SharedFile {
    file: SpoolFile,
    stored: SchemaRef,
    first_position: u64,
    names: SplitNames,
    rows: u64,
    /// Batches that are written together: to write three records costs about as much as to write a thousand.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
}

/// As much waits at most: a few long records are as much as many short ones.
const PENDING_BYTES: usize = 8 << 20;

impl SharedFile {
    pub(super) fn begin(plan: &SpoolPlan, first_position: u64) -> Result<Self, EngineError> {
        let stored = Arc::clone(&plan.stored);
        let file = SpoolFile::begin(plan, Arc::clone(&stored))?;
        let (names, pending) = (SplitNames::default(), Vec::new());
        Ok(Self { file, stored, first_position, names, rows: 0, pending, pending_rows: 0, pending_bytes: 0 })
    }

    /// Takes the records of a split, of which there is one at least.
    pub(super) async fn add(&mut self, name: &Arc<str>, batches: Vec<CarriedBatch>) -> Result<(), EngineError> {
        self.names.add(self.rows, Arc::clone(name));
        for batch in batches {
            let batch = batch.placed(&self.stored, self.first_position + self.rows);
            self.rows += batch.num_rows() as u64;
            self.pending_rows += batch.num_rows();
            self.pending_bytes += batch.get_array_memory_size();
            self.pending.push(batch);
        }
        let is_enough = self.pending_rows >= BATCH_ROWS || self.pending_bytes >= PENDING_BYTES;
        if is_enough { self.write_pending().await } else { Ok(()) }
    }

    pub(super) async fn finish(mut self) -> Result<HeldSplit, EngineError> {
        self.write_pending().await?;
        let Self { file, names, first_position, .. } = self;
        let finished = file.finish().await?;
        let held = Held::File { path: finished.path, group_rows: finished.group_rows };
        Ok(HeldSplit { names: Arc::new(names), held, first_position })
    }

    async fn write_pending(&mut self) -> Result<(), EngineError> {
        let pending = std::mem::take(&mut self.pending);
        (self.pending_rows, self.pending_bytes) = (0, 0);
        if pending.is_empty() {
            return Ok(());
        }
        let joined = concat_batches(&self.stored, &pending)
            .map_err(|_| EngineError::damaged(Path::new("the spool"), "its batches do not fit one another"))?;
        self.file.write(joined).await
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use convoke_core::source::{SourceBatch, Split, SplitContent, SplitItem};
    use futures::StreamExt;

    use super::*;
    use crate::SpoolWriter;

    #[tokio::test]
    async fn small_splits_of_long_records_do_not_wait_in_memory_until_they_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(["x".repeat(500_000)]));
        let records = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let mut writer = SpoolWriter::create(&folder.path().join("spool"), records.schema()).unwrap();
        for number in 0..100 {
            let batch = SourceBatch { records: records.clone(), positions: vec![1], bytes_read: 0 };
            let items = [SplitItem::Records(batch), SplitItem::End { fingerprint: "print".to_owned() }];
            let content = SplitContent::Stream(futures::stream::iter(items.map(Ok)).boxed());
            let split = Split { name: number.to_string(), detail: serde_json::Value::Null, bytes: None };
            writer.split(&split, content, &|_| {}).await.unwrap();
            let pending = &writer.shared.as_ref().unwrap().pending;
            let bytes: usize = pending.iter().map(RecordBatch::get_array_memory_size).sum();
            assert!(bytes < PENDING_BYTES, "{bytes} bytes after {number} splits");
        }
        assert_eq!(writer.finish().await.unwrap().read(), 100);
    }
}
