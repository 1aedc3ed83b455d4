//! Objects behind the `Source` trait: what is to be read, and under which pins.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, Field, Fields};
use async_trait::async_trait;
use convoke_core::source::{
    Coverage, Discover, Discovery, PinnedParquet, Selection, Source, SourcePosition, SourceSchema, Split, SplitContent,
    SplitOutcome,
};
use convoke_core::spec::{ObjectsMode, ObjectsSpec, S3Connection};
use convoke_core::{Origin, SourceError};
use futures::{StreamExt, TryStreamExt};

use crate::columns::Columns;
use crate::footer::{Footer, Tail, read_footer};
use crate::listed::{ListedObject, Pin};
use crate::listing::Listing;
use crate::location::{Location, name_pattern};
use crate::partitions::{Partition, partitions_of};
use crate::pinned::PinnedObject;
use crate::position::Position;
use crate::store::Store;

/// Footers that are read at once.
const FOOTERS_AT_ONCE: usize = 16;

/// Ends of objects that are kept for those who read the footers again: about a thousand.
const KEPT_TAIL_BYTES: usize = 64 << 20;

/// Objects that are tried, the newest first, when the columns are asked for before a discovery.
const TRIED_FOR_COLUMNS: usize = 16;

/// Parquet objects that a URL names.
pub struct ObjectSource {
    spec: ObjectsSpec,
    location: Location,
    store: Arc<Store>,
    run: Mutex<Run>,
}

/// What a discovery leaves for the rest of a run.
#[derive(Default)]
struct Run {
    /// What is to be read; none before a discovery, and where it found nothing.
    chosen: Option<Arc<Vec<ListedObject>>>,
    /// Whether they are what a backfill asked for.
    is_selection: bool,
    schema: Option<SourceSchema>,
    /// The names of all that was listed.
    listed: Option<HashSet<String>>,
    tails: HashMap<String, (Pin, Tail)>,
    tail_bytes: usize,
}

impl Run {
    fn keep_tail(&mut self, pin: &Pin, tail: Tail) {
        if self.tail_bytes + tail.bytes.len() <= KEPT_TAIL_BYTES {
            self.tail_bytes += tail.bytes.len();
            if let Some((_, before)) = self.tails.insert(pin.key.clone(), (pin.clone(), tail)) {
                self.tail_bytes -= before.bytes.len();
            }
        }
    }

    fn take_tail(&mut self, pin: &Pin) -> Option<Tail> {
        let (kept, tail) = self.tails.remove(&pin.key)?;
        self.tail_bytes -= tail.bytes.len();
        (kept == *pin).then_some(tail)
    }
}

