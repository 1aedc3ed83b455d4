//! Objects behind the `Source` trait: what is to be read, and under which pins.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use convoke_core::rule::Rule;
use convoke_core::source::{
    Coverage, Discover, Discovery, PinnedParquet, Selection, Settling, Source, SourcePosition, SourceSchema, Split,
    SplitContent, SplitOutcome,
};
use convoke_core::spec::{Filter, ObjectStoreConnection, ObjectsMode, ObjectsSpec};
use convoke_core::time::Clock;
use convoke_core::{Origin, SourceError};
use convoke_objects::{ListedObject, Listing, Location, Pin, Store, name_pattern};

use crate::footer::read_footer;
use crate::partitions::pruning::Pruning;
use crate::partitions::{Partition, partitions_of};
use crate::pinned::PinnedObject;
use crate::position::Position;
use crate::run::{KeptTail, Run};
use crate::stream::StreamFormat;

/// Objects that a URL names.
pub struct ObjectSource {
    pub(crate) spec: ObjectsSpec,
    pub(crate) location: Location,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// None: Parquet, which is read where it is.
    pub(crate) stream_format: Option<StreamFormat>,
    /// Which folders need not be listed.
    pub(crate) pruning: Option<Pruning>,
    run: Mutex<Run>,
}

impl ObjectSource {
    /// A source over the objects that the URL names; sends nothing yet. Without a connection a store is reached as the
    /// environment says.
    ///
    /// A value serves one run at a time: between a discovery and its acknowledgement, `describe` is about the objects that
    /// were discovered.
    ///
    /// # Errors
    ///
    /// A specification that nothing can be read by.
    pub fn open(
        spec: ObjectsSpec,
        connection: Option<&ObjectStoreConnection>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let location = Location::parse(&spec.url)?;
        let store = Store::open(&location, spec.connection.as_ref(), connection)?;
        let stream_format = StreamFormat::of(&spec.format)?;
        Ok(Self { spec, location, store, clock, stream_format, pruning: None, run: Mutex::default() })
    }

    /// Lets folders be left out whose records this filter would not let through. Only a rule tells that. A record that says
    /// it is deleted passes every filter.
    #[must_use]
    pub fn filtered(self, filter: Option<&Filter>, deleted: Option<&Filter>) -> Self {
        let pruning = match (filter, deleted) {
            _ if !self.spec.hive_partitions => None,
            (Some(Filter::Rule(rule)), None) => Pruning::of(rule),
            (Some(Filter::Rule(rule)), Some(Filter::Rule(deleted))) => {
                Pruning::of(&Rule::Any(vec![rule.clone(), deleted.clone()]))
            }
            _ => None,
        };
        Self { pruning, ..self }
    }

    pub(crate) fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn choose(&self, objects: Vec<ListedObject>, known: Option<&Position>) {
        let known = known.and_then(Position::columns).map(<[_]>::to_vec);
        *self.run() = Run::over(objects, known);
    }

    fn forget(&self) {
        *self.run() = Run::default();
    }

    pub(crate) fn nothing_there(&self, notices: &[String]) -> SourceError {
        let url = self.location.url();
        let remedy = match self.location.only_key() {
            Some(_) => format!("put it there, or write `{url}/*.parquet` if it is a folder"),
            None => "put one there, or correct `url`; `*` stays within a folder, `**` does not".to_owned(),
        };
        let notices: String = notices.iter().map(|notice| format!("; {notice}")).collect();
        SourceError::new(Origin::User, format!("no object matches `{url}`; {remedy}{notices}"))
    }

    pub(crate) fn partitions(&self, pin: &Pin) -> Vec<Partition> {
        if self.spec.hive_partitions { partitions_of(&pin.key) } else { Vec::new() }
    }

    /// The partitions that do not stand in the file, and what was read of the file to know that.
    async fn constants(&self, pin: &Pin) -> Result<(Vec<Partition>, Option<KeptTail>), SourceError> {
        let kept = self.run().take_tail(pin);
        let mut partitions = self.partitions(pin);
        if partitions.is_empty() {
            return Ok((partitions, kept));
        }
        match read_footer(&self.store, pin, kept.as_ref().map(|kept| kept.tail.clone())).await? {
            Ok(footer) => {
                partitions.retain(|(name, _)| footer.fields.find(name).is_none());
                let kept = kept.unwrap_or_else(|| self.run().kept(footer.tail));
                Ok((partitions, Some(kept)))
            }
            // Who reads the file finds the same, and tells.
            Err(_) => Ok((partitions, kept)),
        }
    }

