//! The database's clock, as SQLite tells it.

use convoke_core::Timestamp;
use sqlx::SqliteConnection;

use crate::clock::DatabaseClock;

macro_rules! now {
    () => {
        "SELECT CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER) + ?"
    };
}

/// Begins a transaction and tells the time. Takes the write lock at once, so that what an operation reads cannot
/// change before it writes.
pub(super) async fn begin(clock: &DatabaseClock, connection: &mut SqliteConnection) -> Result<Timestamp, sqlx::Error> {
    ask(concat!("BEGIN IMMEDIATE; ", now!()), clock, connection).await
}

/// As [`begin`], and sets the savepoint `operation`.
pub(super) async fn begin_with_savepoint(
    clock: &DatabaseClock,
    connection: &mut SqliteConnection,
) -> Result<Timestamp, sqlx::Error> {
    ask(concat!("BEGIN IMMEDIATE; SAVEPOINT operation; ", now!()), clock, connection).await
}

/// Asks the database for the time.
pub(super) async fn now(clock: &DatabaseClock, connection: &mut SqliteConnection) -> Result<Timestamp, sqlx::Error> {
    ask(now!(), clock, connection).await
}

async fn ask(
    sql: &'static str,
    clock: &DatabaseClock,
    connection: &mut SqliteConnection,
) -> Result<Timestamp, sqlx::Error> {
    let millis = sqlx::query_scalar(sql).bind(clock.ahead()).fetch_one(connection).await?;
    Ok(Timestamp(millis))
}
