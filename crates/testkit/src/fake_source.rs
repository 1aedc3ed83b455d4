//! A source in memory, with faults: it is cut off, or ends its splits in another order than they were begun.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use convoke_core::SourceError;
use convoke_core::source::{
    Coverage, Discover, Discovery, Selection, Source, SourceBatch, SourcePosition, SourceSchema, Split, SplitContent,
    SplitItem, SplitOutcome,
};
use futures::StreamExt;
use tokio::sync::Semaphore;

/// A record of a fake source: text cells, in the order of its columns.
pub type FakeRecord = Vec<String>;

/// What happens to a split that is read, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// It cannot be opened.
    Refused,
    /// It is cut off after so many records.
    CutOff { after: usize },
    /// The same, and it is no longer what was listed.
    Changed { after: usize },
}

/// A source in memory. Each split is named once; what is put under its name replaces it.
pub struct FakeSource {
    columns: Vec<String>,
    coverage: Coverage,
    at_once: NonZeroUsize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    splits: Vec<(String, Vec<FakeRecord>)>,
    faults: HashMap<String, VecDeque<ReadFault>>,
    /// Splits that yield nothing until they are let go.
    gates: HashMap<String, Arc<Semaphore>>,
    /// Calls that a discovery, a selection or a description is cut off for.
    listing_faults: usize,
    reads: Vec<String>,
    is_held: bool,
    finished: usize,
}