    /// Opens an object that is read from front to back.
    async fn stream(&self, format: &StreamFormat, pin: &Pin) -> Result<SplitContent, SourceError> {
        let mut constants = self.partitions(pin);
        if !constants.is_empty() {
            let own = self.streamed_fields(pin).await?;
            constants.retain(|(name, _)| own.as_ref().is_none_or(|own| own.find(name).is_none()));
        }
        let described = self.describe().await?.schema;
        let is_read = |name: &str| !constants.iter().any(|(constant, _)| constant == name);
        let fields = described.fields().iter().filter(|field| is_read(field.name())).cloned();
        let columns = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        constants.retain(|(name, _)| described.field_with_name(name).is_ok());
        Ok(SplitContent::Stream(format.stream(&self.store, pin, columns, constants)))
    }
}

#[async_trait]
impl Source for ObjectSource {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        let chosen = {
            let run = self.run();
            if let Some(described) = &run.described {
                return Ok(described.schema.clone());
            }
            run.chosen.clone()
        };
        let Some(objects) = chosen else { return self.newest_schema().await };
        let known = self.run().known.clone();
        let described = self.schema_of(&objects, known.as_deref()).await?;
        let schema = described.schema.clone();
        self.run().described = Some(described);
        Ok(schema)
    }

    async fn settling(&self) -> Result<Option<Settling>, SourceError> {
        self.unsettled().await
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        self.forget();
        let known = request.stored.map(Position::parse).transpose()?;
        self.find(known.as_ref(), &request).await
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
            Selection::Named(names) => {
                let names: HashSet<&str> = names.iter().map(String::as_str).collect();
                objects.retain(|object| names.contains(&*object.name));
            }
            Selection::Between { from, to } => objects.retain(|object| {
                from.is_none_or(|from| object.modified >= from) && to.is_none_or(|to| object.modified < to)
            }),
            // Each object tells when it was written.
            Selection::Untimed => objects.clear(),
        }
        notices.extend(self.leave_young(&mut objects));
        if objects.is_empty() {
            notices.push(format!("no object of `{}` is of the kind that was asked for", self.location.url()));
        }
        let splits: Vec<Split> = objects.iter().map(ListedObject::split).collect();
        let unchanged = splits.is_empty();
        if !unchanged {
            self.choose(objects, None);
            self.run().is_selection = true;
        }
        Ok(Discovery { splits, coverage: Coverage::Delta, unchanged, settled: Vec::new(), notices })
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let pin = Pin::of(split)?;
        if let Some(format) = &self.stream_format {
            return self.stream(format, &pin).await;
        }
        let (constants, tail) = self.constants(&pin).await?;
        let file = Arc::new(PinnedObject::new(self.store.clone(), pin, tail));
        Ok(SplitContent::Parquet(PinnedParquet { file, constants }))
    }

    /// Objects that are the truth together only are listed again.
    async fn still_holds(&self, splits: &[Split]) -> Result<(), SourceError> {
        if self.spec.mode == ObjectsMode::Append || self.run().is_selection {
            return Ok(());
        }
        let Some(difference) = self.list().await?.difference(splits)? else { return Ok(()) };
        let (url, what) = (self.location.url_of(&difference.key), difference.what);
        let message = format!(
            "`{url}` {what} while the objects were read, which count only together; run again to read what is there now"
        );
        Err(SourceError::changed(message))
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        // `discover` has refused a position that is not ours before any outcome could come of it.
        let before = stored.and_then(|stored| Position::parse(stored).ok()).unwrap_or_else(Position::empty);
        let (kept, known) = {
            let run = self.run();
            (run.kept.clone(), run.described.as_ref().and_then(|described| described.known.clone()))
        };
        let columns = known.or_else(|| before.columns().map(<[_]>::to_vec));
        let position = match self.spec.mode {
            ObjectsMode::Snapshot => Position::of_snapshot(&self.location, outcomes),
            ObjectsMode::Append => before.after_additions(&self.location, outcomes, kept.as_deref()),
        };
        position.knowing(columns).store()
    }

    fn puts_away(&self) -> bool {
        false
    }

    /// Nothing moves.
    async fn acknowledge(&self, _outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        self.forget();
        Ok(())
    }
}
