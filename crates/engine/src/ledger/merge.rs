//! The merge at the heart of a fold: base, delta and events, all sorted by key, in one pass.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::PathBuf;

use arrow::array::{AsArray, BinaryArray, RecordBatch, StringArray, UInt8Array};
use convoke_core::ledger::{LedgerEntry, RowState};
use convoke_core::plan::LedgerCounts;
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};
use tokio::sync::mpsc::Receiver;

use super::event::{Effect, Event, EventKind, apply};
use super::fold::{KEY_BYTES, NewOwner};
use super::segment::{SegmentReader, SegmentWriter};
use crate::error::EngineError;
use crate::files::WrittenFile;

/// Duplicates named one by one.
const NAMED_DUPLICATES: usize = 1_000;

/// What is merged into what.
pub(super) struct Merge {
    /// Oldest first.
    pub(super) segments: Vec<PathBuf>,
    pub(super) target: PathBuf,
    /// Write a base instead of a delta: of what is deleted it has no more than how new the record was that said so.
    pub(super) compacts: bool,
    /// Whose entries become whose, once the events are merged in.
    pub(super) new_owner: Option<NewOwner>,
}

/// What the merge wrote and counted.
pub(crate) struct Merged {
    pub(super) written: WrittenFile,
    pub(super) counts: LedgerCounts,
    /// Change of live rows per owner.
    pub(super) owners: BTreeMap<SyncName, i64>,
    /// Events that were merged in.
    pub(crate) events: u64,
    pub(super) known: u64,
    /// Adopted rows that a retired sync had left.
    pub(super) taken_over: u64,
    pub(super) duplicates: Vec<RowId>,
    pub(super) duplicate_count: u64,
}

type Entries = Peekable<SegmentReader>;

/// Runs the merge with these events, sorted by key. Memory is bounded by one batch per segment and of events.
pub(super) fn run(merge: &Merge, events: Receiver<Result<RecordBatch, EngineError>>) -> Result<Merged, EngineError> {
    let mut layers = Vec::with_capacity(merge.segments.len());
    for path in &merge.segments {
        layers.push(SegmentReader::open(path)?.peekable());
    }
    let mut events = EventReader::start(events)?;
    let mut writer = SegmentWriter::create(&merge.target)?;
    let mut tally = Tally::default();
    while let Some(key) = least_key(&mut layers, &events)? {
        let (mut current, from_base) = take_entry(&mut layers, key)?;
        let before = owner_of(current.as_ref());
        let had_events = tally.apply_all(&mut current, &mut events, key)?;
        change_hands(merge.new_owner.as_ref(), current.as_mut());
        tally.move_owner(before, owner_of(current.as_ref()));
        let kept =
            if merge.compacts { current.and_then(kept_in_base) } else { current.filter(|_| had_events || !from_base) };
        if let Some(entry) = kept {
            writer.push(&entry)?;
        }
    }
    let Tally { counts, owners, events, known, taken_over, duplicates, duplicate_count } = tally;
    Ok(Merged { written: writer.finish()?, counts, owners, events, known, taken_over, duplicates, duplicate_count })
}

#[derive(Default)]
struct Tally {
    counts: LedgerCounts,
    owners: BTreeMap<SyncName, i64>,
    events: u64,
    known: u64,
    taken_over: u64,
    duplicates: Vec<RowId>,
    duplicate_count: u64,
}

impl Tally {
    /// Applies the events of one key, in their order; tells whether there were any.
    fn apply_all(
        &mut self,
        current: &mut Option<LedgerEntry>,
        events: &mut EventReader,
        key: KeyHash,
    ) -> Result<bool, EngineError> {
        let mut had_events = false;
        while let Some(event) = events.peek().filter(|event| event.key == key) {
            had_events = true;
            self.events += 1;
            match apply(current, event, &mut self.counts) {
                Effect::Done => {}
                Effect::Known => self.known += 1,
                Effect::TakenOver => self.taken_over += 1,
                Effect::Duplicate => self.note_duplicate(event.row_id),
            }
            events.advance()?;
        }
        Ok(had_events)
    }

    fn note_duplicate(&mut self, row_id: &str) {
        self.duplicate_count += 1;
        if self.duplicates.len() < NAMED_DUPLICATES {
            self.duplicates.push(RowId::new(row_id));
        }
    }

