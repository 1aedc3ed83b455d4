//! The database in messages, and what PostgreSQL's error codes mean to the user.

use std::io;
use std::sync::Arc;

use convoke_core::StateError;
use convoke_core::spec::PostgresConnection;

use super::borrowed::server_error;
use crate::fault::{Fault, MISSING_CHOICES};

/// The database, as messages name it.
#[derive(Clone, Debug)]
pub(super) struct Server {
    database: Arc<str>,
    user: Arc<str>,
}

impl Server {
    pub(super) fn new(connection: &PostgresConnection) -> Self {
        let PostgresConnection { host, port, database, user, .. } = connection;
        Self { database: format!("{database}` on `{host}:{port}").into(), user: user.as_str().into() }
    }

    /// Turns a fault into what the user reads: what was tried, on which database, and the remedy.
    pub(super) fn explain(&self, action: &str, fault: Fault) -> StateError {
        match fault {
            Fault::State(error) => error,
            Fault::Sql(error) => self.explain_sql(action, error),
            Fault::Unreadable { what } => self.unusable(&format!(
                "holds {what} that this program cannot read; restore a backup, or use the Convoke that wrote it"
            )),
        }
    }

    fn explain_sql(&self, action: &str, error: Arc<sqlx::Error>) -> StateError {
        let code = server_error(&error).map(|error| error.code());
        let remedy = match code {
            Some("28000" | "28P01") => {
                let user = &self.user;
                return self.unusable(&format!(
                    "refuses the user `{user}`; check user and password of the connection, and the server's pg_hba.conf"
                ));
            }
            Some("3D000") => return self.no_database(),
            Some("3F000" | "42P01") => return self.missing(),
            Some("42501") => return self.may_not_use(action),
            Some("25006") => "the server takes no writes: name the primary server, not a standby",
            Some("53100") => "the server's disk is full; nothing was half-applied: free some space and run again",
            Some("53300") => "the server has no connection left; raise its max_connections, or stop other programs",
            Some("55P03") => "another process keeps what is needed locked; wait for it, or stop that process",
            Some("57014") => {
                "the server took too long, or somebody cancelled it; see its load, and run the command again"
            }
            Some("40001" | "40P01") => "another process was in the way; run the command again",
            Some(_) => "nothing of it was reported as done; see the cause, and run the command again",
            None => unreachable_remedy(&error),
        };
        StateError::storage(format!("{action} failed on the state in `{}`: {remedy}", self.database), Cause(error))
    }

    /// A write whose confirmation did not arrive.
    pub(super) fn unconfirmed(&self, action: &str, error: sqlx::Error) -> StateError {
        let message = format!(
            "{action} was not confirmed by the state in `{}`, and may or may not have been done; see that the server is \
             there, and run the command again, which finds out",
            self.database
        );
        StateError::storage(message, Cause(Arc::new(error)))
    }

    /// The database is there and of no use.
    pub(super) fn unusable(&self, problem_and_remedy: &str) -> StateError {
        StateError::Unusable { message: format!("the state in `{}` {problem_and_remedy}", self.database) }
    }

    pub(super) fn missing(&self) -> StateError {
        StateError::Missing { message: format!("there is no state in `{}`; {MISSING_CHOICES}", self.database) }
    }

    fn no_database(&self) -> StateError {
        StateError::Missing {
            message: format!(
                "there is no database `{}`; name another in the configuration or make it (`createdb`), and if it held state, {MISSING_CHOICES}",
                self.database
            ),
        }
    }

    /// The user lacks a privilege.
    pub(super) fn may_not_use(&self, action: &str) -> StateError {
        let user = &self.user;
        self.unusable(&format!(
            "does not let the user `{user}` do this ({action}); use the user who made it, or make this one the owner of \
             the schema `convoke` and of its tables"
        ))
    }

    /// The user may not make the schema.
    pub(super) fn may_not_create(&self) -> StateError {
        let user = &self.user;
        self.unusable(&format!(
            "has no schema `convoke`, and the user `{user}` may not make it; have its administrator run `CREATE SCHEMA convoke AUTHORIZATION {user}`"
        ))
    }

    pub(super) fn opened_for_reading(&self, action: &str) -> StateError {
        self.unusable(&format!("is open for reading only, which rules out {action}; use a command that writes"))
    }
}

/// A certificate that is refused is reported as data that is not valid.
const DISAGREED_ON_TLS: &str = "TLS was not agreed on; check `tls` and the certificate authorities of the connection";

fn unreachable_remedy(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => {
            "no connection was to be had in time; see that the server runs and can be reached, and how busy it is"
        }
        sqlx::Error::Tls(_) => DISAGREED_ON_TLS,
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => DISAGREED_ON_TLS,
        sqlx::Error::Configuration(_) => "the connection cannot be used as it is configured; see the cause",
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
            "the server cannot be reached, or the connection broke; see that it runs, and run the command again"
        }
        _ => "nothing of it was reported as done; see the cause, and run the command again",
    }
}

/// What the server said, without the values of the row that it said it about.
struct Cause(Arc<sqlx::Error>);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match server_error(&self.0) {
            Some(error) => write!(f, "{} (SQLSTATE {})", error.message(), error.code()),
            None => self.0.fmt(f),
        }
    }
}

impl std::fmt::Debug for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match server_error(&self.0) {
            Some(_) => None,
            None => self.0.source(),
        }
    }
}
