//! Records that could not be carried: where they stood, and why.
//!
//! There may be as many as a file has lines, so only a few are held in memory. The others go into files of the spool, each
//! with its origin, so that whoever reads them need not know of which split they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::source::MalformedRecord;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::SpoolPlan;
use super::spool_file::SpoolFile;
use crate::error::EngineError;
use crate::files;

/// As many are held in memory of a split, and of the small splits that were kept.
const HELD: usize = 4_096;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![field("origin"), field("reason")]))
});

/// A record that could not be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MalformedOrigin {
    /// `file:line`.
    pub(crate) origin: String,
    pub(crate) reason: String,
}

/// Takes those of one split. Dropped, it leaves nothing.
#[derive(Default)]
pub(super) struct MalformedIntake {
    held: Vec<MalformedOrigin>,
    file: Option<SpoolFile>,
    count: u64,
}

/// Those of a split that was taken.
#[derive(Default)]
pub(super) struct MalformedOfSplit {
    /// Those before `held`, if they are many.
    file: Option<PathBuf>,
    held: Vec<MalformedOrigin>,
    count: u64,
}

impl MalformedIntake {
    pub(super) async fn push(
        &mut self,
        split: &str,
        record: MalformedRecord,
        plan: &SpoolPlan,
    ) -> Result<(), EngineError> {
        let MalformedRecord { position, reason } = record;
        self.held.push(MalformedOrigin { origin: format!("{split}:{position}"), reason });
        self.count += 1;
        if self.held.len() < HELD {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(SpoolFile::begin(plan, Arc::clone(&SCHEMA))?),
        };
        file.write(batch_of(&std::mem::take(&mut self.held))).await
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) async fn finish(self) -> Result<MalformedOfSplit, EngineError> {
        let Self { held, file, count } = self;
        let file = match file {
            Some(file) => Some(file.finish().await?.path),
            None => None,
        };
        Ok(MalformedOfSplit { file, held, count })
    }
}

impl MalformedOfSplit {
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// Those of all splits, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct MalformedRecords {
    /// Files, and behind them what no file has yet.
    files: Vec<PathBuf>,
    held: Vec<MalformedOrigin>,
    count: u64,
}

impl MalformedRecords {
    pub(super) async fn add(&mut self, split: MalformedOfSplit, plan: &SpoolPlan) -> Result<(), EngineError> {
        self.count += split.count;
        if let Some(file) = split.file {
            self.write_held(plan).await?;
            self.files.push(file);
        }
        self.held.extend(split.held);
        if self.held.len() >= HELD { self.write_held(plan).await } else { Ok(()) }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn read(&self) -> impl Iterator<Item = Result<MalformedOrigin, EngineError>> {
        self.files.iter().flat_map(|path| records_in(path)).chain(self.held.iter().cloned().map(Ok))
    }

    async fn write_held(&mut self, plan: &SpoolPlan) -> Result<(), EngineError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut file = SpoolFile::begin(plan, Arc::clone(&SCHEMA))?;
        file.write(batch_of(&std::mem::take(&mut self.held))).await?;
        self.files.push(file.finish().await?.path);
        Ok(())
    }
}

fn batch_of(records: &[MalformedOrigin]) -> RecordBatch {
    let texts = |text: fn(&MalformedOrigin) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(records.iter().map(text)))
    };
    let columns = vec![texts(|record| &record.origin), texts(|record| &record.reason)];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns).expect("each record has an origin and a reason")
}

/// What a file holds, batch by batch.
fn records_in(path: &Path) -> Box<dyn Iterator<Item = Result<MalformedOrigin, EngineError>> + '_> {
    let opened = files::open(path).and_then(|file| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        reader.map_err(|cause| EngineError::parquet("read", path, cause))
    });
    match opened {
        Err(error) => Box::new(std::iter::once(Err(error))),
        Ok(batches) => Box::new(batches.flat_map(move |batch| match batch {
            Ok(batch) => records_of(&batch),
            Err(_) => vec![Err(EngineError::damaged(path, "it does not hold the records that were written"))],
        })),
    }
}

fn records_of(batch: &RecordBatch) -> Vec<Result<MalformedOrigin, EngineError>> {
    let [origins, reasons] = [0, 1].map(|column| batch.column(column).as_string::<i32>());
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let pairs = origins.iter().zip(reasons);
    pairs.map(|(origin, reason)| Ok(MalformedOrigin { origin: text(origin), reason: text(reason) })).collect()
}
