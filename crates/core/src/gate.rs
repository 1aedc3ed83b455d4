//! The gate that every HTTP request to a destination passes: the rate budget of one credential.

use std::time::Duration;

use async_trait::async_trait;

use crate::time::Timestamp;

/// The windows in which destinations count requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    Second,
    Hour,
    Day,
}

/// What an answer told about the budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// True if the request was refused for its rate (429). Refused requests do not consume quota.
    pub rejected: bool,
    /// The window that refused, where the destination names it.
    pub rejected_window: Option<Window>,
    /// How long the destination asked to wait.
    pub retry_after: Option<Duration>,
    /// Requests left per window, where the destination tells (`-1` or absent: not known).
    pub remaining: Vec<(Window, u64)>,
}

/// The budget is used up for longer than a run may reasonably wait, or than it was let.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request quota is used up until {until}")]
pub struct QuotaExhausted {
    pub until: Timestamp,
}

/// Admits requests at the rate that one credential may use, whoever sends them.
///
/// The contract: a sink calls [`Gate::admit`] right before each HTTP request and [`Gate::report`] once for each
/// answer. One gate is shared by all users of a credential.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when a request may leave, or with an error when that would be too long or the wait is cut short.
    async fn admit(&self) -> Result<(), QuotaExhausted>;
    /// Takes note of what the answer told.
    fn report(&self, feedback: Feedback);
}

/// A gate without limits, for a destination that has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn admit(&self) -> Result<(), QuotaExhausted> {
        Ok(())
    }

    fn report(&self, _feedback: Feedback) {}
}
