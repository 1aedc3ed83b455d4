//! The spool: a run's source records, as Parquet that does not change.
//!
//! A stream is read once into a file of the spool; pinned Parquet is read where it is. Each record has its position in the
//! run, which tells what comes before what, and its line in the split. Records that could not be carried are kept aside
//! with their reason, in files of their own where they are many; they count as read and invalid.
//!
//! Several splits may be taken at the same time: a position is made of the number of its split, in the order in which the
//! splits were begun, and of the record's number in it, so it does not depend on which split ends first. A split of many
//! records has a file of its own, so that it leaves nothing behind if it turns out broken. Small ones wait in memory until
//! they have ended, and those that follow one another share a file: thousands of them are not thousands of files.

mod disk;
mod footers;
mod intake;
mod malformed;
mod names;
mod pinned;
mod pruning;
mod read;
mod shared;
mod spool_file;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::source::{PinnedParquet, Split, SplitContent, SplitOutcome};
use convoke_core::{Origin, SourceError};
use convoke_formats::parquet::MOST_RECORDS;

use crate::error::EngineError;
use crate::files;

use disk::{Reserve, Room};
use footers::Footers;
pub use intake::{SplitIntake, TakenSplit};
use intake::{Taken, TakenRecords, cast_exactly};
pub(crate) use malformed::MalformedOrigin;
use malformed::MalformedRecords;
use names::SplitNames;
pub(crate) use pinned::GROUP_BUDGET_BYTES;
use pinned::PinnedSplit;
pub(crate) use read::{GroupRecords, SpoolGroup};
use shared::SharedFile;

/// Position of a record in the run.
pub(crate) const POSITION_COLUMN: &str = "__position";
/// Line or number of a record in its split.
pub(crate) const LINE_COLUMN: &str = "__line";

/// Bits of a position that number the records of a split; those above number the splits, over a hundred million of them.
const RECORD_BITS: u32 = 36;
const MOST_SPLITS: u64 = 1 << (i64::BITS - 1 - RECORD_BITS);
const _: () = assert!(MOST_RECORDS < 1 << RECORD_BITS, "the records of a pinned file can be numbered");

/// How far a split has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolProgress {
    /// Records of this split so far, malformed ones among them.
    pub records: u64,
    /// Bytes of this split consumed so far.
    pub bytes_read: u64,
}

/// A column that the sync reads and some of the splits lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnGap {
    pub column: String,
    /// The splits that lack it, in the order in which they were read.
    pub splits: Vec<String>,
}

/// Takes splits into the spool: [`SpoolWriter::split`] one after the other, [`SpoolWriter::begin`] and
/// [`SpoolWriter::keep`] several at a time.
pub struct SpoolWriter {
    plan: Arc<SpoolPlan>,
    begun: u64,
    shared: Option<SharedFile>,
    splits: Vec<HeldSplit>,
    gaps: BTreeMap<String, Vec<String>>,
    malformed: MalformedRecords,
    records: u64,
}

/// What all splits of a spool are taken by.
#[derive(Debug)]
struct SpoolPlan {
    folder: PathBuf,
    schema: SchemaRef,
    stored: SchemaRef,
    needed: BTreeSet<String>,
    room: Arc<Room>,
    files: AtomicUsize,
    footers: Arc<Footers>,
}

impl SpoolPlan {
    /// A file that nobody else writes.
    fn next_file(&self) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("split-{number:05}.parquet"))
    }
}

/// A run's source records. Its files are the caller's to remove, once the run is settled.
#[derive(Clone, Debug)]
pub struct Spool {
    schema: SchemaRef,
    stored: SchemaRef,
    splits: Vec<HeldSplit>,
    gaps: Vec<ColumnGap>,
    malformed: MalformedRecords,
    records: u64,
}

