//! A plan: the durable, immutable, hashed set of changes that a run will make.

use arrow::array::{Array, StringArray};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::backfill::PlannedWindow;
use crate::gate::Window;
use crate::ids::{AudienceKey, PlanId, RowId, RunId, SyncName};
use crate::journal::{IntentRow, Operation};
use crate::ledger::LedgerIdentity;
use crate::source::{Coverage, Selection, SourcePosition, SplitOutcome};
use crate::time::Timestamp;

/// Version of the plan files and of this manifest.
pub const PLAN_FORMAT: u32 = 1;

/// Everything about a plan but its changes; `manifest.json` in the plan's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanManifest {
    pub format: u32,
    pub id: PlanId,
    pub run: RunId,
    pub sync: SyncName,
    pub created_at: Timestamp,
    /// What the plan was computed from; `apply` refuses it when any of this has moved.
    pub basis: PlanBasis,
    pub files: Vec<PlanFile>,
    pub counts: PlanCounts,
    /// A first load: the ledger had no row of this sync, or its first load was not finished.
    pub first_load: bool,
    /// `--limit`: at most this many changes; the rest is held back and the checkpoint stays.
    pub limit: Option<u64>,
    /// What a backfill reads, beside the live position: the checkpoint stays, and nothing is acknowledged to the source.
    #[serde(default)]
    pub backfill: Option<Selection>,
    /// Which window of a backfill this is, to be noted when it is settled.
    #[serde(default)]
    pub window: Option<PlannedWindow>,
    /// Somebody asked for refused records to be sent again: how many of them the plan sends.
    #[serde(default)]
    pub resent: Option<u64>,
    /// Changes per request, so that a resumed plan cuts the same batches.
    pub upsert_rows: usize,
    pub delete_rows: usize,
    pub source: PlannedSource,
    /// What must be made at the destination before the first row, in words.
    pub setup: Vec<String>,
    pub forecast: Forecast,
    /// Guards that the plan passes the limit of; empty: none.
    pub guard_hits: Vec<GuardHit>,
    /// Deletes that the plan does not make because too many records cannot be read.
    #[serde(default)]
    pub withheld: Option<WithheldDeletes>,
    /// A few changes, with values, for people to look at.
    pub samples: Vec<ChangeSample>,
}

impl PlanManifest {
    /// Rows that the ledger names and the audience lacked when the plan was made.
    pub fn absent_rows(&self) -> u64 {
        self.files.iter().filter(|file| file.content == PlanContent::Absent).map(|file| file.rows).sum()
    }

    /// Surplus rows of ours that the plan deletes.
    pub fn surplus_rows(&self) -> u64 {
        self.files.iter().filter(|file| file.name == SURPLUS_FILE).map(|file| file.rows).sum()
    }

    /// Whether settling the plan moves the source's checkpoint: not after a canary, and not after a backfill.
    pub fn moves_checkpoint(&self) -> bool {
        self.limit.is_none() && self.backfill.is_none()
    }
}

/// What a plan was computed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanBasis {
    /// None if the audience is to be created.
    pub audience: Option<AudienceKey>,
    pub audience_name: String,
    pub ledger_version: u64,
    pub ledger_identity: LedgerIdentity,
    /// Hash of the sync's specification and of its suppression lists.
    pub config_hash: String,
    /// Version of the stored source checkpoint.
    pub checkpoint_version: u64,
}

/// One file of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Name within the plan's folder.
    pub name: String,
    pub content: PlanContent,
    pub rows: u64,
    /// BLAKE3 of the file, hexadecimal.
    pub digest: String,
}

/// The name of the file of deletes of surplus rows, which no record asked for.
pub const SURPLUS_FILE: &str = "doubles.parquet";

/// What a file of a plan holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanContent {
    Changes(Operation),
    /// Records that are not sent, with reason and origin.
    Invalid,
    /// Records whose row holds the same already, from an earlier one, and records, without a content, that say they are
    /// deleted and have no row: nothing is sent, and the ledger learns the later order value.
    Confirmed,
    /// Rows that the ledger names and the audience lacks: the ledger learns it when the plan begins to be applied.
    Absent,
}

