//! What delivering, settling and sweeping tell their caller.

use convoke_core::gate::QuotaExhausted;
use convoke_core::journal::Operation;
use convoke_core::plan::DeliveryCounts;
use convoke_core::state::RejectRecord;
use convoke_core::{RowId, SinkError, StateError, Timestamp};
use thiserror::Error;

/// At most this many rejects are carried in a report; all of them are in the checkpoint store.
pub const REJECT_SAMPLES: usize = 20;

/// Learns how delivery goes on, possibly many times a second.
pub trait DeliveryProgress: Send + Sync {
    /// So many more changes of this kind are settled. Called first for what earlier processes settled.
    fn settled(&self, operation: Operation, rows: u64);

    /// Nothing is sent for one batch until about this time; `reason` is a short phrase.
    fn waiting(&self, reason: &'static str, until: Timestamp);
}

/// Nobody looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl DeliveryProgress for Unwatched {
    fn settled(&self, _operation: Operation, _rows: u64) {}

    fn waiting(&self, _reason: &'static str, _until: Timestamp) {}
}

/// What became of a plan's changes so far.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryReport {
    /// Includes what earlier processes settled of the same plan. `cancelled` is left at zero: whether what is not
    /// settled will be sent later is the caller's to decide.
    pub counts: DeliveryCounts,
    /// Changes left in doubt: creates whose answer was lost, at a destination where they cannot be looked up.
    pub in_doubt: u64,
    /// The first rejects of this process, with values: for the operator, never for a log.
    pub reject_samples: Vec<RejectRecord>,
    pub end: DeliveryEnd,
}

/// Why delivery ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// Every batch of the plan is settled, but for what [`DeliveryReport::in_doubt`] counts.
    Complete,
    /// Cancelled: what was in flight was finished or left in the journal, nothing new was begun.
    Interrupted,
    /// The rate budget is used up; go on then.
    WaitingForQuota { until: Timestamp },
    /// `guards.max_reject` was passed; nothing more was sent.
    RejectLimit { rejected: u64 },
}

/// What [`Courier::settle_open`](crate::Courier::settle_open) found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettleReport {
    /// Journal entries closed.
    pub entries: u64,
    /// Creates found in the audience and adopted.
    pub found: u64,
    /// Creates found absent, updates and deletes to be sent again by their plan.
    pub not_applied: u64,
    /// Rows that remain in doubt, because the audience cannot be searched for them.
    pub in_doubt: u64,
    /// Cancelled before everything was settled.
    pub interrupted: bool,
}

/// What [`Courier::sweep`](crate::Courier::sweep) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Keys looked up.
    pub keys: u64,
    /// Late doubles of ours that were removed.
    pub removed: u64,
    /// Rows that share a key with another and are not provably a double of ours: left alone.
    pub doubled: Vec<RowId>,
}

/// Why delivery stopped.
#[derive(Debug, Error)]
pub enum DeliveryError {
    #[error("could not write to audience `{audience}`")]
    Sink {
        audience: String,
        #[source]
        source: SinkError,
    },
    #[error("could not keep the journal of audience `{audience}`")]
    State {
        audience: String,
        #[source]
        source: StateError,
    },
    #[error("could not read batch {number} of the plan")]
    Plan {
        /// Counted from zero among the batches handed over.
        number: u64,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bounded number of attempts did not settle a batch.
    #[error(
        "gave up on batch {batch} for audience `{audience}` after {attempts} attempts: {reason}; run the sync again later"
    )]
    GaveUp { audience: String, batch: u32, attempts: u32, reason: String },
    #[error(
        "audience `{audience}` cannot be searched by its key column, so a lost answer could not be told from a lost \
         request; set `allow_blind_creates: true` on the connection to create rows all the same"
    )]
    NeedsConsent { audience: String },
}

impl DeliveryError {
    /// Until when the rate budget is used up, if that is what stopped delivery.
    pub fn quota(&self) -> Option<QuotaExhausted> {
        match self {
            Self::Sink { source: SinkError::Quota(exhausted), .. } => Some(*exhausted),
            _ => None,
        }
    }

    /// Whether it may tell of a wait that was cut short: for the rate budget, or for the destination to answer a read.
    pub(crate) fn ends_a_wait(&self) -> bool {
        let Self::Sink { source, .. } = self else { return false };
        matches!(source, SinkError::Quota(_) | SinkError::Unavailable { .. })
    }
}
