//! The handle on a checkpoint store in a PostgreSQL database.
//!
//! Everything stands in the schema `convoke` of the database, so that one database holds one store. Any number of
//! processes may have it open. A few connections each suffice, since operations are short; one that broke is replaced
//! when the next operation asks for it.
//!
//! # Who may write
//!
//! The clock of leases is the server's. No process can tell whether another one lives, so a lease ends by being released
//! or by running out. A write under a lease locks the lease's row, looks at its fence and keeps the lock until its
//! commit: a successor takes the lease over before or after it, never in between. A process that was paused for minutes,
//! or cut off, finds another fence when it comes back. Writes of one lease therefore follow one another, and journal
//! entries of one audience appear in the order of their ids.
//!
//! # What is not known to be done
//!
//! A connection that breaks before the server has confirmed a commit leaves it open whether the write was made, or will
//! yet be made: the server may still be working on it. Such a write is reported as failed and not repeated. Where it
//! stood under a lease, nothing more is written under that lease by this handle (see `doubt.rs`); acquiring the lease
//! anew ends the uncertainty, because it waits for what is under way and bars what comes later.
//!
//! # What it asks of the server
//!
//! PostgreSQL 13 or newer with encoding UTF8, reached directly or through a pooler that keeps sessions: settings are the
//! session's. A commit is durable on the server that confirms it. If a standby takes over, it must have every confirmed
//! commit (`synchronous_standby_names`), or fences and intents are lost with those it has not. Backups are the server's
//! own (`pg_dump --schema=convoke`, or a base backup); they hold the secret hash key.

use std::time::Duration;

use convoke_core::StateError;
use convoke_core::spec::PostgresConnection;
use convoke_core::state::Lease;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgPool, Postgres};

use crate::OpenMode;
use crate::clock::DatabaseClock;
use crate::fault::Fault;

mod borrowed;
mod connecting;
mod doubt;
mod enrichments;
mod migrations;
mod server;
mod sql;
mod transaction;

mod audiences;
mod audit;
mod backfills;
mod budgets;
mod checkpoints;
mod journal;
mod leases;
mod ledgers;
mod lifecycle;
mod plans;
mod provisions;
mod recreated;
mod rejects;
mod runs;
mod schedules;

use borrowed::{Borrowed, in_time, is_settled};
use doubt::Doubts;
use server::Server;

/// A query whose rows are read as `T`.
type Asking<'q, T> = QueryAs<'q, Postgres, T, PgArguments>;

/// The checkpoint store in a PostgreSQL database.
///
/// Implements every trait of [`convoke_core::state`].
#[derive(Debug)]
pub struct PostgresState {
    server: Server,
    clock: DatabaseClock,
    pool: PgPool,
    mode: OpenMode,
    /// How long one operation may take before its connection counts as broken.
    patience: Duration,
    doubts: Doubts,
}

impl PostgresState {
    /// Opens the store in a database, making and upgrading it as far as `mode` allows.
    ///
    /// A database that does not exist, and one without a store unless `mode` allows to make it, is
    /// [`StateError::Missing`]; one that cannot be reached is [`StateError::Storage`]; one that refuses the user, is a
    /// standby, or holds the store of a newer Convoke is [`StateError::Unusable`].
    pub async fn open(connection: &PostgresConnection, mode: OpenMode) -> Result<Self, StateError> {
        Self::open_with_clock(connection, mode, DatabaseClock::default()).await
    }

    /// Opens the store with a clock that the caller can move on: for tests of leases.
    pub async fn open_with_clock(
        connection: &PostgresConnection,
        mode: OpenMode,
        clock: DatabaseClock,
    ) -> Result<Self, StateError> {
        let server = Server::new(connection);
        let options = convoke_clients::postgres::options(connection)
            .map_err(|error| server.explain("connecting", error.into()))?;
        let limits = connecting::Limits::of(connection);
        migrations::prepare(&server, &options, limits, mode).await?;
        let pool = connecting::pool(options, limits, mode);
        Ok(Self { server, clock, pool, mode, patience: limits.operation(), doubts: Doubts::default() })
    }

    /// Waits for the operations under way, and closes the connections.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Runs a query that gives at most one row, for reading.
    async fn find<T>(&self, action: &'static str, query: Asking<'_, T>) -> Result<Option<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut borrowed = self.borrow(action).await?;
        let found = in_time(self.patience, query.fetch_optional(borrowed.connection())).await;
        self.told(action, borrowed, found)
    }

    /// Runs a query that gives rows, for reading.
    async fn list<T>(&self, action: &'static str, query: Asking<'_, T>) -> Result<Vec<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut borrowed = self.borrow(action).await?;
        let found = in_time(self.patience, query.fetch_all(borrowed.connection())).await;
        self.told(action, borrowed, found)
    }

    /// Runs one statement that commits by itself, and returns its first row. Without an answer it may or may not have
    /// been done.
    async fn change<T>(&self, action: &'static str, query: Asking<'_, T>) -> Result<Option<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.demand_writing(action)?;
        let mut borrowed = self.borrow(action).await?;
        let changed = in_time(self.patience, query.fetch_optional(borrowed.connection())).await;
        match changed {
            Err(error) if !is_settled(&error) => Err(self.server.unconfirmed(action, error)),
            changed => self.told(action, borrowed, changed),
        }
    }

    /// As [`PostgresState::change`], for a statement that holds the lease's row. See `held!` for its parameters.
    async fn change_under<T>(
        &self,
        action: &'static str,
        lease: &Lease,
        query: Asking<'_, T>,
    ) -> Result<Option<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.demand_writing(action)?;
        self.doubts.refuse(lease)?;
        let mut borrowed = self.borrow(action).await?;
        let pending = self.doubts.watch(lease);
        let changed = in_time(self.patience, query.fetch_optional(borrowed.connection())).await;
        match changed {
            Err(error) if !is_settled(&error) => Err(self.server.unconfirmed(action, error)),
            changed => {
                pending.settle();
                self.told(action, borrowed, changed)
            }
        }
    }

    /// Takes a connection from the pool. It is tested first, so one that broke while nobody used it is replaced.
    async fn borrow(&self, action: &str) -> Result<Borrowed, StateError> {
        let connection = self.pool.acquire().await.map_err(|error| self.explain(action, error))?;
        Ok(Borrowed::new(connection))
    }

    /// Gives the connection back if it is of further use, and turns a failure into what the user reads.
    fn told<T>(&self, action: &str, borrowed: Borrowed, outcome: Result<T, sqlx::Error>) -> Result<T, StateError> {
        if outcome.as_ref().err().is_none_or(is_settled) {
            borrowed.give_back();
        }
        outcome.map_err(|error| self.explain(action, error))
    }

    fn demand_writing(&self, action: &str) -> Result<(), StateError> {
        match self.mode {
            OpenMode::ReadWrite | OpenMode::Existing => Ok(()),
            OpenMode::ReadOnly => Err(self.server.opened_for_reading(action)),
        }
    }

    fn explain(&self, action: &str, fault: impl Into<Fault>) -> StateError {
        self.server.explain(action, fault.into())
    }
}
