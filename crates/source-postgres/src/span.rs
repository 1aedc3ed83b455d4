//! Which times the rows of a backfill have.

use std::sync::Arc;

use convoke_core::source::TimeSpan;
use convoke_core::{SourceError, Timestamp};
use tokio::sync::oneshot;

use crate::columns::Columns;
use crate::relation::{from_of, quoted};
use crate::session::Connected;
use crate::split::Bounds;
use crate::standing;
use crate::work::{Sessions, on_own_thread};

/// 1971-01-01T00:00:00Z. Older times are mostly what stands for none, such as the beginning of all counts.
const EARLIEST: Timestamp = Timestamp(31_536_000_000);

impl Sessions {
    /// From when to when the rows before a time are, as far as they are neither much too old nor to come; none if there is
    /// no such row.
    pub(crate) async fn span(self: &Arc<Self>, to: Option<Timestamp>) -> Result<Option<TimeSpan>, SourceError> {
        let (mut told, is_told) = oneshot::channel();
        let sessions = Arc::clone(self);
        on_own_thread(&self.failures, async move {
            let span = sessions.find_span(to, told.closed()).await;
            // Whoever asked may have gone.
            let _ = told.send(span);
        })?;
        is_told.await.map_err(|_| self.failures.thread_ended())?
    }

    async fn find_span(
        &self,
        to: Option<Timestamp>,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Option<TimeSpan>, SourceError> {
        let time_column = self.time_column()?;
        let opened = self.in_time(async {
            let connected = Connected::open(&self.connection, &self.failures).await?;
            let mut session = connected.begin(self.terms(None), &self.failures).await?;
            let described = Columns::describe(session.connection(), &self.spec, &self.failures).await?;
            let (now, _) = standing::now_of(session.connection(), &self.failures).await?;
            Ok((session, described, Timestamp(now.div_euclid(1_000))))
        });
        let (session, described, now) = opened.await?;
        let bounds = Bounds::Between { from: Some(EARLIEST), to: Some(to.map_or(now, |to| to.min(now))) };
        let millis = |aggregate| {
            format!("floor(extract(epoch FROM {aggregate}({})::timestamp) * 1000)::int8", quoted(time_column))
        };
        let question = format!(
            "SELECT {}, {} FROM {} WHERE {}",
            millis("min"),
            millis("max"),
            from_of(&self.spec.relation),
            bounds.condition(time_column, &described)?
        );
        let ((first, last), session) = self.ask_rows::<(Option<i64>, Option<i64>)>(session, question, gone).await?;
        session.end().await;
        Ok(first.zip(last).map(|(first, last)| TimeSpan { first: Timestamp(first), last: Timestamp(last) }))
    }
}
