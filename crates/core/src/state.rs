//! The checkpoint store: small facts in SQL.
//!
//! Narrow traits by role, and [`StateStore`] for whoever needs them all. Whatever a method reports as done is
//! durable. Every write of a run carries its [`Lease`]; a store refuses it with
//! [`StateError::LeaseLost`] when the fence number is no longer the newest.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::backfill::{Backfills, PlannedWindow};
use crate::enrichment::{EnrichmentReport, Enrichments};
use crate::error::StateError;
use crate::hash::{ContentHash, HashKey, KeyHash};
use crate::ids::{AudienceKey, ConnectionName, PlanId, RunId, SyncName};
use crate::journal::{Entry, EntryId, Intent, RowOutcome};
use crate::ledger::LedgerManifest;
use crate::lifecycle::Lifecycle;
use crate::plan::{DeliveryCounts, LedgerCounts, PlanCounts, PlanManifest};
use crate::reject::{KeptRejects, NotedReject, OpenReject, RejectId};
use crate::sink::{AttemptTag, AudienceBinding, JobId};
use crate::source::SourcePosition;
use crate::time::Timestamp;

/// All roles of a checkpoint store.
pub trait StateStore:
    Leases
    + Audiences
    + Runs
    + Plans
    + Journal
    + Checkpoints
    + Ledgers
    + Budgets
    + Rejects
    + Provisions
    + Schedules
    + Audit
    + Lifecycle
    + Enrichments
    + Backfills
{
}

impl<T> StateStore for T where
    T: Leases
        + Audiences
        + Runs
        + Plans
        + Journal
        + Checkpoints
        + Ledgers
        + Budgets
        + Rejects
        + Provisions
        + Schedules
        + Audit
        + Lifecycle
        + Enrichments
        + Backfills
{
}

type Result<T> = std::result::Result<T, StateError>;

/// A time-limited exclusive right on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub resource: String,
    /// Grows with each acquisition; a write with an older fence is refused.
    pub fence: u64,
    pub holder: String,
    pub expires_at: Timestamp,
    /// Set if the holder before did not release and may live: it may still have a request under way.
    pub taken_over: bool,
}

/// Who may write what, and until when.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes the lease if it is free, has expired by the store's clock, or its holder is known to be dead; else
    /// [`StateError::Busy`].
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease>;
    /// Extends the lease; [`StateError::LeaseLost`] if somebody else has it.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease>;
    async fn release(&self, lease: &Lease) -> Result<()>;
    /// Whether the resource is held now, and by whom. For reading commands.
    async fn holder(&self, resource: &str) -> Result<Option<Lease>>;
}

/// Names the lease resource of an audience.
pub fn audience_resource(audience: &AudienceKey) -> String {
    format!("audience/{audience}")
}

/// Names the lease resource that guards the creation of an audience which has no id yet.
pub fn audience_name_resource(connection: &ConnectionName, name: &str) -> String {
    format!("audience-name/{connection}/{name}")
}

/// Names the lease resource of a sync's backfill: whoever holds it goes through its windows.
pub fn backfill_resource(sync: &SyncName) -> String {
    format!("backfill/{sync}")
}

/// Names the lease resource of who waits for another lease: held, it has a backfill make room between two windows.
pub fn waiting_resource(resource: &str) -> String {
    format!("waiting/{resource}")
}

/// Names the lease resource of a sync's turn: whoever holds it runs what is due.
pub fn schedule_resource(sync: &SyncName) -> String {
    format!("schedule/{sync}")
}

/// Which audience a sync writes, and how.
#[async_trait]
pub trait Audiences: Send + Sync {
    async fn binding(&self, sync: &SyncName) -> Result<Option<AudienceBinding>>;
    /// Binds a sync to an audience, replacing what was bound.
    async fn bind(&self, sync: &SyncName, binding: &AudienceBinding, lease: &Lease) -> Result<()>;
    /// Other syncs that are bound to the audience.
    async fn syncs_of(&self, audience: &AudienceKey) -> Result<Vec<SyncName>>;
    /// Until when a request sent earlier may still commit; writes of a new plan wait for it.
    async fn quiet_until(&self, audience: &AudienceKey) -> Result<Option<Timestamp>>;
    /// Moves `quiet_until` forward; never back.
    async fn extend_quiet(&self, audience: &AudienceKey, until: Timestamp, lease: &Lease) -> Result<()>;
}

/// One execution of a sync.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub sync: SyncName,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub state: RunState,
    pub plan: Option<PlanId>,
    /// One sentence: what ended the run, with the remedy if it failed.
    pub message: Option<String>,
    pub counts: Option<PlanCounts>,
    pub delivery: Option<DeliveryCounts>,
    pub ledger: Option<LedgerCounts>,
    /// What became of the enrichments that the run looked at; none: there were none.
    pub enrichment: Option<EnrichmentReport>,
}

