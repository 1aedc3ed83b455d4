//! The roles of the checkpoint store that delivery uses, in memory: durable as long as the test lasts.
//!
//! Each call of journal, ledger and leases gives way once before its effect and once after it, so that a process may
//! end on either side. Fences are held against the newest lease that was acquired here; a test that hands out leases of
//! its own has none to be held against.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::backfill::{BackfillRecord, BackfillState, Backfills, OpenBackfill};
use convoke_core::enrichment::{
    EnrichmentId, EnrichmentScope, EnrichmentStage, Enrichments, NewEnrichment, OpenEnrichment,
};
use convoke_core::hash::HashKey;
use convoke_core::ids::BackfillId;
use convoke_core::journal::{Entry, EntryId, Intent, RowOutcome};
use convoke_core::ledger::LedgerManifest;
use convoke_core::lifecycle::{Lifecycle, Renaming, Retirement};
use convoke_core::plan::PlanManifest;
use convoke_core::reject::{KeptRejects, NotedReject, OpenReject, RejectId};
use convoke_core::sink::{AttemptTag, AudienceBinding, JobId};
use convoke_core::state::{
    Audiences, Audit, AuditRecord, BudgetChange, Budgets, Checkpoint, Checkpoints, Journal, Lease, Leases, Ledgers,
    OpenProvision, PlanRecord, PlanState, Plans, Provisions, Recreated, RejectRecord, Rejects, RunRecord, Runs,
    ScheduleMark, Schedules, Settlement,
};
use convoke_core::{AudienceKey, Clock, ConnectionName, KeyHash, PlanId, RunId, StateError, SyncName, Timestamp};
use convoke_testkit::clock::{START, TestClock};

type Result<T> = std::result::Result<T, StateError>;

#[derive(Default)]
pub(crate) struct MemoryState {
    /// A planted bug: re-created keys are forgotten.
    forgets_recreated: bool,
    /// The store's clock; without it, time stands still.
    clock: Option<Arc<TestClock>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    recreated: Vec<Recreated>,
    /// Fence under which each key was noted last.
    noted: HashMap<KeyHash, u64>,
    jobs: HashMap<EntryId, JobId>,
    quiet_until: Option<Timestamp>,
    rejects: Vec<RejectRecord>,
    last_entry: i64,
    folded: HashSet<EntryId>,
    ledger: Option<LedgerManifest>,
    lease: Held,
    provisions: HashMap<String, OpenProvision>,
    budgets: HashMap<String, serde_json::Value>,
    budget_updates: usize,
    /// How long a change of a budget travels, each way.
    delay: Duration,
    /// Whether changes of budgets fail.
    is_gone: bool,
}

/// The one lease that this store knows.
#[derive(Default)]
struct Held {
    fence: u64,
    /// Who has it; none once it was given back.
    by: Option<Lease>,
}

impl Kept {
    fn check(&self, lease: &Lease) -> Result<()> {
        if self.lease.fence > 0 && self.lease.fence != lease.fence {
            return Err(StateError::LeaseLost { resource: lease.resource.clone() });
        }
        Ok(())
    }
}

impl MemoryState {
    /// A store with the planted bug, or without.
    pub(crate) fn forgetting(forgets_recreated: bool) -> Self {
        Self { forgets_recreated, ..Self::default() }
    }

    /// A store that reads this clock.
    pub(crate) fn timed_by(clock: Arc<TestClock>) -> Self {
        Self { clock: Some(clock), ..Self::default() }
    }

    /// How long a change of a budget travels from now on, each way.
    pub(crate) fn delay(&self, delay: Duration) {
        self.kept().delay = delay;
    }

    /// Whether changes of budgets fail from now on.
    pub(crate) fn fail_budgets(&self, is_gone: bool) {
        self.kept().is_gone = is_gone;
    }

    /// How often a budget was written.
    pub(crate) fn budget_updates(&self) -> usize {
        self.kept().budget_updates
    }

