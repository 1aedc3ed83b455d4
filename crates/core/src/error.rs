//! Errors that cross crate boundaries, each with an origin.
//!
//! `Display` says what this layer tried and what the user can do; it never repeats its source, and never holds
//! a secret or a value from a record. Whoever handles an error prints the chain.

use thiserror::Error;

use crate::gate::QuotaExhausted;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user: configuration, credentials, files.
    User,
    /// A system we depend on: network, destination, disk.
    External,
    /// Convoke itself: a bug.
    Internal,
}

/// What can be done about a source's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// Somebody has to do something, or the same may be tried later.
    Failed,
    /// What was listed is no longer there as it was: a new discovery sees what there is now.
    Changed,
    /// Something that passes cut the reading off: a lost connection, a server that restarts. The same may be read again,
    /// from its start.
    Interrupted,
    /// This kind of source cannot make the selection that was asked for.
    Selection,
}

/// Why a source could not be described, listed or read.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct SourceError {
    pub origin: Origin,
    pub kind: SourceErrorKind,
    /// What was tried, where, and the remedy.
    pub message: String,
    #[source]
    pub cause: Option<Cause>,
}

impl SourceError {
    /// An error without a cause.
    pub fn new(origin: Origin, message: impl Into<String>) -> Self {
        Self { origin, kind: SourceErrorKind::Failed, message: message.into(), cause: None }
    }

    /// A split is no longer what was listed.
    pub fn changed(message: impl Into<String>) -> Self {
        Self { kind: SourceErrorKind::Changed, ..Self::new(Origin::External, message) }
    }

    /// Reading was cut off by something that passes.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { kind: SourceErrorKind::Interrupted, ..Self::new(Origin::External, message) }
    }

    /// What was asked for cannot be selected.
    pub fn selection(message: impl Into<String>) -> Self {
        Self { kind: SourceErrorKind::Selection, ..Self::new(Origin::User, message) }
    }

    /// Adds what lies beneath.
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// Why a sink stopped a run. Outcomes that the delivery protocol handles are not errors: see
/// [`Answer`](crate::sink::Answer).
#[derive(Debug, Error)]
pub enum SinkError {
    /// The credentials were refused, also after renewal.
    #[error("{message}")]
    Unauthorized { message: String },
    /// The credential may not do this, or the account cannot be charged.
    #[error("{message}")]
    Forbidden { message: String },
    /// The audience, folder or column named does not exist.
    #[error("{message}")]
    NotFound { message: String },
    /// The destination could not be reached, or gave no usable answer. A read may be repeated.
    #[error("{message}")]
    Unavailable {
        message: String,
        retry_after: Option<std::time::Duration>,
        #[source]
        cause: Option<Cause>,
    },
    /// The destination refused a request that Convoke should not have made, or answered outside its contract.
    #[error("{message}")]
    Protocol { message: String },
    /// The rate budget is used up for longer than a run waits.
    #[error("waiting for quota")]
    Quota(#[from] QuotaExhausted),
}

impl SinkError {
    /// Who has to act.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Unauthorized { .. } | Self::Forbidden { .. } | Self::NotFound { .. } => Origin::User,
            Self::Unavailable { .. } | Self::Quota(_) => Origin::External,
            Self::Protocol { .. } => Origin::Internal,
        }
    }

    /// Whether repeating a *read* may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why the checkpoint store could not do what it was asked.
#[derive(Debug, Error)]
pub enum StateError {
    /// Someone else holds the lease.
    #[error(
        "`{resource}` is being written by {holder}, whose lease lasts until {expires_at} unless it is renewed or given back; wait for it, or stop that process"
    )]
    Busy { resource: String, holder: String, expires_at: crate::time::Timestamp },
    /// The lease was lost: another process may be writing.
    #[error("the lease on `{resource}` was lost; this process stopped writing")]
    LeaseLost { resource: String },
    /// A compare-and-set found another value than expected.
    #[error("{what} changed meanwhile; plan again")]
    Conflict { what: String },
    /// State that should be there is not. Never treated as "start from zero".
    #[error("{message}")]
    Missing { message: String },
    /// State is there but cannot be used by this program (version, key, damaged file, network file system).
    #[error("{message}")]
    Unusable { message: String },
    /// The storage itself failed.
    #[error("{message}")]
    Storage {
        message: String,
        #[source]
        cause: Option<Cause>,
    },
}

impl StateError {
    /// The storage failed, for this cause.
    pub fn storage(message: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Storage { message: message.into(), cause: Some(cause.into()) }
    }
}