/// How a run stands, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Running,
    /// Planned and not applied, as asked.
    Planned,
    Succeeded,
    /// Applied, but records were rejected or are invalid.
    Partial,
    Failed,
    /// A guard, a stale plan or unexplained rows stopped it.
    Stopped,
    Unbalanced,
    WaitingForQuota,
    /// Drained on a signal.
    Interrupted,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Running,
        Self::Planned,
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Stopped,
        Self::Unbalanced,
        Self::WaitingForQuota,
        Self::Interrupted,
    ];

    /// The name under which it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Planned => "planned",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Unbalanced => "unbalanced",
            Self::WaitingForQuota => "waiting_for_quota",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the name that `as_str` gives.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The history of runs.
#[async_trait]
pub trait Runs: Send + Sync {
    async fn start_run(&self, run: &RunRecord) -> Result<()>;
    /// Replaces the record, all but its id.
    async fn update_run(&self, run: &RunRecord) -> Result<()>;
    async fn run(&self, id: RunId) -> Result<Option<RunRecord>>;
    /// Newest first.
    async fn runs(&self, sync: Option<&SyncName>, limit: u32) -> Result<Vec<RunRecord>>;
}

/// A plan's row in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRecord {
    pub manifest: PlanManifest,
    /// BLAKE3 of the manifest file, hexadecimal: what an approval is bound to.
    pub hash: String,
    pub state: PlanState,
}

/// How far a plan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// Computed and not applied.
    Waiting,
    /// Delivery has begun.
    Applying,
    /// Every change is settled and folded, the checkpoint committed.
    Settled,
    /// A newer plan took its place before it was applied.
    Superseded,
    /// Delivery had begun; what was left is cancelled.
    Abandoned,
}

impl PlanState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Applying, Self::Settled, Self::Superseded, Self::Abandoned];

    /// The name under which it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Applying => "applying",
            Self::Settled => "settled",
            Self::Superseded => "superseded",
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads the name that `as_str` gives.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Plans and their states; their files lie beside the store.
#[async_trait]
pub trait Plans: Send + Sync {
    /// Adds a plan in state `Waiting` and supersedes the sync's other waiting plans, in one transaction.
    async fn add_plan(&self, manifest: &PlanManifest, hash: &str) -> Result<()>;
    async fn plan(&self, id: PlanId) -> Result<Option<PlanRecord>>;
    /// The sync's plans in this state, newest first.
    async fn plans_in(&self, sync: &SyncName, state: PlanState) -> Result<Vec<PlanRecord>>;
    /// Moves a plan from one state to another; [`StateError::Conflict`] if it is not in `from`.
    async fn move_plan(&self, id: PlanId, from: PlanState, to: PlanState) -> Result<()>;
    /// Plans whose files may be removed: settled, superseded or abandoned before `ended_before`, or waiting since before
    /// `waiting_before`.
    async fn expired_plans(&self, ended_before: Timestamp, waiting_before: Timestamp) -> Result<Vec<PlanId>>;
    /// Forgets what an expired plan keeps of records: the samples in its manifest and its folded journal entries. One
    /// that waits is superseded. Its row stays, and [`Plans::expired_plans`] names it no more once no entry of it is
    /// left. [`StateError::Conflict`] if it is being applied, or does not exist.
    async fn forget_plan(&self, id: PlanId) -> Result<()>;
}

