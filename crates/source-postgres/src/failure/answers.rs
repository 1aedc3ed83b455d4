//! What the server's answers mean, by their codes.
//!
//! PostgreSQL's own words stand behind what is said only where they speak of names, of syntax or of the server: those of an
//! error in a value would show the value.

use convoke_core::spec::Relation;
use convoke_core::{Origin, SourceError};

use super::{Failures, Setting, told_once};

/// Classes of codes whose words are the server's own: what it cannot do, the state of transactions, of cursors and of
/// objects, limits, interventions and configuration.
const SERVERS_OWN: [&str; 13] = ["0A", "21", "24", "25", "2D", "34", "3B", "3F", "40", "54", "55", "57", "F0"];

impl Failures {
    pub(super) fn failed(&self, error: sqlx::Error, place: Option<String>) -> SourceError {
        let sqlx::Error::Database(failure) = &error else {
            return match error {
                sqlx::Error::Io(_) => self.cut().caused_by(error),
                _ => SourceError::new(
                    Origin::Internal,
                    format!("PostgreSQL's answer about {} is not understood", self.relation()),
                )
                .caused_by(error),
            };
        };
        let code = failure.code().unwrap_or_default();
        match self.explained(&code, place) {
            Some((_, message)) if is_passing(&code) => SourceError::interrupted(message).caused_by(told_once(error)),
            Some((origin, message)) => SourceError::new(origin, message).caused_by(told_once(error)),
            None => {
                let (origin, message, are_words_shown) = self.unexplained(&code);
                let told = SourceError::new(origin, message);
                if are_words_shown { told.caused_by(told_once(error)) } else { told }
            }
        }
    }

    /// What is told of a code that means nothing in particular, and whether PostgreSQL's own words may stand behind it.
    fn unexplained(&self, code: &str) -> (Origin, String, bool) {
        let what = self.relation();
        match code.get(..2).unwrap_or_default() {
            "22" if code == "22021" => {
                let message = format!(
                    "{what} holds a text that is not UTF-8, which a database with the encoding SQL_ASCII does not keep out \
                     (SQLSTATE {code}); nothing was planned; the server's log says at which bytes; mend the row, or convert \
                     the column in a query: `convert_from(column::bytea, 'LATIN1')`, with the encoding that its texts have"
                );
                (Origin::User, message, false)
            }
            // Of data, of constraints and what a function raises: the words hold values.
            "22" | "23" | "P0" => {
                let message = format!(
                    "PostgreSQL fails at a value of {what} (SQLSTATE {code}); its log says at which; mend the query or the \
                     row"
                );
                (Origin::User, message, false)
            }
            "58" | "XX" => {
                let message = format!(
                    "PostgreSQL, or the storage beneath it, is damaged or at fault where it reads {what} (SQLSTATE {code}); \
                     nothing was planned; see its log"
                );
                (Origin::External, message, true)
            }
            class if SERVERS_OWN.contains(&class) => {
                let message = format!("PostgreSQL does not read {what} (SQLSTATE {code}); nothing was planned");
                (Origin::User, message, true)
            }
            // A function raises what it likes, under any code.
            _ => {
                let message = format!(
                    "PostgreSQL fails while it reads {what} (SQLSTATE {code}); its log says at what; the words are left out \
                     here because they may hold a value"
                );
                (Origin::User, message, false)
            }
        }
    }

    /// Says what a code means, if PostgreSQL's own words may stand behind it.
    fn explained(&self, code: &str, place: Option<String>) -> Option<(Origin, String)> {
        let Setting { server, user, relation, statement_timeout, .. } = self.setting.as_ref();
        let what = self.relation();
        let message = match code {
            "42P01" => match relation {
                Relation::Table { .. } => format!(
                    "there is no {what}, or user `{user}` does not see it; names are taken as they stand, upper and \
                     lower case apart, and without a schema the user's `search_path` decides: write `schema.table`"
                ),
                Relation::Query(_) => format!(
                    "{what} names a table that is not there{}; check its name, and its schema against the \
                     `search_path` of user `{user}`",
                    place.unwrap_or_default()
                ),
            },
            "42501" => self.forbidden(),
            "25001" | "25006" => format!("{what} writes, and the session may only read; take the write out of it"),
            "57014" => format!(
                "reading {what} took longer than `statement_timeout` ({statement_timeout:?}), or somebody cancelled \
                 it; nothing was planned; raise the time-out or read less"
            ),
            "55P03" => format!(
                "somebody holds a table of {what} exclusively; nothing was planned; run again when they are done"
            ),
            "40001" | "40P01" => format!(
                "the replica gave up reading {what} in favour of what came from its primary; nothing was planned; run \
                 again, or raise its `max_standby_streaming_delay`"
            ),
            "26000" | "42P05" => format!(
                "the statements of one session reached several at `{server}`, as through a pooler that hands a session \
                 from one transaction to the next; name the server itself in `host` and `port`, or let the pooler keep \
                 sessions (`pool_mode = session`)"
            ),
            "25P03" | "25P04" => return Some((Origin::User, self.held_too_long().message)),
            "57P01" | "57P02" | "57P03" => return Some((Origin::External, self.cut().message)),
            _ if code.starts_with("08") => return Some((Origin::External, self.cut().message)),
            _ if code.starts_with("42") => {
                format!("PostgreSQL does not understand {what}{}; mend it", place.unwrap_or_default())
            }
            _ if code.starts_with("53") => {
                format!("PostgreSQL has not what it needs to read {what} (SQLSTATE {code}); nothing was planned")
            }
            _ => return None,
        };
        let is_external = matches!(code, "57014" | "55P03" | "40001" | "40P01") || code.starts_with("53");
        Some((if is_external { Origin::External } else { Origin::User }, message))
    }
}

/// Whether what a code tells of passes by itself: a server that stops, starts or is taken over by another, and a standby
/// that puts what comes from its primary before us.
fn is_passing(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03" | "40001" | "40P01") || code.starts_with("08")
}
