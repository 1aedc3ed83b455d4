//! A sync comes to its end.
//!
//! Its rows either stay, as nobody's, until another sync adopts them, or are deleted by a plan that waits for its approval
//! and goes the way of every other. Only then binding, checkpoint and schedule mark go, in one transaction. It is no longer
//! in the configuration by then, or it would begin anew: what is known of it is what the checkpoint store says.

use convoke_core::boundary::Boundary;
use convoke_core::ledger::LedgerManifest;
use convoke_core::lifecycle::{self, Retirement};
use convoke_core::plan::{GuardHit, PLAN_FORMAT, PlanBasis, PlanManifest, PlannedSource};
use convoke_core::sink::AudienceBinding;
use convoke_core::source::Coverage;
use convoke_core::state::{AuditRecord, PlanRecord, PlanState, RunRecord, RunState};
use convoke_core::{AudienceKey, PlanId, RunId, SyncName, Timestamp};
use convoke_engine::{Planned, RemovalRequest};
use serde::Serialize;
use uuid::Uuid;

use crate::applying::Deletes;
use crate::error::Error;
use crate::folders::create_private;
use crate::lease::LeaseKeeper;
use crate::renaming::DEEDS_LOOKED_THROUGH;
use crate::run::refuse_other_approval;
use crate::{Ended, Event, Pipeline};

pub use retired::{RetiredSource, retired_spec};

mod retired;

/// The guard that holds every plan by which a sync ends.
const RETIRE: &str = "retire";

/// A sync that came to its end and left its rows.
#[derive(Clone, Debug, Serialize)]
pub struct Retired {
    pub sync: SyncName,
    pub audience: AudienceKey,
    /// Live rows that are nobody's now.
    pub rows_kept: u64,
}

impl Pipeline {
    /// Ends the sync; its rows stay, as nobody's.
    pub async fn retire_keeping_rows(&self, actor: &str) -> Result<Retired, Error> {
        let keeper = self.take_lease().await?;
        let outcome = Box::pin(self.release_rows(actor, &keeper)).await;
        keeper.release().await;
        outcome
    }

    async fn release_rows(&self, actor: &str, keeper: &LeaseKeeper) -> Result<Retired, Error> {
        let name = &self.sync.spec.name;
        let binding = self.bound_audience().await?;
        Box::pin(self.recover(RunId(Uuid::now_v7()), keeper)).await?;
        for plan in self.services.state.plans_in(name, PlanState::Applying).await? {
            self.abandon(&plan, "the sync is being retired").await?;
        }
        let rows_kept = self.own_rows(&binding).await?.map_or(0, |(_, rows)| rows);
        let reassigned = self.reassign(&binding.key, (name, &SyncName::nobody()), keeper).await?;
        let ledger = reassigned.as_ref().map(|(_, folded)| folded.manifest.clone());
        self.end_sync(ledger, lifecycle::rows_kept(rows_kept), actor, keeper).await?;
        self.remove_obsolete(reassigned).await?;
        Ok(Retired { sync: name.clone(), audience: binding.key, rows_kept })
    }

    /// Plans to delete the sync's rows; once that plan is approved and nothing is left, ends the sync. After a crash the
    /// same call goes on.
    pub async fn retire_deleting_rows(&self, approval: Option<&str>, actor: &str) -> Result<Ended, Error> {
        self.recorded(async |run, keeper| Box::pin(self.delete_rows(run, approval, actor, keeper)).await).await
    }

    async fn delete_rows(
        &self,
        run: &mut RunRecord,
        approval: Option<&str>,
        actor: &str,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        let binding = self.bound_audience().await?;
        Box::pin(self.recover(run.id, keeper)).await?;
        let owned = self.own_rows(&binding).await?.filter(|(_, rows)| *rows > 0);
        let plan = match (self.interrupted_removal().await?, owned) {
            (Some(interrupted), _) => Some(interrupted),
            (None, Some((ledger, rows))) => {
                Some(self.approved_removal(run, (&binding, &ledger, rows), (approval, actor), keeper).await?)
            }
            (None, None) => None,
        };
        let mut state = RunState::Succeeded;
        if let Some(plan) = plan {
            run.plan = Some(plan.manifest.id);
            run.counts = Some(plan.manifest.counts);
            self.services.state.update_run(run).await?;
            state = Box::pin(self.deliver_and_settle(run, &plan, binding.clone(), Deletes::Sent, keeper)).await?;
        }
        let left = self.own_rows(&binding).await?.map_or(0, |(_, rows)| rows);
        if left > 0 {
            let name = &self.sync.spec.name;
            let message = format!(
                "{left} rows of `{name}` could not be deleted, so it is not retired; see `convoke show {}`, and run the same command again",
                run.id
            );
            return Err(Error::Stopped { message });
        }
        let deleted = self.deleted_by_removal().await?;
        self.end_sync(None, format!("{deleted} rows deleted"), actor, keeper).await?;
        run.message = Some(format!("sync `{}` is retired", self.sync.spec.name));
        Ok(state)
    }

