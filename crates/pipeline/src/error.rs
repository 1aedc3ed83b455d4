//! How a run can end other than well.

use convoke_core::error::{SinkError, SourceError, SourceErrorKind, StateError};
use convoke_core::state::RunState;
use convoke_core::{SyncName, Timestamp};
use convoke_delivery::DeliveryError;
use convoke_engine::{DamagedSplit, EngineError};
use thiserror::Error;

/// Why a run ended early. Each says what was tried and what to do; the chain below it says why.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the source could not be read")]
    Source(#[from] SourceError),
    #[error("the records could not be processed")]
    Engine(#[from] EngineError),
    #[error("{}", refusal(.0))]
    State(#[from] StateError),
    #[error("the destination could not be used")]
    Sink(#[from] SinkError),
    #[error("delivery stopped")]
    Delivery(#[source] DeliveryError),
    #[error("{message}")]
    Files {
        message: String,
        #[source]
        cause: std::io::Error,
    },
    /// A guard, a stale plan, unexplained rows: nothing was sent.
    #[error("{message}")]
    Stopped { message: String },
    /// What was read or reached cannot be used.
    #[error("{message}")]
    Unusable { message: String },
    /// The user asked for something that does not exist or does not fit.
    #[error("{message}")]
    Request { message: String },
    /// Something was found that should be impossible; nothing is called done.
    #[error("{message}")]
    Unbalanced { message: String },
    #[error("waiting for quota until {until}; the same command goes on from here")]
    WaitingForQuota { until: Timestamp },
    #[error("stopped on a signal after the requests in flight; the same command goes on from here")]
    Interrupted,
    #[error(
        "interrupted: {settled} of {total} changes delivered; run again to go on with the rest, or give it up and look at the source anew with `convoke plan {sync}`"
    )]
    DeliveryInterrupted { sync: SyncName, settled: u64, total: u64 },
}

fn refusal(error: &StateError) -> &'static str {
    match error {
        StateError::Busy { .. } => "another run is under way",
        _ => "the checkpoint store refused",
    }
}

impl Error {
    /// Whether the source is no longer what was listed of it, so that it has to be listed again.
    pub(crate) fn is_changed_source(&self) -> bool {
        self.source_error_kind() == Some(SourceErrorKind::Changed)
    }

    /// What can be done about the source's error, if it is one.
    pub(crate) fn source_error_kind(&self) -> Option<SourceErrorKind> {
        match self {
            Self::Source(cause) | Self::Engine(EngineError::Source { cause, .. }) => Some(cause.kind),
            _ => None,
        }
    }

    /// The splits whose contents turned out damaged, if that is why a plan could not be computed.
    pub(crate) fn damaged_splits(&self) -> &[DamagedSplit] {
        match self {
            Self::Engine(EngineError::DamagedSplits(damaged)) => damaged,
            _ => &[],
        }
    }

    /// The state in which a run that ended with this error is recorded.
    pub fn run_state(&self) -> RunState {
        match self {
            Self::Stopped { .. } => RunState::Stopped,
            Self::Unbalanced { .. } => RunState::Unbalanced,
            Self::WaitingForQuota { .. } => RunState::WaitingForQuota,
            Self::Interrupted | Self::DeliveryInterrupted { .. } => RunState::Interrupted,
            _ => RunState::Failed,
        }
    }

    /// When a run that waits for quota can go on.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::WaitingForQuota { until } => Some(*until),
            _ => None,
        }
    }

    /// Whether somebody else writes the audience, so that nothing was begun.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::State(StateError::Busy { .. }))
    }

    /// The error of a query over a scan of the audience: a scan that has used the quota up waits like any other work.
    pub(crate) fn of_scan(error: EngineError) -> Self {
        match error {
            EngineError::Scan { cause: SinkError::Quota(exhausted) } => {
                Self::WaitingForQuota { until: exhausted.until }
            }
            error => Self::Engine(error),
        }
    }

    pub(crate) fn files(message: impl Into<String>, cause: std::io::Error) -> Self {
        Self::Files { message: message.into(), cause }
    }
}

/// Prints an error and everything below it on one line, for logs and run records.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}
