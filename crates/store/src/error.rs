//! Errors of the audience store.
//!
//! `Display` names the thing and the remedy and never holds a value from a row: the HTTP surface shows it to clients.

use thiserror::Error;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Result of the store's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store did not do what it was asked. In every case nothing was written.
#[derive(Debug, Error)]
pub enum Error {
    /// The request does not fit the audience; all problems found.
    #[error("the request has {} problem(s)", .0.len())]
    Invalid(Vec<Problem>),
    /// The thing does not exist, or belongs to another client.
    #[error("there is no {what} `{id}`")]
    NotFound { what: &'static str, id: String },
    /// The file is there but cannot be used.
    #[error("{message}")]
    Unusable { message: String },
    /// The storage failed.
    #[error("{message}")]
    Storage {
        message: String,
        #[source]
        cause: Cause,
    },
}

impl Error {
    /// Returns a refusal with one problem.
    pub fn invalid(place: Place, kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(place, kind, detail)])
    }

    /// Returns `Ok` if there is no problem.
    pub(crate) fn unless_none(problems: Vec<Problem>) -> Result<()> {
        if problems.is_empty() { Ok(()) } else { Err(Self::Invalid(problems)) }
    }

    pub(crate) fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }

    pub(crate) fn storage(message: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Storage { message: message.into(), cause: cause.into() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        Self::storage("the audience store's database failed; see the cause, then try again", cause)
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    pub kind: ProblemKind,
    /// What is wrong, without the value.
    pub detail: String,
}

impl Problem {
    /// A problem at this place.
    pub fn new(place: Place, kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { place, kind, detail: detail.into() }
    }
}

/// Where in a request a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// JSON pointer into the body.
    Pointer(String),
    /// A query parameter.
    Parameter(&'static str),
    /// Nowhere in particular.
    Request,
}

impl Place {
    /// A place in the body.
    pub fn pointer(pointer: impl Into<String>) -> Self {
        Self::Pointer(pointer.into())
    }
}

/// What sort of problem it is; the HTTP surface gives each its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A member that this request may not set.
    Disallowed,
    /// A member is missing, or a number of things is out of bounds.
    Missing,
    /// There is nothing to work on.
    Nothing,
    /// A value does not fit its column, or names something that does not exist.
    Value,
    /// A value has the wrong JSON type.
    Shape,
}