/// What became of each record while planning: the records balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCounts {
    /// Records read from the source in this run.
    pub read: u64,
    /// Records known from an unchanged source, which was not read.
    pub carried_over: u64,
    pub filtered: u64,
    pub invalid: u64,
    /// Lost against another record with the same key.
    pub superseded: u64,
    pub unchanged: u64,
    pub suppressed: u64,
    /// Would change something that the sync's mode does not touch.
    pub skipped_by_mode: u64,
    /// The row was removed at the destination; that is respected.
    pub removed_respected: u64,
    /// Held back by `--limit`.
    pub held_back: u64,
    /// Held back because the destination has refused just this for longer than `rejects.resend_for`.
    #[serde(default)]
    pub refused_before: u64,
    /// In a `delete_list`: keys that name a row to delete.
    pub listed: u64,
    /// Say that they are deleted; their rows, where there are any, are among the deletes.
    #[serde(default)]
    pub deleted: u64,
    pub creates: u64,
    pub updates: u64,
    /// Rows to delete; not records.
    pub deletes: u64,
    /// Rows that no record names and that stay, because their records may be among those that cannot be read; not records.
    #[serde(default)]
    pub withheld: u64,
}

impl PlanCounts {
    /// Number of changes the plan makes.
    pub fn changes(&self) -> u64 {
        self.creates + self.updates + self.deletes
    }

    /// Number of changes of one kind.
    pub fn of(&self, operation: Operation) -> u64 {
        match operation {
            Operation::Create => self.creates,
            Operation::Update => self.updates,
            Operation::Delete => self.deletes,
        }
    }

    /// Whether every record that came in is accounted for exactly once.
    pub fn is_balanced(&self) -> bool {
        let came_in = self.read + self.carried_over;
        let accounted = self.filtered
            + self.invalid
            + self.superseded
            + self.unchanged
            + self.suppressed
            + self.skipped_by_mode
            + self.removed_respected
            + self.held_back
            + self.refused_before
            + self.listed
            + self.deleted
            + self.creates
            + self.updates;
        came_in == accounted
    }
}

/// What the plan knows of its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedSource {
    pub coverage: Coverage,
    /// False if something was quarantined or is malformed as a whole: then nothing may be deleted.
    pub complete: bool,
    /// The checkpoint to commit once the plan is settled.
    pub proposed: Option<SourcePosition>,
    pub outcomes: Vec<SplitOutcome>,
    pub notices: Vec<String>,
}

/// Some of a plan's changes, of one kind, as many as one request takes.
///
/// Batches are cut the same way each time a plan is read, so a resumed plan knows them by number.
#[derive(Clone, Debug)]
pub struct PlannedBatch {
    pub number: u32,
    pub operation: Operation,
    pub rows: Vec<IntentRow>,
    /// One nullable Utf8 column of canonical text per mapped column, in the mapping's order; no columns for deletes.
    pub cells: RecordBatch,
    /// For each row where its record came from: `file:line`. Empty for deletes.
    pub origins: StringArray,
}

impl PlannedBatch {
    /// Where the record of a row came from.
    pub fn origin(&self, row: usize) -> Option<&str> {
        (row < self.origins.len() && self.origins.is_valid(row)).then(|| self.origins.value(row))
    }
}

/// What applying will cost, as it looked when the plan was made: without retries, and with the credential to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecast {
    pub requests: u64,
    /// The same by kind.
    pub calls: CallCounts,
    /// Seconds until the last request leaves, at the configured rate and on what was left of the hour and the day.
    pub seconds: u64,
    /// The configured rate.
    pub per_second: Option<u32>,
    /// When the hour or the day will be used up first, if either will be.
    pub waits: Option<QuotaWait>,
}

/// Requests by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallCounts {
    pub creates: u64,
    pub updates: u64,
    /// A delete is a job: one request starts it, and at least one asks how it stands.
    pub deletes: u64,
}

impl CallCounts {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.creates + self.updates + self.deletes
    }
}

/// A window that will be used up, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaWait {
    pub window: Window,
    pub at: Timestamp,
}

