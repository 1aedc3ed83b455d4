//! The database behind the `Source` trait.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::source::{
    Coverage, Discover, Discovery, Selection, Source, SourcePosition, SourceSchema, Split, SplitContent, SplitOutcome,
    TimeSpan,
};
use convoke_core::spec::{PostgresConnection, PostgresSpec, Relation};
use convoke_core::{Origin, SourceError};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::columns::ColumnsRead;
use crate::failure::Failures;
use crate::incremental::{self, Mark, Since};
use crate::ranges::Ranges;
use crate::relation::label_of;
use crate::session::LOCK_TIMEOUT;
use crate::split::{Blocks, Bounds, SplitDetail, mark_of, position_after};
use crate::work::{Looked, Sessions};

/// Items that wait between the reading thread and whoever takes them: a few megabytes at most.
const ITEMS_IN_FLIGHT: usize = 4;

/// What opening and describing may take besides connecting and waiting for a lock: a few questions, each quickly answered.
const ASKING_TIME: Duration = Duration::from_secs(15);

/// Ranges for each session, so that none waits long for the last, and a range that is read again is a small one.
const RANGES_PER_SESSION: u64 = 4;

/// A table or query of a PostgreSQL database. For one reader at a time: a discovery begins anew.
pub struct PostgresSource {
    sessions: Arc<Sessions>,
}

impl PostgresSource {
    /// A source over this relation. Reaches out to nothing: each call of the trait opens connections of its own.
    /// `columns_read` tells which of the columns a sync reads, so that no other is asked for or can be in the way; without
    /// it all are read.
    ///
    /// # Errors
    /// A query without a word, a relation without a name.
    pub fn open(
        spec: PostgresSpec,
        connection: PostgresConnection,
        columns_read: Option<ColumnsRead>,
    ) -> Result<Self, SourceError> {
        let is_blank = match &spec.relation {
            Relation::Table { name, .. } => name.is_empty(),
            Relation::Query(query) => query.trim().is_empty(),
        };
        if is_blank {
            let message = "the PostgreSQL source names nothing to read; set `table` or `query`";
            return Err(SourceError::new(Origin::User, message));
        }
        let failures = Failures::new(&connection, &spec);
        let look_timeout = connection.connect_timeout.saturating_add(LOCK_TIMEOUT).saturating_add(ASKING_TIME);
        let ranges = Ranges::default();
        let sessions = Sessions { spec, connection, failures, columns_read, look_timeout, ranges };
        Ok(Self { sessions: Arc::new(sessions) })
    }

    fn spec(&self) -> &PostgresSpec {
        &self.sessions.spec
    }

    /// Looks, and lets go of the snapshot: each split opens its own, or all ranges one together.
    async fn look(&self) -> Result<Looked<()>, SourceError> {
        let looked = self.sessions.look().await?;
        let (looked, session) = looked.without_session();
        session.end().await;
        Ok(looked)
    }

    /// Everything, in ranges where that is asked for and can be, or a part of it as one split.
    fn splits(&self, looked: &Looked<()>, between: Option<Bounds>, since: Option<Since>) -> Vec<Split> {
        let label = label_of(&self.spec().relation);
        let shape = looked.columns.shape(&self.spec().relation);
        let sessions = self.spec().parallel.get() as u64;
        let is_whole = between.is_none() && since.is_none();
        let blocks = looked.blocks.filter(|_| sessions > 1 && is_whole).unwrap_or(0);
        let ranges = Blocks::divide(blocks, sessions * RANGES_PER_SESSION);
        if ranges.len() < 2 {
            return vec![SplitDetail { shape, between, since, blocks: None }.split(label)];
        }
        let count = ranges.len();
        let range = |(number, blocks): (usize, &Blocks)| {
            let detail = SplitDetail { shape: shape.clone(), between: None, since: None, blocks: Some(*blocks) };
            detail.split(format!("{label}[{}/{count}]", number + 1))
        };
        ranges.iter().enumerate().map(range).collect()
    }

