//! What a source is to the rest of Convoke.
//!
//! The life of a source within a run:
//!
//! ```text
//! discovery = source.discover(stored checkpoint, reread)
//! schema    = source.describe()                                 from here on: of what was discovered
//! for split in discovery.splits: content = source.read(split) → a stream is spooled once to Parquet,
//!                                                               pinned Parquet is read where it is
//! source.still_holds(discovery.splits)                          of a snapshot; again, once pinned Parquet was compared
//! source.finished()                                             no split is read any more, however reading ended
//! proposed  = source.propose(stored checkpoint, outcomes of the splits)
//! source.claim(splits)                                          right before anything is sent
//! … the plan is delivered and settled; `proposed` is committed with compare-and-set …
//! source.acknowledge(outcomes)                                  only now may files move
//! ```
//!
//! Everything up to `propose` leaves the source as it is, so a plan can be thrown away. A plan that is delivered claims
//! what it was made from first, where somebody else might take it too.
//!
//! Splits are begun in the order of the discovery, up to `splits_at_once` of them before the first has ended. What order
//! the records have is told by the order of the splits, whichever ends first.
//!
//! An error of kind [`Interrupted`](crate::error::SourceErrorKind::Interrupted), from any call before `propose` or out of
//! a stream, has the call repeated, a few times and with growing pauses. What was read of the split is dropped then, and
//! it is read again from its start, while its neighbours go on. A source that could not read the same again, since the
//! snapshot of the others went with the connection, gives an error of kind
//! [`Changed`](crate::error::SourceErrorKind::Changed) instead.
//!
//! The plan of a snapshot that waits for its approval, or was interrupted before its position was committed, is held
//! against the source first, by a discovery with `reread` from the position that it proposes. What still lies where it
//! was read, as it was read, is among the `splits` or the `settled`, as the very same [`Split`]; what has taken its place
//! is among the `splits`, as another one. The plan of a delta is not held against its source: what has come since is read
//! after it.
//!
//! A backfill lists with `select` instead of `discover`, and neither proposes nor acknowledges; `finished` ends its reading
//! too.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::SourceError;
use crate::time::Timestamp;

/// Where records come from. See the module for who calls what, when.
#[async_trait]
pub trait Source: Send + Sync {
    /// Tells the columns that mappings may name: those of the discovered splits, or, before a discovery, those of the
    /// newest that can be read.
    async fn describe(&self) -> Result<SourceSchema, SourceError>;

    /// Tells what a discovery would wait for at this moment, and how long at most; none if it would not wait.
    async fn settling(&self) -> Result<Option<Settling>, SourceError> {
        Ok(None)
    }

    /// Tells whether something has come that was not read, without waiting and without reading more than it must. None
    /// if this source cannot tell.
    async fn arrivals(&self, _stored: Option<&SourcePosition>) -> Result<Option<Arrivals>, SourceError> {
        Ok(None)
    }

    /// Lists what is to be read, given what was read before.
    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError>;

    /// Lists what a backfill asks for, whatever was read before. Its coverage is always [`Coverage::Delta`]; `unchanged`
    /// is true if there is nothing of that kind. A selection that this source cannot make is an error that says so.
    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError>;

    /// Tells between which times the records of a selection lie, so that it can be cut into windows; none if they have no
    /// times, or there are none. What is much older than anything a person would write down, or still to come, may be left
    /// out: the first window and the last have no ends.
    async fn time_span(&self, _selection: &Selection) -> Result<Option<TimeSpan>, SourceError> {
        Ok(None)
    }

    /// Opens one split at its start. Bounded: a stream holds a few batches at most.
    ///
    /// A split that is not, or no longer, what was listed is an error of kind
    /// [`Changed`](crate::error::SourceErrorKind::Changed): another discovery will see what there is now.
    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError>;

    /// How many splits may be read at the same time: more than one where that is faster and their source bears it. Only
    /// streams gain by it.
    fn splits_at_once(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Whether a split may lack columns that others have, as it is with data sets whose columns have come and gone, and
    /// with what was read before the mapping named a column. Where it may not, a stream that lacks a column which the sync
    /// reads is broken.
    fn may_lack_columns(&self, _split: &Split) -> bool {
        true
    }

    /// Asked once all splits are read, and of pinned Parquet once more after `finished`, when it was compared: an error of kind [`Changed`](crate::error::SourceErrorKind::Changed) if others have
    /// come, or some have gone, since they were listed. A source whose splits cannot be torn apart has nothing to ask.
    async fn still_holds(&self, _splits: &[Split]) -> Result<(), SourceError> {
        Ok(())
    }

    /// Reading is over, for good or for bad: what was held for it, such as a snapshot of a database, can be let go of. No
    /// split is read after this without another discovery; pinned files that were handed out stay readable. Called at
    /// least once after each discovery whose splits were to be read, unless the process dies. Has to be quick, and tells
    /// nobody of a failure.
    async fn finished(&self) {}

    /// Whether a discovery can tell that a snapshot which was read is still the truth. Where it cannot, an interrupted plan
    /// deletes nothing for want of a record.
    fn confirms_snapshots(&self) -> bool {
        true
    }

    /// Tells the checkpoint that holds once the given splits are settled. Pure.
    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition;

    /// Asked before anything is sent: an error if it can be seen already that `acknowledge` of these splits would fail.
    /// Changes nothing.
    async fn can_acknowledge(&self, _splits: &[Split]) -> Result<(), SourceError> {
        Ok(())
    }

    /// Whether `acknowledge` takes what is broken out of the way, so that no later run meets it.
    fn quarantines(&self) -> bool {
        false
    }

    /// Asked right before anything is sent: takes these splits for this sync alone, where others might take them too. An
    /// error of kind [`Changed`](crate::error::SourceErrorKind::Changed) if somebody else has taken some. May be repeated
    /// by a run that goes on. `acknowledge` lets go of them.
    async fn claim(&self, _splits: &[Split]) -> Result<(), SourceError> {
        Ok(())
    }

    /// Whether `acknowledge` moves or marks what is broken, so that it is not met again. Where it does not, the position
    /// alone remembers a broken addition.
    fn puts_away(&self) -> bool {
        true
    }

    /// Lets the source move or mark what is settled or broken. May be repeated after a crash.
    async fn acknowledge(&self, outcomes: &[SplitOutcome]) -> Result<(), SourceError>;
}

/// The columns of a source.
#[derive(Clone, Debug)]
pub struct SourceSchema {
    pub schema: SchemaRef,
    /// Where this was learnt, for messages: a file name, a table.
    pub origin: String,
}

/// What a source waits for before it says what is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settling {
    /// Names, for messages: `` `a.csv` and 2 more ``.
    pub what: String,
    pub wait: Duration,
}

