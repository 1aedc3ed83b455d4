//! The deletes of surplus rows, as a file of a plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::DataType;
use convoke_core::hash::encode_part;
use convoke_core::journal::Operation;
use convoke_core::plan::{PlanContent, PlanFile, SURPLUS_FILE};
use convoke_core::{ContentHash, HashKey, KeyHash, RowId};

use crate::error::EngineError;
use crate::files::{Layout, ParquetWriter};
use crate::plan::schema;

/// Rows gathered before they are written, and rows per row group.
const BATCH_ROWS: usize = 4_096;

/// Writes deletes; the file exists only if there are any.
pub(super) struct Doubles {
    path: PathBuf,
    hash_key: HashKey,
    writer: Option<ParquetWriter>,
    pending: Vec<RowId>,
}

impl Doubles {
    pub(super) fn new(folder: &Path, hash_key: &HashKey) -> Self {
        Self { path: folder.join(SURPLUS_FILE), hash_key: hash_key.clone(), writer: None, pending: Vec::new() }
    }

    pub(super) fn push(&mut self, row_id: RowId) -> Result<(), EngineError> {
        self.pending.push(row_id);
        if self.pending.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Option<PlanFile>, EngineError> {
        self.flush()?;
        let Some(writer) = self.writer else { return Ok(None) };
        let written = writer.finish()?;
        let content = PlanContent::Changes(Operation::Delete);
        Ok(Some(PlanFile { name: SURPLUS_FILE.to_owned(), content, rows: written.rows, digest: written.digest }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let schema = schema::changes(std::iter::empty());
        let row_ids = std::mem::take(&mut self.pending);
        let keys: Vec<_> = row_ids.iter().map(|row_id| self.key_of(row_id)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(keys.iter().map(|key| Some(key.0)).collect::<BinaryArray>()),
            Arc::new(keys.iter().map(|_| Some(ContentHash::UNKNOWN.0)).collect::<BinaryArray>()),
            Arc::new(keys.iter().map(|_| Some([])).collect::<BinaryArray>()),
            Arc::new(row_ids.iter().map(|row_id| Some(row_id.as_str())).collect::<StringArray>()),
            new_null_array(&DataType::Utf8, row_ids.len()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the columns are of one length");
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(ParquetWriter::create(&self.path, schema, BATCH_ROWS, Layout::Waiting)?),
        };
        writer.write(&batch)
    }

    /// A key that stands for the row alone. The key of its record is that of the row which stays: its entry in the ledger
    /// must not hear of this delete. No record has such a key, since no part of a key is NULL.
    fn key_of(&self, row_id: &RowId) -> KeyHash {
        let mut encoded = Vec::new();
        encode_part(&mut encoded, None);
        encode_part(&mut encoded, Some(row_id.as_str()));
        self.hash_key.hash_key(&encoded)
    }
}
