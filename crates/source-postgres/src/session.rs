//! A connection with one read-only snapshot.

use std::time::Duration;

use convoke_clients::postgres;
use convoke_core::SourceError;
use convoke_core::spec::{PostgresConnection, TlsMode};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::failure::Failures;

/// Longest wait for a table that somebody holds exclusively. Everybody else who reads it queues up behind our wait, so
/// it is short.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that ending a session may take; the server ends it by itself when it sees the connection closed.
const PARTING_TIMEOUT: Duration = Duration::from_secs(5);

/// A session in its snapshot. Dropping it closes the connection.
pub(crate) struct Session {
    connection: PgConnection,
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// Process id and start of the server's side, by which a query under way is ended.
    backend: (i32, String),
}

impl Session {
    /// Connects and opens the snapshot. How long the server takes once it is connected is not limited here.
    pub(crate) async fn open(settings: &PostgresConnection, failures: &Failures) -> Result<Self, SourceError> {
        check_ca_file(settings, failures).await?;
        let options = options_of(settings).map_err(|error| failures.connecting(error))?;
        let connect_timeout = settings.connect_timeout;
        let mut connection = match tokio::time::timeout(connect_timeout, options.connect()).await {
            Ok(connected) => connected.map_err(|error| failures.connecting(error))?,
            Err(_) => return Err(failures.silent(connect_timeout)),
        };
        let failed = |error| failures.asking(error);
        let begin = begin_statements(settings.statement_timeout);
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await.map_err(failed)?;
        // Within the transaction: a pooler may give each transaction another process.
        let backend = sqlx::query_as(
            "SELECT pid, backend_start::text FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()",
        );
        let backend = backend.persistent(false).fetch_one(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, options, connect_timeout, backend })
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Lets go of the snapshot.
    pub(crate) async fn end(self) {
        // Nothing was written: a connection that breaks now has lost nothing.
        let _ = tokio::time::timeout(PARTING_TIMEOUT, self.connection.close()).await;
    }

    /// Ends the query under way, from a second connection: the server notices that the first is closed only once it has
    /// something to send, which in a long sort may be hours away.
    pub(crate) async fn cancel(self) {
        let Self { connection, options, connect_timeout, backend: (pid, started) } = self;
        drop(connection);
        let ended = async {
            let mut second = options.connect().await?;
            sqlx::query(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
                 WHERE pid = $1 AND backend_start::text = $2",
            )
            .persistent(false)
            .bind(pid)
            .bind(started)
            .execute(&mut second)
            .await?;
            second.close().await
        };
        match tokio::time::timeout(connect_timeout.saturating_add(PARTING_TIMEOUT), ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the query goes on until the server sees its connection closed"),
            Err(_) => tracing::debug!("the query goes on until the server sees its connection closed"),
        }
    }
}

fn begin_statements(statement_timeout: Duration) -> String {
    let (statement, lock) = (statement_timeout.as_millis(), LOCK_TIMEOUT.as_millis());
    // Without synchronised scans, so that a table that did not change comes in the same order, and has the same
    // fingerprint.
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = {statement}; \
         SET LOCAL lock_timeout = {lock}; SET LOCAL TimeZone = 'UTC'; SET LOCAL synchronize_seqscans = off"
    )
}

/// The driver would say of a missing file only that it is missing, and take one without certificates.
async fn check_ca_file(settings: &PostgresConnection, failures: &Failures) -> Result<(), SourceError> {
    let (Some(path), TlsMode::VerifyCa | TlsMode::VerifyFull) = (&settings.ca_file, settings.tls) else {
        return Ok(());
    };
    match tokio::fs::read(path).await {
        Ok(text) if text.windows(BEGIN_CERTIFICATE.len()).any(|window| window == BEGIN_CERTIFICATE) => Ok(()),
        Ok(_) => Err(failures.ca_file(path, None)),
        Err(error) => Err(failures.ca_file(path, Some(error))),
    }
}

const BEGIN_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn options_of(settings: &PostgresConnection) -> Result<PgConnectOptions, sqlx::Error> {
    // Poolers refuse the start parameter that is left out.
    Ok(postgres::options(settings)?.extra_float_digits(None))
}
