//! The spool: a run's source records, as Parquet that does not change.
//!
//! A stream is read once into a file of its own, so that a split that turns out broken leaves nothing behind; pinned Parquet
//! is read where it is. Each record has its position in the run, counted from 0 over all splits, and its line in the split.
//! Records that could not be carried are kept aside with their reason; they count as read and invalid.

mod pinned;
mod pruning;
mod read;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::source::{
    MalformedRecord, PinnedParquet, SourceBatch, Split, SplitContent, SplitItem, SplitOutcome, SplitResult, SplitStream,
};
use convoke_core::{Origin, SourceError};
use futures::StreamExt;

use crate::error::EngineError;
use crate::files::{self, Layout, ParquetWriter};

use pinned::PinnedSplit;
pub(crate) use read::{GroupRecords, SpoolGroup};

/// Position of a record in the run.
pub(crate) const POSITION_COLUMN: &str = "__position";
/// Line or number of a record in its split.
pub(crate) const LINE_COLUMN: &str = "__line";

/// Rows per row group. The wide pass holds the needed rows of one group in memory.
const GROUP_ROWS: usize = 32_768;

/// How far a split has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolProgress {
    /// Records of this split so far, malformed ones among them.
    pub records: u64,
    /// Bytes of this split consumed so far.
    pub bytes_read: u64,
}

/// What is done about a stream that lacks a column which the sync reads. What lacks one is empty there; pinned Parquet,
/// whose columns have come and gone over time, is never refused for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    Refused,
    Told,
}

/// A column that the sync reads and some of the splits lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnGap {
    pub column: String,
    /// The splits that lack it, in the order in which they were read.
    pub splits: Vec<String>,
}

/// Takes splits into the spool, one after the other.
pub struct SpoolWriter {
    folder: PathBuf,
    schema: SchemaRef,
    stored: SchemaRef,
    needed: BTreeSet<String>,
    lacking: Lacking,
    gaps: BTreeMap<String, Vec<String>>,
    splits: Vec<HeldSplit>,
    records: u64,
    malformed: u64,
    /// Numbers files; a broken split's number is not used again.
    attempts: usize,
}

/// A run's source records. Its files are the caller's to remove, once the run is settled.
#[derive(Clone, Debug)]
pub struct Spool {
    schema: SchemaRef,
    stored: SchemaRef,
    splits: Vec<HeldSplit>,
    gaps: Vec<ColumnGap>,
    records: u64,
    malformed: u64,
}

#[derive(Clone, Debug)]
struct HeldSplit {
    name: String,
    held: Held,
    first_position: u64,
    malformed: Vec<MalformedRecord>,
}

/// Where a split's records are.
#[derive(Clone, Debug)]
enum Held {
    File { path: PathBuf, group_rows: Vec<u64> },
    Pinned(Arc<PinnedSplit>),
}

impl Held {
    fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Pinned(_) => None,
        }
    }
}

/// Tells why a pinned Parquet file cannot be read, if so; none of its records are looked at.
pub async fn broken_parquet(split: &Split, parquet: PinnedParquet) -> Result<Option<String>, EngineError> {
    match PinnedSplit::open(&split.name, parquet).await {
        Ok(opened) => Ok(opened.err()),
        Err(cause) => Err(EngineError::Source { split: split.name.clone(), cause }),
    }
}

impl SpoolWriter {
    /// Makes the folder (mode 0700), or empties it of what an interrupted run left.
    pub fn create(folder: &Path, schema: SchemaRef) -> Result<Self, EngineError> {
        let reserved = |field: &&Arc<Field>| matches!(field.name().as_str(), POSITION_COLUMN | LINE_COLUMN);
        if let Some(field) = schema.fields().iter().find(reserved) {
            let message = format!("the source has a column `{}`, a name that is used inside; rename it", field.name());
            let cause = SourceError::new(Origin::User, message);
            return Err(EngineError::Source { split: "header".to_owned(), cause });
        }
        files::make_private_folder(folder)?;
        remove_left_over(folder)?;
        let mut fields = schema
            .fields()
            .iter()
            .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
            .collect::<Vec<_>>();
        fields.push(Arc::new(Field::new(POSITION_COLUMN, DataType::Int64, false)));
        fields.push(Arc::new(Field::new(LINE_COLUMN, DataType::UInt64, false)));
        let stored = Arc::new(Schema::new(fields));
        Ok(Self {
            folder: folder.to_owned(),
            schema,
            stored,
            needed: BTreeSet::new(),
            lacking: Lacking::Told,
            gaps: BTreeMap::new(),
            splits: Vec::new(),
            records: 0,
            malformed: 0,
            attempts: 0,
        })
    }

