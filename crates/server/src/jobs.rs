//! What the daemon runs.

use async_trait::async_trait;
use convoke_core::source::Arrivals;
use convoke_core::state::RunRecord;
use convoke_core::{StateError, SyncName, Timestamp};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

/// Runs syncs.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Does the task for a sync.
    ///
    /// The daemon calls this for one sync at a time, while it holds the sync's turn. `cancel` drains: the run finishes the
    /// requests in flight and ends as interrupted. A panic ends this run alone. The future is polled on the daemon's own
    /// task: an implementation that computes for long spawns a task, and passes the panic of that task on.
    async fn run(&self, sync: &SyncName, task: Task, cancel: CancellationToken) -> JobEnd;

    /// Names the syncs with a plan that was begun and cut short: see [`unfinished`](crate::unfinished), which reads them
    /// from the store. Somebody may be at work on it just now; then the audience is busy, which does no harm.
    ///
    /// # Errors
    ///
    /// The store did not answer; the daemon asks again.
    async fn unfinished(&self) -> Result<Vec<SyncName>, StateError>;

    /// Looks whether something has come to a sync's source; none if its source cannot tell. Asked often: reads no records.
    ///
    /// # Errors
    ///
    /// It cannot be seen now, for this reason; the daemon asks again.
    async fn arrivals(&self, _sync: &SyncName) -> Result<Option<Arrivals>, String> {
        Ok(None)
    }

    /// Names syncs to whose source something may have come. It need not name all: sources are looked at anyway.
    fn changes(&self) -> BoxStream<'static, SyncName> {
        futures::stream::pending().boxed()
    }
}

/// What is to be done for a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Run it, and finish first what an interrupted run of it left.
    Run,
    /// Finish what an interrupted run left, and nothing else: nobody has asked for more.
    Finish,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub enum JobEnd {
    /// A run was made; its record tells how it ended.
    Ran(Box<Ran>),
    /// Somebody else writes the sync's audience: nothing was begun.
    Busy {
        /// Who, and until when.
        message: String,
    },
    /// There was nothing to finish any more.
    Nothing,
    /// No run came about.
    Failed {
        /// What was tried, and the remedy.
        message: String,
    },
}

/// A run that was made.
#[derive(Clone, Debug)]
pub struct Ran {
    pub run: RunRecord,
    /// The run that finished an interrupted plan first, if there was one.
    pub resumed: Option<RunRecord>,
    /// When a run that waits for quota can go on.
    pub retry_at: Option<Timestamp>,
}