    async fn deleted_by_removal(&self) -> Result<u64, Error> {
        let retired_at = self.retired_at().await?;
        let settled = self.services.state.plans_in(&self.sync.spec.name, PlanState::Settled).await?;
        let mut removals =
            settled.iter().filter(|plan| is_removal(plan) && retired_at < Some(plan.manifest.created_at));
        Ok(removals.next().map_or(0, |plan| plan.manifest.counts.deletes))
    }

    /// When a sync of this name was retired last: what is kept of it since before is of another.
    pub(crate) async fn retired_at(&self) -> Result<Option<Timestamp>, Error> {
        let detail = lifecycle::retired(&self.sync.spec.name);
        let trail = self.services.state.audit_trail(DEEDS_LOOKED_THROUGH).await?;
        let is_retirement = |deed: &AuditRecord| {
            let rest = deed.detail.strip_prefix(&detail);
            deed.action == lifecycle::RETIRE && rest.is_some_and(|rest| rest.starts_with(':'))
        };
        Ok(trail.into_iter().find(is_retirement).map(|deed| deed.at))
    }

    /// The plan by which the rows are deleted, once somebody has approved it.
    async fn approved_removal(
        &self,
        run: &mut RunRecord,
        (binding, ledger, rows): (&AudienceBinding, &LedgerManifest, u64),
        (approval, actor): (Option<&str>, &str),
        keeper: &LeaseKeeper,
    ) -> Result<PlanRecord, Error> {
        let state = &self.services.state;
        let name = &self.sync.spec.name;
        let waiting = state.plans_in(name, PlanState::Waiting).await?;
        let is_fresh = |plan: &PlanRecord| plan.manifest.basis.ledger_version == ledger.version;
        let mut removals = waiting.into_iter().filter(|plan| is_removal(plan) && is_fresh(plan));
        let plan = match removals.next().filter(|plan| self.verify_manifest(plan).is_ok()) {
            Some(plan) => plan,
            None => self.plan_removal(run.id, (binding, ledger, rows), keeper).await?,
        };
        let id = plan.manifest.id;
        run.plan = Some(id);
        run.counts = Some(plan.manifest.counts);
        refuse_other_approval(&plan, approval)?;
        if approval.is_none() {
            let hash = &plan.hash[..12];
            return Err(Error::Stopped {
                message: format!(
                    "nothing was deleted: {rows} rows of `{name}` would go. If that is right, `convoke sync retire {name} --delete-rows --approve {hash}` deletes them and ends the sync"
                ),
            });
        }
        state.audit(actor, "approve", &format!("plan {id}")).await?;
        self.refuse_lost_lease(keeper).await?;
        state.move_plan(id, PlanState::Waiting, PlanState::Applying).await?;
        Ok(PlanRecord { state: PlanState::Applying, ..plan })
    }

    async fn plan_removal(
        &self,
        run: RunId,
        (binding, ledger, rows): (&AudienceBinding, &LedgerManifest, u64),
        keeper: &LeaseKeeper,
    ) -> Result<PlanRecord, Error> {
        let id = PlanId(Uuid::now_v7());
        let folder = self.services.folders.plan(id);
        create_private(&folder)?;
        let segments = self.open_segments(ledger).await?;
        let request = RemovalRequest { owner: &self.sync.spec.name, segments: &segments, folder: &folder };
        self.reached(Boundary::BeforePlanFile);
        let planned = self.unless_cancelled(Box::pin(self.services.engine.plan_removal(request))).await??;
        if planned.counts.deletes != rows {
            let message = format!("the ledger tells of {rows} rows and holds {}", planned.counts.deletes);
            return Err(Error::Unbalanced { message });
        }
        let manifest = self.removal_manifest((id, run), (binding, ledger), planned).await?;
        let hash = self.write_manifest(&manifest)?;
        self.publish_plan(id).await?;
        self.reached(Boundary::AfterPlanFile);
        self.refuse_lost_lease(keeper).await?;
        self.reached(Boundary::BeforePlanRow);
        self.services.state.add_plan(&manifest, &hash).await?;
        self.reached(Boundary::AfterPlanRow);
        self.report(Event::Planned { manifest: Box::new(manifest.clone()), hash: hash.clone() });
        Ok(PlanRecord { manifest, hash, state: PlanState::Waiting })
    }