    /// From where on changes are read, or why everything is; nothing of both without `incremental`.
    fn since(&self, looked: &Looked<()>, request: Discover<'_>) -> (Option<Since>, Option<&'static str>) {
        let (Some(incremental), Some(standing)) = (&self.spec().incremental, &looked.standing) else {
            return (None, None);
        };
        if request.reread {
            return (None, None);
        }
        match incremental::since(mark_of(request.stored).as_ref(), standing, incremental.full_every) {
            Ok(since) => (Some(since), None),
            Err(whole) => (None, whole.notice()),
        }
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        let schema = self.look().await?.columns.schema();
        Ok(SourceSchema { schema, origin: self.sessions.failures.relation().to_owned() })
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        let looked = self.look().await?;
        let (since, why_whole) = self.since(&looked, request);
        let coverage = if since.is_some() { Coverage::Delta } else { Coverage::Snapshot };
        let splits = self.splits(&looked, None, since);
        self.sessions.ranges.begin(&splits, looked.standing).await;
        let notices = looked.notice.into_iter().chain(why_whole.map(str::to_owned)).collect();
        Ok(Discovery { splits, coverage, unchanged: false, settled: Vec::new(), notices })
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        let between = match selection {
            Selection::All => None,
            Selection::Between { from, to } => Some(Bounds::Between { from: *from, to: *to }),
            Selection::Untimed => Some(Bounds::Untimed),
            Selection::Objects(_) | Selection::Named(_) => {
                let message = "a PostgreSQL source has no objects to choose from; backfill with --all, or with --from \
                               and --to";
                return Err(SourceError::selection(message));
            }
        };
        let time_column = between.map(|bounds| Ok((bounds, self.sessions.time_column()?))).transpose()?;
        let looked = self.look().await?;
        if let Some((bounds, time_column)) = time_column {
            bounds.condition(time_column, &looked.described)?;
        }
        let splits = self.splits(&looked, between, None);
        self.sessions.ranges.begin(&splits, None).await;
        let notices = looked.notice.into_iter().collect();
        Ok(Discovery { splits, coverage: Coverage::Delta, unchanged: false, settled: Vec::new(), notices })
    }

    async fn time_span(&self, selection: &Selection) -> Result<Option<TimeSpan>, SourceError> {
        match selection {
            Selection::All if self.spec().time_column.is_none() => Ok(None),
            Selection::All => self.sessions.span(None).await,
            Selection::Between { from: None, to } => self.sessions.span(*to).await,
            _ => Ok(None),
        }
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let detail = SplitDetail::of(split)?;
        let (sender, mut receiver) = mpsc::channel(ITEMS_IN_FLIGHT);
        self.sessions.read(split.name.clone(), detail, sender).await?;
        Ok(SplitContent::Stream(futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()))
    }

    fn splits_at_once(&self) -> NonZeroUsize {
        self.spec().parallel
    }

    /// Ranges of a table are torn apart if they were not all read in one snapshot.
    async fn still_holds(&self, splits: &[Split]) -> Result<(), SourceError> {
        if self.sessions.ranges.are_one(splits) { Ok(()) } else { Err(self.sessions.failures.snapshot_gone()) }
    }

    async fn finished(&self) {
        self.sessions.ranges.end().await;
    }

    /// A table does not tell whether it has changed.
    fn confirms_snapshots(&self) -> bool {
        false
    }

    /// Where the next read begins is known of splits that this source has read itself; without that it stays where it was.
    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        let before = mark_of(stored);
        let Some(incremental) = &self.spec().incremental else { return position_after(outcomes, None) };
        let arrival = self.sessions.ranges.arrival(outcomes.iter().map(|outcome| &outcome.split));
        let mark = arrival.map(|arrival| Mark::after(before.as_ref(), &arrival, incremental)).or(before);
        position_after(outcomes, mark.as_ref())
    }

    async fn acknowledge(&self, _outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
