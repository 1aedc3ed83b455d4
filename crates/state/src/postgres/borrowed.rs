//! A connection for the length of one operation, and what its failures tell.

use std::io;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{PgConnection, Postgres};

/// A connection of the pool. It is closed when it is dropped, unless it was given back: an operation that was cut short
/// leaves it in an unknown state, perhaps in the middle of a transaction.
#[derive(Debug)]
pub(super) struct Borrowed {
    connection: Option<PoolConnection<Postgres>>,
}

impl Borrowed {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection) }
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect("it is held until it is given back")
    }

    /// Returns the connection to the pool.
    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

/// Gives up on a server that does not answer: its own time-outs do not help where the network is gone.
pub(super) async fn in_time<T, E: From<sqlx::Error>>(
    patience: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")).into()),
    }
}

/// Whether the server has answered that it did nothing, and goes on. Anything else leaves open what became of a
/// statement that commits by itself, or of a commit.
pub(super) fn is_settled(error: &sqlx::Error) -> bool {
    let Some(error) = server_error(error) else { return false };
    // A session that ends may have committed before: 08 is a broken connection, 57P a server that goes down, 40003 a
    // statement whose completion is unknown.
    let ends_session = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
    let is_vague = error.code().starts_with("08") || error.code().starts_with("57P") || error.code() == "40003";
    !ends_session && !is_vague
}

pub(super) fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()
}
