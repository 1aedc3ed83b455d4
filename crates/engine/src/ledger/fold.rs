//! Folds the journal into the ledger.
//!
//! Events are written to a passing file in the order of the journal, sorted by key (spilling), and merged with the
//! ledger's sorted segments in one pass. The outcome is a new delta, or a new base once the delta would be large.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{BinaryBuilder, Int64Builder, RecordBatch, StringBuilder, UInt8Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::journal::Entry;
use convoke_core::ledger::{LedgerIdentity, LedgerManifest, SegmentRef, SegmentStore};
use convoke_core::plan::LedgerCounts;
use convoke_core::{AudienceKey, StateError, SyncName};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::event::{Event, events_of};
use super::merge::{self, Merge, Merged};
use crate::engine::{Engine, table_of};
use crate::error::EngineError;
use crate::files::{Layout, ParquetWriter};
use crate::plan::blocking;

/// Below this many entries a base is written again at each fold: that takes less than a second.
const SMALL_BASE_ENTRIES: u64 = 200_000;
/// A delta larger than this share of the base is merged into it: 1 / 5.
const DELTA_SHARE: u64 = 5;
const GROUP_ROWS: usize = 65_536;
const BATCH_ROWS: usize = 8_192;

static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, false),
        Field::new("sequence", DataType::Int64, false),
        Field::new("kind", DataType::UInt8, false),
        Field::new("content", DataType::Binary, false),
        Field::new("order_value", DataType::Binary, false),
        Field::new("row_id", DataType::Utf8, false),
        Field::new("owner", DataType::Utf8, false),
    ]))
});

/// What is folded into what.
#[derive(Clone, Copy)]
pub struct FoldRequest<'a> {
    pub audience: &'a AudienceKey,
    /// None if the audience has no ledger yet.
    pub manifest: Option<&'a LedgerManifest>,
    pub identity: &'a LedgerIdentity,
    pub segments: &'a dyn SegmentStore,
}

/// A new ledger, sealed but not yet committed.
#[derive(Clone, Debug)]
pub struct Folded {
    /// Version one more than before.
    pub manifest: LedgerManifest,
    pub counts: LedgerCounts,
    /// Segments that are no longer live once the manifest is committed.
    pub obsolete: Vec<String>,
}

pub(crate) async fn fold(
    engine: &Engine,
    request: FoldRequest<'_>,
    mut entries: BoxStream<'_, Result<Entry, StateError>>,
) -> Result<Folded, EngineError> {
    let mut events = EventFile::create(engine.spill_dir())?;
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(|cause| EngineError::State { action: "read the journal", cause })?;
        for event in events_of(&entry) {
            events.push(&event)?;
        }
    }
    merge_events(engine, request, events).await.map(|(folded, _)| folded)
}

/// Sorts events, merges them into the ledger and seals the new segment.
pub(super) async fn merge_events(
    engine: &Engine,
    request: FoldRequest<'_>,
    events: EventFile,
) -> Result<(Folded, Merged), EngineError> {
    hold_against_identity(&request)?;
    let base_version = request.manifest.map_or(0, |manifest| manifest.version);
    let old = request.manifest.map_or(&[][..], |manifest| &manifest.segments);
    let event_count = events.count;
    let sorted = sort(engine, events).await?;
    let state_failed = |action| move |cause| EngineError::State { action, cause };
    let staged = request.segments.stage(request.audience).await.map_err(state_failed("stage a ledger segment"))?;
    let compacts = must_compact(old, event_count);
    let merge = Merge {
        segments: open_segments(&request, old).await?,
        events: sorted.path.clone(),
        target: staged.path.clone(),
        compacts,
    };
    let merged = blocking(move || merge::run(&merge)).await?;
    drop(sorted);
    let name = staged.name.clone();
    request.segments.seal(staged).await.map_err(state_failed("seal a ledger segment"))?;
    let new = SegmentRef {
        name,
        entries: merged.written.rows,
        bytes: merged.written.bytes,
        digest: merged.written.digest.clone(),
    };
    let kept = if compacts { 0 } else { 1 };
    let live_before = request.manifest.map_or(0, |manifest| manifest.live);
    let counts = settle_counts(merged.counts, live_before);
    let manifest = LedgerManifest {
        audience: request.audience.clone(),
        version: base_version + 1,
        segments: old.iter().take(kept).cloned().chain([new]).collect(),
        live: counts.live_after,
        live_by_owner: settle_owners(request.manifest, &merged),
        identity: request.identity.clone(),
    };
    let obsolete = old.iter().skip(kept).map(|segment| segment.name.clone()).collect();
    Ok((Folded { manifest, counts, obsolete }, merged))
}

fn hold_against_identity(request: &FoldRequest<'_>) -> Result<(), EngineError> {
    let Some(manifest) = request.manifest else { return Ok(()) };
    let (old, new) = (&manifest.identity, request.identity);
    let difference = if old.hash_key_id != new.hash_key_id {
        "hash key"
    } else if old.key_spec != new.key_spec {
        "key"
    } else if old.normalizer_version != new.normalizer_version || old.encoding_version != new.encoding_version {
        "version of the canonical form"
    } else {
        return Ok(());
    };
    Err(EngineError::Identity { audience: request.audience.clone(), difference })
}

