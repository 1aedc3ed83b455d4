//! A connection with one read-only snapshot.

use std::time::Duration;

use convoke_clients::postgres;
use convoke_core::SourceError;
use convoke_core::spec::{PostgresConnection, TlsMode};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::time::Instant;

use crate::failure::Failures;

/// Longest wait for a table that somebody holds exclusively. Everybody else who reads it queues up behind our wait, so
/// it is short.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that ending a session may take; the server ends it by itself when it sees the connection closed.
const PARTING_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection without a transaction.
pub(crate) struct Connected {
    connection: PgConnection,
    options: PgConnectOptions,
    connect_timeout: Duration,
}

/// A session in its snapshot. Dropping it closes the connection.
pub(crate) struct Session {
    connection: PgConnection,
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// Process id and start of the server's side, by which a query under way is ended.
    backend: (i32, String),
    /// When the snapshot has been held for as long as it may be.
    deadline: Instant,
}

/// What a transaction is begun with.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) statement_timeout: Duration,
    /// How long the snapshot may be held.
    pub(crate) max_snapshot: Duration,
    /// The exported snapshot of another session that is joined.
    pub(crate) snapshot: Option<&'a str>,
}

impl Connected {
    /// Connects. How long the server takes from then on is not limited here.
    pub(crate) async fn open(settings: &PostgresConnection, failures: &Failures) -> Result<Self, SourceError> {
        check_ca_file(settings, failures).await?;
        let options = options_of(settings).map_err(|error| failures.connecting(error))?;
        let connect_timeout = settings.connect_timeout;
        let connection = match tokio::time::timeout(connect_timeout, options.connect()).await {
            Ok(connected) => connected.map_err(|error| failures.connecting(error))?,
            Err(_) => return Err(failures.silent(connect_timeout)),
        };
        failures.note_reached();
        Ok(Self { connection, options, connect_timeout })
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Opens the snapshot, or joins one.
    pub(crate) async fn begin(self, terms: Terms<'_>, failures: &Failures) -> Result<Session, SourceError> {
        let Self { mut connection, options, connect_timeout } = self;
        let failed = |error| match terms.snapshot {
            Some(_) => failures.joining(error),
            None => failures.asking(error),
        };
        let deadline = Instant::now() + terms.max_snapshot;
        let begin = begin_statements(terms, connection.server_version_num());
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await.map_err(failed)?;
        // Within the transaction, so that it is this one's process whatever stands between.
        let backend = sqlx::query_as(
            "SELECT pid, backend_start::text FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()",
        );
        let backend = backend.persistent(false).fetch_one(&mut connection).await.map_err(failed)?;
        Ok(Session { connection, options, connect_timeout, backend, deadline })
    }
}

impl Session {
    /// When the snapshot has been held for as long as it may be.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Lets go of the snapshot and keeps the connection.
    pub(crate) async fn leave(self, failures: &Failures) -> Result<Connected, SourceError> {
        let Self { mut connection, options, connect_timeout, .. } = self;
        let left = sqlx::raw_sql("COMMIT").execute(&mut connection).await;
        left.map_err(|error| failures.asking(error))?;
        Ok(Connected { connection, options, connect_timeout })
    }

    /// Lets go of the snapshot and of the connection.
    pub(crate) async fn end(self) {
        // Nothing was written: a connection that breaks now has lost nothing.
        let _ = tokio::time::timeout(PARTING_TIMEOUT, self.connection.close()).await;
    }

    /// Ends the query under way, from a second connection: the server notices that the first is closed only once it has
    /// something to send, which in a long sort may be hours away.
    pub(crate) async fn cancel(self) {
        let Self { connection, options, connect_timeout, backend: (pid, started), .. } = self;
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

/// From this version on the server itself limits how long a transaction takes.
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;

fn begin_statements(terms: Terms<'_>, version: Option<u32>) -> String {
    let (statement, lock) = (terms.statement_timeout.as_millis(), LOCK_TIMEOUT.as_millis());
    // The longest that the server takes.
    let held = terms.max_snapshot.as_millis().min(i32::MAX.unsigned_abs().into());
    let mut begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; ".to_owned();
    if let Some(snapshot) = terms.snapshot {
        begin.push_str(&format!("SET TRANSACTION SNAPSHOT '{}'; ", snapshot.replace('\'', "''")));
    }
    if version.is_some_and(|version| version >= TRANSACTION_TIMEOUT_SINCE) {
        begin.push_str(&format!("SET LOCAL transaction_timeout = {held}; "));
    }
    // Without synchronised scans, so that a table that did not change comes in the same order, and has the same
    // fingerprint. The styles are for what the server casts to text. A session that waits for us, because whoever takes
    // the records is slow, is ended by nobody but us; one that we have left is ended by the server.
    begin.push_str(&format!(
        "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {held}; SET LOCAL TimeZone = 'UTC'; \
         SET LOCAL synchronize_seqscans = off; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'iso_8601'; \
         SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1"
    ));
    begin
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
