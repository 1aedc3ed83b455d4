//! How a command fails: a message for standard error and an exit code.

use std::path::Path;

use convoke_config::Problems;
use convoke_core::StateError;
use convoke_engine::EngineError;
use convoke_pipeline::{Error, chain};
use serde_json::json;

use crate::cli::{DEFAULT_CONFIG, Global};
use crate::exit::Exit;
use crate::output;
use crate::signals::Signals;

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

    /// A command that did not come to its end; `signals` tells which signal it was, if one was the reason.
    pub(crate) fn ended_by(error: Error, signals: &Signals) -> Self {
        let mut failure = Self::from(error);
        if failure.exit == Exit::Interrupted {
            failure.exit = signals.received().unwrap_or(Exit::Interrupted);
        }
        failure
    }

    /// Whether the usage or the configuration is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        self.exit == Exit::Usage
    }

    /// Exit code and message, for who prints more than these.
    pub(crate) fn into_parts(self) -> (Exit, String) {
        (self.exit, self.message)
    }

    /// The message alone.
    pub(crate) fn into_message(self) -> String {
        self.message
    }

    /// Prints the message, for machines as well if they asked, and returns the exit code.
    pub(crate) fn print(self, global: &Global) -> Exit {
        print_error(global, &self.message);
        if global.json {
            print_json(&self.message, self.exit);
        }
        self.exit
    }
}

/// Prints an error on standard error. Commands that it advises are told without `--config`, which the user may need.
pub(crate) fn print_error(global: &Global, error: &str) {
    eprintln!("error: {error}");
    if let Some(hint) = config_hint(&global.config, error) {
        eprintln!("{hint}");
    }
}

fn config_hint(config: &Path, error: &str) -> Option<String> {
    let is_needed = error.contains("`convoke ") && config != Path::new(DEFAULT_CONFIG);
    is_needed.then(|| format!("hint: with `--config {}`, as in this command", config.display()))
}

/// What a machine reads of a command that failed.
pub(crate) fn print_json(error: &str, exit: Exit) {
    output::json(&json!({ "error": error.trim_end(), "exit_code": exit.code() }));
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
            // Expressions that do not fit the source are wrong configuration, as in `check`.
            Error::Request { .. } | Error::Engine(EngineError::Expressions { .. }) => Exit::Usage,
            other => Exit::of_run(other.run_state(), None),
        };
        Self::new(exit, chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_named_a_configuration_is_told_that_advised_commands_need_it() {
        let advice = "there is nothing yet; `convoke run people` makes it";
        let hint = config_hint(Path::new("try/config"), advice).unwrap();
        assert!(hint.contains("`--config try/config`"), "{hint}");
        assert_eq!(config_hint(Path::new(DEFAULT_CONFIG), advice), None);
        assert_eq!(config_hint(Path::new("try/config"), "convoke is not to blame"), None);
    }
}
