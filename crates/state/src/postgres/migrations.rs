//! The schema's layout and how it moves forward.
//!
//! Migrations are numbered, run in one transaction, and are never edited after release. There is no way back: the store
//! of a newer Convoke is refused. Processes that start at once wait for one another.

use convoke_core::StateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::connecting::{self, Limits};
use super::server::Server;
use crate::OpenMode;
use crate::fault::Fault;

/// In order; the first is version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_initial.sql"),
    include_str!("../../migrations/postgres/0002_rejects_live_on.sql"),
    include_str!("../../migrations/postgres/0003_enrichments.sql"),
    include_str!("../../migrations/postgres/0004_backfills.sql"),
    include_str!("../../migrations/postgres/0005_ended_backfills.sql"),
    include_str!("../../migrations/postgres/0006_last_snapshot.sql"),
];

/// The first that has what is used here: PostgreSQL 13.
const OLDEST_SERVER: i32 = 130_000;

/// The key of the advisory lock under which the layout is changed: `Cnvk` in ASCII.
const LOCK: i64 = 0x436e_766b;

/// Where a database stands.
enum Layout {
    /// Without a schema, or with one that an administrator made and left empty.
    Empty {
        has_schema: bool,
    },
    Foreign,
    Version(usize),
}

/// What a server tells about itself and the schema: version, encoding, whether it is a standby; whether the schema is
/// there, whether this user may look into it, how many relations are in it, whether one of them is ours.
type Found = (i32, String, bool, bool, bool, i64, bool);

const LOOK: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
    pg_is_in_recovery(), schema IS NOT NULL, coalesce(has_schema_privilege(schema, 'USAGE'), true),
    (SELECT count(*) FROM pg_class WHERE relnamespace = schema),
    EXISTS (SELECT FROM pg_class WHERE relnamespace = schema AND relname = 'schema_version')
    FROM to_regnamespace('convoke') AS schema";

/// Sees to it that the database has the layout that this program knows, as far as `mode` allows.
pub(super) async fn prepare(
    server: &Server,
    options: &PgConnectOptions,
    limits: Limits,
    mode: OpenMode,
) -> Result<(), StateError> {
    let prepared = async {
        let mut connection = connecting::connect(options, limits, mode).await?;
        let version = check(server, look(server, &mut connection, mode).await?, mode)?;
        if version < MIGRATIONS.len() {
            upgrade(server, &mut connection, mode).await?;
        }
        // Whatever the parting says, the work is done.
        let _said = connection.close().await;
        Ok(())
    };
    prepared.await.map_err(|fault: Fault| server.explain("opening", fault))
}

async fn look(server: &Server, connection: &mut PgConnection, mode: OpenMode) -> Result<Layout, Fault> {
    let (number, encoding, is_standby, has_schema, may_look, relations, is_ours): Found =
        sqlx::query_as(LOOK).fetch_one(&mut *connection).await?;
    if number < OLDEST_SERVER {
        return Err(server.unusable("is on a PostgreSQL older than 13; upgrade the server, or name another").into());
    }
    if encoding != "UTF8" {
        let problem = format!("has the encoding {encoding}; make the database with `createdb --encoding=UTF8`");
        return Err(server.unusable(&problem).into());
    }
    if is_standby && mode != OpenMode::ReadOnly {
        return Err(server.unusable("is on a standby, which takes no writes; name the primary server").into());
    }
    // PostgreSQL passes over a schema that the user may not use, as if it were not there.
    if !may_look {
        return Err(server.may_not_use("looking into the schema `convoke`").into());
    }
    if relations == 0 {
        return Ok(Layout::Empty { has_schema });
    }
    if !is_ours {
        return Ok(Layout::Foreign);
    }
    let (version,): (Option<i64>,) =
        sqlx::query_as("SELECT max(version) FROM schema_version").fetch_one(connection).await?;
    let version = version.and_then(|version| usize::try_from(version).ok());
    Ok(version.map_or(Layout::Foreign, Layout::Version))
}

/// Tells from which version on there is something to do, or why nothing may be done.
fn check(server: &Server, layout: Layout, mode: OpenMode) -> Result<usize, StateError> {
    match layout {
        Layout::Empty { .. } if mode == OpenMode::ReadWrite => Ok(0),
        Layout::Empty { .. } => Err(server.missing()),
        Layout::Foreign => Err(server.unusable(
            "has a schema `convoke` of another program; name another database in the configuration",
        )),
        Layout::Version(version) if version > MIGRATIONS.len() => Err(server.unusable(&format!(
            "has layout version {version}, this program knows up to {}; use the newer Convoke, or restore an older backup",
            MIGRATIONS.len()
        ))),
        Layout::Version(version) if version < MIGRATIONS.len() && mode == OpenMode::ReadOnly => Err(server
            .unusable("was written by an older Convoke; upgrade it with a writing command: `convoke plan`")),
        Layout::Version(version) => Ok(version),
    }
}

/// Brings the layout up to date, all or nothing.
async fn upgrade(server: &Server, connection: &mut PgConnection, mode: OpenMode) -> Result<(), Fault> {
    let mut transaction = connection.begin().await?;
    // How long it takes depends on what the store holds.
    sqlx::raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").execute(&mut *transaction).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // Another process may have been faster.
    let layout = look(server, &mut transaction, mode).await?;
    if let Layout::Empty { has_schema: false } = layout {
        make_schema(server, &mut transaction).await?;
    }
    let version = check(server, layout, mode)?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO schema_version (version, applied_at)
             VALUES ($1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)",
        )
        .bind(i64::try_from(index + 1).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

async fn make_schema(server: &Server, connection: &mut PgConnection) -> Result<(), Fault> {
    let made = sqlx::raw_sql("CREATE SCHEMA convoke").execute(connection).await;
    let denied =
        |error: &sqlx::Error| super::borrowed::server_error(error).is_some_and(|error| error.code() == "42501");
    match made {
        Err(error) if denied(&error) => Err(server.may_not_create().into()),
        made => Ok(made.map(drop)?),
    }
}
