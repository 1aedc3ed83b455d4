//! The columns of many objects together.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use convoke_core::source::SourceSchema;
use convoke_core::spec::{ObjectFormat, ObjectsMode, SchemaPolicy};
use convoke_core::{Origin, SourceError};
use convoke_objects::{ListedObject, Pin};
use futures::{StreamExt, TryStreamExt};

use crate::columns::Columns;
use crate::drift::{self, Drift, KnownColumn, Measure};
use crate::footer::{Footer, read_footer};
use crate::object_source::ObjectSource;

/// Objects whose columns are read at once.
const READ_AT_ONCE: usize = 16;

/// Objects that are tried, the newest first, when the columns are asked for before a discovery.
const TRIED_FOR_COLUMNS: usize = 16;

/// The columns of what is to be read, and what is to be told of them.
#[derive(Clone)]
pub(crate) struct Described {
    pub(crate) schema: SourceSchema,
    /// What is known once it is read; none if nothing was known and nothing is read.
    pub(crate) known: Option<Vec<KnownColumn>>,
    pub(crate) notices: Vec<String>,
}

impl ObjectSource {
    /// The columns of the newest objects together, as far as they can be read and fit the newest; of that alone where all
    /// have to be alike.
    pub(crate) async fn newest_schema(&self) -> Result<SourceSchema, SourceError> {
        let listing = self.list().await?;
        let (mut merging, mut first_reason) = (Merging::since(None), None);
        let newest_first = futures::stream::iter(listing.objects.iter().rev().take(TRIED_FOR_COLUMNS));
        let mut read = newest_first
            .map(|object| async move { (object, self.fields_of(object).await) })
            .buffered(self.described_together())
            .boxed();
        while let Some((object, fields)) = read.next().await {
            let added = match fields {
                Ok(Ok(fields)) => merging.add(self, object, &fields),
                Ok(Err(reason)) => {
                    first_reason.get_or_insert_with(|| self.unreadable(object, &reason));
                    continue;
                }
                Err(error) => Err(error),
            };
            match added {
                // Whoever reads that object is told what is wrong with it.
                Err(_) if merging.count > 0 => break,
                Err(error) => return Err(error),
                Ok(()) if merging.count == self.described_together() => break,
                Ok(()) => {}
            }
        }
        if merging.count > 0 {
            return Ok(merging.end(self).schema);
        }
        Err(first_reason.unwrap_or_else(|| self.nothing_there(&listing.notices)))
    }

    /// How many of the newest objects tell the columns.
    fn described_together(&self) -> usize {
        match self.spec.format {
            _ if self.spec.schema == SchemaPolicy::Strict => 1,
            // Each is read to its end for that.
            ObjectFormat::Ndjson { .. } => 4,
            _ => TRIED_FOR_COLUMNS,
        }
    }

    /// The columns of these objects together, the newest first. Those that are broken are left out: who reads them is told.
    /// Of a snapshot one at least has to be whole.
    pub(crate) async fn schema_of(
        &self,
        objects: &[ListedObject],
        known: Option<&[KnownColumn]>,
    ) -> Result<Described, SourceError> {
        let (mut merging, mut first_reason) = (Merging::since(known), None);
        let newest_first = futures::stream::iter(objects.iter().rev());
        let mut read = newest_first
            .map(|object| async move { Ok((object, self.fields_of(object).await?)) })
            .buffered(READ_AT_ONCE)
            .boxed();
        while let Some((object, fields)) = read.try_next().await? {
            match fields {
                Ok(fields) => merging.add(self, object, &fields)?,
                Err(reason) => drop(first_reason.get_or_insert_with(|| self.unreadable(object, &reason))),
            }
        }
        match first_reason {
            Some(error) if merging.count == 0 && self.spec.mode == ObjectsMode::Snapshot => Err(error),
            _ => Ok(merging.end(self)),
        }
    }

    /// The columns that stand in an object. The inner error says why it is broken.
    async fn fields_of(&self, object: &ListedObject) -> Result<Result<Fields, String>, SourceError> {
        let pin = &object.pin;
        if let Some(format) = &self.stream_format {
            let fields = format.fields(&self.store, pin).await?;
            if let (Ok(fields), true) = (&fields, self.spec.hive_partitions) {
                self.run().keep_fields(pin, fields.clone());
            }
            return Ok(fields);
        }
        Ok(read_footer(&self.store, pin, None).await?.map(|Footer { fields, tail }| {
            self.run().keep_tail(pin, tail);
            fields
        }))
    }

