//! A file of the spool, written by a thread of its own, so that encoding does not wait for reading, nor reading for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::SpoolPlan;
use super::disk::Room;
use crate::error::EngineError;
use crate::files::{self, Layout, ParquetWriter, WrittenFile};
use crate::plan::joined;

/// Rows per row group. The wide pass holds the needed rows of one group in memory.
const GROUP_ROWS: usize = 32_768;

/// Batches that wait to be encoded.
const BATCHES_IN_FLIGHT: usize = 2;

/// A file that is being written. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: RemovedUnlessKept,
    batches: mpsc::Sender<RecordBatch>,
    written: JoinHandle<Result<WrittenFile, EngineError>>,
}

/// A file that holds records.
#[derive(Debug)]
pub(super) struct FinishedFile {
    pub(super) path: PathBuf,
    pub(super) group_rows: Vec<u64>,
}

impl SpoolFile {
    /// The file is made here: a thread that begins late cannot make it in a folder that is another run's by then.
    pub(super) fn begin(plan: &SpoolPlan, schema: SchemaRef) -> Result<Self, EngineError> {
        let (path, room) = (plan.next_file(), Arc::clone(&plan.room));
        let writer = ParquetWriter::create(&path, schema, GROUP_ROWS, Layout::Passing)?;
        let (batches, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
        let written = tokio::task::spawn_blocking(move || write_all(writer, &room, receiver));
        Ok(Self { path: RemovedUnlessKept(Some(path)), batches, written })
    }

    pub(super) async fn write(&mut self, batch: RecordBatch) -> Result<(), EngineError> {
        if self.batches.send(batch).await.is_ok() {
            return Ok(());
        }
        // Only an error lets the thread go before the last batch.
        Err(joined(&mut self.written).await.err().unwrap_or(EngineError::Stopped))
    }

    pub(super) async fn finish(self) -> Result<FinishedFile, EngineError> {
        let Self { path, batches, written } = self;
        drop(batches);
        let written = joined(written).await?;
        Ok(FinishedFile { path: path.keep(), group_rows: written.group_rows })
    }
}

fn write_all(
    mut writer: ParquetWriter,
    room: &Room,
    mut batches: mpsc::Receiver<RecordBatch>,
) -> Result<WrittenFile, EngineError> {
    while let Some(batch) = batches.blocking_recv() {
        room.take(batch.get_array_memory_size())?;
        writer.write(&batch)?;
    }
    writer.finish()
}

/// Removes a file when it is dropped; it may be open still.
#[derive(Debug)]
struct RemovedUnlessKept(Option<PathBuf>);

impl RemovedUnlessKept {
    fn keep(mut self) -> PathBuf {
        self.0.take().expect("it is kept once")
    }
}

impl Drop for RemovedUnlessKept {
    fn drop(&mut self) {
        // What stays for an error goes with the run's folder.
        let _removed = self.0.as_deref().map(|path: &Path| files::remove(path));
    }
}
