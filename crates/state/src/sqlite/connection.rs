//! Connections to the database file: one that writes, a few that read.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};

use crate::sqlite::place::Place;

/// How long a writer waits for one in another process: far longer than any transaction here takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// Reading commands ask one thing at a time, a run a few at once.
const READING_CONNECTIONS: u32 = 4;

/// Pages in the write-ahead log before they go into the database file: 16 MB, so that this is rarely done.
const CHECKPOINT_PAGES: &str = "4096";

/// Connects for writing, in the file's own journal mode.
pub(super) async fn writing(place: &Place) -> Result<SqliteConnection, sqlx::Error> {
    let options = options(place).synchronous(SqliteSynchronous::Full);
    options.pragma("wal_autocheckpoint", CHECKPOINT_PAGES).connect().await
}

/// Makes a pool that connects when it is first used, and cannot write.
pub(super) fn reading_pool(place: &Place) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READING_CONNECTIONS)
        .test_before_acquire(false)
        .connect_lazy_with(options(place).read_only(true))
}

fn options(place: &Place) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(place.path())
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}
