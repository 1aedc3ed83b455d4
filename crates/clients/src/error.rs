use convoke_core::{Origin, SourceError, StateError};
use thiserror::Error;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a client could not be set up. The message tells the setting and the remedy, and no secret.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct ClientError {
    origin: Origin,
    message: String,
    #[source]
    cause: Option<Cause>,
}

impl ClientError {
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self { origin: Origin::User, message: message.into(), cause: None }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { origin: Origin::Internal, message: message.into(), cause: None }
    }

    pub(crate) fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// As the error of a source; `place` says which connection it is.
    pub fn of_source(self, place: &str) -> SourceError {
        let error = SourceError::new(self.origin, format!("{place}: {}", self.message));
        match self.cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }

    /// As the error of a checkpoint store; `place` says which connection it is.
    pub fn of_state(self, place: &str) -> StateError {
        let message = format!("{place}: {}", self.message);
        match self.cause {
            Some(cause) => StateError::storage(message, cause),
            None => StateError::Unusable { message },
        }
    }
}
