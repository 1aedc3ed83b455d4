//! Holds an audience against the ledger and the source, and makes the plan that mends what differs.
//!
//! A repair is the ledger told what the audience holds, followed by an ordinary plan over the whole source, to which the
//! deletes of surplus rows are added. So guards, approval, delivery and balances are those of every plan. What the
//! ledger was told is true whether the plan is applied or not: after a crash the next run or audit goes on from there.
//! That rows are missing is told to the plan alone, and to the ledger once the plan begins to be applied: until then no run
//! makes them again.

use convoke_core::audit::{AuditCounts, AuditSample};
use convoke_core::boundary::Boundary;
use convoke_core::ledger::LedgerManifest;
use convoke_core::plan::PlanCounts;
use convoke_core::sink::{AudienceBinding, BoundColumn, LookUp};
use convoke_core::state::{RunRecord, RunState};
use convoke_core::{AudienceKey, PlanId, RowId, RunId};
use convoke_engine::{AuditRequest, Audited, FoldRequest, MissingRows, ledger_identity};
use futures::FutureExt;
use serde::Serialize;
use uuid::Uuid;

use crate::Pipeline;
use crate::error::{Error, chain};
use crate::folders::create_private;
use crate::lease::LeaseKeeper;
use crate::planning::Draft;
use crate::run::{Ended, Extent, hold_for_approval};

/// How an audience stands.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub audience: AudienceKey,
    pub audience_name: String,
    /// The audience against the ledger.
    pub counts: AuditCounts,
    /// A few rows of each finding, without their values.
    pub samples: Vec<AuditSample>,
    /// What a plan over the whole source would change, from what the audience holds: what it would create, neither audience
    /// nor ledger has; records of missing rows are told as removed at the destination, but of a repair, which creates them.
    /// None if the source cannot be read.
    pub source: Option<PlanCounts>,
    /// Whether only a run that is to read everything finds what of that is to be deleted.
    #[serde(skip)]
    pub deletes_need_full: bool,
    /// Why the source cannot be read.
    pub source_problem: Option<String>,
}

/// An audit, and the plan that mends what it found.
#[derive(Debug)]
pub struct Repair {
    /// None if it was not come to an end.
    pub verification: Option<Verification>,
    pub ended: Ended,
}

/// What an audit is about.
struct Subject {
    binding: AudienceBinding,
    ledger: Option<LedgerManifest>,
}

impl Pipeline {
    /// Holds the audience against the ledger and the source; names at most `samples` rows of each finding. Nothing is
    /// changed, but what an earlier run left is settled as by any run. Nobody writes the audience meanwhile.
    pub async fn verify(&self, samples: usize) -> Result<Verification, Error> {
        let keeper = self.take_lease().await?;
        // No plan and no run will ever have these ids.
        let (plan, run) = (PlanId(Uuid::now_v7()), RunId(Uuid::now_v7()));
        let outcome = Box::pin(self.verify_leased(plan, run, samples, &keeper)).await;
        self.remove_plan(plan).await;
        self.services.folders.remove("spool", &run.to_string());
        keeper.release().await;
        outcome
    }

    async fn verify_leased(
        &self,
        plan: PlanId,
        run: RunId,
        samples: usize,
        keeper: &LeaseKeeper,
    ) -> Result<Verification, Error> {
        let subject = self.subject(run, keeper).await?;
        let audited = self.audit(&subject, plan, samples, MissingRows::Removed).await?;
        let outcome = self.compare_with_source(plan, run, &audited).await;
        // Nobody was told of them.
        self.services.segments.remove(&new_segments(&audited, subject.ledger.as_ref())).await?;
        match outcome {
            Err(error @ (Error::Interrupted | Error::WaitingForQuota { .. })) => Err(error),
            Err(error) => Ok(Verification { source_problem: Some(chain(&error)), ..found(&subject, &audited) }),
            Ok((described, counts)) => {
                let deletes_need_full = self.sync.spec.source.reads_changes();
                Ok(Verification { source: Some(counts), deletes_need_full, ..found(&subject, &described) })
            }
        }
    }

