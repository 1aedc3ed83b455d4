//! How a snapshot is opened, and what is asked before.

use std::sync::Arc;

use convoke_core::SourceError;
use convoke_core::spec::ChangeSign;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use tokio::sync::oneshot;

use crate::columns::Columns;
use crate::coordinator::Coordinator;
use crate::incremental::Kind;
use crate::reading::GRACE;
use crate::relation::{from_of, quoted};
use crate::running::Running;
use crate::session::{Connected, Session};
use crate::snapshot::{Numbered, Snapshot};
use crate::split::SplitDetail;
use crate::work::{Sessions, on_own_thread};

/// The server's clock at this moment, in microseconds since 1970.
const CLOCK: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::int8";

/// A session, what is known of its snapshot, and whose it is if it is not its own.
pub(crate) type InSnapshot = (Session, Option<Snapshot>, Option<Coordinator>);

impl Sessions {
    /// Opens the snapshot of a read. Whatever has to be known from before it is asked first. `gone` comes true when nobody
    /// waits any more.
    async fn open_snapshot(
        &self,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<(Session, Option<Snapshot>), SourceError> {
        let mut connected = self.in_time(Connected::open(&self.connection, &self.failures)).await?;
        let mut number = None;
        if let Some(column) = self.cursor() {
            (connected, number) = self.greatest_number(connected, column, gone).await?;
        }
        self.in_time(self.begin_snapshot(connected, number)).await
    }

    async fn begin_snapshot(
        &self,
        mut connected: Connected,
        number: Option<Numbered>,
    ) -> Result<(Session, Option<Snapshot>), SourceError> {
        let by = self.spec.incremental.as_ref().map(|incremental| &incremental.by);
        let running = match by {
            Some(ChangeSign::Column { .. }) => Some(Running::look(connected.connection(), &self.failures).await?),
            Some(ChangeSign::RowVersions) | None => None,
        };
        let mut session = connected.begin(self.terms(None), &self.failures).await?;
        let snapshot = match by.is_some() || self.spec.parallel.get() > 1 {
            true => Some(Snapshot::of(session.connection(), (running, number), &self.failures).await?),
            false => None,
        };
        Ok((session, snapshot))
    }

    /// The greatest number, if the column is of numbers; asked in a transaction of its own. A number that was drawn before
    /// is not behind it.
    async fn greatest_number(
        &self,
        connected: Connected,
        column: &str,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<(Connected, Option<Numbered>), SourceError> {
        let described = self.in_time(async {
            let mut session = connected.begin(self.terms(None), &self.failures).await?;
            let described = Columns::describe(session.connection(), &self.spec, &self.failures).await?;
            Ok((session, described))
        });
        let (session, described) = described.await?;
        if described.find(column).and_then(|(_, scalar)| Kind::of(scalar)) != Some(Kind::Number) {
            return Ok((self.in_time(session.leave(&self.failures)).await?, None));
        }
        let question = format!("SELECT max({})::int8 FROM {}", quoted(column), from_of(&self.spec.relation));
        let ((greatest,), mut session) = self.ask_rows(session, question, gone).await?;
        let left = self.in_time(async {
            let at = sqlx::query_scalar(CLOCK).persistent(false).fetch_one(session.connection()).await;
            let at = at.map_err(|error| self.failures.asking(error))?;
            Ok((session.leave(&self.failures).await?, at))
        });
        let (connected, at) = left.await?;
        Ok((connected, Some(Numbered { at, greatest })))
    }

    /// Asks what may take as long as a read, because all rows have to be looked at where no index answers. Ended when the
    /// statement's time is up, and when nobody waits any more.
    pub(crate) async fn ask_rows<T>(
        &self,
        mut session: Session,
        question: String,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<(T, Session), SourceError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let asked = sqlx::query_as(sqlx::AssertSqlSafe(question)).persistent(false);
        let asked = asked.fetch_one(session.connection());
        let limit = self.failures.statement_timeout();
        let time_is_up = async {
            match limit.is_zero() {
                true => std::future::pending().await,
                false => tokio::time::sleep(limit.saturating_add(GRACE)).await,
            }
        };
        let unanswered = tokio::select! {
            answer = asked => match answer {
                Ok(answer) => return Ok((answer, session)),
                Err(error) => return Err(self.failures.reading(error)),
            },
            () = time_is_up => self.failures.out_of_time(),
            () = gone => self.failures.unheard(),
        };
        session.cancel().await;
        Err(unanswered)
    }

    /// The session of a split: in a snapshot of its own, or in the one of all ranges.
    pub(crate) async fn session_of(
        self: &Arc<Self>,
        detail: &SplitDetail,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<InSnapshot, SourceError> {
        if detail.blocks.is_none() {
            let (session, snapshot) = self.open_snapshot(gone).await?;
            return Ok((session, snapshot, None));
        }
        let coordinator = tokio::select! {
            coordinator = self.coordinator() => coordinator?,
            () = gone => return Err(self.failures.unheard()),
        };
        let session = self.in_time(async {
            let connected = Connected::open(&self.connection, &self.failures).await?;
            connected.begin(self.terms(Some(coordinator.exported())), &self.failures).await
        });
        let session = session.await?;
        Ok((session, Some(*coordinator.snapshot()), Some(coordinator)))
    }

    /// The snapshot of all ranges; opened by the first that asks, and never again for the same discovery.
    async fn coordinator(self: &Arc<Self>) -> Result<Coordinator, SourceError> {
        let mut held = self.ranges.coordinator.lock().await;
        if let Some(coordinator) = held.as_ref() {
            return match self.in_time(async { Ok(coordinator.is_alive().await) }).await? {
                true => Ok(coordinator.clone()),
                false => Err(self.failures.snapshot_gone()),
            };
        }
        let (mut opened, is_open) = oneshot::channel();
        let sessions = Arc::clone(self);
        on_own_thread(&self.failures, async move {
            let exported = async {
                let (session, snapshot) = sessions.open_snapshot(opened.closed()).await?;
                let snapshot = snapshot.ok_or_else(|| sessions.failures.snapshot_gone())?;
                sessions.in_time(Coordinator::export(session, snapshot, &sessions.failures)).await
            };
            match exported.await {
                Ok((coordinator, keeper)) => {
                    // Whoever asked may have gone, and then it ends at once.
                    let _ = opened.send(Ok(coordinator));
                    keeper.run().await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        })?;
        let coordinator = is_open.await.map_err(|_| self.failures.snapshot_gone())??;
        *held = Some(coordinator.clone());
        Ok(coordinator)
    }
}
