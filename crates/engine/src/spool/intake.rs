//! Takes one split to its end, beside others.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use convoke_core::source::{
    PinnedParquet, SourceBatch, Split, SplitContent, SplitItem, SplitOutcome, SplitResult, SplitStream,
};
use convoke_core::{Origin, SourceError};
use convoke_formats::fit;
use futures::StreamExt;

use super::malformed::{MalformedIntake, MalformedOfSplit};
use super::pinned::PinnedSplit;
use super::spool_file::{FinishedFile, SpoolFile};
use super::{LINE_COLUMN, RECORD_BITS, SpoolPlan, SpoolProgress};
use crate::error::EngineError;

/// A split with more records or bytes has a file of its own. Until then it is held in memory: as many as are read at once
/// and a few that wait for one before them, so this stays small.
const FEW_RECORDS: usize = 4_096;
const FEW_BYTES: usize = 1 << 20;

/// Takes a split; made by [`SpoolWriter::begin`](super::SpoolWriter::begin).
#[derive(Debug)]
pub struct SplitIntake {
    plan: Arc<SpoolPlan>,
    split: Split,
    first_position: u64,
    refuses_gaps: bool,
}

/// A split that was read to its end, for [`SpoolWriter::keep`](super::SpoolWriter::keep). Dropped, it leaves nothing.
pub struct TakenSplit {
    pub(super) outcome: SplitOutcome,
    pub(super) first_position: u64,
    /// None of a broken one.
    pub(super) taken: Option<Taken>,
}

pub(super) struct Taken {
    pub(super) records: TakenRecords,
    pub(super) count: u64,
    pub(super) malformed: MalformedOfSplit,
    /// Columns that the sync reads and the split lacks.
    pub(super) lacks: BTreeSet<String>,
}

pub(super) enum TakenRecords {
    Few(Vec<CarriedBatch>),
    Many(FinishedFile),
    Pinned(PinnedSplit),
}

impl SplitIntake {
    pub(super) fn new(plan: Arc<SpoolPlan>, split: Split, first_position: u64) -> Self {
        Self { plan, split, first_position, refuses_gaps: false }
    }

    /// A stream that lacks a column which the sync reads is broken: it would empty the cells. Else it is empty there and
    /// told, as pinned Parquet always is, whose columns have come and gone over time.
    pub fn refusing_gaps(self) -> Self {
        Self { refuses_gaps: true, ..self }
    }

