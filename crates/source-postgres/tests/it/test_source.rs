//! Sources over test databases, and what is read of them.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use convoke_core::source::{
    Coverage, Discover, Discovery, Source, SourcePosition, Split, SplitContent, SplitItem, SplitOutcome, SplitResult,
    SplitStream,
};
use convoke_core::spec::{PostgresConnection, PostgresSpec, Relation};
use convoke_core::{ConnectionName, SourceError};
use convoke_source_postgres::PostgresSource;
use convoke_testkit::postgres::TestDatabase;
use futures::StreamExt;

pub(crate) struct TestSource {
    pub(crate) source: PostgresSource,
}

/// What a whole split holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) records: RecordBatch,
    pub(crate) fingerprint: String,
}

/// Makes a source over a database.
pub(crate) trait Sourced {
    fn table(&self, name: &str) -> TestSource;
    fn query(&self, query: &str) -> TestSource;
}

impl Sourced for TestDatabase {
    fn table(&self, name: &str) -> TestSource {
        TestSource::new(self.connection(), table(name))
    }

    fn query(&self, query: &str) -> TestSource {
        TestSource::new(self.connection(), Relation::Query(query.to_owned()))
    }
}

/// `table` or `schema.table`.
pub(crate) fn table(name: &str) -> Relation {
    match name.split_once('.') {
        Some((schema, name)) => Relation::Table { schema: Some(schema.to_owned()), name: name.to_owned() },
        None => Relation::Table { schema: None, name: name.to_owned() },
    }
}

impl TestSource {
    pub(crate) fn new(connection: PostgresConnection, relation: Relation) -> Self {
        Self::timed(connection, relation, None)
    }

    pub(crate) fn timed(connection: PostgresConnection, relation: Relation, time_column: Option<&str>) -> Self {
        Self::with(connection, relation, |spec| spec.time_column = time_column.map(str::to_owned))
    }

    /// A source whose specification is changed so.
    pub(crate) fn with(
        connection: PostgresConnection,
        relation: Relation,
        change: impl FnOnce(&mut PostgresSpec),
    ) -> Self {
        let mut spec = PostgresSpec::whole(ConnectionName::new("database"), relation);
        change(&mut spec);
        Self { source: PostgresSource::open(spec, connection, None).unwrap() }
    }

    /// A source of whose columns these alone are read.
    pub(crate) fn reading(
        connection: PostgresConnection,
        relation: Relation,
        columns: &[&str],
        change: impl FnOnce(&mut PostgresSpec),
    ) -> Self {
        let mut spec = PostgresSpec::whole(ConnectionName::new("database"), relation);
        change(&mut spec);
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        let read = move |schema: &SchemaRef| {
            columns.iter().filter(|column| schema.field_with_name(column).is_ok()).cloned().collect()
        };
        Self { source: PostgresSource::open(spec, connection, Some(Arc::new(read))).unwrap() }
    }

    pub(crate) async fn try_discover(&self) -> Result<Discovery, SourceError> {
        self.source.discover(Discover { stored: None, reread: false }).await
    }

    pub(crate) async fn split(&self) -> Split {
        let mut discovery = self.try_discover().await.unwrap();
        assert_eq!(discovery.splits.len(), 1);
        discovery.splits.remove(0)
    }

    pub(crate) async fn open(&self, split: &Split) -> Result<SplitStream, SourceError> {
        match self.source.read(split).await? {
            SplitContent::Stream(stream) => Ok(stream),
            SplitContent::Parquet(parquet) => panic!("unexpected {parquet:?}"),
        }
    }

    pub(crate) async fn stream(&self) -> SplitStream {
        self.open(&self.split().await).await.unwrap()
    }

    /// Reads a split to its end.
    pub(crate) async fn try_read(&self, split: &Split) -> Result<Contents, SourceError> {
        drain(self.open(split).await?, Vec::new()).await
    }

