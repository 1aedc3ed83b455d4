//! What to do next about one batch: a pure state machine.
//!
//! The courier asks for the next [`Action`], does it, and hands the outcome back as a [`Fact`]. The machine performs no
//! I/O and reads no clock (waits are durations, counted from the fact before), it can be cloned, compared and hashed:
//! what a model checker explores is what production runs.
//!
//! What it holds to:
//! - an intent is durable before its request leaves;
//! - a create is sent again under the same intent only while every answer so far was "not applied"; once one was lost,
//!   only after two look-ups found the rows absent, as a new attempt with a tag of its own, noted for the sweep;
//! - updates and deletes by id carry the same values each time, so they are sent again under their intent;
//! - a row is rejected only after it was refused alone, and an update that a refusal may have left half done is noted as
//!   unsure before it is;
//! - every loop has a bound; past it the entry is closed as not applied where that is certain, else left open.

mod evidence;
mod machine;
mod read_back;
mod refusal;
mod resume;
mod surplus;
#[cfg(test)]
mod tests;

use std::time::Duration;

use convoke_core::RowId;
use convoke_core::journal::{IntentRow, Operation, RowOutcome};
use convoke_core::sink::{Answer, AttemptTag, Capabilities, JobId, JobState};

pub use evidence::{Evidence, Verdict};
pub use machine::{BatchTask, Machine};
pub use refusal::{CELL_FAILED, Reason};
pub use resume::Resume;
pub use surplus::{Surplus, rows_named_by};

/// Sends under one intent while the destination says "not applied". With the back-off below that is about two
/// minutes: longer outages end the run, and the next one goes on.
pub const MAX_SENDS: u32 = 8;

/// Attempts at creating the same rows. Each lost answer costs a read-back of minutes; three in a row is an outage.
pub const MAX_CREATE_ROUNDS: u32 = 3;

/// Unknown answers in a row to an update or delete before the entry is left open and the run fails.
pub const MAX_UNKNOWN: u32 = 5;

/// A longer `Retry-After` is a used-up quota: the run gives up its slot instead of sleeping.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// First range of the full-jitter back-off.
pub const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// Greatest range of the full-jitter back-off.
pub const BACKOFF_CAP: Duration = Duration::from_secs(60);

/// Greatest time between two questions about a job: the destination asks for "every few seconds".
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Time to the first question: a small job may be done at once.
const FIRST_POLL: Duration = Duration::from_millis(100);

/// Polls before a job is given up: about ten minutes. Its entry stays open, since it may still delete.
pub const MAX_POLLS: u32 = 300;

/// Time to wait before question `poll` about a job, counted from 1: doubled each time up to [`POLL_INTERVAL`].
pub fn poll_delay(poll: u32) -> Duration {
    let factor = 1 << poll.saturating_sub(1).min(16);
    (FIRST_POLL * factor).min(POLL_INTERVAL)
}

/// What the machine may assume of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assumptions {
    /// A refused request has applied nothing.
    pub atomic_refusals: bool,
    /// A request commits within this time after it was sent, or never.
    pub max_commit_delay: Duration,
    /// A committed row is found by search within this time.
    pub settle: Duration,
    /// Whether rows can be looked up by key cell.
    pub key_look_up: bool,
}

impl Assumptions {
    /// What a destination declares; `key_look_up` depends on the audience.
    pub fn of(capabilities: &Capabilities, key_look_up: bool) -> Self {
        Self {
            atomic_refusals: capabilities.atomic_refusals,
            max_commit_delay: capabilities.max_commit_delay,
            settle: capabilities.settle,
            key_look_up,
        }
    }
}