/// A guard whose limit the plan passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardHit {
    /// The key in the configuration: `max_delete`.
    pub guard: String,
    /// One sentence with both figures.
    pub message: String,
    /// Whether `--approve` lets the plan through. An unexplained audience cannot be approved.
    pub approvable: bool,
}

/// Deletes for want of a record that a plan does not make: each record that cannot be read may be the one that is missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldDeletes {
    pub deletes: u64,
    /// Records that cannot be read, or whose key cannot; more than `guards.max_unreadable` allows.
    pub unreadable: u64,
    /// Where the first of them stands, in the order of `rejects list`: `file:line`.
    pub first: String,
}

/// One change with its values. Personal data: shown to the operator, never logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSample {
    pub operation: Operation,
    /// Where the record came from: `file:line`. None for deletes.
    pub origin: Option<String>,
    /// The row that is updated or deleted.
    #[serde(default)]
    pub row_id: Option<RowId>,
    /// Column name and canonical text. Empty for deletes, whose values are not known.
    pub cells: Vec<(String, Option<String>)>,
}

/// What became of a plan's changes: the changes balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCounts {
    pub creates: OperationCounts,
    pub updates: OperationCounts,
    pub deletes: OperationCounts,
    /// Rows made twice by a request that committed late, and removed.
    pub doubles_removed: u64,
    /// HTTP requests made.
    pub requests: u64,
}

impl DeliveryCounts {
    /// The counts of one operation, to add to.
    pub fn of_mut(&mut self, operation: Operation) -> &mut OperationCounts {
        match operation {
            Operation::Create => &mut self.creates,
            Operation::Update => &mut self.updates,
            Operation::Delete => &mut self.deletes,
        }
    }

    /// The counts of one operation.
    pub fn of(&self, operation: Operation) -> &OperationCounts {
        match operation {
            Operation::Create => &self.creates,
            Operation::Update => &self.updates,
            Operation::Delete => &self.deletes,
        }
    }

    /// Rejects of all operations.
    pub fn rejected(&self) -> u64 {
        Operation::ALL.iter().map(|operation| self.of(*operation).rejected).sum()
    }

    /// Rows of all operations with cells that the destination could not take.
    pub fn failed(&self) -> u64 {
        Operation::ALL.iter().map(|operation| self.of(*operation).failed).sum()
    }

    /// Changes of all operations that will not be sent under this plan.
    pub fn cancelled(&self) -> u64 {
        Operation::ALL.iter().map(|operation| self.of(*operation).cancelled).sum()
    }
}

/// What became of the changes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCounts {
    pub acknowledged: u64,
    /// Of the acknowledged: rows of which it is not certain what they hold.
    pub incomplete: u64,
    /// Of the incomplete: rows with cells that the destination could not take.
    #[serde(default)]
    pub failed: u64,
    pub rejected: u64,
    pub cancelled: u64,
    /// Updates whose row was gone.
    pub found_removed: u64,
}

impl OperationCounts {
    /// Changes about which nothing more will be done under this plan.
    pub fn settled(&self) -> u64 {
        self.acknowledged + self.rejected + self.cancelled + self.found_removed
    }

    /// Cancels what is left of so many planned changes.
    pub fn cancel_rest(&mut self, planned: u64) {
        self.cancelled += planned.saturating_sub(self.settled());
    }
}

/// How a fold moved the ledger: the ledger balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCounts {
    pub live_before: u64,
    pub created: u64,
    pub adopted: u64,
    pub deleted: u64,
    pub found_removed: u64,
    pub live_after: u64,
}

impl LedgerCounts {
    /// Whether every row of the ledger, before and after, is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.live_before + self.created + self.adopted == self.live_after + self.deleted + self.found_removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_not_accounted_for_unbalances_the_plan() {
        let mut counts = PlanCounts { read: 10, creates: 7, invalid: 2, superseded: 1, ..PlanCounts::default() };
        assert!(counts.is_balanced());
        (counts.creates, counts.refused_before) = (4, 3);
        assert!(counts.is_balanced());
        (counts.deletes, counts.withheld) = (5, 3);
        assert!(counts.is_balanced(), "deletes are rows, not records");
        counts.refused_before = 2;
        assert!(!counts.is_balanced());
    }
}
