//! The gate that every HTTP request to a destination passes: the rate budget of one credential.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The windows in which destinations count requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    Second,
    Hour,
    Day,
}

/// Who goes first where not all can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What keeps an audience up to date.
    Live,
    /// What can wait: takes what live requests leave.
    Backfill,
}

/// What became of a request, as far as it says something about the budget or about the destination's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// True if the destination failed: it could not be reached, gave no whole answer in time, or answered 5xx.
    pub failed: bool,
    /// True if the request was refused for its rate (429). Refused requests do not consume quota.
    pub rejected: bool,
    /// The window that refused, where the destination names it.
    pub rejected_window: Option<Window>,
    /// How long the destination asked to wait.
    pub retry_after: Option<Duration>,
    /// Requests left per window, where the destination tells (`-1` or absent: not known).
    pub remaining: Vec<(Window, u64)>,
    /// Requests that a window allows at most, where the destination tells.
    pub limits: Vec<(Window, u32)>,
}

/// The budget is used up for longer than a run may reasonably wait, or than it was let.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request quota is used up until {until}")]
pub struct QuotaExhausted {
    pub until: Timestamp,
}

/// Why a request may not leave, now or soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    #[error(transparent)]
    Quota(#[from] QuotaExhausted),
    /// For too long, every request failed.
    #[error("every request has failed since {since}")]
    Down { since: Timestamp },
}

/// Admits requests at the rate that one credential may use, whoever sends them.
///
/// The contract: a sink calls [`Gate::admit`] right before each HTTP request, and [`Gate::report`] once its answer has
/// come or has failed to. One gate is shared by all users of a credential, or several are ends of one.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when a request may leave, or with an error when that would be too long or the wait is cut short.
    async fn admit(&self) -> Result<(), Closed>;
    /// Takes note of what became of a request, and tells it to whom it concerns.
    async fn report(&self, feedback: Feedback);
}

/// A gate without limits, for a destination that has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn admit(&self) -> Result<(), Closed> {
        Ok(())
    }

    async fn report(&self, _feedback: Feedback) {}
}
