//! Asks a source again what something that passes has cut off: the one place for that.
//!
//! To list and to read a source changes nothing there, so both may be done again. What was read of a split until then is
//! dropped with the failed attempt, so nothing is counted twice.

use convoke_core::SourceError;
use convoke_core::error::SourceErrorKind;
use convoke_delivery::random_backoff;
use convoke_engine::EngineError;

use crate::Pipeline;
use crate::error::{Error, chain};

/// Attempts at one call or split. With the pauses they last a minute as a rule, and twice that at most: long enough for a
/// database that restarts.
pub const SOURCE_ATTEMPTS: u32 = 8;

impl Pipeline {
    /// Asks the source for something, again and again while it is cut off, until the run is cancelled; `what` names it in
    /// messages: `reading split`.
    pub(crate) async fn ask_source<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut attempts = 1;
        loop {
            let error = match self.unless_cancelled(attempt()).await? {
                Err(error) if error.source_error_kind() == Some(SourceErrorKind::Interrupted) => error,
                answered => return answered,
            };
            if attempts == SOURCE_ATTEMPTS {
                return Err(given_up(what, error));
            }
            self.notice(format!("{what} was cut off and is done again: {}", chain(&error)));
            self.unless_cancelled(self.services.clock.sleep(random_backoff(attempts))).await?;
            attempts += 1;
        }
    }
}

fn given_up(what: &str, last: Error) -> Error {
    let message = format!("gave up {what} after {SOURCE_ATTEMPTS} attempts; run again once the source answers");
    let given_up = |cause: SourceError| SourceError { message, ..SourceError::new(cause.origin, "") }.caused_by(cause);
    match last {
        Error::Engine(EngineError::Source { split, cause }) => {
            Error::Engine(EngineError::Source { split, cause: given_up(cause) })
        }
        Error::Source(cause) => Error::Source(given_up(cause)),
        other => other,
    }
}
