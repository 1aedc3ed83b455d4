//! How a command fails: a message for standard error and an exit code.

use convoke_config::Problems;
use convoke_core::StateError;
use convoke_pipeline::{Error, chain};

use crate::exit::Exit;

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Something the user asked for does not exist or does not fit.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Something that was tried failed; the chain of causes is told.
    pub(crate) fn caused(what: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed(format!("{what}: {}", chain(cause)))
    }

    /// Prints the message and returns the exit code.
    pub(crate) fn print(self) -> Exit {
        eprintln!("error: {}", self.message);
        self.exit
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::usage(problems.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::failed(chain(&error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Request { .. } => Exit::Usage,
            other => Exit::of_run(other.run_state(), None),
        };
        Self::new(exit, chain(&error))
    }
}
