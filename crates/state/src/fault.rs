//! What goes wrong beneath the traits, before it is told to the user.

use std::io;
use std::path::Path;
use std::sync::Arc;

use convoke_core::StateError;

/// What a user can do when state is gone. None of it happens by itself.
pub(crate) const MISSING_CHOICES: &str = "choose one: adopt what the audience holds (`convoke adopt`), restore a backup, or begin anew with an audience of another name";

/// What an operation on a database can end with, before the database is named.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Shared, since all operations of a failed commit fail for the same reason.
    Sql(Arc<sqlx::Error>),
    /// Ready for the caller.
    State(StateError),
    /// A stored value cannot be read back.
    Unreadable { what: &'static str },
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(Arc::new(error))
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl Fault {
    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::State(StateError::Conflict { what: what.into() })
    }
}

/// A disk of this machine that is full.
pub(crate) fn full_disk(
    action: &str,
    path: &Path,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StateError {
    let message = format!(
        "{action} failed: the disk that holds `{}` is full; nothing was half-applied: free some space and run again",
        path.display()
    );
    StateError::storage(message, cause)
}

/// Tells a failure of the file system.
pub(crate) fn disk_fault(action: &str, path: &Path, error: io::Error) -> StateError {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return full_disk(action, path, error),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "check its owner and permissions",
        io::ErrorKind::AlreadyExists => "it exists already; name another, or move it away",
        _ => "see the cause",
    };
    StateError::storage(format!("{action} `{}` failed; {remedy}", path.display()), error)
}
