//! Folds the journal into the ledger.
//!
//! Events, numbered in the order of the journal, are sorted by key (spilling) and merged with the ledger's sorted
//! segments in one pass. The outcome is a new delta, or a new base once the delta would be large.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow::array::{BinaryBuilder, RecordBatch, StringBuilder, UInt8Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::journal::Entry;
use convoke_core::ledger::{LedgerEntry, LedgerIdentity, LedgerManifest, SegmentRef, SegmentStore};
use convoke_core::plan::LedgerCounts;
use convoke_core::{AudienceKey, ContentHash, KeyHash, StateError, SyncName};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc::channel;

use super::event::{Event, EventKind, events_of};
use super::merge::{self, Merge, Merged};
use crate::batches::{AbsentRows, ConfirmedRecords};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::plan::blocking;
use crate::sorting::{self, SortInput};

/// Below this many entries a base is written again at each fold: that takes less than a second.
const SMALL_BASE_ENTRIES: u64 = 200_000;
/// A delta larger than this share of the base is merged into it: 1 / 5.
const DELTA_SHARE: u64 = 5;
/// Events that go into the sort at once: the fewer batches, the fewer have to be merged.
const BATCH_ROWS: u64 = 32_768;
/// Bytes of a place that are the key.
pub(super) const KEY_BYTES: usize = size_of::<KeyHash>();
/// Sorted batches on their way into the merge.
const BATCHES_AHEAD: usize = 2;
const SORT: &str = "sort the journal";

const PLACE: &str = "place";

static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        // The key and then the event's number: one column sorts faster than two.
        Field::new(PLACE, DataType::Binary, false),
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

/// Records that a plan of this sync has confirmed, or that say they are deleted: their entries get the later order value.
pub struct Confirmed<'a> {
    pub sync: &'a SyncName,
    pub records: ConfirmedRecords,
}

impl Confirmed<'_> {
    async fn push_to(self, events: &mut Events) -> Result<(), EngineError> {
        let Self { sync, mut records } = self;
        loop {
            let (reader, part) = blocking(move || {
                let part = records.next_part()?;
                Ok((records, part))
            })
            .await?;
            let Some(part) = part else { return Ok(()) };
            records = reader;
            for row in &part {
                let (content, order) = (row.content, row.order.as_slice());
                // What is confirmed has a content.
                let kind = if content == ContentHash::UNKNOWN { EventKind::Gone } else { EventKind::Confirmed };
                events.push(Event { key: row.key, kind, content, order, row_id: "", owner: sync }).await?;
            }
        }
    }
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
    mut confirmed: Option<Confirmed<'_>>,
) -> Result<Folded, EngineError> {
    let gather = async |events: &mut Events| {
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(|cause| EngineError::State { action: "read the journal", cause })?;
            for event in events_of(&entry) {
                events.push(event).await?;
            }
        }
        match confirmed.take() {
            Some(confirmed) => confirmed.push_to(events).await,
            None => Ok(()),
        }
    };
    merge_events(engine, request, gather).await.map(|(folded, _)| folded)
}

/// Ends the entries of rows that a plan found to be gone.
pub(crate) async fn end_absent(
    engine: &Engine,
    request: FoldRequest<'_>,
    absent: AbsentRows,
) -> Result<Folded, EngineError> {
    let gather = async |events: &mut Events| {
        let mut left = absent;
        loop {
            let (rest, part) = blocking(move || {
                let part = left.next_part()?;
                Ok((left, part))
            })
            .await?;
            if part.is_empty() {
                return Ok(());
            }
            left = rest;
            for LedgerEntry { key, content, owner, .. } in &part {
                let kind = EventKind::Deleted;
                events.push(Event { key: *key, kind, content: *content, order: &[], row_id: "", owner }).await?;
            }
        }
    };
    merge_events(engine, request, gather).await.map(|(folded, _)| folded)
}

/// Rows change hands: every entry of one owner becomes another's.
#[derive(Clone, Debug)]
pub struct NewOwner {
    pub from: SyncName,
    pub to: SyncName,
}

/// Writes the ledger anew as one base in which rows have changed hands.
pub(crate) async fn reassign(
    engine: &Engine,
    request: FoldRequest<'_>,
    owner: NewOwner,
) -> Result<Folded, EngineError> {
    let nothing = async |_: &mut Events| Ok(());
    merge_owned(engine, request, nothing, Some(owner)).await.map(|(folded, _)| folded)
}

/// Sorts the events that `gather` pushes, merges them into the ledger and seals the new segment.
pub(crate) async fn merge_events(
    engine: &Engine,
    request: FoldRequest<'_>,
    gather: impl AsyncFnOnce(&mut Events) -> Result<(), EngineError>,
) -> Result<(Folded, Merged), EngineError> {
    merge_owned(engine, request, gather, None).await
}