    /// Names the columns that the sync reads, and what is done about streams that lack one.
    pub fn needing(mut self, columns: BTreeSet<String>, lacking: Lacking) -> Self {
        (self.needed, self.lacking) = (columns, lacking);
        self
    }

    /// Takes a split to its end. A broken split leaves nothing in the spool and is no error.
    pub async fn split(
        &mut self,
        split: &Split,
        content: SplitContent,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<SplitOutcome, EngineError> {
        match content {
            SplitContent::Stream(stream) => self.stream(split, stream, progress).await,
            SplitContent::Parquet(parquet) => self.pinned(split, parquet, progress).await,
        }
    }

    /// Takes note of a pinned file, whose records stay where they are.
    async fn pinned(
        &mut self,
        split: &Split,
        parquet: PinnedParquet,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<SplitOutcome, EngineError> {
        let opened = PinnedSplit::open(&split.name, parquet).await;
        let opened = opened.map_err(|cause| EngineError::Source { split: split.name.clone(), cause })?;
        let result = match opened {
            Ok(pinned) => {
                let records = pinned.group_rows().sum();
                progress(SpoolProgress { records, bytes_read: pinned.size() });
                let fingerprint = pinned.fingerprint().to_owned();
                let first_position = self.records;
                self.records += records;
                self.note_gaps(split, &lacked_by(&self.needed, |name| pinned.has_column(name)));
                self.splits.push(HeldSplit {
                    name: split.name.clone(),
                    held: Held::Pinned(Arc::new(pinned)),
                    first_position,
                    malformed: Vec::new(),
                });
                SplitResult::Read { fingerprint, records }
            }
            Err(reason) => SplitResult::Broken { reason },
        };
        Ok(SplitOutcome { split: split.clone(), result })
    }

    async fn stream(
        &mut self,
        split: &Split,
        mut stream: SplitStream,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<SplitOutcome, EngineError> {
        self.attempts += 1;
        let path = self.folder.join(format!("split-{:05}.parquet", self.attempts));
        let mut writer = ParquetWriter::create(&path, Arc::clone(&self.stored), GROUP_ROWS, Layout::Passing)?;
        let mut current = CurrentSplit { first_position: self.records, ..CurrentSplit::default() };
        let mut fingerprint = None;
        while let Some(item) = stream.next().await {
            match item.map_err(|cause| source_failed(&path, split, cause))? {
                SplitItem::Records(batch) => {
                    writer.write(&self.stored_batch(&batch, current.next_position(), split)?)?;
                    current.lacks.extend(lacked_by(&self.needed, |name| has_column(&batch, name)));
                    current.records += batch.records.num_rows() as u64;
                    current.bytes_read = batch.bytes_read;
                }
                SplitItem::Malformed(record) => current.malformed.push(record),
                SplitItem::Broken { reason } => {
                    drop(writer);
                    files::remove(&path)?;
                    return Ok(SplitOutcome { split: split.clone(), result: SplitResult::Broken { reason } });
                }
                SplitItem::End { fingerprint: found } => fingerprint = Some(found),
            }
            progress(current.progress());
        }
        let Some(fingerprint) = fingerprint else {
            let cause = SourceError::new(Origin::Internal, "the connector ended the split without saying how it ended");
            return Err(source_failed(&path, split, cause));
        };
        let written = writer.finish()?;
        let records = current.progress().records;
        self.keep(split, path, current, written.group_rows);
        Ok(SplitOutcome { split: split.clone(), result: SplitResult::Read { fingerprint, records } })
    }

    /// Ends the spool; what was read can now be planned.
    pub fn finish(self) -> Result<Spool, EngineError> {
        files::sync_folder(&self.folder)?;
        let Self { schema, stored, splits, gaps, records, malformed, .. } = self;
        let gaps = gaps.into_iter().map(|(column, splits)| ColumnGap { column, splits }).collect();
        Ok(Spool { schema, stored, splits, gaps, records, malformed })
    }

    fn keep(&mut self, split: &Split, path: PathBuf, current: CurrentSplit, group_rows: Vec<u64>) {
        self.records += current.records;
        self.malformed += current.malformed.len() as u64;
        self.note_gaps(split, &current.lacks);
        self.splits.push(HeldSplit {
            name: split.name.clone(),
            held: Held::File { path, group_rows },
            first_position: current.first_position,
            malformed: current.malformed,
        });
    }

    fn note_gaps(&mut self, split: &Split, lacks: &BTreeSet<String>) {
        for column in lacks {
            self.gaps.entry(column.clone()).or_default().push(split.name.clone());
        }
    }

    fn stored_batch(&self, batch: &SourceBatch, position: u64, split: &Split) -> Result<RecordBatch, EngineError> {
        let rows = batch.records.num_rows();
        let missing = self.needed.iter().find(|name| !has_column(batch, name));
        if let Some(missing) = missing.filter(|_| self.lacking == Lacking::Refused) {
            return Err(lacks_column(split, missing));
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.stored.fields().len());
        for field in self.schema.fields() {
            let column = match batch.records.column_by_name(field.name()) {
                Some(column) => cast_exactly(column, field.data_type()),
                None => Some(new_null_array(field.data_type(), rows)),
            };
            columns.push(column.ok_or_else(|| outside_contract(split, field.name()))?);
        }
        let first = i64::try_from(position).expect("nobody reads 2^63 records");
        columns.push(Arc::new(Int64Array::from_iter_values(first..first + rows as i64)));
        columns.push(Arc::new(UInt64Array::from(batch.positions.clone())));
        RecordBatch::try_new(Arc::clone(&self.stored), columns).map_err(|_| outside_contract(split, LINE_COLUMN))
    }
}

fn has_column(batch: &SourceBatch, name: &str) -> bool {
    batch.records.schema_ref().column_with_name(name).is_some()
}

fn lacked_by(needed: &BTreeSet<String>, has: impl Fn(&str) -> bool) -> BTreeSet<String> {
    needed.iter().filter(|name| !has(name)).cloned().collect()
}

/// A column in another type; none if a value got lost on the way.
fn cast_exactly(column: &ArrayRef, data_type: &DataType) -> Option<ArrayRef> {
    if column.data_type() == data_type {
        return Some(Arc::clone(column));
    }
    let converted = cast(column, data_type).ok()?;
    (converted.logical_null_count() == column.logical_null_count()).then_some(converted)
}

#[derive(Default)]
struct CurrentSplit {
    first_position: u64,
    records: u64,
    bytes_read: u64,
    malformed: Vec<MalformedRecord>,
    /// Columns that the sync reads and the split lacks.
    lacks: BTreeSet<String>,
}

impl CurrentSplit {
    fn next_position(&self) -> u64 {
        self.first_position + self.records
    }

    fn progress(&self) -> SpoolProgress {
        SpoolProgress { records: self.records + self.malformed.len() as u64, bytes_read: self.bytes_read }
    }
}

fn source_failed(path: &Path, split: &Split, cause: SourceError) -> EngineError {
    match files::remove(path) {
        Ok(()) => EngineError::Source { split: split.name.clone(), cause },
        Err(error) => error,
    }
}

fn lacks_column(split: &Split, column: &str) -> EngineError {
    let message = format!(
        "it has no column `{column}`, which the mapping reads and other files have; add the column, which would empty \
         the cells, or take the file out of the drop folder"
    );
    EngineError::Source { split: split.name.clone(), cause: SourceError::new(Origin::User, message) }
}

fn outside_contract(split: &Split, column: &str) -> EngineError {
    let message = format!("the connector gave column `{column}` in another form than it described");
    EngineError::Source { split: split.name.clone(), cause: SourceError::new(Origin::Internal, message) }
}

fn remove_left_over(folder: &Path) -> Result<(), EngineError> {
    let fail = |cause| EngineError::file("read the folder", folder, cause);
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            files::remove(&path)?;
        }
    }
    Ok(())
}