    /// The columns that stand in an object that is read as a stream; none if it is broken, which its reader tells.
    pub(crate) async fn streamed_fields(&self, pin: &Pin) -> Result<Option<Fields>, SourceError> {
        let kept = self.run().fields_of(pin);
        match (kept, &self.stream_format) {
            (Some(fields), _) => Ok(Some(fields)),
            (None, Some(format)) => Ok(format.fields(&self.store, pin).await?.ok()),
            (None, None) => Ok(None),
        }
    }

    fn unreadable(&self, object: &ListedObject, reason: &str) -> SourceError {
        let url = self.location.url_of(&object.pin.key);
        SourceError::new(
            Origin::User,
            match &self.stream_format {
                None => format!("`{url}` is no whole Parquet file: {reason}; write it again, whole"),
                Some(format) => format!("`{url}` cannot be read as {}: {reason}", format.word()),
            },
        )
    }

    fn with_partitions(&self, object: &ListedObject, own: &Fields) -> Result<Fields, SourceError> {
        let mut all: Vec<_> = own.iter().cloned().collect();
        for (name, _) in self.partitions(&object.pin) {
            match own.find(&name) {
                None => all.push(Arc::new(Field::new(name, DataType::Utf8, true))),
                Some(_) if self.pruning.as_ref().is_some_and(|pruning| pruning.is_about(&name)) => {
                    return Err(told_twice(&object.name, &name));
                }
                // A column of the file goes before a partition of the same name: it is what the writer put there.
                Some(_) => {}
            }
        }
        Ok(all.into())
    }

    fn origin(&self, newest: Option<&ListedObject>, count: usize) -> String {
        let newest = newest.map(|object| self.location.url_of(&object.pin.key));
        match (newest, count) {
            (None, _) => format!("{} (without objects)", self.location.url()),
            (Some(url), 1) => url,
            (Some(url), count) => format!("{url} and {} more objects", count - 1),
        }
    }
}

/// The columns of the objects so far, the newest first. What each of them has is not kept.
struct Merging<'k> {
    known: Option<&'k [KnownColumn]>,
    /// What every object has to have under `schema: strict`, and where it was met.
    expected: Option<(Vec<KnownColumn>, String)>,
    columns: Columns,
    newest: Option<ListedObject>,
    count: usize,
}

impl<'k> Merging<'k> {
    fn since(known: Option<&'k [KnownColumn]>) -> Self {
        let there = |known: &[KnownColumn]| known.iter().filter(|known| !known.is_absent()).cloned().collect();
        let expected = known.map(|known| (there(known), "what was read before".to_owned()));
        Self { known, expected, columns: Columns::default(), newest: None, count: 0 }
    }

    fn add(&mut self, source: &ObjectSource, object: &ListedObject, own: &Fields) -> Result<(), SourceError> {
        let all = source.with_partitions(object, own)?;
        if source.spec.schema == SchemaPolicy::Strict {
            let of_newest = || (all.iter().map(|field| KnownColumn::of(field)).collect(), format!("`{}`", object.name));
            let (known, known_from) = self.expected.get_or_insert_with(of_newest);
            drift::refuse_difference(known, known_from, &object.name, &all)?;
        }
        self.columns.add(&object.name, &all)?;
        self.newest.get_or_insert_with(|| object.clone());
        self.count += 1;
        Ok(())
    }

    fn end(self, source: &ObjectSource) -> Described {
        let leaves_out = matches!(source.spec.format, ObjectFormat::Ndjson { .. });
        let keeps_known = leaves_out && source.spec.mode == ObjectsMode::Append;
        let measure = Measure { policy: source.spec.schema, keeps_known };
        let Drift { schema, known, notices } = drift::since(self.known, self.columns.all(), measure);
        let origin = source.origin(self.newest.as_ref(), self.count);
        Described { schema: SourceSchema { schema, origin }, known, notices }
    }
}

/// Folders are left out by a column that the object has itself: what the folders that were left out hold is not known then.
fn told_twice(object: &str, column: &str) -> SourceError {
    let message = format!(
        "`{object}` has a column `{column}` of its own and lies in a folder `{column}=…`, and `where` is about that column; \
         set `hive_partitions: false`, or write the objects without the column"
    );
    SourceError::new(Origin::User, message)
}
