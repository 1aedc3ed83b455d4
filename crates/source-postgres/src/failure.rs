//! What goes wrong with a database, in words that say what to do.
//!
//! PostgreSQL's own words are passed on only where they do not speak of values, see `failure/answers.rs`.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use convoke_core::spec::{PostgresConnection, PostgresSpec, Relation, TlsMode};
use convoke_core::{Origin, SourceError};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::batch::Misread;
use crate::columns::Columns;
use crate::relation::{label_of, quoted};

mod answers;

/// Turns errors into a source's, for one relation of one database.
#[derive(Clone)]
pub(crate) struct Failures {
    setting: Arc<Setting>,
}

struct Setting {
    /// `host:port`.
    server: String,
    database: String,
    user: String,
    has_password: bool,
    tls: TlsMode,
    statement_timeout: Duration,
    max_snapshot: Duration,
    relation: Relation,
    /// The relation and where it is.
    described: String,
    /// Whether the server has let us in before: what keeps us out then is likely to pass.
    was_reached: AtomicBool,
}

/// What the server said: the driver says it twice, with a line of the server's own source.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct Said {
    message: String,
    code: String,
}

fn told_once(error: sqlx::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match &error {
        sqlx::Error::Database(failure) => {
            let code = failure.code().unwrap_or_default().into_owned();
            Box::new(Said { message: failure.message().to_owned(), code })
        }
        _ => Box::new(error),
    }
}

impl Failures {
    pub(crate) fn new(connection: &PostgresConnection, spec: &PostgresSpec) -> Self {
        let relation = &spec.relation;
        let PostgresConnection { host, port, database, user, .. } = connection;
        let server = format!("{host}:{port}");
        let what = match relation {
            Relation::Table { .. } => format!("table `{}`", label_of(relation)),
            Relation::Query(_) => "the query".to_owned(),
        };
        let setting = Setting {
            described: format!("{what} in database `{database}` on `{server}`"),
            server,
            database: database.clone(),
            user: user.clone(),
            has_password: connection.password.is_some(),
            tls: connection.tls,
            statement_timeout: connection.statement_timeout,
            max_snapshot: spec.max_snapshot,
            relation: relation.clone(),
            was_reached: AtomicBool::new(false),
        };
        Self { setting: Arc::new(setting) }
    }

    /// The relation and where it is.
    pub(crate) fn relation(&self) -> &str {
        &self.setting.described
    }

    /// The server has let us in.
    pub(crate) fn note_reached(&self) {
        self.setting.was_reached.store(true, Ordering::Relaxed);
    }

    /// What passes, if it is not that we have never been there.
    fn passing(&self, origin: Origin, message: String) -> SourceError {
        match origin {
            Origin::External if self.setting.was_reached.load(Ordering::Relaxed) => SourceError::interrupted(message),
            _ => SourceError::new(origin, message),
        }
    }

    pub(crate) fn statement_timeout(&self) -> Duration {
        self.setting.statement_timeout
    }

    /// A connection did not come about.
    pub(crate) fn connecting(&self, error: sqlx::Error) -> SourceError {
        let Setting { server, database, user, .. } = self.setting.as_ref();
        let (origin, message) = match &error {
            sqlx::Error::Database(refusal) => self.refused(refusal.as_ref()),
            sqlx::Error::Tls(_) => self.tls(),
            sqlx::Error::Io(cause) if cause.kind() == ErrorKind::InvalidData => self.tls(),
            sqlx::Error::Io(cause) if is_closing(cause.kind()) => (
                Origin::External,
                format!(
                    "`{server}` closed the connection before the login of `{user}`; check that the server is not just \
                     starting or stopping, and that it is PostgreSQL that answers there"
                ),
            ),
            sqlx::Error::Io(_) => (
                Origin::External,
                format!(
                    "cannot reach PostgreSQL at `{server}`; check `host` and `port`, that the server runs and that no \
                     firewall is between"
                ),
            ),
            sqlx::Error::Configuration(_) => {
                (Origin::User, format!("the connection to database `{database}` on `{server}` cannot be set up"))
            }
            _ => (
                Origin::External,
                format!("cannot log in to `{server}` as `{user}`; check that it is PostgreSQL that answers there"),
            ),
        };
        let code = error.as_database_error().and_then(DatabaseError::code);
        let failure = match code.as_deref() {
            // It is starting, or has no connection left.
            Some("57P03" | "53300") => SourceError::interrupted(message),
            _ => self.passing(origin, message),
        };
        failure.caused_by(told_once(error))
    }