    /// The way to the store, or back.
    async fn pass(&self) {
        tokio::task::yield_now().await;
    }

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(START, |clock| clock.now())
    }

    /// Makes a change under a lease, if it is the newest.
    async fn change<T>(&self, lease: &Lease, change: impl FnOnce(&mut Kept) -> Result<T> + Send) -> Result<T> {
        self.pass().await;
        let changed = self.change_at_once(lease, change);
        self.pass().await;
        changed
    }

    fn change_at_once<T>(&self, lease: &Lease, change: impl FnOnce(&mut Kept) -> Result<T>) -> Result<T> {
        let mut kept = self.kept();
        kept.check(lease)?;
        change(&mut kept)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Planned crashes unwind through tests; no operation here leaves anything half done.
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.kept().entries.clone()
    }

    pub(crate) fn all_rejects(&self) -> Vec<RejectRecord> {
        self.kept().rejects.clone()
    }
}

fn page(entries: Vec<Entry>, after: Option<EntryId>, limit: u32) -> Vec<Entry> {
    entries.into_iter().filter(|entry| after.is_none_or(|after| entry.id > after)).take(limit as usize).collect()
}

#[async_trait]
impl Journal for MemoryState {
    async fn intend(&self, intent: &Intent, lease: &Lease) -> Result<EntryId> {
        let intent = intent.clone();
        let add = |kept: &mut Kept| {
            kept.last_entry += 1;
            let id = EntryId(kept.last_entry);
            kept.entries.push(Entry { id, intent, outcomes: None });
            Ok(id)
        };
        self.change(lease, add).await
    }

    async fn close(&self, entry: EntryId, outcomes: &[RowOutcome], lease: &Lease) -> Result<()> {
        let close = |kept: &mut Kept| {
            let open = kept.entries.iter_mut().find(|known| known.id == entry && known.outcomes.is_none());
            let Some(found) = open else { return Err(StateError::Conflict { what: "an entry".to_owned() }) };
            assert_eq!(found.intent.rows.len(), outcomes.len(), "one outcome per row");
            found.outcomes = Some(outcomes.to_vec());
            Ok(())
        };
        self.change(lease, close).await
    }

    async fn open_entries(&self, _audience: &AudienceKey) -> Result<Vec<Entry>> {
        self.pass().await;
        Ok(self.kept().entries.iter().filter(|entry| entry.outcomes.is_none()).cloned().collect())
    }

    async fn unfolded(&self, _audience: &AudienceKey, after: Option<EntryId>, limit: u32) -> Result<Vec<Entry>> {
        self.pass().await;
        let kept = self.kept();
        let is_wanted = |entry: &&Entry| entry.outcomes.is_some() && !kept.folded.contains(&entry.id);
        Ok(page(kept.entries.iter().filter(is_wanted).cloned().collect(), after, limit))
    }

    async fn entries_of(&self, plan: PlanId, after: Option<EntryId>, limit: u32) -> Result<Vec<Entry>> {
        self.pass().await;
        let of_plan = self.kept().entries.iter().filter(|entry| entry.intent.plan == plan).cloned().collect();
        Ok(page(of_plan, after, limit))
    }

    async fn forget_entries(&self, plan: PlanId) -> Result<()> {
        self.pass().await;
        let Kept { entries, folded, .. } = &mut *self.kept();
        entries.retain(|entry| entry.intent.plan != plan || !folded.contains(&entry.id));
        Ok(())
    }

    async fn note_job(&self, entry: EntryId, job: &JobId, lease: &Lease) -> Result<()> {
        self.change(lease, |kept| Ok(kept.jobs.insert(entry, job.clone()))).await.map(drop)
    }

    async fn job_of(&self, entry: EntryId) -> Result<Option<JobId>> {
        self.pass().await;
        Ok(self.kept().jobs.get(&entry).cloned())
    }

    async fn note_recreated(&self, _: &AudienceKey, keys: &[(KeyHash, AttemptTag)], lease: &Lease) -> Result<()> {
        if self.forgets_recreated {
            return Ok(());
        }
        let note = |kept: &mut Kept| {
            for (key, tag) in keys {
                kept.noted.insert(*key, lease.fence);
                match kept.recreated.iter_mut().find(|known| known.key == *key) {
                    Some(known) => {
                        known.tags.retain(|held| held != tag);
                        known.tags.push(*tag);
                        known.sweeps = 0;
                    }
                    None => kept.recreated.push(Recreated { key: *key, tags: vec![*tag], sweeps: 0 }),
                }
            }
            Ok(())
        };
        self.change(lease, note).await
    }

    async fn recreated(&self, _audience: &AudienceKey) -> Result<Vec<Recreated>> {
        self.pass().await;
        Ok(self.kept().recreated.clone())
    }