    pub(crate) async fn read(&self) -> Contents {
        self.try_read(&self.split().await).await.unwrap()
    }

    /// The error of discovering or else of reading.
    pub(crate) async fn error(&self) -> SourceError {
        match self.try_discover().await {
            Ok(discovery) => self.try_read(&discovery.splits[0]).await.unwrap_err(),
            Err(error) => error,
        }
    }
}

/// What a run reads of a source.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) coverage: Coverage,
    pub(crate) notices: Vec<String>,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Run {
    /// The texts of a column, sorted.
    pub(crate) fn sorted(&self, name: &str) -> Vec<String> {
        let mut texts: Vec<_> = self.batches.iter().flat_map(|batch| texts_of(batch, name)).flatten().collect();
        texts.sort();
        texts
    }
}

impl TestSource {
    /// Does what a run does: discovers, reads all, and moves the position.
    pub(crate) async fn try_run(&self, stored: &mut Option<SourcePosition>, reread: bool) -> Result<Run, SourceError> {
        let discovery = self.source.discover(Discover { stored: stored.as_ref(), reread }).await?;
        let (mut batches, mut outcomes) = (Vec::new(), Vec::new());
        for split in &discovery.splits {
            let contents = self.try_read(split).await?;
            let result =
                SplitResult::Read { fingerprint: contents.fingerprint, records: contents.records.num_rows() as u64 };
            outcomes.push(SplitOutcome { split: split.clone(), result });
            batches.push(contents.records);
        }
        self.source.still_holds(&discovery.splits).await?;
        self.source.finished().await;
        *stored = Some(self.source.propose(stored.as_ref(), &outcomes));
        batches.retain(|batch| batch.num_rows() > 0);
        Ok(Run { coverage: discovery.coverage, notices: discovery.notices, batches })
    }

    pub(crate) async fn run(&self, stored: &mut Option<SourcePosition>) -> Run {
        self.try_run(stored, false).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

/// A column as the engine makes text of it.
pub(crate) fn texts_of(records: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = records.column_by_name(name).unwrap_or_else(|| panic!("no column `{name}`"));
    let column = cast(column, &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

/// Reads the rest of a stream.
pub(crate) async fn drain(mut stream: SplitStream, mut batches: Vec<RecordBatch>) -> Result<Contents, SourceError> {
    let mut fingerprint = None;
    while let Some(item) = stream.next().await {
        assert!(fingerprint.is_none(), "nothing follows the end");
        match item? {
            SplitItem::Records(batch) => batches.push(batch.records),
            SplitItem::End { fingerprint: found } => fingerprint = Some(found),
            other => panic!("unexpected {other:?}"),
        }
    }
    let records = match batches.first() {
        Some(first) => concat_batches(&first.schema(), &batches).unwrap(),
        None => RecordBatch::new_empty(std::sync::Arc::new(arrow::datatypes::Schema::empty())),
    };
    Ok(Contents { records, fingerprint: fingerprint.expect("a split ends with its fingerprint") })
}

/// The first batch of a stream.
pub(crate) async fn first_batch(stream: &mut SplitStream) -> RecordBatch {
    match stream.next().await.unwrap().unwrap() {
        SplitItem::Records(batch) => batch.records,
        other => panic!("unexpected {other:?}"),
    }
}

impl Contents {
    pub(crate) fn column(&self, name: &str) -> &ArrayRef {
        self.records.column_by_name(name).unwrap_or_else(|| panic!("no column `{name}`"))
    }

    /// A column as the engine makes text of it.
    pub(crate) fn texts(&self, name: &str) -> Vec<Option<String>> {
        texts_of(&self.records, name)
    }
}

/// An error with everything beneath it, as it is shown.
pub(crate) fn chain(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(beneath) = cause {
        text.push_str(": ");
        text.push_str(&beneath.to_string());
        cause = beneath.source();
    }
    text
}

pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
