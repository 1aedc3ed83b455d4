//! The database behind the `Source` trait.

use std::time::Duration;

use async_trait::async_trait;
use convoke_core::source::{
    Coverage, Discover, Discovery, Selection, Source, SourcePosition, SourceSchema, Split, SplitContent, SplitOutcome,
};
use convoke_core::spec::{PostgresConnection, PostgresSpec, Relation};
use convoke_core::{Origin, SourceError};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::columns::Columns;
use crate::failure::Failures;
use crate::reading::Reading;
use crate::relation::{copy_of, label_of};
use crate::session::{LOCK_TIMEOUT, Session};
use crate::split::{Bounds, SplitDetail, position_after};

/// Items that wait between the reading task and whoever takes them: a few megabytes at most.
const ITEMS_IN_FLIGHT: usize = 4;

/// What opening and describing may take besides connecting and waiting for a lock: a few questions, each quickly answered.
const ASKING_TIME: Duration = Duration::from_secs(15);

/// A table or query of a PostgreSQL database.
pub struct PostgresSource {
    spec: PostgresSpec,
    connection: PostgresConnection,
    failures: Failures,
    /// How long everything before the first record may take: no time-out of the server ends what a frozen network holds.
    look_timeout: Duration,
}

impl PostgresSource {
    /// A source over this relation. Reaches out to nothing: each call of the trait opens a connection of its own.
    ///
    /// # Errors
    /// A query without a word, a relation without a name.
    pub fn open(spec: PostgresSpec, connection: PostgresConnection) -> Result<Self, SourceError> {
        let is_blank = match &spec.relation {
            Relation::Table { name, .. } => name.is_empty(),
            Relation::Query(query) => query.trim().is_empty(),
        };
        if is_blank {
            let message = "the PostgreSQL source names nothing to read; set `table` or `query`";
            return Err(SourceError::new(Origin::User, message));
        }
        let failures = Failures::new(&connection, &spec.relation);
        let look_timeout = connection.connect_timeout.saturating_add(LOCK_TIMEOUT).saturating_add(ASKING_TIME);
        Ok(Self { spec, connection, failures, look_timeout })
    }

    /// Opens the snapshot and learns its columns.
    async fn look(&self) -> Result<(Session, Columns), SourceError> {
        let looked = async {
            let mut session = Session::open(&self.connection, &self.failures).await?;
            let columns = Columns::describe(session.connection(), &self.spec.relation, &self.failures).await?;
            Ok((session, columns))
        };
        match tokio::time::timeout(self.look_timeout, looked).await {
            Ok(looked) => looked,
            Err(_) => Err(self.failures.frozen(self.look_timeout)),
        }
    }

    /// Learns the columns, and lets go of the snapshot.
    async fn columns(&self) -> Result<Columns, SourceError> {
        let (session, columns) = self.look().await?;
        session.end().await;
        Ok(columns)
    }

    /// Everything, or what lies within these bounds, as a split.
    fn discovery(&self, columns: &Columns, between: Option<Bounds>, coverage: Coverage) -> Discovery {
        let shape = columns.shape(&self.spec.relation);
        let split = SplitDetail { shape, between }.split(label_of(&self.spec.relation));
        Discovery { splits: vec![split], coverage, unchanged: false, settled: Vec::new(), notices: Vec::new() }
    }

    fn time_column(&self) -> Result<&str, SourceError> {
        self.spec.time_column.as_deref().ok_or_else(|| {
            let label = label_of(&self.spec.relation);
            let message = format!(
                "a backfill from or to a time needs a column that tells when a row of `{label}` was written; set \
                 `time_column` of the source, or backfill with --all"
            );
            SourceError::selection(message)
        })
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        let schema = self.columns().await?.schema();
        Ok(SourceSchema { schema, origin: self.failures.relation().to_owned() })
    }

    async fn discover(&self, _request: Discover<'_>) -> Result<Discovery, SourceError> {
        Ok(self.discovery(&self.columns().await?, None, Coverage::Snapshot))
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        let between = match selection {
            Selection::All => None,
            Selection::Between { from, to } => Some(Bounds { from: *from, to: *to }),
            Selection::Objects(_) => {
                let message = "a PostgreSQL source has no objects to choose from; backfill with --all, or with --from \
                               and --to";
                return Err(SourceError::selection(message));
            }
        };
        let columns = match between {
            None => self.columns().await?,
            Some(bounds) => {
                let time_column = self.time_column()?;
                let columns = self.columns().await?;
                bounds.condition(time_column, &columns)?;
                columns
            }
        };
        Ok(self.discovery(&columns, between, Coverage::Delta))
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let detail = SplitDetail::of(split)?;
        let (session, columns) = self.look().await?;
        if columns.shape(&self.spec.relation) != detail.shape {
            session.end().await;
            return Err(self.failures.reshaped());
        }
        let condition = match detail.between {
            None => None,
            Some(bounds) => Some(bounds.condition(self.time_column()?, &columns)?),
        };
        let copy = copy_of(&self.spec.relation, columns.names(), condition.as_deref());
        let (sender, mut receiver) = mpsc::channel(ITEMS_IN_FLIGHT);
        let reading = Reading::new(session, columns, copy, self.failures.clone());
        // The task ends by itself: at the end of the rows, at the time-out, or when the stream is dropped.
        tokio::spawn(reading.run(sender));
        Ok(SplitContent::Stream(futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()))
    }

    /// A table does not tell whether it has changed.
    fn confirms_snapshots(&self) -> bool {
        false
    }

    fn propose(&self, _stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        position_after(outcomes)
    }

    async fn acknowledge(&self, _outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