    /// Why the server did not let us in.
    fn refused(&self, refusal: &dyn DatabaseError) -> (Origin, String) {
        let Setting { server, database, user, has_password, tls, .. } = self.setting.as_ref();
        let code = refusal.code().unwrap_or_default();
        let user_error = |message| (Origin::User, message);
        match code.as_ref() {
            "28P01" if *has_password => user_error(format!(
                "PostgreSQL at `{server}` refuses the password of user `{user}`; check `user` and the password of the \
                 connection"
            )),
            "28P01" => user_error(format!(
                "PostgreSQL at `{server}` asks for the password of user `{user}`; give the connection one"
            )),
            "28000" => {
                let hint = if *tls == TlsMode::Disable { ", or that it asks for TLS (`tls: require`)" } else { "" };
                user_error(format!(
                    "PostgreSQL at `{server}` does not let user `{user}` into database `{database}` from here; check \
                     that the role exists and may log in, and what pg_hba.conf says{hint}"
                ))
            }
            "3D000" => user_error(format!("PostgreSQL at `{server}` has no database `{database}`; check `database`")),
            "42501" => user_error(format!(
                "user `{user}` may not connect to database `{database}` on `{server}`; its owner can say `GRANT \
                 CONNECT ON DATABASE {} TO {}`",
                quoted(database),
                quoted(user)
            )),
            "53300" => (
                Origin::External,
                format!("PostgreSQL at `{server}` has no connection left; raise its `max_connections`, or try later"),
            ),
            "57P03" => {
                (Origin::External, format!("PostgreSQL at `{server}` is starting or stopping; run again when it is up"))
            }
            _ => (Origin::External, format!("PostgreSQL at `{server}` does not take the connection (SQLSTATE {code})")),
        }
    }

