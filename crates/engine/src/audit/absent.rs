//! The keys whose rows are to be made again, as a segment that overlays the ledger while a plan is computed.

use std::path::{Path, PathBuf};

use convoke_core::ledger::{LedgerEntry, OrderValue, RowOrigin, RowState};
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};

use crate::error::EngineError;
use crate::ledger::segment::SegmentWriter;

const NAME: &str = "absent.parquet";

/// Rows that the ledger names, and that a plan is to make again.
#[derive(Clone, Debug)]
pub struct AbsentRows {
    /// A segment that is newer than those of the ledger, for as long as the plan is computed.
    pub segment: PathBuf,
    pub rows: u64,
}

/// Writes entries that have ended, key after key; the file exists only if there are any.
pub(super) struct Absent {
    path: PathBuf,
    owner: SyncName,
    writer: Option<SegmentWriter>,
}

impl Absent {
    pub(super) fn new(folder: &Path, owner: &SyncName) -> Self {
        Self { path: folder.join(NAME), owner: owner.clone(), writer: None }
    }

    pub(super) fn push(&mut self, key: KeyHash) -> Result<(), EngineError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(SegmentWriter::create(&self.path)?),
        };
        writer.push(&LedgerEntry {
            key,
            content: ContentHash::UNKNOWN,
            order: OrderValue::new(),
            row_id: RowId::new(""),
            owner: self.owner.clone(),
            origin: RowOrigin::Created,
            state: RowState::Deleted,
        })
    }

    pub(super) fn finish(self) -> Result<Option<AbsentRows>, EngineError> {
        let Some(writer) = self.writer else { return Ok(None) };
        let rows = writer.finish()?.rows;
        Ok(Some(AbsentRows { segment: self.path, rows }))
    }
}
