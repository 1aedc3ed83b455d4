//! The database file in messages, and what SQLite's result codes mean to the user.

use std::path::Path;
use std::sync::Arc;

use convoke_core::StateError;

use crate::fault::{Fault, MISSING_CHOICES, full_disk};

// Primary result codes, https://www.sqlite.org/rescode.html.
const SQLITE_BUSY: i64 = 5;
const SQLITE_LOCKED: i64 = 6;
const SQLITE_READONLY: i64 = 8;
const SQLITE_CORRUPT: i64 = 11;
const SQLITE_FULL: i64 = 13;
const SQLITE_CANTOPEN: i64 = 14;
const SQLITE_NOTADB: i64 = 26;
/// Extended code: the index of the write-ahead log could not grow, which is what a full disk looks like there.
const SQLITE_IOERR_SHMSIZE: i64 = 4874;

/// The database file, as messages name it.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Path>);

impl Place {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Turns a fault into what the user reads: what was tried, on which file, and the remedy.
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
        let code = result_code(&error);
        let path = self.0.display();
        let remedy = match code.map(|code| code & 0xff) {
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => {
                return self.unusable("is damaged or not an SQLite database; restore a backup, or move the file away");
            }
            Some(SQLITE_FULL) => return full_disk(action, &self.0, error),
            _ if code == Some(SQLITE_IOERR_SHMSIZE) => return full_disk(action, &self.0, error),
            Some(SQLITE_BUSY | SQLITE_LOCKED) => "another process keeps it locked; wait for it, or stop that process",
            Some(SQLITE_READONLY | SQLITE_CANTOPEN) => "check who owns the file and its folder, and their permissions",
            _ => "nothing of it was reported as done; see the cause, and run the command again",
        };
        StateError::storage(format!("{action} failed on the state `{path}`: {remedy}"), error)
    }

    /// The file is there and of no use.
    pub(super) fn unusable(&self, problem_and_remedy: &str) -> StateError {
        StateError::Unusable { message: format!("the state `{}` {problem_and_remedy}", self.0.display()) }
    }

    pub(super) fn without_writer(&self, action: &str) -> StateError {
        let message =
            format!("{action} failed: the writer of the state `{}` has stopped; start again", self.0.display());
        StateError::Storage { message, cause: None }
    }

    pub(super) fn missing(&self) -> StateError {
        StateError::Missing { message: format!("there is no state in `{}`; {MISSING_CHOICES}", self.0.display()) }
    }

    pub(super) fn opened_for_reading(&self, action: &str) -> StateError {
        self.unusable(&format!("is open for reading only, which rules out {action}; use a command that writes"))
    }
}

fn result_code(error: &sqlx::Error) -> Option<i64> {
    error.as_database_error()?.code()?.parse().ok()
}