/// Records whose positions follow one another: those of a split, or of small splits that share a file.
#[derive(Clone, Debug)]
struct HeldSplit {
    names: Arc<SplitNames>,
    held: Held,
    first_position: u64,
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
    match PinnedSplit::open(&split.name, parquet, &Arc::default()).await {
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
        let nullable = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let position = Arc::new(Field::new(POSITION_COLUMN, DataType::Int64, false));
        let line = Arc::new(Field::new(LINE_COLUMN, DataType::UInt64, false));
        let stored = Arc::new(Schema::new(nullable.chain([position, line]).collect::<Vec<_>>()));
        let plan = SpoolPlan {
            folder: folder.to_owned(),
            schema,
            stored,
            needed: BTreeSet::new(),
            room: Arc::new(Room::new(folder, Reserve::default())),
            files: AtomicUsize::new(1),
            footers: Arc::default(),
        };
        Ok(Self {
            plan: Arc::new(plan),
            begun: 0,
            shared: None,
            splits: Vec::new(),
            gaps: BTreeMap::new(),
            malformed: MalformedRecords::default(),
            records: 0,
        })
    }

    /// Names the columns that the sync reads. Asked before the first split.
    pub fn needing(mut self, needed: BTreeSet<String>) -> Self {
        let SpoolPlan { folder, schema, stored, room, .. } = &*self.plan;
        let (folder, schema, stored) = (folder.clone(), Arc::clone(schema), Arc::clone(stored));
        let (room, files, footers) = (Arc::clone(room), AtomicUsize::new(1), Arc::default());
        self.plan = Arc::new(SpoolPlan { folder, schema, stored, needed, room, files, footers });
        self
    }

    /// Takes a split to its end, as one that may lack columns. A broken split leaves nothing in the spool and is no error.
    pub async fn split(
        &mut self,
        split: &Split,
        content: SplitContent,
        progress: &(dyn Fn(SpoolProgress) + Sync),
    ) -> Result<SplitOutcome, EngineError> {
        let intake = self.begin(split)?;
        let taken = intake.take(content, progress).await?;
        self.keep(taken).await
    }

    /// Begins a split, which may be taken beside others. Its records come after those of the splits begun before.
    pub fn begin(&mut self, split: &Split) -> Result<SplitIntake, EngineError> {
        if self.begun == MOST_SPLITS {
            let message = format!("it has more than {MOST_SPLITS} parts, and one run cannot order so many");
            let cause = SourceError::new(Origin::User, message);
            return Err(EngineError::Source { split: split.name.clone(), cause });
        }
        let intake = SplitIntake::new(Arc::clone(&self.plan), split.clone(), self.begun << RECORD_BITS);
        self.begun += 1;
        Ok(intake)
    }

    /// Keeps what was taken of a split, in the order in which the splits were begun: the next one, when all before it are
    /// kept.
    pub async fn keep(&mut self, taken: TakenSplit) -> Result<SplitOutcome, EngineError> {
        let TakenSplit { outcome, first_position, taken } = taken;
        let Some(Taken { records, count, malformed, lacks }) = taken else { return Ok(outcome) };
        let name: Arc<str> = outcome.split.name.as_str().into();
        for column in lacks {
            self.gaps.entry(column).or_default().push(outcome.split.name.clone());
        }
        self.malformed.add(malformed, &self.plan).await?;
        self.records += count;
        let held = match records {
            TakenRecords::Few(batches) if batches.is_empty() => return Ok(outcome),
            TakenRecords::Few(batches) => {
                let shared = match self.shared.take() {
                    Some(shared) => shared,
                    None => SharedFile::begin(&self.plan, first_position)?,
                };
                self.shared.insert(shared).add(&name, batches).await?;
                return Ok(outcome);
            }
            TakenRecords::Many(file) => Held::File { path: file.path, group_rows: file.group_rows },
            TakenRecords::Pinned(pinned) => Held::Pinned(Arc::new(pinned)),
        };
        self.end_shared().await?;
        self.splits.push(HeldSplit { names: Arc::new(SplitNames::only(name)), held, first_position });
        Ok(outcome)
    }

    /// Ends the spool; what was read can now be planned.
    pub async fn finish(mut self) -> Result<Spool, EngineError> {
        self.end_shared().await?;
        let Self { plan, splits, gaps, records, malformed, .. } = self;
        let gaps = gaps.into_iter().map(|(column, splits)| ColumnGap { column, splits }).collect();
        let (schema, stored) = (Arc::clone(&plan.schema), Arc::clone(&plan.stored));
        Ok(Spool { schema, stored, splits, gaps, records, malformed })
    }

    async fn end_shared(&mut self) -> Result<(), EngineError> {
        if let Some(shared) = self.shared.take() {
            self.splits.push(shared.finish().await?);
        }
        Ok(())
    }
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
