//! Connections to the server, and the settings of their sessions.

use std::time::Duration;

use convoke_core::spec::PostgresConnection;
use futures::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};

use crate::OpenMode;

/// A run writes a few things at a time, and servers have few connections to give.
const CONNECTIONS: u32 = 5;

/// Operations here take milliseconds. What takes this long is stuck, and should end before a lease does.
const LONGEST_STATEMENT: Duration = Duration::from_secs(30);

/// How long to wait for another process that writes the same row: longer than any transaction here takes.
const LONGEST_LOCK: Duration = Duration::from_secs(10);

/// A process that is paused in the middle of a transaction keeps others out no longer than this: less than they wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the network may add to the server's own time-out.
const NETWORK_DELAY: Duration = Duration::from_secs(5);

/// A commit is confirmed once it is on disk, whatever the server's own setting is; one that waits for standbys to apply
/// it as well may stay. `$1` to `$4` are texts: PostgreSQL's settings are.
const SETTINGS: &str = "SELECT set_config('search_path', 'convoke', false),
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
    set_config('statement_timeout', $1, false),
    set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('default_transaction_read_only', $4, false),
    set_config('default_transaction_isolation', 'read committed', false)";

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    connect: Duration,
    statement: Duration,
}

impl Limits {
    pub(super) fn of(connection: &PostgresConnection) -> Self {
        let statement = connection.statement_timeout.min(LONGEST_STATEMENT);
        Self { connect: connection.connect_timeout, statement }
    }

    /// How long an operation may take before its connection counts as broken.
    pub(super) fn operation(self) -> Duration {
        self.statement + NETWORK_DELAY
    }
}

/// Connects once, and tells why it failed, where a pool tells only that it waited.
pub(super) async fn connect(
    options: &PgConnectOptions,
    limits: Limits,
    mode: OpenMode,
) -> Result<PgConnection, sqlx::Error> {
    super::in_time(limits.connect, async {
        let mut connection = options.connect().await?;
        settle_in(&mut connection, limits, mode).await?;
        Ok(connection)
    })
    .await
}

/// Makes a pool that connects when it is first used.
pub(super) fn pool(options: PgConnectOptions, limits: Limits, mode: OpenMode) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        // All connections may be waiting for a lock.
        .acquire_timeout(limits.connect + LONGEST_LOCK)
        .after_connect(move |connection, _| settle_in(connection, limits, mode).boxed())
        .connect_lazy_with(options)
}

async fn settle_in(connection: &mut PgConnection, limits: Limits, mode: OpenMode) -> Result<(), sqlx::Error> {
    let millis = |limit: Duration| limit.as_millis().max(1).to_string();
    let reads_only = if mode == OpenMode::ReadOnly { "on" } else { "off" };
    sqlx::query(SETTINGS)
        .bind(millis(limits.statement))
        .bind(millis(LONGEST_LOCK.min(limits.statement)))
        .bind(millis(LONGEST_PAUSE))
        .bind(reads_only)
        .execute(connection)
        .await?;
    Ok(())
}