/// What to do next. Rows are indices into the batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Note, durably, that these keys may exist under this tag although they are created again.
    NoteRecreated { rows: Vec<u32>, tag: AttemptTag },
    /// Make the intent durable.
    Journal { rows: Vec<u32>, attempt: u32, tag: AttemptTag },
    /// Send one request, once.
    Send { rows: Vec<u32>, tag: AttemptTag },
    /// Do nothing for at least this long, and for a random part of `jitter` more.
    Wait { at_least: Duration, jitter: Duration, why: &'static str },
    /// Look rows up by key cell.
    LookUpKeys { cells: Vec<(u32, AttemptTag)> },
    /// Look rows up by their id.
    LookUpIds { rows: Vec<u32> },
    /// Ask how an accepted job stands.
    Poll { job: JobId },
    /// A request sent up to now may still commit for this long: no new plan may write before.
    ExtendQuiet { by: Duration },
    /// Store a reject. That of a refused row comes before the entry is closed, so that a crash in between repeats it instead
    /// of losing it; that of a row whose cells failed comes after, because what was closed so is written again.
    Reject { row: u32, reason: Reason },
    /// Close the open entry: one fate per row, in the order of its rows.
    Close { fates: Vec<Fate> },
    /// Keep `rows` open for good, journalled under `attempt`; close the others as `fates` says, in the order of the
    /// entry's rows. Only where rows cannot be looked up.
    LeaveInDoubt { rows: Vec<u32>, attempt: u32, tag: AttemptTag, fates: Vec<Fate> },
    /// Every row is settled, or left in doubt.
    Done,
    /// Nothing more can be done now.
    Stop(Stop),
}

/// What an action led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It is done. For all actions that have no fact of their own.
    Done,
    /// Answer to [`Action::Send`].
    Answered(Answer),
    /// [`Action::Send`] failed, certainly unapplied by itself, in a way that ends the run.
    SendFailed,
    /// Answer to the look-ups.
    LookedUp(Vec<Found>),
    /// Answer to [`Action::Poll`].
    Polled(JobState),
}

/// A row that a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub row: u32,
    pub row_id: RowId,
    /// The attempt that made it; none for look-ups by id.
    pub tag: Option<AttemptTag>,
}

/// What became of a row under one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// In the audience under this id.
    Acknowledged(RowId),
    /// In the audience, but what it holds is not certain.
    Incomplete(RowId),
    /// In the audience, but without cells that the destination could not take; its reject tells which.
    Failed(RowId),
    /// An update that may or may not have been applied: sent again by this plan or, if that is lost, by the next. The
    /// ledger no longer knows what the row holds.
    Unsure,
    /// A delete: gone.
    Deleted,
    /// To be sent again by a later entry.
    NotApplied,
    Rejected,
    /// An update: somebody deleted the row at the destination.
    Removed,
}

impl Fate {
    /// This fate as the journal holds it; `None` if the row lacks the id it should have.
    pub fn outcome(self, row: &IntentRow) -> Option<RowOutcome> {
        Some(match self {
            Self::Acknowledged(row_id) => RowOutcome::Acknowledged { row_id },
            Self::Incomplete(row_id) => RowOutcome::Incomplete { row_id },
            Self::Failed(row_id) => RowOutcome::Failed { row_id },
            Self::Unsure => RowOutcome::Incomplete { row_id: row.row_id.clone()? },
            Self::Deleted => RowOutcome::Acknowledged { row_id: row.row_id.clone()? },
            Self::NotApplied => RowOutcome::NotApplied,
            Self::Rejected => RowOutcome::Rejected,
            Self::Removed => RowOutcome::RemovedAtDestination,
        })
    }
}

/// Why a machine stopped before its batch was settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    Cancelled,
    /// The destination asks to stay away for this long.
    Quota {
        retry_after: Duration,
    },
    /// A bound was reached; `reason` is the last one the destination gave.
    GaveUp {
        attempts: u32,
        reason: String,
    },
    /// The sink's error, which the courier holds, ends the run.
    Failed,
}

/// What became of a row of an entry that was left open, once nothing of it can commit any more and it was looked up
/// twice. A create that was not found must be noted as re-created before its entry is closed.
pub fn settled_fate(operation: Operation, found: Option<RowId>) -> Fate {
    match (operation, found) {
        (Operation::Create, Some(row_id)) => Fate::Acknowledged(row_id),
        (Operation::Create, None) => Fate::NotApplied,
        (Operation::Update, Some(_)) => Fate::Unsure,
        (Operation::Update, None) => Fate::Removed,
        (Operation::Delete, Some(_)) => Fate::NotApplied,
        (Operation::Delete, None) => Fate::Deleted,
    }
}

/// Range of the random wait after this many attempts: full jitter, doubling.
pub(crate) fn backoff(attempts: u32) -> Duration {
    let doubled = BACKOFF_BASE.saturating_mul(1 << attempts.min(16));
    doubled.min(BACKOFF_CAP)
}