    async fn compare_with_source(
        &self,
        plan: PlanId,
        run: RunId,
        audited: &Audited,
    ) -> Result<(Audited, PlanCounts), Error> {
        let planned = self.plan_against(plan, run, audited.folded.manifest.clone()).await?;
        let described = self.describe(plan, audited.clone(), &planned.files).await?;
        Ok((described, planned.counts))
    }

    /// Audits, tells the ledger what the audience holds, and makes the plan that mends the rest. The plan waits to be
    /// applied; if nothing differs, there is none.
    pub async fn repair(&self, samples: usize) -> Result<Repair, Error> {
        let mut verification = None;
        let ended = self
            .recorded(async |run, keeper| Box::pin(self.repair_leased(run, samples, &mut verification, keeper)).await);
        let ended = ended.await?;
        Ok(Repair { verification, ended })
    }

    async fn repair_leased(
        &self,
        run: &mut RunRecord,
        samples: usize,
        told: &mut Option<Verification>,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        let subject = self.subject(run.id, keeper).await?;
        let id = PlanId(Uuid::now_v7());
        let audited = match self.audit(&subject, id, samples, MissingRows::MadeAgain).await {
            Ok(audited) => audited,
            Err(error) => {
                self.remove_plan(id).await;
                return Err(error);
            }
        };
        // Whatever follows, this is what was found.
        *told = Some(found(&subject, &audited));
        if audited.counts.differences() == 0 && audited.corrections == 0 {
            self.services.segments.remove(&new_segments(&audited, subject.ledger.as_ref())).await?;
            self.remove_plan(id).await;
            run.message = Some("the audience is in step with the ledger; there is nothing to mend".to_owned());
            return Ok(RunState::Succeeded);
        }
        if let Some(leftover) = self.leftover_plan(run.id, keeper).await? {
            self.abandon_enriched(run.id, &leftover, "a repair was asked for", keeper).await?;
        }
        self.tell_ledger(&subject, &audited, keeper).await?;
        let draft = Draft { id, surplus: audited.doubles.clone(), absent: audited.absent.clone() };
        let plan =
            self.compute_draft(run, draft, &Extent { full: true, waits: true, ..Extent::default() }, keeper).await?;
        let described = self.describe(id, audited, &plan.manifest.files).await?;
        *told = Some(Verification { source: Some(plan.manifest.counts), ..found(&subject, &described) });
        hold_for_approval(&plan, None)?;
        Ok(RunState::Planned)
    }

    /// Puts the ledger in force that says what the audience holds.
    async fn tell_ledger(&self, subject: &Subject, audited: &Audited, keeper: &LeaseKeeper) -> Result<(), Error> {
        if audited.corrections == 0 {
            let unused = new_segments(audited, subject.ledger.as_ref());
            return Ok(self.services.segments.remove(&unused).await?);
        }
        self.reached(Boundary::BeforeFold);
        self.services.state.commit_fold(&audited.folded.manifest, None, &keeper.lease()).await?;
        self.reached(Boundary::AfterFold);
        Ok(self.services.segments.remove(&audited.folded.obsolete).await?)
    }

    /// Settles what is left of earlier runs, and finds what is to be audited.
    async fn subject(&self, run: RunId, keeper: &LeaseKeeper) -> Result<Subject, Error> {
        let name = &self.sync.spec.name;
        let Some(binding) = self.services.state.binding(name).await? else {
            let message = format!(
                "sync `{name}` has not filled an audience yet; `convoke run {name}` fills one, `convoke adopt {name}` takes over what is there"
            );
            return Err(Error::Request { message });
        };
        self.refuse_unfit().await?;
        Box::pin(self.recover(run, keeper)).await?;
        self.wait_until_quiet(&binding).await?;
        let ledger = self.services.state.ledger(&binding.key).await?;
        let binding = AudienceBinding { columns: self.columns_as_mapped(&binding)?, ..binding };
        Ok(Subject { binding, ledger })
    }

