//! The database's clock, by which leases expire.
//!
//! All processes that share a database must agree on the time, so it is asked of the database in SQL and never of
//! the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use convoke_core::Timestamp;
use sqlx::SqliteConnection;

macro_rules! now {
    () => {
        "SELECT CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER) + ?"
    };
}

/// The database's clock, which tests can move on instead of waiting.
///
/// Clones move together: handles that are opened with clones of one clock agree on the time, as processes on one
/// database do.
#[derive(Clone, Debug, Default)]
pub struct DatabaseClock {
    ahead_millis: Arc<AtomicI64>,
}

impl DatabaseClock {
    /// Moves the clock on for every handle that was opened with it.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.ahead_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Begins a transaction and tells the time. Takes the write lock at once, so that what an operation reads cannot
    /// change before it writes.
    pub(crate) async fn begin(&self, connection: &mut SqliteConnection) -> Result<Timestamp, sqlx::Error> {
        self.ask(concat!("BEGIN IMMEDIATE; ", now!()), connection).await
    }

    /// Asks the database for the time.
    pub(crate) async fn now(&self, connection: &mut SqliteConnection) -> Result<Timestamp, sqlx::Error> {
        self.ask(now!(), connection).await
    }

    async fn ask(&self, sql: &'static str, connection: &mut SqliteConnection) -> Result<Timestamp, sqlx::Error> {
        let millis =
            sqlx::query_scalar(sql).bind(self.ahead_millis.load(Ordering::SeqCst)).fetch_one(connection).await?;
        Ok(Timestamp(millis))
    }
}