/// What has come to a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Stands for what is there to be read; none if there is nothing. It is another one as soon as that changes.
    pub mark: Option<String>,
    /// How many splits that is, as far as can be seen.
    pub count: u64,
    /// How long it is until what was written to lately counts too, if anything was.
    pub settling: Option<Duration>,
}

/// What a discovery starts from.
#[derive(Clone, Copy, Debug)]
pub struct Discover<'a> {
    pub stored: Option<&'a SourcePosition>,
    /// Read everything that still counts, also what is unchanged (`--full`, or the mapping has changed).
    pub reread: bool,
}

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Discovery {
    pub splits: Vec<Split>,
    pub coverage: Coverage,
    /// True if the source holds exactly what the stored position says, so that nothing need be read.
    pub unchanged: bool,
    /// Splits whose records are settled already, left by a crash before they were acknowledged or offered again: not to
    /// be read, only to be acknowledged with the others.
    pub settled: Vec<SplitOutcome>,
    /// Things the operator should know: a file not yet stable, the same file again.
    pub notices: Vec<String>,
}

/// What a backfill reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Everything that the source still has.
    All,
    /// Splits whose names match this glob; `*` does not cross a `/`, `**` does.
    Objects(String),
    /// Splits of exactly these names, in the source's order; those that are gone are left out.
    Named(Vec<String>),
    /// What was written from `from` on and before `to`; at least one of them is given.
    Between { from: Option<Timestamp>, to: Option<Timestamp> },
    /// What does not tell when it was written: a window of what is cut by time.
    Untimed,
}

/// The earliest and the latest time of some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSpan {
    pub first: Timestamp,
    pub last: Timestamp,
}

/// What the splits say about records that are not in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// The splits are everything: a record not in them is gone. Only this may yield deletes.
    Snapshot,
    /// The splits add and change; absence means nothing.
    Delta,
}

/// An independently readable part of a source: a file, an object, a key range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Stable name within the source, for example the file name.
    pub name: String,
    /// What only the connector understands.
    pub detail: serde_json::Value,
    /// Size in bytes where known, for progress.
    pub bytes: Option<u64>,
}

/// What a split holds, as its connector can give it.
pub enum SplitContent {
    /// Records as they come, to be spooled.
    Stream(SplitStream),
    /// A Parquet file that stays readable as it is.
    Parquet(PinnedParquet),
}

/// A Parquet file under its pin, with what its place tells of its records.
#[derive(Clone, Debug)]
pub struct PinnedParquet {
    pub file: Arc<dyn PinnedFile>,
    /// Text columns that are the same for every record and do not stand in the file: hive partitions.
    pub constants: Vec<(String, Option<String>)>,
}

/// A file that is read as it was when it was listed, or not at all.
#[async_trait]
pub trait PinnedFile: Send + Sync + Debug {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Identifies these contents: a version, an ETag. Goes into the outcome of the split.
    fn fingerprint(&self) -> &str;

    /// Reads ranges of bytes, in the order asked for. Ranges lie within the file. May be called from several tasks at
    /// once. A file that was replaced or removed is an error of kind
    /// [`Changed`](crate::error::SourceErrorKind::Changed).
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError>;
}

/// A split's records, in order. Ends after its last item.
pub type SplitStream = BoxStream<'static, Result<SplitItem, SourceError>>;

/// What a split yields.
#[derive(Clone, Debug)]
pub enum SplitItem {
    Records(SourceBatch),
    /// Records that cannot be carried: a ragged line, for example. Counted as read and invalid.
    Malformed(MalformedRecord),
    /// The split as a whole cannot be used; nothing of it may be planned. The last item.
    Broken {
        reason: String,
    },
    /// The split ended well; its fingerprint goes into the outcome. The last item.
    End {
        fingerprint: String,
    },
}

/// Records moved together.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// Columns by name as in [`SourceSchema`]; may be a subset, in any order: missing ones are NULL. What all batches of a
    /// split are missing is told as a column that the split lacks.
    pub records: RecordBatch,
    /// For each record the line (CSV) or number (other) at which it starts, counted from 1.
    pub positions: Vec<u64>,
    /// Bytes of the split consumed so far, for progress.
    pub bytes_read: u64,
}

/// A record that could not be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedRecord {
    /// Line or number at which it starts, counted from 1.
    pub position: u64,
    /// Says what is wrong without showing values.
    pub reason: String,
}

/// How reading a split ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitOutcome {
    pub split: Split,
    pub result: SplitResult,
}

/// How reading a split ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitResult {
    /// Read to the end; `fingerprint` identifies the contents.
    Read { fingerprint: String, records: u64 },
    /// Unusable as a whole, with the reason.
    Broken { reason: String },
}

/// What a source has seen, opaque outside its connector. Stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourcePosition(pub serde_json::Value);