    async fn count_sweep(&self, _audience: &AudienceKey, keys: &[KeyHash], lease: &Lease) -> Result<()> {
        let count = |kept: &mut Kept| {
            let Kept { recreated, noted, .. } = kept;
            recreated.iter_mut().filter(|known| keys.contains(&known.key)).for_each(|known| known.sweeps += 1);
            recreated.retain(|known| !keys.contains(&known.key) || noted[&known.key] >= lease.fence);
            Ok(())
        };
        self.change(lease, count).await
    }
}

#[async_trait]
impl Audiences for MemoryState {
    async fn binding(&self, _sync: &SyncName) -> Result<Option<AudienceBinding>> {
        unreachable!("delivery is handed its binding")
    }

    async fn bind(&self, _sync: &SyncName, _binding: &AudienceBinding, _lease: &Lease) -> Result<()> {
        unreachable!("delivery is handed its binding")
    }

    async fn syncs_of(&self, _audience: &AudienceKey) -> Result<Vec<SyncName>> {
        unreachable!("delivery knows one sync")
    }

    async fn quiet_until(&self, _audience: &AudienceKey) -> Result<Option<Timestamp>> {
        self.pass().await;
        Ok(self.kept().quiet_until)
    }

    async fn extend_quiet(&self, _audience: &AudienceKey, until: Timestamp, lease: &Lease) -> Result<()> {
        let extend = |kept: &mut Kept| {
            kept.quiet_until = kept.quiet_until.max(Some(until));
            Ok(())
        };
        self.change(lease, extend).await
    }
}

#[async_trait]
impl Rejects for MemoryState {
    async fn add_rejects(&self, rejects: &[RejectRecord]) -> Result<()> {
        self.pass().await;
        let mut kept = self.kept();
        for reject in rejects {
            let is_same =
                |held: &RejectRecord| (held.plan, held.key, &held.code) == (reject.plan, reject.key, &reject.code);
            if !kept.rejects.iter().any(is_same) {
                kept.rejects.push(reject.clone());
            }
        }
        Ok(())
    }

    async fn rejects(&self, _: &SyncName, _: Option<RunId>, _: Option<RejectId>, _: u32) -> Result<Vec<NotedReject>> {
        unreachable!("rejects are read by the pipeline")
    }

    async fn open_rejects(&self, _: &SyncName, _: Option<RejectId>, _: u32) -> Result<Vec<OpenReject>> {
        unreachable!("rejects are read by the pipeline")
    }

    async fn keep_rejects(&self, _: &SyncName, _: PlanId, _: &KeptRejects, _: &Lease) -> Result<()> {
        unreachable!("rejects are settled by the pipeline")
    }

    async fn close_rejects(&self, _: &SyncName, _: PlanId, _: &Lease) -> Result<()> {
        unreachable!("rejects are settled by the pipeline")
    }

    async fn forget_rejects(&self, before: Timestamp) -> Result<()> {
        self.kept().rejects.retain(|reject| reject.at >= before);
        Ok(())
    }
}

#[async_trait]
impl Provisions for MemoryState {
    async fn intend_provision(
        &self,
        _: &ConnectionName,
        what: &str,
        intended_at: Timestamp,
    ) -> Result<Option<OpenProvision>> {
        let mut kept = self.kept();
        let earlier = kept.provisions.get(what).cloned();
        kept.provisions.entry(what.to_owned()).or_insert(OpenProvision { intended_at, made_id: None });
        Ok(earlier)
    }

    async fn note_made(&self, _: &ConnectionName, what: &str, intended_at: Timestamp, id: &str) -> Result<()> {
        let mut kept = self.kept();
        let own = kept.provisions.get_mut(what).filter(|open| open.intended_at == intended_at);
        if let Some(open) = own {
            open.made_id = Some(id.to_owned());
        }
        Ok(())
    }

    async fn open_provision(&self, _: &ConnectionName, what: &str) -> Result<Option<OpenProvision>> {
        Ok(self.kept().provisions.get(what).cloned())
    }

    async fn close_provision(&self, _: &ConnectionName, what: &str, intended_at: Timestamp) -> Result<()> {
        self.kept().provisions.retain(|open, known| open != what || known.intended_at != intended_at);
        Ok(())
    }
}

