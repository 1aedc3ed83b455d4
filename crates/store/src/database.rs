//! The SQLite file: opening, migrating, and the rule of one writer and several readers.
//!
//! Writes go through one connection in `BEGIN IMMEDIATE` transactions, so that they never deadlock on an upgrade; a second
//! process waits up to [`BUSY_TIMEOUT`]. `synchronous=FULL` makes a commit durable before it returns.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::{Clock, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use crate::error::{Error, Result};

/// How long a write waits for one of another process; longer than the largest delete takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads beside one another; SQLite reads are bound by the processor, not by waiting.
const READERS: u32 = 4;

/// `PRAGMA application_id`: "CvkA", so that another program's file is not taken for ours.
const APPLICATION_ID: i64 = 0x4376_6b41;

/// Forward only; the file's `user_version` is the number of those applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_unmatched_cells.sql"),
    include_str!("../migrations/0003_search_criteria.sql"),
];

/// An open audience store. Clones share it.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the file, creating it (readable by its owner only) and bringing its schema up to date.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        create_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let unopened = |cause| Error::storage(format!("cannot open the audience store `{}`", path.display()), cause);
        let writer =
            SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(unopened)?;
        migrate(&writer, path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(unopened)?;
        Ok(Self { writer, readers, clock })
    }

    /// Waits for running operations and closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Starts a write. Dropped without a commit, it leaves no trace.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Starts a read of one consistent state.
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.readers.begin().await?)
    }

    /// The clock the store goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Makes the file before SQLite does, because SQLite gives its journal files the same mode.
fn create_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|cause| {
        let message = format!(
            "cannot create the audience store `{}`; check that its folder exists and is writable",
            path.display()
        );
        Error::storage(message, cause)
    })
}

async fn migrate(writer: &SqlitePool, path: &Path) -> Result<()> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *transaction).await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *transaction).await?;
    if application != APPLICATION_ID && tables > 0 {
        let message = format!("`{}` is a database of another program; name another file", path.display());
        return Err(Error::Unusable { message });
    }
    let applied = usize::try_from(version).unwrap_or(usize::MAX);
    if applied > MIGRATIONS.len() {
        let message = format!("`{}` was written by a newer version of Convoke; use that version", path.display());
        return Err(Error::Unusable { message });
    }
    for migration in &MIGRATIONS[applied..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    let stamp = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", MIGRATIONS.len());
    sqlx::raw_sql(AssertSqlSafe(stamp)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}
