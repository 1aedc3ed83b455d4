//! The merge at the heart of a fold: base, delta and events, all sorted by key, in one pass.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt8Type};
use convoke_core::ledger::{LedgerEntry, RowState};
use convoke_core::plan::LedgerCounts;
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::event::{Effect, Event, EventKind, apply};
use super::segment::{SegmentReader, SegmentWriter};
use crate::error::EngineError;
use crate::files::{self, WrittenFile};

/// Duplicates named one by one.
const NAMED_DUPLICATES: usize = 1_000;

/// What is merged into what.
pub(super) struct Merge {
    /// Oldest first.
    pub(super) segments: Vec<PathBuf>,
    pub(super) events: PathBuf,
    pub(super) target: PathBuf,
    /// Write a base, without what is deleted, instead of a delta.
    pub(super) compacts: bool,
}

/// What the merge wrote and counted.
pub(super) struct Merged {
    pub(super) written: WrittenFile,
    pub(super) counts: LedgerCounts,
    /// Change of live rows per owner.
    pub(super) owners: BTreeMap<SyncName, i64>,
    pub(super) known: u64,
    pub(super) duplicates: Vec<RowId>,
    pub(super) duplicate_count: u64,
}

type Entries = Peekable<SegmentReader>;

/// Runs the merge. Memory is bounded by one batch per file.
pub(super) fn run(merge: &Merge) -> Result<Merged, EngineError> {
    let mut layers = Vec::with_capacity(merge.segments.len());
    for path in &merge.segments {
        layers.push(SegmentReader::open(path)?.peekable());
    }
    let mut events = EventReader::open(&merge.events)?.peekable();
    let mut writer = SegmentWriter::create(&merge.target)?;
    let mut tally = Tally::default();
    while let Some(key) = least_key(&mut layers, &mut events)? {
        let (mut current, from_base) = take_entry(&mut layers, key)?;
        let before = owner_of(current.as_ref());
        let had_events = tally.apply_all(&mut current, &mut events, key)?;
        tally.move_owner(before, owner_of(current.as_ref()));
        let is_kept = if merge.compacts {
            current.as_ref().is_some_and(|entry| entry.state != RowState::Deleted)
        } else {
            had_events || !from_base
        };
        if let Some(entry) = current.filter(|_| is_kept) {
            writer.push(&entry)?;
        }
    }
    let Tally { counts, owners, known, duplicates, duplicate_count } = tally;
    Ok(Merged { written: writer.finish()?, counts, owners, known, duplicates, duplicate_count })
}

#[derive(Default)]
struct Tally {
    counts: LedgerCounts,
    owners: BTreeMap<SyncName, i64>,
    known: u64,
    duplicates: Vec<RowId>,
    duplicate_count: u64,
}

impl Tally {
    /// Applies the events of one key, in their order; tells whether there were any.
    fn apply_all(
        &mut self,
        current: &mut Option<LedgerEntry>,
        events: &mut Peekable<EventReader>,
        key: KeyHash,
    ) -> Result<bool, EngineError> {
        let mut had_events = false;
        while let Some(event) = events.next_if(|event| event.as_ref().is_ok_and(|event| event.key == key)) {
            let event = event?;
            let row_id = event.row_id.clone();
            had_events = true;
            match apply(current, event, &mut self.counts) {
                Effect::Done => {}
                Effect::Known => self.known += 1,
                Effect::Duplicate => self.note_duplicate(row_id),
            }
        }
        Ok(had_events)
    }

    fn note_duplicate(&mut self, row_id: RowId) {
        self.duplicate_count += 1;
        if self.duplicates.len() < NAMED_DUPLICATES {
            self.duplicates.push(row_id);
        }
    }

    fn move_owner(&mut self, before: Option<SyncName>, after: Option<SyncName>) {
        if before == after {
            return;
        }
        if let Some(owner) = before {
            *self.owners.entry(owner).or_default() -= 1;
        }
        if let Some(owner) = after {
            *self.owners.entry(owner).or_default() += 1;
        }
    }
}

fn owner_of(entry: Option<&LedgerEntry>) -> Option<SyncName> {
    entry.filter(|entry| entry.state == RowState::Live).map(|entry| entry.owner.clone())
}

fn least_key(layers: &mut [Entries], events: &mut Peekable<EventReader>) -> Result<Option<KeyHash>, EngineError> {
    let mut least: Option<KeyHash> = None;
    let mut offer = |key: KeyHash| least = Some(least.map_or(key, |known| known.min(key)));
    for layer in layers {
        if let Some(entry) = layer.next_if(Result::is_err) {
            entry?;
        }
        if let Some(Ok(entry)) = layer.peek() {
            offer(entry.key);
        }
    }
    if let Some(event) = events.next_if(Result::is_err) {
        event?;
    }
    if let Some(Ok(event)) = events.peek() {
        offer(event.key);
    }
    Ok(least)
}

/// Takes a key's entry out of every layer; the newest counts. Tells whether it is the base's, or there is none.
fn take_entry(layers: &mut [Entries], key: KeyHash) -> Result<(Option<LedgerEntry>, bool), EngineError> {
    let (mut newest, mut from_base) = (None, true);
    for (index, layer) in layers.iter_mut().enumerate() {
        if let Some(entry) = layer.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.key == key)) {
            newest = Some(entry?);
            from_base = index == 0;
        }
    }
    Ok((newest, from_base))
}

/// Reads sorted events.
struct EventReader {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    current: std::vec::IntoIter<Event>,
}

impl EventReader {
    fn open(path: &Path) -> Result<Self, EngineError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(files::open(path)?);
        let reader = builder.and_then(ParquetRecordBatchReaderBuilder::build);
        let reader = reader.map_err(|cause| EngineError::parquet("read", path, cause))?;
        Ok(Self { path: path.to_owned(), reader, current: Vec::new().into_iter() })
    }
}

impl Iterator for EventReader {
    type Item = Result<Event, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.current.next() {
                return Some(Ok(event));
            }
            match self.reader.next()?.ok().and_then(|batch| decode(&batch)) {
                Some(events) => self.current = events.into_iter(),
                None => return Some(Err(EngineError::damaged(&self.path, "it does not hold events"))),
            }
        }
    }
}

fn decode(batch: &RecordBatch) -> Option<Vec<Event>> {
    let keys = batch.column(0).as_binary_opt::<i32>()?;
    batch.column(1).as_primitive_opt::<Int64Type>()?;
    let kinds = batch.column(2).as_primitive_opt::<UInt8Type>()?;
    let contents = batch.column(3).as_binary_opt::<i32>()?;
    let orders = batch.column(4).as_binary_opt::<i32>()?;
    let row_ids = batch.column(5).as_string_opt::<i32>()?;
    let owners = batch.column(6).as_string_opt::<i32>()?;
    let mut events = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        events.push(Event {
            key: KeyHash(keys.value(row).try_into().ok()?),
            kind: EventKind::from_code(kinds.value(row))?,
            content: ContentHash(contents.value(row).try_into().ok()?),
            order: orders.value(row).to_vec(),
            row_id: RowId::new(row_ids.value(row)),
            owner: SyncName::new(owners.value(row)),
        });
    }
    Some(events)
}
