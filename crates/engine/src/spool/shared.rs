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
}

impl SharedFile {
    pub(super) fn begin(plan: &SpoolPlan, first_position: u64) -> Result<Self, EngineError> {
        let stored = Arc::clone(&plan.stored);
        let file = SpoolFile::begin(plan.next_file(), Arc::clone(&stored))?;
        let (names, pending) = (SplitNames::default(), Vec::new());
        Ok(Self { file, stored, first_position, names, rows: 0, pending, pending_rows: 0 })
    }

    /// Takes the records of a split, of which there is one at least.
    pub(super) async fn add(&mut self, name: &Arc<str>, batches: Vec<CarriedBatch>) -> Result<(), EngineError> {
        self.names.add(self.rows, Arc::clone(name));
        for batch in batches {
            let batch = batch.placed(&self.stored, self.first_position + self.rows);
            self.rows += batch.num_rows() as u64;
            self.pending_rows += batch.num_rows();
            self.pending.push(batch);
        }
        if self.pending_rows >= BATCH_ROWS { self.write_pending().await } else { Ok(()) }
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
        self.pending_rows = 0;
        let joined = concat_batches(&self.stored, &pending)
            .map_err(|_| EngineError::damaged(Path::new("the spool"), "its batches do not fit one another"))?;
        self.file.write(joined).await
    }
}