    /// The audience's columns in the order of the mapping.
    fn columns_as_mapped(&self, binding: &AudienceBinding) -> Result<Vec<BoundColumn>, Error> {
        let spec = &self.sync.spec;
        let bound = spec.columns.iter().map(|column| {
            let is_it = |bound: &&BoundColumn| bound.name == column.name && bound.data_type == column.data_type;
            binding.columns.iter().find(is_it).cloned()
        });
        let columns: Option<Vec<_>> = bound.collect();
        columns.filter(|columns| columns.len() == binding.columns.len()).ok_or_else(|| Error::Stopped {
            message: format!(
                "the columns that `{}` maps have changed since audience `{}` was written last, so what it holds cannot be compared; `convoke run {}` first",
                spec.name, binding.name, spec.name
            ),
        })
    }

    async fn audit(
        &self,
        subject: &Subject,
        plan: PlanId,
        samples: usize,
        missing: MissingRows,
    ) -> Result<Audited, Error> {
        let Subject { binding, ledger } = subject;
        let segments = match ledger {
            Some(ledger) => self.open_segments(ledger).await?,
            None => Vec::new(),
        };
        let folder = self.services.folders.plan(plan);
        create_private(&folder)?;
        let identity = ledger_identity(&self.sync.spec, &self.services.hash_key);
        let find = |row_ids: Vec<RowId>| {
            let look_up = async move {
                let query = LookUp::RowIds(row_ids);
                let found = self.sync.destination.look_up(binding, &query).await?;
                Ok(found.into_iter().map(|found| found.row_id).collect())
            };
            look_up.boxed()
        };
        let request = AuditRequest {
            ledger: FoldRequest {
                audience: &binding.key,
                manifest: ledger.as_ref(),
                identity: &identity,
                segments: self.services.segments.as_ref(),
            },
            segments: &segments,
            spec: &self.sync.spec,
            hash_key: &self.services.hash_key,
            samples,
            missing,
            find: &find,
            find_rows: self.sync.destination.capabilities().look_up_ids,
            folder: &folder,
        };
        let audit = Box::pin(self.services.engine.audit(request, self.scanned_rows(binding)));
        let audited = self.unless_cancelled(audit).await?.map_err(Error::of_scan)?;
        let live = ledger.as_ref().map_or(0, |ledger| ledger.live);
        if !audited.counts.is_balanced() || audited.counts.ledger_rows != live || !audited.folded.counts.is_balanced() {
            let message = format!("the audit of {} does not balance: {:?}", binding.key, audited.counts);
            return Err(Error::Unbalanced { message });
        }
        Ok(audited)
    }

    async fn describe(
        &self,
        plan: PlanId,
        audited: Audited,
        files: &[convoke_core::plan::PlanFile],
    ) -> Result<Audited, Error> {
        let folder = self.services.folders.plan(plan);
        let sync = (&self.sync.spec, &self.services.hash_key);
        Ok(self.services.engine.describe_samples(audited, sync, &folder, files).await?)
    }
}

/// Segments that an audit sealed, and that no ledger names yet.
fn new_segments(audited: &Audited, ledger: Option<&LedgerManifest>) -> Vec<String> {
    let is_live =
        |name: &String| ledger.into_iter().flat_map(|ledger| &ledger.segments).any(|segment| segment.name == *name);
    let names = audited.folded.manifest.segments.iter().map(|segment| segment.name.clone());
    names.filter(|name| !is_live(name)).collect()
}

/// What an audit found, before the source has been asked.
fn found(subject: &Subject, audited: &Audited) -> Verification {
    let AudienceBinding { key, name, .. } = &subject.binding;
    Verification {
        audience: key.clone(),
        audience_name: name.clone(),
        counts: audited.counts,
        samples: audited.samples.clone(),
        source: None,
        deletes_need_full: false,
        source_problem: None,
    }
}