async fn merge_owned(
    engine: &Engine,
    request: FoldRequest<'_>,
    gather: impl AsyncFnOnce(&mut Events) -> Result<(), EngineError>,
    new_owner: Option<NewOwner>,
) -> Result<(Folded, Merged), EngineError> {
    hold_against_identity(&request)?;
    let base_version = request.manifest.map_or(0, |manifest| manifest.version);
    let old = request.manifest.map_or(&[][..], |manifest| &manifest.segments);
    let sorted = sort_events(engine, gather).await?;
    let state_failed = |action| move |cause| EngineError::State { action, cause };
    let staged = request.segments.stage(request.audience).await.map_err(state_failed("stage a ledger segment"))?;
    // What changes hands may stand in any segment.
    let compacts = new_owner.is_some() || must_compact(old, sorted.count);
    let segments = open_segments(&request).await?;
    let merge = Merge { segments, target: staged.path.clone(), compacts, new_owner };
    let merged = sorted.merge(engine, merge).await?;
    let name = staged.name.clone();
    request.segments.seal(staged).await.map_err(state_failed("seal a ledger segment"))?;
    let new = SegmentRef {
        name,
        entries: merged.written.rows,
        bytes: merged.written.bytes,
        digest: merged.written.digest.clone(),
    };
    let kept = if compacts { 0 } else { 1 };
    let counts = merged.counts;
    hold_against_manifest(&request, &counts)?;
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

/// The segments of the ledger that is folded into, oldest first.
pub(super) async fn open_segments(request: &FoldRequest<'_>) -> Result<Vec<PathBuf>, EngineError> {
    let old = request.manifest.map_or(&[][..], |manifest| &manifest.segments);
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

/// The rows that the merge met are those that the manifest tells of; else a segment is not what it was.
fn hold_against_manifest(request: &FoldRequest<'_>, counts: &LedgerCounts) -> Result<(), EngineError> {
    let live = request.manifest.map_or(0, |manifest| manifest.live);
    if counts.live_before == live {
        return Ok(());
    }
    Err(EngineError::Ledger { audience: request.audience.clone(), told: live, found: counts.live_before })
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

/// Events in the order in which they happened, on their way into the sort.
pub(crate) struct Events {
    input: SortInput,
    places: BinaryBuilder,
    kinds: UInt8Builder,
    contents: BinaryBuilder,
    orders: BinaryBuilder,
    row_ids: StringBuilder,
    owners: StringBuilder,
    count: u64,
}

impl Events {
    fn new(input: SortInput) -> Self {
        Self {
            input,
            places: BinaryBuilder::new(),
            kinds: UInt8Builder::new(),
            contents: BinaryBuilder::new(),
            orders: BinaryBuilder::new(),
            row_ids: StringBuilder::new(),
            owners: StringBuilder::new(),
            count: 0,
        }
    }

    pub(crate) async fn push(&mut self, event: Event<'_>) -> Result<(), EngineError> {
        let mut place = [0; KEY_BYTES + size_of::<u64>()];
        place[..KEY_BYTES].copy_from_slice(&event.key.0);
        place[KEY_BYTES..].copy_from_slice(&self.count.to_be_bytes());
        self.places.append_value(place);
        self.kinds.append_value(event.kind.code());
        self.contents.append_value(event.content.0);
        self.orders.append_value(event.order);
        self.row_ids.append_value(event.row_id);
        self.owners.append_value(event.owner.as_str());
        self.count += 1;
        if self.count.is_multiple_of(BATCH_ROWS) { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), EngineError> {
        let batch = RecordBatch::try_new(
            Arc::clone(&EVENTS),
            vec![
                Arc::new(self.places.finish()),
                Arc::new(self.kinds.finish()),
                Arc::new(self.contents.finish()),
                Arc::new(self.orders.finish()),
                Arc::new(self.row_ids.finish()),
                Arc::new(self.owners.finish()),
            ],
        );
        self.input.push(batch.expect("the builders grow together")).await
    }
}

/// Events in the order of keys, those of one key in the order in which they happened.
struct SortedEvents {
    count: u64,
    first: Option<RecordBatch>,
    rest: SendableRecordBatchStream,
}

/// Takes all events in; the sort gives its first batch once it has the last.
async fn sort_events(
    engine: &Engine,
    gather: impl AsyncFnOnce(&mut Events) -> Result<(), EngineError>,
) -> Result<SortedEvents, EngineError> {
    let fail = |cause| engine.query_failed(SORT, &cause);
    let (input, mut rest) = sorting::sort(&engine.session(), &EVENTS, PLACE).await.map_err(fail)?;
    let feed = async {
        let mut events = Events::new(input);
        gather(&mut events).await?;
        events.flush().await?;
        Ok(events.count)
    };
    let (count, first) = tokio::join!(feed, rest.next());
    let first = first.transpose().map_err(fail)?;
    Ok(SortedEvents { count: count?, first, rest })
}

impl SortedEvents {
    async fn merge(self, engine: &Engine, merge: Merge) -> Result<Merged, EngineError> {
        let (sender, events) = channel(BATCHES_AHEAD);
        let Self { count, first, mut rest } = self;
        let feed = async move {
            let mut next = first.map(Ok);
            while let Some(batch) = next {
                let batch = batch.map_err(|cause| engine.query_failed(SORT, &cause));
                if sender.send(batch).await.is_err() {
                    return;
                }
                next = rest.next().await;
            }
        };
        let ((), merged) = tokio::join!(feed, blocking(move || merge::run(&merge, events)));
        let merged = merged?;
        // A feed that was cut short would look like the end of the events.
        if merged.events == count { Ok(merged) } else { Err(EngineError::Stopped) }
    }
}