    /// Takes the split to its end. After an error it may be taken again, from its start: nothing is left of it.
    pub async fn take(
        &self,
        content: SplitContent,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<TakenSplit, EngineError> {
        match content {
            SplitContent::Stream(stream) => self.stream(stream, progress).await,
            SplitContent::Parquet(parquet) => self.pinned(parquet, progress).await,
        }
    }

    /// Takes note of a pinned file, whose records stay where they are.
    async fn pinned(
        &self,
        parquet: PinnedParquet,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<TakenSplit, EngineError> {
        let opened = PinnedSplit::open(&self.split.name, parquet, &self.plan.footers).await;
        let (pinned, columns) = match opened.map_err(|cause| self.failed(cause))? {
            Ok(opened) => opened,
            Err(reason) => return Ok(self.broken(reason)),
        };
        let count = pinned.group_rows().iter().sum();
        progress(SpoolProgress { records: count, bytes_read: pinned.size() });
        let fingerprint = pinned.fingerprint().to_owned();
        let lacks = self.lacked(|name| columns.column_with_name(name).is_some() || pinned.has_constant(name));
        let records = TakenRecords::Pinned(pinned);
        self.taken(fingerprint, Taken { records, count, malformed: MalformedOfSplit::default(), lacks })
    }

    async fn stream(
        &self,
        mut stream: SplitStream,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<TakenSplit, EngineError> {
        let mut current = CurrentSplit::default();
        let mut room = Room::default();
        let mut fingerprint = None;
        while let Some(item) = stream.next().await {
            match item.map_err(|cause| self.failed(cause))? {
                SplitItem::Records(batch) => {
                    if let Some(reason) = self.refused_for(&batch) {
                        return Ok(self.broken(reason));
                    }
                    let carried = self.carry(&batch)?;
                    current.note_lacks(self.lacked(|name| has_column(&batch, name)));
                    current.bytes_read = batch.bytes_read;
                    room.add(carried, self, current.records).await?;
                    current.records += batch.records.num_rows() as u64;
                }
                SplitItem::Malformed(record) => {
                    current.malformed.push(&self.split.name, record, &self.plan).await?;
                }
                SplitItem::Broken { reason } => return Ok(self.broken(reason)),
                SplitItem::End { fingerprint: found } => fingerprint = Some(found),
            }
            progress(current.progress());
        }
        let fingerprint = fingerprint.ok_or_else(|| {
            let message = "the connector ended the split without saying how it ended";
            self.failed(SourceError::new(Origin::Internal, message))
        })?;
        let records = match room {
            Room::Memory { batches, .. } => TakenRecords::Few(batches),
            Room::File(file) => TakenRecords::Many(file.finish().await?),
        };
        let CurrentSplit { records: count, malformed, lacks, .. } = current;
        let malformed = malformed.finish().await?;
        self.taken(fingerprint, Taken { records, count, malformed, lacks: lacks.unwrap_or_default() })
    }

    fn taken(&self, fingerprint: String, taken: Taken) -> Result<TakenSplit, EngineError> {
        if taken.count >= 1 << RECORD_BITS {
            let message = format!("it has {} records, and one run cannot order so many", taken.count);
            return Err(self.failed(SourceError::new(Origin::User, message)));
        }
        let records = taken.count + taken.malformed.count();
        let outcome = SplitOutcome { split: self.split.clone(), result: SplitResult::Read { fingerprint, records } };
        Ok(TakenSplit { outcome, first_position: self.first_position, taken: Some(taken) })
    }

    fn broken(&self, reason: String) -> TakenSplit {
        let outcome = SplitOutcome { split: self.split.clone(), result: SplitResult::Broken { reason } };
        TakenSplit { outcome, first_position: self.first_position, taken: None }
    }

    fn failed(&self, cause: SourceError) -> EngineError {
        EngineError::Source { split: self.split.name.clone(), cause }
    }

    fn lacked(&self, has: impl Fn(&str) -> bool) -> BTreeSet<String> {
        self.plan.needed.iter().filter(|name| !has(name)).cloned().collect()
    }

    /// Brings records to the columns and types of the spool.
    fn carry(&self, batch: &SourceBatch) -> Result<CarriedBatch, EngineError> {
        let rows = batch.records.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.plan.schema.fields().len());
        for field in self.plan.schema.fields() {
            let column = match batch.records.column_by_name(field.name()) {
                Some(column) => cast_exactly(column, field.data_type()),
                None => Some(new_null_array(field.data_type(), rows)),
            };
            columns.push(column.ok_or_else(|| self.outside_contract(field.name()))?);
        }
        if batch.positions.len() != rows {
            return Err(self.outside_contract(LINE_COLUMN));
        }
        Ok(CarriedBatch { columns, lines: Arc::new(UInt64Array::from(batch.positions.clone())), rows })
    }

    /// Why a split cannot be used although others can: it would empty the cells of a column that it lacks.
    fn refused_for(&self, batch: &SourceBatch) -> Option<String> {
        let mut needed = self.plan.needed.iter().filter(|_| self.refuses_gaps);
        let column = needed.find(|name| !has_column(batch, name))?;
        Some(format!(
            "it has no column `{column}`, which the mapping reads and others have, and would empty those cells; add the \
             column, and drop it again"
        ))
    }

    fn outside_contract(&self, column: &str) -> EngineError {
        let message = format!("the connector gave column `{column}` in another form than it described");
        self.failed(SourceError::new(Origin::Internal, message))
    }
}

/// Records with the columns of the spool, but for their positions.
pub(super) struct CarriedBatch {
    columns: Vec<ArrayRef>,
    lines: ArrayRef,
    rows: usize,
}

impl CarriedBatch {
    /// The records as they are stored, from this position on.
    pub(super) fn placed(self, stored: &SchemaRef, first_position: u64) -> RecordBatch {
        let first = first_position.cast_signed();
        let positions = Arc::new(Int64Array::from_iter_values(first..first + self.rows as i64)) as ArrayRef;
        let columns = self.columns.into_iter().chain([positions, self.lines]).collect();
        RecordBatch::try_new(Arc::clone(stored), columns).expect("each column was made for this schema")
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.get_array_memory_size()).sum()
    }
}

/// Where the records of a split are while it is read.
enum Room {
    Memory { batches: Vec<CarriedBatch>, rows: usize, bytes: usize },
    File(SpoolFile),
}

impl Default for Room {
    fn default() -> Self {
        Self::Memory { batches: Vec::new(), rows: 0, bytes: 0 }
    }
}

impl Room {
    /// Takes a batch; `before` records of the split came before it.
    async fn add(&mut self, batch: CarriedBatch, intake: &SplitIntake, before: u64) -> Result<(), EngineError> {
        let stored = &intake.plan.stored;
        let first_position = intake.first_position + before;
        match self {
            Self::File(file) => file.write(batch.placed(stored, first_position)).await,
            Self::Memory { batches, rows, bytes } => {
                *rows += batch.rows;
                *bytes += batch.bytes();
                if batch.rows > 0 {
                    batches.push(batch);
                }
                if *rows <= FEW_RECORDS && *bytes <= FEW_BYTES {
                    return Ok(());
                }
                let batches = std::mem::take(batches);
                let mut file = SpoolFile::begin(&intake.plan, Arc::clone(stored))?;
                let mut position = intake.first_position;
                for batch in batches {
                    let batch = batch.placed(stored, position);
                    position += batch.num_rows() as u64;
                    file.write(batch).await?;
                }
                *self = Self::File(file);
                Ok(())
            }
        }
    }
}

#[derive(Default)]
struct CurrentSplit {
    records: u64,
    bytes_read: u64,
    malformed: MalformedIntake,
    /// Columns that all batches so far lack; none before the first.
    lacks: Option<BTreeSet<String>>,
}

impl CurrentSplit {
    /// A column that one batch has is not missing, only sparse.
    fn note_lacks(&mut self, lacked: BTreeSet<String>) {
        match &mut self.lacks {
            Some(lacks) => lacks.retain(|column| lacked.contains(column)),
            None => self.lacks = Some(lacked),
        }
    }

    fn progress(&self) -> SpoolProgress {
        SpoolProgress { records: self.records + self.malformed.count(), bytes_read: self.bytes_read }
    }
}

fn has_column(batch: &SourceBatch, name: &str) -> bool {
    batch.records.schema_ref().column_with_name(name).is_some()
}

/// A column in another type; none if a value got lost on the way, at any depth.
pub(super) fn cast_exactly(column: &ArrayRef, data_type: &DataType) -> Option<ArrayRef> {
    let fitted = fit(column, data_type).ok()?;
    fitted.lost.is_none().then_some(fitted.column)
}