fn must_compact(segments: &[SegmentRef], events: u64) -> bool {
    let Some((base, deltas)) = segments.split_first() else { return true };
    let delta: u64 = deltas.iter().map(|segment| segment.entries).sum();
    base.entries < SMALL_BASE_ENTRIES || (delta + events) > base.entries / DELTA_SHARE
}

async fn open_segments(request: &FoldRequest<'_>, old: &[SegmentRef]) -> Result<Vec<PathBuf>, EngineError> {
    let mut paths = Vec::with_capacity(old.len());
    for segment in old {
        let opened = request.segments.open(&segment.name).await;
        let path = opened.map_err(|cause| EngineError::State { action: "open a ledger segment", cause })?;
        let metadata = std::fs::metadata(&path).map_err(|cause| EngineError::file("read", &path, cause))?;
        if metadata.len() != segment.bytes {
            return Err(EngineError::damaged(&path, "its size is not that of the ledger's segment"));
        }
        paths.push(path);
    }
    Ok(paths)
}

fn settle_counts(counts: LedgerCounts, live_before: u64) -> LedgerCounts {
    let gone = counts.deleted + counts.found_removed;
    let live_after = (live_before + counts.created + counts.adopted).saturating_sub(gone);
    LedgerCounts { live_before, live_after, ..counts }
}

fn settle_owners(manifest: Option<&LedgerManifest>, merged: &Merged) -> Vec<(SyncName, u64)> {
    let mut owners: std::collections::BTreeMap<SyncName, u64> =
        manifest.map_or_else(Default::default, |manifest| manifest.live_by_owner.iter().cloned().collect());
    for (owner, change) in &merged.owners {
        let live = owners.entry(owner.clone()).or_default();
        *live = live.saturating_add_signed(*change);
    }
    owners.into_iter().filter(|(_, live)| *live > 0).collect()
}

/// A passing file; removed when it is dropped.
pub(super) struct PassingFile {
    path: PathBuf,
    _handle: tempfile::TempPath,
}

impl PassingFile {
    fn new(folder: &Path) -> Result<Self, EngineError> {
        let made = tempfile::Builder::new().prefix("events-").suffix(".parquet").tempfile_in(folder);
        let handle = made.map_err(|cause| EngineError::file("write to", folder, cause))?.into_temp_path();
        Ok(Self { path: handle.to_path_buf(), _handle: handle })
    }
}

/// Events in the order in which they happened.
pub(super) struct EventFile {
    file: PassingFile,
    writer: ParquetWriter,
    keys: BinaryBuilder,
    sequences: Int64Builder,
    kinds: UInt8Builder,
    contents: BinaryBuilder,
    orders: BinaryBuilder,
    row_ids: StringBuilder,
    owners: StringBuilder,
    count: u64,
}

impl EventFile {
    pub(super) fn create(folder: &Path) -> Result<Self, EngineError> {
        let file = PassingFile::new(folder)?;
        let writer = ParquetWriter::create(&file.path, Arc::clone(&EVENTS), GROUP_ROWS, Layout::Passing)?;
        Ok(Self {
            file,
            writer,
            keys: BinaryBuilder::new(),
            sequences: Int64Builder::new(),
            kinds: UInt8Builder::new(),
            contents: BinaryBuilder::new(),
            orders: BinaryBuilder::new(),
            row_ids: StringBuilder::new(),
            owners: StringBuilder::new(),
            count: 0,
        })
    }

    pub(super) fn push(&mut self, event: &Event) -> Result<(), EngineError> {
        self.keys.append_value(event.key.0);
        self.sequences.append_value(self.count.cast_signed());
        self.kinds.append_value(event.kind.code());
        self.contents.append_value(event.content.0);
        self.orders.append_value(&event.order);
        self.row_ids.append_value(event.row_id.as_str());
        self.owners.append_value(event.owner.as_str());
        self.count += 1;
        if self.count.is_multiple_of(BATCH_ROWS as u64) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let batch = RecordBatch::try_new(
            Arc::clone(&EVENTS),
            vec![
                Arc::new(self.keys.finish()),
                Arc::new(self.sequences.finish()),
                Arc::new(self.kinds.finish()),
                Arc::new(self.contents.finish()),
                Arc::new(self.orders.finish()),
                Arc::new(self.row_ids.finish()),
                Arc::new(self.owners.finish()),
            ],
        );
        self.writer.write(&batch.expect("the builders grow together"))
    }
}

async fn sort(engine: &Engine, mut events: EventFile) -> Result<PassingFile, EngineError> {
    events.flush()?;
    events.writer.finish()?;
    let fail = |cause| engine.query_failed("sort the journal", &cause);
    let context = engine.session();
    let table = table_of(std::slice::from_ref(&events.file.path), &EVENTS, &[]).map_err(fail)?;
    context.register_table("events", table).map_err(fail)?;
    let sorted = context.sql("SELECT * FROM events ORDER BY key, sequence").await.map_err(fail)?;
    let mut stream = sorted.execute_stream().await.map_err(fail)?;
    let target = PassingFile::new(engine.spill_dir())?;
    let mut writer = ParquetWriter::create(&target.path, Arc::clone(&EVENTS), GROUP_ROWS, Layout::Passing)?;
    while let Some(batch) = stream.next().await {
        writer.write(&batch.map_err(fail)?)?;
    }
    writer.finish()?;
    Ok(target)
}
