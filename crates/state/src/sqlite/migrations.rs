//! The database's layout and how it moves forward.
//!
//! Migrations are numbered, run once each in a transaction, and are never edited after release. There is no way
//! back: a file of a newer Convoke is refused.

use convoke_core::StateError;
use sqlx::{SqliteConnection, SqlitePool};

use crate::OpenMode;
use crate::fault::Fault;
use crate::file;
use crate::sqlite::place::Place;
use crate::sqlite::{connection, database_file};

/// Marks an SQLite file as Convoke's: `Cnvk` in ASCII.
const APPLICATION_ID: i64 = 0x436e_766b;

/// In order; the first is version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_never_twice.sql"),
    include_str!("../../migrations/sqlite/0003_short_row_ids.sql"),
    include_str!("../../migrations/sqlite/0004_schedules.sql"),
    include_str!("../../migrations/sqlite/0005_rejects_live_on.sql"),
    include_str!("../../migrations/sqlite/0006_enrichments.sql"),
    include_str!("../../migrations/sqlite/0007_backfills.sql"),
    include_str!("../../migrations/sqlite/0008_ended_backfills.sql"),
    include_str!("../../migrations/sqlite/0009_last_snapshot.sql"),
];

/// Where a database file stands.
enum Layout {
    /// An empty file: the first process that opened it was stopped before it wrote.
    Empty,
    Foreign,
    Version(usize),
}

/// Opens the file for writing and brings its layout up to date.
pub(super) async fn open_current(place: &Place, mode: OpenMode) -> Result<SqliteConnection, StateError> {
    // Held until the layout is current: switching to the write-ahead log does not wait for other processes.
    let _opening = database_file::lock_folder(file::folder_of(place.path())).await?;
    let opened = async {
        let mut connection = connection::writing(place).await?;
        let version = match layout(&mut connection).await? {
            Layout::Empty if mode != OpenMode::ReadWrite => return Err(place.missing().into()),
            Layout::Empty => 0,
            Layout::Foreign => return Err(foreign(place).into()),
            Layout::Version(version) if version > MIGRATIONS.len() => return Err(newer(place, version).into()),
            Layout::Version(version) => version,
        };
        sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            migrate(&mut connection, index + 1, migration).await?;
        }
        Ok(connection)
    };
    opened.await.map_err(|fault: Fault| place.explain("opening", fault))
}

/// Checks that a store opened for reading has the layout that this program reads.
pub(super) async fn check_readable(place: &Place, readers: &SqlitePool) -> Result<(), StateError> {
    let looked = async {
        let mut connection = readers.acquire().await?;
        layout(&mut connection).await
    };
    match looked.await.map_err(|error| place.explain("opening", error.into()))? {
        Layout::Empty => Err(place.missing()),
        Layout::Foreign => Err(foreign(place)),
        Layout::Version(version) if version > MIGRATIONS.len() => Err(newer(place, version)),
        Layout::Version(version) if version < MIGRATIONS.len() => {
            Err(place.unusable("was written by an older Convoke; upgrade it with a writing command: `convoke plan`"))
        }
        Layout::Version(_) => Ok(()),
    }
}

async fn layout(connection: &mut SqliteConnection) -> Result<Layout, sqlx::Error> {
    let objects: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if objects == 0 {
        return Ok(Layout::Empty);
    }
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    if application != APPLICATION_ID {
        return Ok(Layout::Foreign);
    }
    let version: i64 = sqlx::query_scalar("SELECT max(version) FROM schema_version").fetch_one(connection).await?;
    Ok(usize::try_from(version).map_or(Layout::Foreign, Layout::Version))
}

async fn migrate(connection: &mut SqliteConnection, version: usize, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    sqlx::query("INSERT INTO schema_version (version, applied_at) VALUES (?, unixepoch() * 1000)")
        .bind(i64::try_from(version).unwrap_or(i64::MAX))
        .execute(&mut *connection)
        .await?;
    // Not a bound parameter: pragmas take none.
    sqlx::query("PRAGMA application_id = 0x436e766b").execute(&mut *connection).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

fn foreign(place: &Place) -> StateError {
    place.unusable("is an SQLite database of another program; name another file in the configuration")
}

fn newer(place: &Place, version: usize) -> StateError {
    place.unusable(&format!(
        "has layout version {version}, this program knows up to {}; use the newer Convoke, or restore an older backup",
        MIGRATIONS.len()
    ))
}