/// The journal of intents and outcomes. See [`crate::journal`].
#[async_trait]
pub trait Journal: Send + Sync {
    /// Makes an intent durable. Concurrent calls may share a commit.
    async fn intend(&self, intent: &Intent, lease: &Lease) -> Result<EntryId>;
    /// Closes an entry with one outcome per row. Closing twice is [`StateError::Conflict`].
    async fn close(&self, entry: EntryId, outcomes: &[RowOutcome], lease: &Lease) -> Result<()>;
    /// Remembers which job the destination accepted an entry's delete as; the newest one counts.
    async fn note_job(&self, entry: EntryId, job: &JobId, lease: &Lease) -> Result<()>;
    /// The job of an entry, if one was noted.
    async fn job_of(&self, entry: EntryId) -> Result<Option<JobId>>;
    /// Entries of an audience that are not closed, oldest first.
    async fn open_entries(&self, audience: &AudienceKey) -> Result<Vec<Entry>>;
    /// Closed entries of an audience that are not folded, oldest first, after `after`, at most `limit`.
    async fn unfolded(&self, audience: &AudienceKey, after: Option<EntryId>, limit: u32) -> Result<Vec<Entry>>;
    /// Entries of a plan, oldest first, after `after`, at most `limit`.
    async fn entries_of(&self, plan: PlanId, after: Option<EntryId>, limit: u32) -> Result<Vec<Entry>>;
    /// Forgets a plan's folded entries.
    async fn forget_entries(&self, plan: PlanId) -> Result<()>;
    /// Remembers keys that are created again after a look-up found them absent, with every tag used for them.
    async fn note_recreated(&self, audience: &AudienceKey, keys: &[(KeyHash, AttemptTag)], lease: &Lease)
    -> Result<()>;
    /// Keys to look up again, with their tags, and how often that was done.
    async fn recreated(&self, audience: &AudienceKey) -> Result<Vec<Recreated>>;
    /// Counts one sweep of these keys. A key is dropped once it is swept under a later lease than the one it was noted
    /// under, so by another run: what is looked up again right away may still be on its way.
    async fn count_sweep(&self, audience: &AudienceKey, keys: &[KeyHash], lease: &Lease) -> Result<()>;
}

/// A key that was created again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    pub key: KeyHash,
    pub tags: Vec<AttemptTag>,
    pub sweeps: u32,
}

/// A source's position, versioned for compare-and-set.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// 0: nothing stored yet.
    pub version: u64,
    pub position: Option<SourcePosition>,
    /// Hash of the configuration under which the position was settled.
    pub config_hash: Option<String>,
    /// Version of the audience's ledger once the run was folded. If it has moved since, by `adopt` or by another sync, the
    /// source is compared again although it has not changed.
    pub ledger_version: u64,
    /// Counts of the last plan that read the source, for `carried_over`.
    pub counts: Option<PlanCounts>,
    /// Records of the last snapshot, for `max_shrink`: a plan that read an addition tells nothing of it, and leaves it.
    pub snapshot_records: Option<u64>,
    /// Whether every record of it reached the audience or is accounted for; if not, the source is read again.
    pub clean: bool,
}

/// How far each sync has come in its source.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The stored checkpoint; version 0 if there is none.
    async fn checkpoint(&self, sync: &SyncName) -> Result<Checkpoint>;
    /// Ends a run in one transaction: run record, plan `Applying` → `Settled`, checkpoint (compare-and-set on its
    /// version; the stored version becomes one more), window of a backfill.
    async fn settle_run(&self, settlement: &Settlement, lease: &Lease) -> Result<()>;
}

/// What a settled run commits.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub run: RunRecord,
    pub plan: PlanId,
    /// None if the checkpoint stays where it is (`--limit`).
    pub checkpoint: Option<Checkpoint>,
    /// The window of a backfill that is settled with it; noting one twice changes nothing.
    pub window: Option<PlannedWindow>,
}

/// What audiences hold, and the key of the hashes that say so.
#[async_trait]
pub trait Ledgers: Send + Sync {
    /// None if this audience has no ledger yet.
    async fn ledger(&self, audience: &AudienceKey) -> Result<Option<LedgerManifest>>;
    /// In one transaction: replaces the manifest if the stored version is `manifest.version - 1` (0: there is none),
    /// and marks all closed entries of the audience up to and including `folded_to` as folded.
    async fn commit_fold(&self, manifest: &LedgerManifest, folded_to: Option<EntryId>, lease: &Lease) -> Result<()>;
    /// The secret key of all hashes. Made once, on the first call on a new store.
    async fn hash_key(&self) -> Result<HashKey>;
}

/// Makes what is to be stored for a credential from what is stored, at this time by the store's clock.
pub type BudgetChange = Box<dyn FnOnce(Option<serde_json::Value>, Timestamp) -> Result<serde_json::Value> + Send>;

/// What a credential has spent and who uses it, opaque outside the limiter. Stored as JSON.
#[async_trait]
pub trait Budgets: Send + Sync {
    async fn budget(&self, credential: &str) -> Result<Option<serde_json::Value>>;
    /// Changes what is stored in one transaction: the change sees what the one before it stored, whichever process made
    /// that, and a time that is not before that one's. If the change fails, its error is told and nothing is stored.
    async fn update_budget(&self, credential: &str, change: BudgetChange) -> Result<()>;
}

