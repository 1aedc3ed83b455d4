//! The columns of many objects together.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use convoke_core::source::SourceSchema;
use convoke_core::spec::SchemaPolicy;
use convoke_core::{Origin, SourceError};
use convoke_objects::{ListedObject, Pin};
use futures::{StreamExt, TryStreamExt};

use crate::columns::Columns;
use crate::drift::{self, KnownColumn};
use crate::footer::{Footer, read_footer};
use crate::object_source::ObjectSource;

/// Objects whose columns are read at once.
const READ_AT_ONCE: usize = 16;

/// Objects that are tried, the newest first, when the columns are asked for before a discovery.
const TRIED_FOR_COLUMNS: usize = 16;

/// The columns of what is to be read, and what is to be told of them.
pub(crate) struct Described {
    pub(crate) schema: SourceSchema,
    pub(crate) notices: Vec<String>,
}

impl ObjectSource {
    /// The columns of the newest object that can be read.
    pub(crate) async fn newest_schema(&self) -> Result<SourceSchema, SourceError> {
        let listing = self.list().await?;
        let mut first_reason = None;
        for object in listing.objects.iter().rev().take(TRIED_FOR_COLUMNS) {
            match self.fields_of(object).await? {
                Ok(fields) => return Ok(self.merged(&[(object.clone(), fields)], None)?.schema),
                Err(reason) => drop(first_reason.get_or_insert_with(|| self.unreadable(object, &reason))),
            }
        }
        Err(first_reason.unwrap_or_else(|| self.nothing_there(&listing.notices)))
    }

    /// The columns of these objects together, the newest first. Those that are broken are left out: who reads them is told.
    pub(crate) async fn schema_of(
        &self,
        objects: &[ListedObject],
        known: Option<&[KnownColumn]>,
    ) -> Result<Described, SourceError> {
        let (mut readable, mut first_reason) = (Vec::new(), None);
        let newest_first = futures::stream::iter(objects.iter().rev());
        let mut read = newest_first
            .map(|object| async move { Ok((object, self.fields_of(object).await?)) })
            .buffered(READ_AT_ONCE)
            .boxed();
        while let Some((object, fields)) = read.try_next().await? {
            match fields {
                Ok(fields) => readable.push((object.clone(), fields)),
                Err(reason) => drop(first_reason.get_or_insert_with(|| self.unreadable(object, &reason))),
            }
        }
        match first_reason {
            Some(error) if readable.is_empty() => Err(error),
            _ => self.merged(&readable, known),
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

    fn merged(
        &self,
        objects: &[(ListedObject, Fields)],
        known: Option<&[KnownColumn]>,
    ) -> Result<Described, SourceError> {
        let policy = self.spec.schema;
        let mut columns = Columns::default();
        let mut expected = known.map(|known| (known.to_vec(), "what was read before".to_owned()));
        for (object, own) in objects {
            let all = self.with_partitions(object, own);
            if policy == SchemaPolicy::Strict {
                let of_newest =
                    || (all.iter().map(|field| KnownColumn::of(field)).collect(), format!("`{}`", object.name));
                let (known, known_from) = expected.get_or_insert_with(of_newest);
                drift::refuse_difference(known, known_from, &object.name, &all)?;
            }
            columns.add(&object.name, &all)?;
        }
        let drift = drift::since(known, columns.all(), policy);
        let schema = SourceSchema { schema: drift.schema, origin: self.origin(objects) };
        Ok(Described { schema, notices: drift.notices })
    }

    fn with_partitions(&self, object: &ListedObject, own: &Fields) -> Fields {
        let mut all: Vec<_> = own.iter().cloned().collect();
        let partitions = self.partitions(&object.pin).into_iter().map(|(name, _)| name);
        // A column of the file goes before a partition of the same name: it is what the writer put there.
        let added = partitions.filter(|name| own.find(name).is_none());
        all.extend(added.map(|name| Arc::new(Field::new(name, DataType::Utf8, true))));
        all.into()
    }

    fn origin(&self, objects: &[(ListedObject, Fields)]) -> String {
        let newest = objects.first().map(|(object, _)| self.location.url_of(&object.pin.key));
        match (newest, objects.len()) {
            (None, _) => format!("{} (without objects)", self.location.url()),
            (Some(url), 1) => url,
            (Some(url), count) => format!("{url} and {} more objects", count - 1),
        }
    }
}