#[async_trait]
impl Budgets for MemoryState {
    async fn budget(&self, credential: &str) -> Result<Option<serde_json::Value>> {
        Ok(self.kept().budgets.get(credential).cloned())
    }

    async fn update_budget(&self, credential: &str, change: BudgetChange) -> Result<()> {
        self.travel().await;
        self.change_budget(credential, change)?;
        self.travel().await;
        Ok(())
    }
}

impl MemoryState {
    async fn travel(&self) {
        let delay = self.kept().delay;
        if let Some(clock) = self.clock.as_ref().filter(|_| !delay.is_zero()) {
            clock.sleep(delay).await;
        }
    }

    fn change_budget(&self, credential: &str, change: BudgetChange) -> Result<()> {
        let now = self.now();
        let mut kept = self.kept();
        if kept.is_gone {
            return Err(StateError::Conflict { what: "a store that is gone".to_owned() });
        }
        let spent = change(kept.budgets.get(credential).cloned(), now)?;
        kept.budgets.insert(credential.to_owned(), spent);
        kept.budget_updates += 1;
        Ok(())
    }
}

#[async_trait]
impl Leases for MemoryState {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        self.pass().await;
        let lease = self.take_lease(resource, holder, ttl);
        self.pass().await;
        lease
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let now = self.now();
        let renew = |kept: &mut Kept| {
            let renewed = Lease { expires_at: now.after(ttl), ..lease.clone() };
            kept.lease.by = Some(renewed.clone());
            Ok(renewed)
        };
        self.change(lease, renew).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let release = |kept: &mut Kept| {
            kept.lease.by = None;
            Ok(())
        };
        self.change(lease, release).await
    }

    async fn holder(&self, _resource: &str) -> Result<Option<Lease>> {
        unreachable!("delivery is handed its lease")
    }
}

impl MemoryState {
    fn take_lease(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        let now = self.now();
        let held = &mut self.kept().lease;
        if let Some(Lease { holder, expires_at, .. }) = held.by.clone().filter(|lease| lease.expires_at > now) {
            return Err(StateError::Busy { resource: resource.to_owned(), holder, expires_at });
        }
        held.fence += 1;
        let lease = Lease {
            resource: resource.to_owned(),
            fence: held.fence,
            holder: holder.to_owned(),
            expires_at: now.after(ttl),
            taken_over: held.by.is_some(),
        };
        held.by = Some(lease.clone());
        Ok(lease)
    }
}

#[async_trait]
impl Runs for MemoryState {
    async fn start_run(&self, _run: &RunRecord) -> Result<()> {
        unreachable!("runs are the pipeline's")
    }

    async fn update_run(&self, _run: &RunRecord) -> Result<()> {
        unreachable!("runs are the pipeline's")
    }

    async fn run(&self, _id: RunId) -> Result<Option<RunRecord>> {
        unreachable!("runs are the pipeline's")
    }

    async fn runs(&self, _sync: Option<&SyncName>, _limit: u32) -> Result<Vec<RunRecord>> {
        unreachable!("runs are the pipeline's")
    }
}

#[async_trait]
impl Plans for MemoryState {
    async fn add_plan(&self, _manifest: &PlanManifest, _hash: &str) -> Result<()> {
        unreachable!("plans are the pipeline's")
    }

    async fn plan(&self, _id: PlanId) -> Result<Option<PlanRecord>> {
        unreachable!("plans are the pipeline's")
    }

    async fn plans_in(&self, _sync: &SyncName, _state: PlanState) -> Result<Vec<PlanRecord>> {
        unreachable!("plans are the pipeline's")
    }

    async fn move_plan(&self, _id: PlanId, _from: PlanState, _to: PlanState) -> Result<()> {
        unreachable!("plans are the pipeline's")
    }

    async fn forget_plan(&self, _id: PlanId) -> Result<()> {
        unreachable!("plans are the pipeline's")
    }

    async fn expired_plans(&self, _ended_before: Timestamp, _waiting_before: Timestamp) -> Result<Vec<PlanId>> {
        unreachable!("plans are the pipeline's")
    }
}

#[async_trait]
impl Checkpoints for MemoryState {
    async fn checkpoint(&self, _sync: &SyncName) -> Result<Checkpoint> {
        unreachable!("checkpoints are the pipeline's")
    }