/// A record refused for good. `cells` is personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectRecord {
    pub sync: SyncName,
    pub run: RunId,
    pub plan: PlanId,
    pub at: Timestamp,
    /// `invalid`: refused by Convoke while planning; `refused`: by the destination.
    pub stage: RejectStage,
    pub key: Option<KeyHash>,
    /// What the destination refused; none of what was refused while planning, and of deletes.
    pub content: Option<ContentHash>,
    /// Where the record came from: `file:line`.
    pub origin: Option<String>,
    /// Stable short reason: `invalid_email`, `PFAPI0005`.
    pub code: String,
    /// The column it is about, if one.
    pub column: Option<String>,
    /// One sentence without values.
    pub reason: String,
    /// Column name and text.
    pub cells: Vec<(String, Option<String>)>,
}

/// Who refused a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectStage {
    Invalid,
    Refused,
}

/// Refused records, kept for the operator. See [`crate::reject`].
#[async_trait]
pub trait Rejects: Send + Sync {
    /// Adds rejects, open; those of the same plan, key, origin and code are kept once. Each takes the place of those that
    /// other plans left open for the same code and the same record, which is its key, or its origin if it has none. If
    /// the content is the same too, it goes on counting their attempts.
    async fn add_rejects(&self, rejects: &[RejectRecord]) -> Result<()>;
    /// A run's rejects, or else those that are open: in the order of their ids, after `after`, at most `limit`.
    async fn rejects(
        &self,
        sync: &SyncName,
        run: Option<RunId>,
        after: Option<RejectId>,
        limit: u32,
    ) -> Result<Vec<NotedReject>>;
    /// Open rejects that have a key: in the order of their ids, after `after`, at most `limit`.
    async fn open_rejects(&self, sync: &SyncName, after: Option<RejectId>, limit: u32) -> Result<Vec<OpenReject>>;
    /// Notes which of the sync's open rejects a plan leaves as they are. Each has one such note, so the sync's plans that
    /// wait are superseded first. May be repeated.
    async fn keep_rejects(&self, sync: &SyncName, plan: PlanId, kept: &KeptRejects, lease: &Lease) -> Result<()>;
    /// Closes the sync's open rejects but for those that this plan noted and those that it keeps. May be repeated.
    async fn close_rejects(&self, sync: &SyncName, plan: PlanId, lease: &Lease) -> Result<()>;
    /// Removes rejects noted before this time: also open ones, whose records are sent again then.
    async fn forget_rejects(&self, before: Timestamp) -> Result<()>;
}

/// An intent to make something that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenProvision {
    pub intended_at: Timestamp,
    /// What the destination called the thing, if it was made and told.
    pub made_id: Option<String>,
}

/// Intents to make folders, audiences and columns: not idempotent at the destination, so journalled as well.
///
/// Two runs may want the same thing: an intent is told from another one by its time.
#[async_trait]
pub trait Provisions: Send + Sync {
    /// Remembers that `what` is about to be made on this connection; returns the earlier intent if one is open.
    async fn intend_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
        at: Timestamp,
    ) -> Result<Option<OpenProvision>>;
    /// Adds to the intent of this time what the thing was made as; without it nothing happens.
    async fn note_made(&self, connection: &ConnectionName, what: &str, intended_at: Timestamp, id: &str) -> Result<()>;
    /// The intent that is open for `what`.
    async fn open_provision(&self, connection: &ConnectionName, what: &str) -> Result<Option<OpenProvision>>;
    /// Forgets the intent of this time: the thing was found, or certainly was not made. Others stay.
    async fn close_provision(&self, connection: &ConnectionName, what: &str, intended_at: Timestamp) -> Result<()>;
}

/// How far a sync's schedule is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleMark {
    /// The schedule in words that change with it: a mark under another one says nothing about this one.
    pub schedule: String,
    /// Times up to and including this one are served, or were let go.
    pub served_to: Timestamp,
}

/// How far each sync's schedule is served.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// The mark of a sync; none if its schedule was never looked at.
    async fn schedule_mark(&self, sync: &SyncName) -> Result<Option<ScheduleMark>>;
    /// Sets the mark. The lease is the one of [`schedule_resource`].
    async fn set_schedule_mark(&self, sync: &SyncName, mark: &ScheduleMark, lease: &Lease) -> Result<()>;
}

/// One deed of a person: an approval, an adoption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// By the store's clock.
    pub at: Timestamp,
    /// Who did it, as the operating system names them.
    pub actor: String,
    /// Stable short name of the deed: `approve`, `adopt`, `fresh_start`.
    pub action: String,
    /// What it was done to, without values of records.
    pub detail: String,
}

/// Who overrode a safeguard, when, and over what.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Adds a deed to the audit trail.
    async fn audit(&self, actor: &str, action: &str, detail: &str) -> Result<()>;
    /// The audit trail, newest first, at most `limit` deeds.
    async fn audit_trail(&self, limit: u32) -> Result<Vec<AuditRecord>>;
}