    /// Counts the live rows that the merge meets and leaves behind, and what changes for their owners.
    fn move_owner(&mut self, before: Option<SyncName>, after: Option<SyncName>) {
        self.counts.live_before += u64::from(before.is_some());
        self.counts.live_after += u64::from(after.is_some());
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

/// What a base keeps of an entry. Of a row that was deleted by a record that can be compared with others that is its order
/// value; nobody looks for that under the name of a sync that was retired.
fn kept_in_base(entry: LedgerEntry) -> Option<LedgerEntry> {
    if entry.state != RowState::Deleted {
        return Some(entry);
    }
    let is_of_use = !entry.order.is_empty() && !entry.owner.is_nobody();
    is_of_use.then(|| LedgerEntry { content: ContentHash::UNKNOWN, row_id: RowId::new(""), ..entry })
}

fn change_hands(new_owner: Option<&NewOwner>, entry: Option<&mut LedgerEntry>) {
    if let (Some(new_owner), Some(entry)) = (new_owner, entry)
        && entry.owner == new_owner.from
    {
        entry.owner = new_owner.to.clone();
    }
}

fn owner_of(entry: Option<&LedgerEntry>) -> Option<SyncName> {
    entry.filter(|entry| entry.state == RowState::Live).map(|entry| entry.owner.clone())
}

fn least_key(layers: &mut [Entries], events: &EventReader) -> Result<Option<KeyHash>, EngineError> {
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
    if let Some(event) = events.peek() {
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

/// Goes over sorted events.
struct EventReader {
    batches: Receiver<Result<RecordBatch, EngineError>>,
    /// None at the end.
    current: Option<EventBatch>,
    row: usize,
    /// The current event's owner; most have the same.
    owner: SyncName,
}

impl EventReader {
    fn start(batches: Receiver<Result<RecordBatch, EngineError>>) -> Result<Self, EngineError> {
        let mut reader = Self { batches, current: None, row: 0, owner: SyncName::new("") };
        reader.next_batch()?;
        Ok(reader)
    }

    fn peek(&self) -> Option<Event<'_>> {
        Some(self.current.as_ref()?.event(self.row, &self.owner))
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        self.row += 1;
        if self.current.as_ref().is_none_or(|batch| self.row == batch.kinds.len()) {
            return self.next_batch();
        }
        self.note_owner();
        Ok(())
    }

    fn note_owner(&mut self) {
        let owner = self.current.as_ref().map(|batch| batch.owners.value(self.row));
        if let Some(owner) = owner.filter(|owner| *owner != self.owner.as_str()) {
            self.owner = SyncName::new(owner);
        }
    }

    fn next_batch(&mut self) -> Result<(), EngineError> {
        self.row = 0;
        self.current = None;
        while let Some(batch) = self.batches.blocking_recv() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                self.current = Some(EventBatch::of(&batch));
                self.note_owner();
                break;
            }
        }
        Ok(())
    }
}

/// A batch of events, column by column.
struct EventBatch {
    places: BinaryArray,
    kinds: UInt8Array,
    contents: BinaryArray,
    orders: BinaryArray,
    row_ids: StringArray,
    owners: StringArray,
}

impl EventBatch {
    fn of(batch: &RecordBatch) -> Self {
        Self {
            places: batch.column(0).as_binary().clone(),
            kinds: batch.column(1).as_primitive().clone(),
            contents: batch.column(2).as_binary().clone(),
            orders: batch.column(3).as_binary().clone(),
            row_ids: batch.column(4).as_string().clone(),
            owners: batch.column(5).as_string().clone(),
        }
    }

    fn event<'a>(&'a self, row: usize, owner: &'a SyncName) -> Event<'a> {
        const OURS: &str = "this process made the events";
        Event {
            key: KeyHash(self.places.value(row)[..KEY_BYTES].try_into().expect(OURS)),
            kind: EventKind::from_code(self.kinds.value(row)).expect(OURS),
            content: ContentHash(self.contents.value(row).try_into().expect(OURS)),
            order: self.orders.value(row),
            row_id: self.row_ids.value(row),
            owner,
        }
    }
}