impl FakeSource {
    pub fn new(columns: &[&str], coverage: Coverage, at_once: usize) -> Arc<Self> {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        let at_once = NonZeroUsize::new(at_once).expect("one at least");
        Arc::new(Self { columns, coverage, at_once, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, name: &str, records: Vec<FakeRecord>) {
        let mut held = self.held();
        held.splits.retain(|(known, _)| known != name);
        held.splits.push((name.to_owned(), records));
    }

    /// What happens to the next readings of a split.
    pub fn script(&self, name: &str, faults: impl IntoIterator<Item = ReadFault>) {
        self.held().faults.entry(name.to_owned()).or_default().extend(faults);
    }

    /// The next calls that list or describe are cut off.
    pub fn cut_off_listing(&self, calls: usize) {
        self.held().listing_faults = calls;
    }

    /// Holds a split back from here on: read, it yields nothing until [`FakeSource::let_go`].
    pub fn hold_back(&self, name: &str) {
        self.held().gates.insert(name.to_owned(), Arc::new(Semaphore::new(0)));
    }

    pub fn let_go(&self, name: &str) {
        self.held().gates.remove(name).iter().for_each(|gate| gate.close());
    }

    /// The splits that were opened, in that order.
    pub fn reads(&self) -> Vec<String> {
        self.held().reads.clone()
    }

    /// Whether something is held for reading, from a discovery on until it was told that reading is over.
    pub fn is_held(&self) -> bool {
        self.held().is_held
    }

    /// How often it was told that reading is over.
    pub fn finished_calls(&self) -> usize {
        self.held().finished
    }

    fn schema(&self) -> SchemaRef {
        let field = |name: &String| Field::new(name, DataType::Utf8, true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    fn list(&self, wanted: impl Fn(&str) -> bool, coverage: Coverage) -> Result<Discovery, SourceError> {
        self.listing_fault()?;
        let mut held = self.held();
        held.is_held = true;
        let named = held.splits.iter().filter(|(name, _)| wanted(name));
        let splits: Vec<_> = named.map(|(name, records)| split_of(name, records)).collect();
        let unchanged = splits.is_empty();
        Ok(Discovery { splits, coverage, unchanged, settled: Vec::new(), notices: Vec::new() })
    }

    fn listing_fault(&self) -> Result<(), SourceError> {
        let left = &mut self.held().listing_faults;
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(cut_off())
    }

    fn batch(&self, records: &[FakeRecord]) -> RecordBatch {
        let column = |index: usize| {
            let cells = records.iter().map(|record| record.get(index).map(String::as_str));
            Arc::new(cells.collect::<StringArray>()) as ArrayRef
        };
        RecordBatch::try_new(self.schema(), (0..self.columns.len()).map(column).collect())
            .expect("a column for each field")
    }

    fn items(&self, records: &[FakeRecord], fault: Option<ReadFault>) -> Vec<Result<SplitItem, SourceError>> {
        let kept = match fault {
            Some(ReadFault::CutOff { after } | ReadFault::Changed { after }) => &records[..after.min(records.len())],
            Some(ReadFault::Refused) | None => records,
        };
        let mut items = Vec::new();
        for (number, part) in kept.chunks(BATCH_RECORDS).enumerate() {
            let first = (number * BATCH_RECORDS) as u64 + 1;
            let positions = (first..first + part.len() as u64).collect();
            let bytes_read = first + part.len() as u64 - 1;
            items.push(Ok(SplitItem::Records(SourceBatch { records: self.batch(part), positions, bytes_read })));
        }
        items.push(match fault {
            None => Ok(SplitItem::End { fingerprint: format!("{} records", records.len()) }),
            Some(ReadFault::Changed { .. }) => Err(SourceError::changed("the split is another one now")),
            Some(_) => Err(cut_off()),
        });
        items
    }
}

/// Records of a batch.
const BATCH_RECORDS: usize = 1_000;

fn cut_off() -> SourceError {
    SourceError::interrupted("the connection was lost")
}

fn split_of(name: &str, records: &[FakeRecord]) -> Split {
    let detail = serde_json::to_value(records.len()).expect("a number is JSON");
    Split { name: name.to_owned(), detail, bytes: Some(records.len() as u64) }
}

#[async_trait]
impl Source for FakeSource {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        self.listing_fault()?;
        Ok(SourceSchema { schema: self.schema(), origin: "a fake".to_owned() })
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        let known: Vec<String> = match request.stored.filter(|_| !request.reread) {
            Some(SourcePosition(names)) => serde_json::from_value(names.clone()).expect("a position of this source"),
            None => Vec::new(),
        };
        let is_snapshot = self.coverage == Coverage::Snapshot;
        let newest = self.held().splits.last().map(|(name, _)| name.clone());
        let counts = |name: &str| !is_snapshot || newest.as_deref() == Some(name);
        self.list(|name| counts(name) && !known.iter().any(|known| known == name), self.coverage)
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        let newest = self.held().splits.last().map(|(name, _)| name.clone());
        let counts = |name: &str| self.coverage == Coverage::Delta || newest.as_deref() == Some(name);
        match selection {
            Selection::All => self.list(counts, Coverage::Delta),
            Selection::Objects(wanted) => self.list(|name| name == wanted, Coverage::Delta),
            Selection::Named(names) => self.list(|name| names.iter().any(|wanted| wanted == name), Coverage::Delta),
            Selection::Between { .. } | Selection::Untimed => Err(SourceError::selection("a fake knows no times")),
        }
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let (records, fault, gate) = {
            let mut held = self.held();
            held.reads.push(split.name.clone());
            let found = held.splits.iter().find(|(name, records)| split_of(name, records) == *split);
            let Some((_, records)) = found else { return Err(SourceError::changed("the split is another one now")) };
            let records = records.clone();
            let fault = held.faults.get_mut(&split.name).and_then(VecDeque::pop_front);
            (records, fault, held.gates.get(&split.name).cloned())
        };
        if fault == Some(ReadFault::Refused) {
            return Err(cut_off());
        }
        let items = self.items(&records, fault);
        let opened = async move {
            if let Some(gate) = gate {
                // It is closed to let go.
                let _closed = gate.acquire().await;
            }
            futures::stream::iter(items)
        };
        Ok(SplitContent::Stream(futures::stream::once(opened).flatten().boxed()))
    }

    fn splits_at_once(&self) -> NonZeroUsize {
        self.at_once
    }

    async fn finished(&self) {
        let mut held = self.held();
        held.is_held = false;
        held.finished += 1;
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        let known = stored.map(|stored| serde_json::from_value(stored.0.clone()).expect("a position of this source"));
        let mut names: Vec<String> = known.unwrap_or_default();
        names.extend(outcomes.iter().map(|outcome| outcome.split.name.clone()));
        names.sort();
        names.dedup();
        SourcePosition(serde_json::to_value(names).expect("names are JSON"))
    }

    async fn acknowledge(&self, _outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        Ok(())
    }
}