    async fn settle_run(&self, _settlement: &Settlement, _lease: &Lease) -> Result<()> {
        unreachable!("checkpoints are the pipeline's")
    }
}

#[async_trait]
impl Ledgers for MemoryState {
    async fn ledger(&self, _audience: &AudienceKey) -> Result<Option<LedgerManifest>> {
        self.pass().await;
        Ok(self.kept().ledger.clone())
    }

    async fn commit_fold(&self, manifest: &LedgerManifest, to: Option<EntryId>, lease: &Lease) -> Result<()> {
        let commit = |kept: &mut Kept| {
            if kept.ledger.as_ref().map_or(0, |ledger| ledger.version) + 1 != manifest.version {
                return Err(StateError::Conflict { what: "the ledger".to_owned() });
            }
            kept.ledger = Some(manifest.clone());
            let Kept { entries, folded, .. } = kept;
            let closed = entries.iter().filter(|entry| entry.outcomes.is_some() && Some(entry.id) <= to);
            folded.extend(closed.map(|entry| entry.id));
            Ok(())
        };
        self.change(lease, commit).await
    }

    async fn hash_key(&self) -> Result<HashKey> {
        unreachable!("ledgers are the pipeline's")
    }
}

#[async_trait]
impl Schedules for MemoryState {
    async fn schedule_mark(&self, _sync: &SyncName) -> Result<Option<ScheduleMark>> {
        unreachable!("schedules are the daemon's")
    }

    async fn set_schedule_mark(&self, _sync: &SyncName, _mark: &ScheduleMark, _lease: &Lease) -> Result<()> {
        unreachable!("schedules are the daemon's")
    }
}

#[async_trait]
impl Audit for MemoryState {
    async fn audit(&self, _actor: &str, _action: &str, _detail: &str) -> Result<()> {
        unreachable!("the audit trail is the binary's")
    }

    async fn audit_trail(&self, _limit: u32) -> Result<Vec<AuditRecord>> {
        unreachable!("the audit trail is the binary's")
    }
}

#[async_trait]
impl Lifecycle for MemoryState {
    async fn rename_sync(&self, _renaming: &Renaming, _lease: &Lease) -> Result<()> {
        unreachable!("the life of syncs is the pipeline's")
    }

    async fn retire_sync(&self, _retirement: &Retirement, _lease: &Lease) -> Result<()> {
        unreachable!("the life of syncs is the pipeline's")
    }
}

#[async_trait]
impl Backfills for MemoryState {
    async fn begin_backfill(&self, _backfill: &OpenBackfill) -> Result<()> {
        unreachable!("backfills are the pipeline's")
    }

    async fn open_backfill(&self, _sync: &SyncName) -> Result<Option<OpenBackfill>> {
        unreachable!("backfills are the pipeline's")
    }

    async fn backfill(&self, _id: BackfillId) -> Result<Option<BackfillRecord>> {
        unreachable!("backfills are the pipeline's")
    }

    async fn backfills(&self, _sync: &SyncName, _limit: u32) -> Result<Vec<BackfillRecord>> {
        unreachable!("backfills are the pipeline's")
    }

    async fn end_backfill(&self, _id: BackfillId, _state: BackfillState) -> Result<()> {
        unreachable!("backfills are the pipeline's")
    }
}

#[async_trait]
impl Enrichments for MemoryState {
    async fn note_enrichment(&self, _enrichment: &NewEnrichment, _lease: &Lease) -> Result<()> {
        unreachable!("{ENRICHING}")
    }

    async fn open_enrichments(&self, _sync: &SyncName) -> Result<Vec<OpenEnrichment>> {
        unreachable!("{ENRICHING}")
    }

    async fn enrichment_scope(&self, _id: EnrichmentId) -> Result<Option<EnrichmentScope>> {
        unreachable!("{ENRICHING}")
    }

    async fn move_enrichment(
        &self,
        _id: EnrichmentId,
        _from: &EnrichmentStage,
        _to: &EnrichmentStage,
        _lease: &Lease,
    ) -> Result<()> {
        unreachable!("{ENRICHING}")
    }

    async fn close_enrichment(&self, _id: EnrichmentId, _lease: &Lease) -> Result<()> {
        unreachable!("{ENRICHING}")
    }
}

const ENRICHING: &str = "enriching is the pipeline's";