    fn tls(&self) -> (Origin, String) {
        let server = &self.setting.server;
        let remedy = match self.setting.tls {
            TlsMode::VerifyFull => {
                "check that it has TLS, that `ca_file` holds the authority of its certificate, and that the \
                 certificate is for the name in `host`"
            }
            TlsMode::VerifyCa => "check that it has TLS, and that `ca_file` holds the authority of its certificate",
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
                "switch TLS on there, or choose `tls: disable` if the way to it is trusted"
            }
        };
        (Origin::User, format!("no TLS with PostgreSQL at `{server}`; {remedy}"))
    }

    /// The server did not answer in time.
    pub(crate) fn silent(&self, waited: Duration) -> SourceError {
        let message = format!(
            "PostgreSQL at `{}` did not answer within {waited:?}; check `host`, `port` and the firewall, or raise \
             `connect_timeout`",
            self.setting.server
        );
        self.passing(Origin::External, message)
    }

    /// The server was connected, and then said nothing more.
    pub(crate) fn frozen(&self, waited: Duration) -> SourceError {
        let message = format!(
            "PostgreSQL at `{}` was reached and did not tell within {waited:?} what {} holds; nothing was planned; check \
             the network to it, and whether somebody holds several of its tables; run again",
            self.setting.server,
            self.relation()
        );
        SourceError::new(Origin::External, message)
    }

    pub(crate) fn ca_file(&self, path: &Path, cause: Option<std::io::Error>) -> SourceError {
        let path = path.display();
        match cause {
            Some(cause) => {
                let message = format!("cannot read `ca_file: {path}`; name a PEM file that this process may read");
                SourceError::new(Origin::User, message).caused_by(cause)
            }
            None => {
                let message = format!("`ca_file: {path}` holds no certificate; name a PEM file with certificates");
                SourceError::new(Origin::User, message)
            }
        }
    }

    /// A question before the first record failed.
    pub(crate) fn asking(&self, error: sqlx::Error) -> SourceError {
        let place = match (&self.setting.relation, &error) {
            (Relation::Query(query), sqlx::Error::Database(failure)) => place_in(query, failure.as_ref()),
            _ => None,
        };
        self.failed(error, place)
    }

    /// The snapshot of others could not be joined.
    pub(crate) fn joining(&self, error: sqlx::Error) -> SourceError {
        match error.as_database_error().and_then(DatabaseError::code).as_deref() {
            // There is no such snapshot, or no longer.
            Some("22023" | "42704" | "55000") => self.snapshot_gone(),
            _ => self.asking(error),
        }
    }

    /// The read failed.
    pub(crate) fn reading(&self, error: sqlx::Error) -> SourceError {
        self.failed(error, None)
    }

    fn forbidden(&self) -> String {
        let user = quoted(&self.setting.user);
        let (table, schema) = match &self.setting.relation {
            Relation::Table { schema: Some(schema), name } => {
                (format!("{}.{}", quoted(schema), quoted(name)), quoted(schema))
            }
            Relation::Table { schema: None, name } => (quoted(name), "…".to_owned()),
            Relation::Query(_) => ("…".to_owned(), "…".to_owned()),
        };
        format!(
            "user `{}` may not read {}; its owner can say `GRANT SELECT ON {table} TO {user}` and `GRANT USAGE ON \
             SCHEMA {schema} TO {user}`",
            self.setting.user,
            self.relation()
        )
    }

    fn cut(&self) -> SourceError {
        let message = format!(
            "the connection was cut while {} was read: the server stopped, or somebody ended the session; nothing was \
             planned of it; run again",
            self.relation()
        );
        SourceError::interrupted(message)
    }

    /// The COPY ended without its end mark.
    pub(crate) fn cut_short(&self) -> SourceError {
        self.cut()
    }

    pub(crate) fn out_of_time(&self) -> SourceError {
        let message = format!(
            "reading {} took longer than `statement_timeout` ({:?}), and the server did not say so; nothing was \
             planned; check the network to it",
            self.relation(),
            self.setting.statement_timeout
        );
        SourceError::new(Origin::External, message)
    }

    /// Nobody waits for an answer any more, nor for this error.
    pub(crate) fn unheard(&self) -> SourceError {
        let message = format!("nobody waits any more for what {} holds", self.relation());
        SourceError::new(Origin::Internal, message)
    }

    /// A thread ended without a word.
    pub(crate) fn thread_ended(&self) -> SourceError {
        SourceError::new(Origin::Internal, format!("the thread that reads {} ended early", self.relation()))
    }

    /// The relation has other columns than when it was discovered.
    pub(crate) fn reshaped(&self) -> SourceError {
        SourceError::changed(format!(
            "the columns of {} have changed since it was looked at; plan again",
            self.relation()
        ))
    }

    /// A table was emptied or replaced in the moment that its read began.
    pub(crate) fn rewritten(&self) -> SourceError {
        let message = format!(
            "a table of {} was emptied, replaced or rewritten in the moment that reading began, so that rows may be \
             missing; nothing was planned; run again",
            self.relation()
        );
        SourceError::changed(message)
    }

    pub(crate) fn misread(&self, misread: Misread, columns: &Columns) -> SourceError {
        let name_of = |index| columns.names().nth(index).unwrap_or_default();
        let what = match misread {
            Misread::OutOfRange(index) => return self.out_of_range(name_of(index)),
            Misread::WithoutCursor(index) => return self.without_cursor(name_of(index)),
            Misread::NotUtf8(index) => return self.not_utf8(name_of(index)),
            Misread::Framing => "records".to_owned(),
            Misread::Field(index) => format!("column `{}`", name_of(index)),
        };
        SourceError::new(Origin::Internal, format!("PostgreSQL sent {what} of {} in an unknown form", self.relation()))
    }

    fn not_utf8(&self, column: &str) -> SourceError {
        let name = quoted(column);
        let message = format!(
            "column `{column}` of {} holds a text that is not UTF-8; nothing was planned; mend the row, or convert the \
             column in a query: `convert_from({name}::bytea, 'LATIN1') AS {name}`, with the encoding that its texts have",
            self.relation()
        );
        SourceError::new(Origin::User, message)
    }

    fn out_of_range(&self, column: &str) -> SourceError {
        let message = format!(
            "column `{column}` of {} holds a value that is not finite, or outside the years 1 to 9999, for which its type \
             has no place here; nothing was planned; mend the row, or choose `out_of_range: empty` or `out_of_range: text`",
            self.relation()
        );
        SourceError::new(Origin::User, message)
    }

    fn without_cursor(&self, column: &str) -> SourceError {
        let message = format!(
            "{} has a row without a value in `{column}`, which tells what has changed; nothing was planned; fill it, or \
             choose `nulls: read`",
            self.relation()
        );
        SourceError::new(Origin::User, message)
    }

    /// The snapshot that the other ranges were read in cannot be joined any more.
    pub(crate) fn snapshot_gone(&self) -> SourceError {
        let message = format!(
            "the snapshot in which the ranges of {} are read has gone, with its connection or after `max_snapshot`; \
             nothing was planned of it; run again",
            self.relation()
        );
        SourceError::changed(message)
    }

    /// Vacuum was kept waiting for as long as it may be.
    pub(crate) fn held_too_long(&self) -> SourceError {
        let message = format!(
            "the snapshot of {} was held for as long as `max_snapshot` allows ({:?}), and was let go of; nothing was \
             planned; read less, or read it faster, with `parallel` or `incremental`, or raise `max_snapshot`",
            self.relation(),
            self.setting.max_snapshot
        );
        SourceError::new(Origin::User, message)
    }

    /// A standby does not show what runs on its primary.
    pub(crate) fn standby(&self) -> SourceError {
        let message = format!(
            "PostgreSQL at `{}` is a standby, which does not show the transactions of its primary, so that rows could be \
             missed; read from the primary, or by `incremental: {{ row_versions: true }}`, or without `incremental`",
            self.setting.server
        );
        SourceError::new(Origin::User, message)
    }

    /// The user sees no transactions of others.
    pub(crate) fn blind(&self) -> SourceError {
        let Setting { user, server, .. } = self.setting.as_ref();
        let message = format!(
            "user `{user}` does not see the transactions of others on `{server}`, so that rows which they commit late \
             could be missed; an administrator can say `GRANT pg_read_all_stats TO {}`; or read by `incremental: {{ \
             row_versions: true }}`",
            quoted(user)
        );
        SourceError::new(Origin::User, message)
    }

    /// The cluster cannot be told from another one.
    pub(crate) fn unidentified(&self) -> SourceError {
        let Setting { user, server, .. } = self.setting.as_ref();
        let user_name = quoted(user);
        let message = format!(
            "user `{user}` may not ask `{server}` which cluster it is, without which row versions mean nothing; an \
             administrator can say `GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), \
             pg_walfile_name(pg_lsn), pg_current_wal_insert_lsn() TO {user_name}`"
        );
        SourceError::new(Origin::User, message)
    }

    /// What is read has no versions.
    pub(crate) fn unversioned(&self) -> SourceError {
        let message = format!(
            "{} is a view, a foreign table or kept in a way of its own, and its rows have no versions; name a table, or a \
             `column` that tells changes",
            self.relation()
        );
        SourceError::new(Origin::User, message)
    }

    /// The column that is to tell changes cannot.
    pub(crate) fn no_cursor(&self, column: &str, is_there: bool) -> SourceError {
        let what = if is_there {
            "is neither a timestamp, nor a date, nor a whole number, so that nothing tells what is newer"
        } else {
            "is not there"
        };
        let message = format!(
            "column `{column}` of {}, which `incremental` names, {what}; name a column that each change sets to a later \
             value",
            self.relation()
        );
        SourceError::new(Origin::User, message)
    }

    /// A thread to read on could not be had.
    pub(crate) fn no_thread(&self) -> SourceError {
        let message = format!("no thread could be started to read {}; raise the limit of threads", self.relation());
        SourceError::new(Origin::External, message)
    }

    pub(crate) fn named_twice(&self, column: &str) -> SourceError {
        let message = format!("{} has two columns `{column}`; name one of them otherwise, with AS", self.relation());
        SourceError::new(Origin::User, message)
    }

    pub(crate) fn without_columns(&self) -> SourceError {
        SourceError::new(Origin::User, format!("{} has no columns; it must give at least one", self.relation()))
    }

    pub(crate) fn unreadable_type(&self, column: &str, written: &str) -> SourceError {
        let name = quoted(column);
        let message = format!(
            "column `{column}` of {} has the type `{written}`, which cannot be read; cast it in a query: `{name}::text \
             AS {name}`, or choose `unsupported: text`",
            self.relation()
        );
        SourceError::new(Origin::User, message)
    }
}

/// Whether the other side has closed the connection.
fn is_closing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Where in the query an error is.
fn place_in(query: &str, failure: &dyn DatabaseError) -> Option<String> {
    let position = failure.try_downcast_ref::<PgDatabaseError>()?.position()?;
    let PgErrorPosition::Original(position) = position else { return None };
    let before: String = query.chars().take(position.saturating_sub(1)).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    Some(format!(" at line {line}, column {column} of it"))
}
