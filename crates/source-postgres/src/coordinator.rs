//! The session that exports a snapshot, so that several others read in it.
//!
//! It has a thread of its own, holds its transaction open and does nothing else. It ends when nobody needs it any more,
//! when the snapshot has been held for as long as it may be, or with its connection; then nobody can join the snapshot.

use std::sync::Arc;

use convoke_core::SourceError;
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::failure::Failures;
use crate::session::Session;
use crate::snapshot::Snapshot;

/// An open snapshot. The session ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Coordinator {
    shared: Arc<Shared>,
}

struct Shared {
    exported: String,
    snapshot: Snapshot,
    deadline: Instant,
    questions: mpsc::Sender<oneshot::Sender<()>>,
}

impl Coordinator {
    /// Exports the session's snapshot. Gives what keeps the session, to be run until it ends.
    pub(crate) async fn export(
        mut session: Session,
        snapshot: Snapshot,
        failures: &Failures,
    ) -> Result<(Self, Keeper), SourceError> {
        let exported = sqlx::query_scalar("SELECT pg_catalog.pg_export_snapshot()").persistent(false);
        let exported = exported.fetch_one(session.connection()).await.map_err(|error| failures.asking(error))?;
        let (questions, asked) = mpsc::channel(1);
        let shared = Shared { exported, snapshot, deadline: session.deadline(), questions };
        Ok((Self { shared: Arc::new(shared) }, Keeper { session, asked }))
    }

    /// What other sessions join by.
    pub(crate) fn exported(&self) -> &str {
        &self.shared.exported
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.shared.snapshot
    }

    /// When the snapshot has been held for as long as it may be.
    pub(crate) fn deadline(&self) -> Instant {
        self.shared.deadline
    }

    /// Whether the snapshot can still be joined.
    pub(crate) async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.shared.questions.send(answer).await.is_ok() && answered.await.is_ok()
    }
}

/// Keeps the session of a coordinator.
pub(crate) struct Keeper {
    session: Session,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Keeper {
    /// Holds the snapshot until it is not needed, or cannot be held any longer.
    pub(crate) async fn run(mut self) {
        let deadline = self.session.deadline();
        while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, self.asked.recv()).await {
            if ping(self.session.connection()).await.is_err() {
                break;
            }
            // Whoever asked may have gone.
            let _ = answer.send(());
        }
        self.asked.close();
        self.session.end().await;
    }
}

async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT").persistent(false).execute(connection).await.map(drop)
}
