//! The task that owns the writing connection.
//!
//! Operations that wait at the same time share one transaction and so one sync to disk; each has a savepoint of its
//! own, so that one may fail without the others. An operation is answered only after the commit. Each statement is a
//! trip to the thread that SQLite runs on, so what can be one statement is.

use std::sync::Arc;

use convoke_core::Timestamp;
use convoke_core::state::Lease;
use futures::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::DatabaseClock;
use crate::fault::Fault;
use crate::sqlite::clock;

/// Operations that may wait; whoever comes later waits to be let in.
const QUEUE: usize = 256;

/// Operations in one transaction: enough to share a sync to disk, few enough to answer the first one soon.
const GROUP: usize = 64;

/// What a writing operation works with.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) connection: SqliteConnection,
    /// The database's time at the start of the transaction.
    pub(super) now: Timestamp,
    /// The lease last found to be held, for as long as this transaction changes no lease.
    pub(super) held: Option<Lease>,
}

/// The task that writes has stopped.
#[derive(Debug)]
pub(super) struct WriterGone;

/// Hands operations to the task.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Queued>>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection, clock: DatabaseClock) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let task = tokio::spawn(work(connection, clock, waiting));
        Self { queue, task }
    }

    /// Runs an operation and returns once its transaction is durable.
    pub(super) async fn write<T, F>(&self, operation: F) -> Result<Result<T, Fault>, WriterGone>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static,
    {
        let (queued, answer) = queued(operation);
        self.queue.send(queued).await.map_err(|_| WriterGone)?;
        answer.await.map_err(|_| WriterGone)
    }

    /// Waits until everything handed over is done and the connection is closed.
    pub(super) async fn finish(self) {
        drop(self.queue);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the writer of the state broke off");
        }
    }
}

async fn work(connection: SqliteConnection, clock: DatabaseClock, mut waiting: mpsc::Receiver<Box<dyn Queued>>) {
    let mut transaction = Transaction { connection, now: Timestamp::default(), held: None };
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let committed = commit_group(&mut transaction, &clock, &mut group).await;
        if committed.is_err() {
            // Fails if SQLite has rolled back by itself, as it does on a full disk.
            let _already_undone = execute(&mut transaction, "ROLLBACK").await;
        }
        let failure = committed.err();
        group.drain(..).for_each(|queued| queued.answer(failure.clone()));
    }
    if let Err(error) = transaction.connection.close().await {
        tracing::warn!(%error, "closing the state failed; nothing that was reported as done is lost");
    }
}

async fn commit_group(
    transaction: &mut Transaction,
    clock: &DatabaseClock,
    group: &mut [Box<dyn Queued>],
) -> Result<(), Arc<sqlx::Error>> {
    transaction.held = None;
    match group {
        [alone] => {
            transaction.now = clock::begin(clock, &mut transaction.connection).await?;
            if let Ran::Failed { .. } = alone.run(transaction).await {
                // Fails if SQLite has given up the transaction by itself; the operation tells its own failure.
                let _already_undone = execute(transaction, "ROLLBACK").await;
                return Ok(());
            }
            Ok(execute(transaction, "COMMIT").await?)
        }
        together => {
            transaction.now = clock::begin_with_savepoint(clock, &mut transaction.connection).await?;
            run_together(transaction, together).await
        }
    }
}

/// Runs operations of which each may fail without the others, the first under the savepoint that is set, and commits.
async fn run_together(transaction: &mut Transaction, group: &mut [Box<dyn Queued>]) -> Result<(), Arc<sqlx::Error>> {
    let last = group.len() - 1;
    for (position, queued) in group.iter_mut().enumerate() {
        if let Ran::Failed { cause } = queued.run(transaction).await {
            transaction.held = None;
            // Fails if SQLite has given up the whole transaction; then the others fail for the same reason.
            let undone = execute(transaction, "ROLLBACK TO operation").await;
            undone.map_err(|error| cause.unwrap_or_else(|| Arc::new(error)))?;
        }
        let end = if position < last { "RELEASE operation; SAVEPOINT operation" } else { "RELEASE operation; COMMIT" };
        execute(transaction, end).await?;
    }
    Ok(())
}

async fn execute(transaction: &mut Transaction, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(&mut transaction.connection).await.map(drop)
}

/// An operation on its way: run once, then answered once.
trait Queued: Send {
    /// Runs the operation and tells whether its changes are to stay.
    fn run<'c>(&'c mut self, transaction: &'c mut Transaction) -> BoxFuture<'c, Ran>;

    /// Tells the caller the result, or why the commit failed.
    fn answer(self: Box<Self>, commit_failure: Option<Arc<sqlx::Error>>);
}

/// How an operation went.
enum Ran {
    Succeeded,
    /// Its changes must be undone; `cause` is set if the database failed it.
    Failed {
        cause: Option<Arc<sqlx::Error>>,
    },
}

struct Operation<T, F> {
    operation: Option<F>,
    result: Option<Result<T, Fault>>,
    caller: oneshot::Sender<Result<T, Fault>>,
}

fn queued<T, F>(operation: F) -> (Box<dyn Queued>, oneshot::Receiver<Result<T, Fault>>)
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static,
{
    let (caller, answer) = oneshot::channel();
    (Box::new(Operation { operation: Some(operation), result: None, caller }), answer)
}

impl<T, F> Queued for Operation<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static,
{
    fn run<'c>(&'c mut self, transaction: &'c mut Transaction) -> BoxFuture<'c, Ran> {
        Box::pin(async move {
            let Some(operation) = self.operation.take() else { return Ran::Failed { cause: None } };
            let result = operation(transaction).await;
            let ran = match &result {
                Ok(_) => Ran::Succeeded,
                Err(Fault::Sql(cause)) => Ran::Failed { cause: Some(Arc::clone(cause)) },
                Err(_) => Ran::Failed { cause: None },
            };
            self.result = Some(result);
            ran
        })
    }

    fn answer(self: Box<Self>, commit_failure: Option<Arc<sqlx::Error>>) {
        let answer = match (self.result, commit_failure) {
            (Some(Err(own_failure)), _) => Err(own_failure),
            (_, Some(failure)) => Err(Fault::Sql(failure)),
            (Some(Ok(value)), None) => Ok(value),
            // Letting go of the caller tells it that the writer is gone.
            (None, None) => return,
        };
        // A caller that was cancelled does not wait for the answer.
        let _cancelled = self.caller.send(answer);
    }
}

#[cfg(test)]
mod tests;