impl ObjectSource {
    /// A source over the objects that the URL names; sends nothing yet. Without a connection an S3 store is reached as the
    /// environment says.
    ///
    /// A value serves one run at a time: between a discovery and its acknowledgement, `describe` is about the objects that
    /// were discovered.
    pub fn open(spec: ObjectsSpec, connection: Option<&S3Connection>) -> Result<Self, SourceError> {
        let location = Location::parse(&spec.url)?;
        let store = Arc::new(Store::open(&spec, &location, connection)?);
        Ok(Self { spec, location, store, run: Mutex::default() })
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn list(&self) -> Result<Listing, SourceError> {
        Listing::of(&self.store, &self.location).await
    }

    fn choose(&self, objects: Vec<ListedObject>) {
        *self.run() = Run { chosen: Some(Arc::new(objects)), ..Run::default() };
    }

    fn forget(&self) {
        *self.run() = Run::default();
    }

    fn nothing_there(&self, notices: &[String]) -> SourceError {
        let url = self.location.url();
        let remedy = match self.location.only_key() {
            Some(_) => format!("put it there, or write `{url}/*.parquet` if it is a folder"),
            None => "put one there, or correct `url`; `*` stays within a folder, `**` does not".to_owned(),
        };
        let notices: String = notices.iter().map(|notice| format!("; {notice}")).collect();
        SourceError::new(Origin::User, format!("no object matches `{url}`; {remedy}{notices}"))
    }

    fn partitions(&self, pin: &Pin) -> Vec<Partition> {
        if self.spec.hive_partitions { partitions_of(&pin.key) } else { Vec::new() }
    }

    /// The columns of the newest object that has a footer.
    async fn newest_schema(&self) -> Result<SourceSchema, SourceError> {
        let listing = self.list().await?;
        let mut first_reason = None;
        for object in listing.objects.iter().rev().take(TRIED_FOR_COLUMNS) {
            match read_footer(&self.store, &object.pin, None).await? {
                Ok(footer) => return self.merged(std::slice::from_ref(object), vec![footer.fields]),
                Err(reason) => drop(first_reason.get_or_insert_with(|| self.unreadable(object, &reason))),
            }
        }
        Err(first_reason.unwrap_or_else(|| self.nothing_there(&listing.notices)))
    }

    /// The columns of these objects together, the newest first. Those without a footer are left out: who reads them is told.
    async fn schema_of(&self, objects: &[ListedObject]) -> Result<SourceSchema, SourceError> {
        let (mut readable, mut fields, mut first_reason) = (Vec::new(), Vec::new(), None);
        let newest_first = futures::stream::iter(objects.iter().rev());
        let mut footers = newest_first
            .map(|object| async move { Ok((object, read_footer(&self.store, &object.pin, None).await?)) })
            .buffered(FOOTERS_AT_ONCE)
            .boxed();
        while let Some((object, footer)) = footers.try_next().await? {
            match footer {
                Ok(Footer { fields: own, tail }) => {
                    self.run().keep_tail(&object.pin, tail);
                    readable.push(object.clone());
                    fields.push(own);
                }
                Err(reason) => drop(first_reason.get_or_insert_with(|| self.unreadable(object, &reason))),
            }
        }
        match first_reason {
            Some(error) if readable.is_empty() => Err(error),
            _ => self.merged(&readable, fields),
        }
    }

    fn unreadable(&self, object: &ListedObject, reason: &str) -> SourceError {
        let url = self.location.url_of(&object.pin.key);
        let message = format!("`{url}` is no whole Parquet file: {reason}; write it again, whole");
        SourceError::new(Origin::User, message)
    }

    fn merged(&self, objects: &[ListedObject], fields: Vec<Fields>) -> Result<SourceSchema, SourceError> {
        let mut columns = Columns::default();
        for (object, own) in objects.iter().zip(fields) {
            let mut all: Vec<_> = own.iter().cloned().collect();
            let partitions = self.partitions(&object.pin).into_iter().map(|(name, _)| name);
            // A column of the file goes before a partition of the same name: it is what the writer put there.
            let added = partitions.filter(|name| own.find(name).is_none());
            all.extend(added.map(|name| Arc::new(Field::new(name, DataType::Utf8, true))));
            columns.add(&object.name, &all.into())?;
        }
        Ok(SourceSchema { schema: columns.schema(), origin: self.origin(objects) })
    }

    fn origin(&self, objects: &[ListedObject]) -> String {
        let newest = objects.first().map(|object| self.location.url_of(&object.pin.key));
        match (newest, objects.len()) {
            (None, _) => format!("{} (without objects)", self.location.url()),
            (Some(url), 1) => url,
            (Some(url), count) => format!("{url} and {} more objects", count - 1),
        }
    }

    fn snapshot(&self, objects: Vec<ListedObject>, known: Option<&Position>, request: &Discover<'_>) -> Discovery {
        let is_known = known.is_some_and(|known| known.is_exactly(&objects));
        let mut notices = Vec::new();
        if objects.is_empty() {
            notices.push(format!("no object matches `{}` any more: the snapshot is empty", self.location.url()));
        }
        let unchanged = is_known && (objects.is_empty() || !request.reread);
        let splits = if unchanged { Vec::new() } else { objects.iter().map(ListedObject::split).collect() };
        if !unchanged {
            self.choose(objects);
        }
        Discovery { splits, coverage: Coverage::Snapshot, unchanged, settled: Vec::new(), notices }
    }

    fn additions(&self, mut objects: Vec<ListedObject>, known: Option<&Position>, request: &Discover<'_>) -> Discovery {
        let listed = objects.iter().map(|object| object.name.clone()).collect();
        objects.retain(|object| request.reread || known.is_none_or(|known| !known.holds(object)));
        let splits: Vec<Split> = objects.iter().map(ListedObject::split).collect();
        if !splits.is_empty() {
            self.choose(objects);
            self.run().listed = Some(listed);
        }
        let unchanged = splits.is_empty();
        Discovery { splits, coverage: Coverage::Delta, unchanged, settled: Vec::new(), notices: Vec::new() }
    }

    /// The partitions that do not stand in the file, and what was read of the file to know that.
    async fn constants(&self, pin: &Pin) -> Result<(Vec<Partition>, Option<Tail>), SourceError> {
        let tail = self.run().take_tail(pin);
        let mut partitions = self.partitions(pin);
        if partitions.is_empty() {
            return Ok((partitions, tail));
        }
        match read_footer(&self.store, pin, tail.clone()).await? {
            Ok(footer) => {
                partitions.retain(|(name, _)| footer.fields.find(name).is_none());
                Ok((partitions, Some(footer.tail)))
            }
            // Who reads the file finds the same, and tells.
            Err(_) => Ok((partitions, tail)),
        }
    }
}

#[async_trait]
impl Source for ObjectSource {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        let chosen = {
            let run = self.run();
            if let Some(schema) = &run.schema {
                return Ok(schema.clone());
            }
            run.chosen.clone()
        };
        let Some(objects) = chosen else { return self.newest_schema().await };
        let schema = self.schema_of(&objects).await?;
        self.run().schema = Some(schema.clone());
        Ok(schema)
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        self.forget();
        let root = self.location.root_url();
        let known = request.stored.map(|stored| Position::parse(stored, &root)).transpose()?;
        let Listing { objects, notices } = self.list().await?;
        if objects.is_empty() && known.is_none() {
            return Err(self.nothing_there(&notices));
        }
        let mut discovery = match self.spec.mode {
            ObjectsMode::Snapshot => self.snapshot(objects, known.as_ref(), &request),
            ObjectsMode::Append => self.additions(objects, known.as_ref(), &request),
        };
        discovery.notices.extend(notices);
        Ok(discovery)
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        self.forget();
        let Listing { mut objects, mut notices } = self.list().await?;
        match selection {
            Selection::All => {}
            Selection::Objects(glob) => {
                let is_wanted = name_pattern(glob)?;
                objects.retain(|object| is_wanted(&object.name));
            }
            Selection::Between { from, to } => objects.retain(|object| {
                from.is_none_or(|from| object.modified >= from) && to.is_none_or(|to| object.modified < to)
            }),
        }
        if objects.is_empty() {
            notices.push(format!("no object of `{}` is of the kind that was asked for", self.location.url()));
        }
        let splits: Vec<Split> = objects.iter().map(ListedObject::split).collect();
        let unchanged = splits.is_empty();
        if !unchanged {
            self.choose(objects);
            self.run().is_selection = true;
        }
        Ok(Discovery { splits, coverage: Coverage::Delta, unchanged, settled: Vec::new(), notices })
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let pin = Pin::of(split)?;
        let (constants, tail) = self.constants(&pin).await?;
        let file = Arc::new(PinnedObject::new(Arc::clone(&self.store), pin, tail));
        Ok(SplitContent::Parquet(PinnedParquet { file, constants }))
    }

    /// Objects that are the truth together only are listed again.
    async fn still_holds(&self, splits: &[Split]) -> Result<(), SourceError> {
        if self.spec.mode == ObjectsMode::Append || self.run().is_selection {
            return Ok(());
        }
        let Some((key, what)) = self.list().await?.difference(splits)? else { return Ok(()) };
        let url = self.location.url_of(&key);
        let message = format!(
            "`{url}` {what} while the objects were read, which count only together; run again to read what is there now"
        );
        Err(SourceError::changed(message))
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        let root = self.location.root_url();
        let position = match self.spec.mode {
            ObjectsMode::Snapshot => Position::of_snapshot(&root, outcomes),
            ObjectsMode::Append => {
                // `discover` has refused a position that is not ours before any outcome could come of it.
                let known = stored.and_then(|stored| Position::parse(stored, &root).ok());
                let listed = self.run().listed.clone();
                known.unwrap_or_else(|| Position::empty(&root)).after_additions(outcomes, listed.as_ref())
            }
        };
        position.store()
    }

    /// Nothing moves.
    async fn acknowledge(&self, _outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        self.forget();
        Ok(())
    }
}
