//! The handle on a checkpoint store in one SQLite file.
//!
//! All writes go through one task that owns the only writing connection; reads use a small pool beside it and see
//! every write that was reported as done. Several processes may have the file open at once.

use std::path::Path;

use convoke_core::StateError;
use futures::future::BoxFuture;
use sqlx::{SqliteConnection, SqlitePool};

use crate::clock::DatabaseClock;
use crate::fault::Fault;
use crate::{OpenMode, file};

mod connection;
mod database_file;
mod enrichments;
mod file_system;
mod migrations;
mod place;
mod writer;

mod clock;
mod liveness;

mod audiences;
mod audit;
mod backfills;
mod budgets;
mod checkpoints;
mod hash_key;
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

use liveness::Liveness;
use place::Place;
use writer::{Transaction, Writer, WriterGone};

/// The checkpoint store in one SQLite file.
///
/// Implements every trait of [`convoke_core::state`]. Dropping it lets writes that were handed over finish in the
/// background; [`SqliteState::close`] waits for them.
#[derive(Debug)]
pub struct SqliteState {
    place: Place,
    clock: DatabaseClock,
    readers: SqlitePool,
    /// None if the store was opened for reading.
    writer: Option<Writer>,
    liveness: Liveness,
}

impl SqliteState {
    /// Opens the store in the file `path`, making and upgrading it as far as `mode` allows.
    ///
    /// Folder and file are made for the owner alone. A file on a network file system, of another program, of a newer
    /// Convoke or damaged is [`StateError::Unusable`].
    pub async fn open(path: &Path, mode: OpenMode) -> Result<Self, StateError> {
        Self::open_with_clock(path, mode, DatabaseClock::default()).await
    }

    /// Opens the store with a clock that the caller can move on: for tests of leases.
    pub async fn open_with_clock(path: &Path, mode: OpenMode, clock: DatabaseClock) -> Result<Self, StateError> {
        let place = Place::new(path);
        database_file::prepare(path, mode)?;
        let writer = match mode {
            OpenMode::ReadWrite | OpenMode::Existing => {
                let connection = migrations::open_current(&place, mode).await?;
                Some(Writer::start(connection, clock.clone()))
            }
            OpenMode::ReadOnly => None,
        };
        let readers = connection::reading_pool(&place);
        let state = Self { place, clock, readers, writer, liveness: Liveness::beside(path) };
        if mode == OpenMode::ReadOnly {
            migrations::check_readable(&state.place, &state.readers).await?;
        }
        Ok(state)
    }

    /// Waits until every write that was handed over is done, and closes the file.
    pub async fn close(self) {
        // The last connection tidies the write-ahead log away, which one that only reads cannot.
        self.readers.close().await;
        if let Some(writer) = self.writer {
            writer.finish().await;
        }
    }

    /// Writes a consistent copy of the whole store to `target`, which must not exist, beside running writers.
    ///
    /// The copy holds the secret hash key, so it is made for the owner alone.
    pub async fn backup_to(&self, target: &Path) -> Result<(), StateError> {
        file::create_private(target)?;
        let target_text = database_file::text_of(target)?.to_owned();
        let copied = self
            .read("copying the state", |connection| {
                Box::pin(async move {
                    // Into an empty file is allowed, so the copy never stands there with wider permissions.
                    sqlx::query("VACUUM INTO ?").bind(target_text).execute(connection).await?;
                    Ok(())
                })
            })
            .await;
        if let Err(error) = copied {
            file::discard(target);
            return Err(error);
        }
        file::make_durable(target)
    }

    /// Runs a reading operation on a connection of the pool.
    async fn read<T, F>(&self, action: &'static str, operation: F) -> Result<T, StateError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send,
    {
        let mut connection = self.readers.acquire().await.map_err(|error| self.place.explain(action, error.into()))?;
        operation(&mut connection).await.map_err(|fault| self.place.explain(action, fault))
    }

    /// Runs a writing operation in a transaction, and returns once that is durable.
    async fn write<T, F>(&self, action: &'static str, operation: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static,
    {
        let Some(writer) = &self.writer else { return Err(self.place.opened_for_reading(action)) };
        match writer.write(operation).await {
            Ok(outcome) => outcome.map_err(|fault| self.place.explain(action, fault)),
            Err(WriterGone) => Err(self.place.without_writer(action)),
        }
    }

    fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    fn clock(&self) -> &DatabaseClock {
        &self.clock
    }
}
