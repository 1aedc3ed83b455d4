//! Exit codes: the contract with scripts and schedulers.

use std::process::ExitCode;

use convoke_core::state::RunState;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success,
    Failed,
    /// Wrong usage or configuration.
    Usage,
    /// Records were rejected, or enrichments did not end well.
    Partial,
    /// A guard, a stale plan or unexplained rows.
    Stopped,
    Unbalanced,
    WaitingForQuota,
    /// Drained on SIGINT.
    Interrupted,
    /// Drained on SIGTERM.
    Terminated,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Stopped => 4,
            Self::Unbalanced => 5,
            Self::WaitingForQuota => 6,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// `signal` tells what interrupted the run, if it was interrupted.
    pub(crate) fn of_run(state: RunState, signal: Option<Self>) -> Self {
        match state {
            RunState::Succeeded | RunState::Planned => Self::Success,
            RunState::Running | RunState::Failed => Self::Failed,
            RunState::Partial => Self::Partial,
            RunState::Stopped => Self::Stopped,
            RunState::Unbalanced => Self::Unbalanced,
            RunState::WaitingForQuota => Self::WaitingForQuota,
            RunState::Interrupted => signal.unwrap_or(Self::Interrupted),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
