//! Rows that are to be made again, as a ledger segment in which their entries have ended. While the plan is computed it
//! overlays the ledger; as a file of the plan it tells the ledger, once the plan begins to be applied.

use std::path::{Path, PathBuf};

use convoke_core::ledger::{LedgerEntry, OrderValue, RowOrigin, RowState};
use convoke_core::plan::{PlanContent, PlanFile};
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};

use crate::error::EngineError;
use crate::ledger::segment::SegmentWriter;
use crate::plan::schema::file_name;

/// Writes entries that have ended, key after key; the file exists only if there are any.
pub(super) struct Absent {
    path: PathBuf,
    owner: SyncName,
    writer: Option<SegmentWriter>,
}

impl Absent {
    pub(super) fn new(folder: &Path, owner: &SyncName) -> Self {
        Self { path: folder.join(file_name(PlanContent::Absent)), owner: owner.clone(), writer: None }
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

    pub(super) fn finish(self) -> Result<Option<PlanFile>, EngineError> {
        let Some(writer) = self.writer else { return Ok(None) };
        let written = writer.finish()?;
        let content = PlanContent::Absent;
        Ok(Some(PlanFile { name: file_name(content).to_owned(), content, rows: written.rows, digest: written.digest }))
    }
}
