//! A bounded part of a source, held in memory and written as a source of its own: for rehearsals.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};

use crate::error::EngineError;
use crate::files::{self, Layout, ParquetWriter};
use crate::spool::Spool;

/// Rows per row group of a copy.
const GROUP_ROWS: usize = 8_192;

/// Records of a source, with its columns and types. Personal data.
#[derive(Clone, Debug)]
pub struct Excerpt {
    records: RecordBatch,
    malformed: u64,
}

impl Spool {
    /// Takes the first `count` records.
    pub async fn excerpt(&self, count: usize) -> Result<Excerpt, EngineError> {
        let fields = self.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut parts = Vec::new();
        let mut left = count;
        for group in self.groups() {
            let wanted = left.min(usize::try_from(group.rows).unwrap_or(usize::MAX));
            if wanted == 0 {
                break;
            }
            let offsets: Vec<_> = (0..wanted).collect();
            let take = |fetched: crate::spool::GroupRecords, _| {
                parts.push(fetched.records);
                Ok(())
            };
            group.read(self.schema(), &offsets, take).await?;
            left -= wanted;
        }
        let parts = parts.iter().map(|part| part.clone().with_schema(Arc::clone(&schema)));
        let joined = parts.collect::<Result<Vec<_>, _>>().and_then(|parts| concat_batches(&schema, &parts));
        let records = joined.map_err(|_| {
            EngineError::damaged(Path::new("the excerpt"), "its parts have other columns than the source described")
        })?;
        Ok(Excerpt { records, malformed: self.malformed() })
    }
}

impl Excerpt {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records of the source that could not be carried, and are not among these.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    pub fn has_column(&self, name: &str) -> bool {
        self.records.column_by_name(name).is_some()
    }

    /// Writes records (by their index, ascending) as a Parquet file, each with a number in one more column. What was there
    /// is replaced whole.
    pub fn write(&self, path: &Path, column: &str, records: &[(u32, i64)]) -> Result<(), EngineError> {
        let indices = UInt32Array::from_iter_values(records.iter().map(|(index, _)| *index));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(records.iter().map(|(_, number)| *number)));
        let unfit = || EngineError::damaged(path, "its records are not those that were read");
        // Taking a record that is not there would panic.
        let is_there = |index: u32| usize::try_from(index).is_ok_and(|index| index < self.len());
        if !records.iter().all(|(index, _)| is_there(*index)) {
            return Err(unfit());
        }
        let chosen = take_record_batch(&self.records, &indices).map_err(|_| unfit())?;
        let number = Field::new(column, DataType::Int64, true);
        let fields = chosen.schema_ref().fields().iter().map(|field| field.as_ref().clone()).chain([number]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = chosen.columns().iter().cloned().chain([numbers]).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|_| unfit())?;
        let staged = path.with_extension("staged");
        let mut writer = ParquetWriter::create(&staged, schema, GROUP_ROWS, Layout::Passing)?;
        writer.write(&batch)?;
        writer.finish()?;
        std::fs::rename(&staged, path).map_err(|cause| EngineError::file("write", path, cause))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        files::sync_folder(folder)
    }
}