    async fn removal_manifest(
        &self,
        (id, run): (PlanId, RunId),
        (binding, ledger): (&AudienceBinding, &LedgerManifest),
        planned: Planned,
    ) -> Result<PlanManifest, Error> {
        let capabilities = self.sync.destination.capabilities();
        let sync = self.sync.spec.name.clone();
        let hit = GuardHit {
            guard: RETIRE.to_owned(),
            message: format!("all {} rows of `{sync}` would be deleted", planned.counts.deletes),
            approvable: true,
        };
        Ok(PlanManifest {
            format: PLAN_FORMAT,
            id,
            run,
            sync,
            created_at: self.services.clock.now(),
            basis: PlanBasis {
                audience: Some(binding.key.clone()),
                audience_name: binding.name.clone(),
                ledger_version: ledger.version,
                ledger_identity: ledger.identity.clone(),
                config_hash: self.current_config_hash()?,
                checkpoint_version: 0,
            },
            forecast: self.forecast(&planned.counts, (capabilities.upsert_rows, capabilities.delete_rows)).await?,
            files: planned.files,
            counts: planned.counts,
            first_load: false,
            limit: None,
            backfill: None,
            window: None,
            resent: None,
            upsert_rows: capabilities.upsert_rows,
            delete_rows: capabilities.delete_rows,
            source: PlannedSource {
                coverage: Coverage::Delta,
                complete: true,
                proposed: None,
                outcomes: Vec::new(),
                notices: Vec::new(),
            },
            setup: Vec::new(),
            guard_hits: vec![hit],
            withheld: None,
            samples: planned.samples,
        })
    }

    /// The removal that was approved and cut short, if it can go on. Whatever else was cut short is given up.
    async fn interrupted_removal(&self) -> Result<Option<PlanRecord>, Error> {
        let mut interrupted = None;
        for plan in self.services.state.plans_in(&self.sync.spec.name, PlanState::Applying).await? {
            self.fetch_plan(plan.manifest.id).await.ok();
            let is_whole = self.verify_manifest(&plan).is_ok() && self.open_batches(&plan).await.is_ok();
            if is_removal(&plan) && is_whole && interrupted.is_none() {
                interrupted = Some(plan);
            } else {
                self.abandon(&plan, "the sync is being retired").await?;
            }
        }
        Ok(interrupted)
    }

    async fn end_sync(
        &self,
        ledger: Option<LedgerManifest>,
        rows: String,
        actor: &str,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        let sync = self.sync.spec.name.clone();
        let retirement = Retirement { sync, ledger, actor: actor.to_owned(), rows };
        self.reached(Boundary::BeforeCheckpoint);
        self.services.state.retire_sync(&retirement, &keeper.lease()).await?;
        self.reached(Boundary::AfterCheckpoint);
        Ok(())
    }

    /// The audience's ledger, and how many live rows of it are this sync's.
    async fn own_rows(&self, binding: &AudienceBinding) -> Result<Option<(LedgerManifest, u64)>, Error> {
        let ledger = self.services.state.ledger(&binding.key).await?;
        Ok(ledger.map(|ledger| {
            let rows = ledger.live_of(&self.sync.spec.name);
            (ledger, rows)
        }))
    }

    async fn bound_audience(&self) -> Result<AudienceBinding, Error> {
        let name = &self.sync.spec.name;
        self.services.state.binding(name).await?.ok_or_else(|| Error::Request {
            message: format!("sync `{name}` fills no audience any more; somebody else has retired it"),
        })
    }
}

fn is_removal(plan: &PlanRecord) -> bool {
    plan.manifest.guard_hits.iter().any(|hit| hit.guard == RETIRE)
}
