//! The first half of a run: from the source to a durable, immutable, hashed plan. Nothing is sent.

mod balance;
mod draft;

use std::path::PathBuf;

use convoke_core::boundary::Boundary;
use convoke_core::ledger::{LedgerIdentity, LedgerManifest};
use convoke_core::plan::{
    CallCounts, Forecast, PLAN_FORMAT, PlanBasis, PlanCounts, PlanFile, PlanManifest, PlannedSource, SURPLUS_FILE,
};
use convoke_core::rule::{Operator, Rule};
use convoke_core::sink::{AudienceBinding, Survey};
use convoke_core::source::{Coverage, SplitOutcome};
use convoke_core::spec::Filter;
use convoke_core::state::{Checkpoint, PlanRecord, PlanState, RunRecord};
use convoke_core::{PlanId, RunId, StateError, Timestamp};
use convoke_delivery::limiter::forecast::forecast;
use convoke_delivery::provision::outlook;
use convoke_engine::{
    DamagedSplit, PlanBatches, PlanRequest, Planned, RefusalFates, SuppressionList, ledger_identity, load_suppression,
};

use crate::audience::audience_rows;
use crate::error::{Error, chain};
use crate::folders::{MANIFEST, create_private, write_durably};
use crate::guards::{AudienceRows, GuardInputs, evaluate};
use crate::lease::LeaseKeeper;
use crate::reading::{ReadSource, Reading};
use crate::rejects::count_resent;
use crate::resuming::Standing;
use crate::run::Extent;
use crate::{Event, Pipeline};

use balance::check_counts;
pub(crate) use draft::Draft;

/// How often a source is read for one plan: one that changes each time is in the middle of something.
const READINGS: u32 = 3;

/// Everything a plan is computed from, read once at its beginning.
struct Basis {
    /// What "today" means to the whole plan.
    now: Timestamp,
    binding: Option<AudienceBinding>,
    ledger: Option<LedgerManifest>,
    identity: LedgerIdentity,
    checkpoint: Checkpoint,
    suppressions: Vec<SuppressionList>,
    config_hash: String,
    survey: Survey,
    /// Rows that are planned as if the ledger did not name them.
    absent: Option<PlanFile>,
}

impl Basis {
    /// Rows that the audience holds, and those that are known of.
    fn audience_rows(&self, files: &[PlanFile]) -> Option<AudienceRows> {
        let surplus = files.iter().filter(|file| file.name == SURPLUS_FILE).map(|file| file.rows).sum();
        let absent = self.absent.as_ref().map_or(0, |absent| absent.rows);
        Some(audience_rows(&self.survey, self.ledger.as_ref())?.knowing(absent, surplus))
    }

    fn ledger_version(&self) -> u64 {
        self.ledger.as_ref().map_or(0, |ledger| ledger.version)
    }
}

/// What was read and what it comes to.
struct Computed {
    planned: Planned,
    source: PlannedSource,
    was_read: bool,
}

impl Pipeline {
    /// Computes a plan, makes it durable, and supersedes waiting ones.
    pub(crate) async fn compute_plan(
        &self,
        run: &mut RunRecord,
        extent: &Extent,
        keeper: &LeaseKeeper,
    ) -> Result<PlanRecord, Error> {
        self.compute_draft(run, Draft::new(), extent, keeper).await
    }

    pub(crate) async fn compute_draft(
        &self,
        run: &mut RunRecord,
        draft: Draft,
        extent: &Extent,
        keeper: &LeaseKeeper,
    ) -> Result<PlanRecord, Error> {
        let id = draft.id;
        let (manifest, hash) = match self.write_plan(draft, run.id, extent, keeper).await {
            Ok(written) => written,
            Err(error) => {
                // No row names it: nobody will ever read what was written of it.
                self.remove_plan(id).await;
                return Err(error);
            }
        };
        self.services.state.add_plan(&manifest, &hash).await?;
        self.reached(Boundary::AfterPlanRow);
        run.plan = Some(id);
        run.counts = Some(manifest.counts);
        // Also of a plan that a guard holds: they are what the operator has to look at.
        self.note_invalid_records(run, &manifest).await?;
        self.report(Event::Planned { manifest: Box::new(manifest.clone()), hash: hash.clone() });
        Ok(PlanRecord { manifest, hash, state: PlanState::Waiting })
    }

    /// Writes a plan's files, up to the row that makes it a plan.
    async fn write_plan(
        &self,
        draft: Draft,
        run: RunId,
        extent: &Extent,
        keeper: &LeaseKeeper,
    ) -> Result<(PlanManifest, String), Error> {
        let id = draft.id;
        let basis = Basis { absent: draft.absent.clone(), ..self.read_basis().await? };
        create_private(&self.services.folders.plan(id))?;
        self.reached(Boundary::BeforePlanFile);
        let mut computed = self.compute_steadily(id, run, extent, &basis).await?;
        draft.end(&mut computed.planned);
        let refusals = std::mem::take(&mut computed.planned.refusals);
        let resent = count_resent(extent, &refusals);
        let manifest = PlanManifest { resent, ..self.manifest(id, run, extent, basis, computed).await? };
        check_counts(&manifest, self.sync.spec.filter.as_ref())?;
        let hash = self.write_manifest(&manifest)?;
        self.publish_plan(id).await?;
        self.reached(Boundary::AfterPlanFile);
        self.stop_if_cancelled()?;
        self.reached(Boundary::BeforePlanRow);
        self.refuse_lost_lease(keeper).await?;
        self.keep_rejects(&manifest, refusals, keeper).await?;
        Ok((manifest, hash))
    }

    async fn read_basis(&self) -> Result<Basis, Error> {
        let state = &self.services.state;
        let spec = &self.sync.spec;
        let now = self.services.clock.now();
        let suppressions = self.load_suppressions()?;
        let digests: Vec<_> = suppressions.iter().map(|list| list.digest().to_owned()).collect();
        let config_hash = (self.sync.config_hash)(spec, &digests);
        let binding = state.binding(&spec.name).await?;
        self.refuse_other_id(binding.as_ref())?;
        let survey = self.survey(binding.as_ref()).await?;
        self.refuse_other_name(binding.as_ref(), &survey)?;
        if let Some(audience) = self.surveyed_audience(&survey) {
            self.refuse_unshared(&audience).await?;
        }
        let ledger = match &binding {
            Some(binding) => state.ledger(&binding.key).await?,
            None => None,
        };
        let identity = ledger_identity(spec, &self.services.hash_key);
        refuse_other_identity(ledger.as_ref(), &identity)?;
        let checkpoint = state.checkpoint(&spec.name).await?;
        Ok(Basis { now, binding, ledger, identity, checkpoint, suppressions, config_hash, survey, absent: None })
    }

    pub(crate) fn load_suppressions(&self) -> Result<Vec<SuppressionList>, Error> {
        let now = self.services.clock.now();
        let lists = self.sync.spec.suppressions.iter().map(|list| load_suppression(list, now));
        Ok(lists.collect::<Result<_, _>>()?)
    }

    pub(crate) fn current_config_hash(&self) -> Result<String, Error> {
        let digests: Vec<_> = self.load_suppressions()?.iter().map(|list| list.digest().to_owned()).collect();
        Ok((self.sync.config_hash)(&self.sync.spec, &digests))
    }

    /// Begins anew when the source changes while it is read, as a plan is made from one state of it, and when a split turns
    /// out damaged, of which then nothing is planned.
    async fn compute_steadily(
        &self,
        id: PlanId,
        run: RunId,
        extent: &Extent,
        basis: &Basis,
    ) -> Result<Computed, Error> {
        let (mut readings, mut damaged) = (1, Vec::new());
        loop {
            match self.compute_changes((id, run), extent, basis, &damaged).await {
                Err(error) if error.is_changed_source() && readings < READINGS => {
                    readings += 1;
                    self.notice(format!("the source is read again, it has changed meanwhile: {}", chain(&error)));
                }
                // Ends: each time there is at least one split fewer.
                Err(error) if is_new_damage(error.damaged_splits(), &damaged) => {
                    damaged.extend_from_slice(error.damaged_splits());
                }
                result => return result,
            }
        }
    }

    async fn compute_changes(
        &self,
        (id, run): (PlanId, RunId),
        extent: &Extent,
        basis: &Basis,
        damaged: &[DamagedSplit],
    ) -> Result<Computed, Error> {
        if let Some(selection) = &extent.backfill {
            let read = self.read_selection(run, selection, damaged).await?;
            return self.compare(id, extent, basis, read).await;
        }
        let checkpoint = &basis.checkpoint;
        let settled_so = checkpoint.clean
            && checkpoint.config_hash.as_deref() == Some(&self.settled_under(&basis.config_hash, basis.now))
            && checkpoint.ledger_version == basis.ledger_version();
        let reread = extent.full || (checkpoint.version > 0 && !settled_so);
        let will_acknowledge = extent.limit.is_none() && !extent.only_counted && !extent.waits;
        match self.read_source(run, checkpoint, (reread, will_acknowledge), damaged).await? {
            Reading::Unchanged { settled, notices } => Ok(unchanged(checkpoint, settled, notices)),
            Reading::Read(read) => self.compare(id, extent, basis, *read).await,
            Reading::Broken { reasons, .. } if extent.only_counted => {
                Err(Error::Unusable { message: format!("none of it can be used: {}", reasons.join("; ")) })
            }
            Reading::Broken { outcomes, reasons } => {
                let told = match self.sync.source.acknowledge(&outcomes).await {
                    Ok(()) if !self.sync.source.quarantines() => {
                        format!("cannot be used, and lies where it lay: {}", reasons.join("; "))
                    }
                    Ok(()) => format!("quarantined {}", reasons.join("; ")),
                    Err(error) => {
                        format!(
                            "cannot be used: {}; nor could it be quarantined: {}",
                            reasons.join("; "),
                            chain(&error)
                        )
                    }
                };
                Err(Error::Unusable { message: format!("nothing was planned, the audience is as it was; {told}") })
            }
        }
    }

    async fn compare(&self, id: PlanId, extent: &Extent, basis: &Basis, read: ReadSource) -> Result<Computed, Error> {
        let mut segments = match &basis.ledger {
            Some(ledger) => self.open_segments(ledger).await?,
            None => Vec::new(),
        };
        let folder = self.services.folders.plan(id);
        segments.extend(basis.absent.iter().map(|absent| folder.join(&absent.name)));
        let refusals = self.refusals(extent, basis.now).await?;
        let request = PlanRequest {
            spec: &self.sync.spec,
            spool: &read.spool,
            coverage: read.coverage,
            complete: read.complete,
            segments: &segments,
            hash_key: &self.services.hash_key,
            suppressions: &basis.suppressions,
            refusals: &refusals,
            limit: extent.limit,
            keeps_unknown: extent.backfill.is_some(),
            folder: &folder,
            now: basis.now,
        };
        let planned = self.unless_cancelled(Box::pin(self.services.engine.plan(request))).await??;
        self.refuse_torn_since(&read).await?;
        let source = PlannedSource {
            coverage: read.coverage,
            complete: read.complete,
            proposed: read.proposed,
            outcomes: read.outcomes,
            notices: [read.notices, planned.notices.clone()].concat(),
        };
        Ok(Computed { planned, source, was_read: true })
    }

    /// Under what a position is settled: the configuration, and the day if the filter looks at it. On another day the same
    /// file means other people.
    pub(crate) fn settled_under(&self, config_hash: &str, planned_at: Timestamp) -> String {
        const DAY: i64 = 86_400_000;
        let spec = &self.sync.spec;
        match spec.filter.iter().chain(&spec.deleted).any(depends_on_today) {
            true => format!("{config_hash} on day {}", planned_at.0.div_euclid(DAY)),
            false => config_hash.to_owned(),
        }
    }

    async fn manifest(
        &self,
        id: PlanId,
        run: RunId,
        extent: &Extent,
        basis: Basis,
        computed: Computed,
    ) -> Result<PlanManifest, Error> {
        let Computed { planned, source, was_read } = computed;
        let own_rows = basis.ledger.as_ref().map_or(0, |ledger| ledger.live_of(&self.sync.spec.name));
        let first_load = own_rows == 0 || self.is_first_load_going_on(own_rows, &basis.checkpoint).await?;
        // What adds to something that was read before may hold nothing, and so may what cannot be read.
        let may_be_nothing = basis.checkpoint.version > 0 || !source.complete;
        let is_addition = source.coverage == Coverage::Delta && may_be_nothing && extent.backfill.is_none();
        let guard_hits = evaluate(&GuardInputs {
            guards: &self.sync.spec.guards,
            counts: &planned.counts,
            own_rows,
            first_load,
            // That a window is empty says nothing of the source, nor that nothing has changed.
            source_was_read: was_read && !is_addition && extent.window.is_none(),
            last_snapshot: last_snapshot(&basis.checkpoint, source.coverage),
            audience_rows: basis.audience_rows(&planned.files),
        });
        let known_id = basis.binding.as_ref().map(|binding| binding.key.audience_id.as_str());
        let setup = outlook(&self.target(), &basis.survey, known_id)
            .map_err(|problem| Error::Stopped { message: problem.to_string() })?;
        let capabilities = self.sync.destination.capabilities();
        let ledger_version = basis.ledger_version();
        let forecast = self.forecast(&planned.counts, (capabilities.upsert_rows, capabilities.delete_rows)).await?;
        Ok(PlanManifest {
            format: PLAN_FORMAT,
            id,
            run,
            sync: self.sync.spec.name.clone(),
            created_at: basis.now,
            basis: PlanBasis {
                audience: basis.binding.map(|binding| binding.key),
                audience_name: self.sync.spec.audience.name.clone(),
                ledger_version,
                ledger_identity: basis.identity,
                config_hash: basis.config_hash,
                checkpoint_version: basis.checkpoint.version,
            },
            forecast,
            files: planned.files,
            counts: planned.counts,
            first_load,
            limit: extent.limit,
            backfill: extent.backfill.clone(),
            window: extent.window,
            resent: None,
            upsert_rows: capabilities.upsert_rows,
            delete_rows: capabilities.delete_rows,
            source,
            setup,
            guard_hits,
            withheld: planned.withheld,
            samples: planned.samples,
        })
    }

    /// Whether the rows of this sync are but the beginning of its first load, which a canary run, a lost plan or a limit
    /// ended before the source was settled. Rows that were adopted are no beginning of it.
    async fn is_first_load_going_on(&self, own_rows: u64, checkpoint: &Checkpoint) -> Result<bool, Error> {
        if checkpoint.version > 0 {
            return Ok(false);
        }
        let retired_at = self.retired_at().await?;
        let mut created_at_most = 0;
        for state in [PlanState::Settled, PlanState::Abandoned] {
            let plans = self.services.state.plans_in(&self.sync.spec.name, state).await?;
            let first_loads =
                plans.iter().filter(|plan| plan.manifest.first_load && retired_at < Some(plan.manifest.created_at));
            created_at_most += first_loads.map(|plan| plan.manifest.counts.creates).sum::<u64>();
        }
        Ok(own_rows <= created_at_most)
    }

    /// Requests without retries, and how long they take on what is left of the budget.
    pub(crate) async fn forecast(
        &self,
        counts: &PlanCounts,
        (upsert_rows, delete_rows): (usize, usize),
    ) -> Result<Forecast, Error> {
        let calls = CallCounts {
            creates: counts.creates.div_ceil(upsert_rows as u64),
            updates: counts.updates.div_ceil(upsert_rows as u64),
            deletes: 2 * counts.deletes.div_ceil(delete_rows as u64),
        };
        let credential = self.sync.spec.audience.connection.as_str();
        let stored = self.services.state.budget(credential).await?;
        Ok(forecast(credential, stored, &self.sync.rate, calls, self.services.clock.now())?)
    }

    pub(crate) fn write_manifest(&self, manifest: &PlanManifest) -> Result<String, Error> {
        let contents = serde_json::to_vec_pretty(manifest).expect("a manifest holds only what JSON can carry");
        write_durably(&self.services.folders.plan(manifest.id).join(MANIFEST), &contents)?;
        Ok(blake3::hash(&contents).to_hex().to_string())
    }

    /// Holds a plan's manifest file against its hash: what is applied must be what was shown.
    pub(crate) fn verify_manifest(&self, plan: &PlanRecord) -> Result<(), Error> {
        let id = plan.manifest.id;
        let path = self.services.folders.plan(id).join(MANIFEST);
        let contents = std::fs::read(&path)
            .map_err(|cause| Error::files(format!("the files of plan {id} are gone; plan again"), cause))?;
        if blake3::hash(&contents).to_hex().as_str() != plan.hash {
            return Err(Error::Stopped {
                message: format!("`{}` was changed after it was planned; plan again", path.display()),
            });
        }
        Ok(())
    }

    /// Opens a plan's changes, each file held against its digest.
    pub(crate) async fn open_batches(&self, plan: &PlanRecord) -> Result<PlanBatches, Error> {
        let folder = self.services.folders.plan(plan.manifest.id);
        let PlanManifest { files, upsert_rows, delete_rows, .. } = plan.manifest.clone();
        let opening = tokio::task::spawn_blocking(move || PlanBatches::open(&folder, &files, upsert_rows, delete_rows));
        Ok(opening.await.expect("opening plan files does not panic")?)
    }

    /// Refuses a plan when anything that it was computed from has moved. A source that cannot be seen has not: the plan is
    /// durable, and was looked at.
    pub(crate) async fn refuse_stale(&self, plan: &PlanRecord) -> Result<(), Error> {
        let planned = &plan.manifest.basis;
        let basis = self.read_basis().await?;
        let moved = if planned.config_hash != basis.config_hash {
            Some("the configuration or a suppression list")
        } else if planned.ledger_version != basis.ledger_version() {
            Some("the ledger")
        } else if planned.ledger_identity != basis.identity {
            Some("the key specification")
        } else if planned.audience != basis.binding.map(|binding| binding.key) {
            Some("the audience")
        } else if planned.checkpoint_version != basis.checkpoint.version {
            Some("the source's checkpoint")
        } else {
            None
        };
        let reason = if let Some(what) = moved {
            format!("{what} has changed since")
        } else if let Standing::Overtaken { reason } = self.standing(&plan.manifest.source).await? {
            reason
        } else {
            return Ok(());
        };
        Err(Error::Stopped { message: format!("plan {} is stale: {reason}; plan again", plan.manifest.id) })
    }

    pub(crate) async fn open_segments(&self, ledger: &LedgerManifest) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::with_capacity(ledger.segments.len());
        for segment in &ledger.segments {
            let path = self.services.segments.open(&segment.name).await?;
            let found = std::fs::metadata(&path).map(|file| file.len()).unwrap_or_default();
            if found != segment.bytes {
                let message = format!(
                    "segment `{}` of the ledger has {found} bytes where {} were noted; restore a backup, or take the audience's rows over with `convoke adopt {}`",
                    segment.name, segment.bytes, self.sync.spec.name
                );
                return Err(StateError::Unusable { message }.into());
            }
            paths.push(path);
        }
        Ok(paths)
    }
}

/// Whether a split is damaged that is not known to be.
fn is_new_damage(found: &[DamagedSplit], known: &[DamagedSplit]) -> bool {
    found.iter().any(|found| known.iter().all(|known| known.split != found.split))
}

/// A plan without changes, for a source that is exactly as it was: every record is carried over, and what was unchanged
/// or sent then is unchanged now.
fn unchanged(checkpoint: &Checkpoint, settled: Vec<SplitOutcome>, notices: Vec<String>) -> Computed {
    let last = checkpoint.counts.unwrap_or_default();
    let carried_over = last.read + last.carried_over;
    let counts = PlanCounts {
        read: 0,
        carried_over,
        unchanged: last.unchanged + last.creates + last.updates,
        creates: 0,
        updates: 0,
        deletes: 0,
        ..last
    };
    let source =
        PlannedSource { coverage: Coverage::Delta, complete: true, proposed: None, outcomes: settled, notices };
    let refusals = RefusalFates::default();
    let planned =
        Planned { counts, files: Vec::new(), samples: Vec::new(), withheld: None, refusals, notices: Vec::new() };
    Computed { planned, source, was_read: false }
}

/// Whether the same record passes a filter on one day and not on another. SQL may not: functions that tell the time are
/// refused in it.
fn depends_on_today(filter: &Filter) -> bool {
    fn looks_back(rule: &Rule) -> bool {
        match rule {
            Rule::All(parts) | Rule::Any(parts) => parts.iter().any(looks_back),
            Rule::Condition(condition) => condition.operator == Operator::RollingRange,
        }
    }
    match filter {
        Filter::Rule(rule) => looks_back(rule),
        Filter::Sql(_) => false,
    }
}

/// How many records the last snapshot had, where this one can be held against it.
fn last_snapshot(checkpoint: &Checkpoint, coverage: Coverage) -> Option<u64> {
    checkpoint.snapshot_records.filter(|_| coverage == Coverage::Snapshot)
}

/// How many records the last snapshot had, once a plan is settled that was made from this.
pub(crate) fn snapshot_records(before: Option<u64>, coverage: Coverage, counts: &PlanCounts) -> Option<u64> {
    match coverage {
        Coverage::Snapshot => Some(counts.read + counts.carried_over),
        Coverage::Delta => before,
    }
}

/// Hashes of different identities cannot be compared; going on would make every row twice.
fn refuse_other_identity(ledger: Option<&LedgerManifest>, identity: &LedgerIdentity) -> Result<(), Error> {
    let Some(ledger) = ledger.filter(|ledger| ledger.identity != *identity) else {
        return Ok(());
    };
    let was = &ledger.identity;
    let (what, was, is) = if was.key_spec != identity.key_spec {
        ("the key columns", was.key_spec.clone(), identity.key_spec.clone())
    } else if was.hash_key_id != identity.hash_key_id {
        ("the hash key", was.hash_key_id.clone(), identity.hash_key_id.clone())
    } else {
        let version =
            |identity: &LedgerIdentity| format!("{}.{}", identity.normalizer_version, identity.encoding_version);
        ("the normaliser", version(was), version(identity))
    };
    Err(Error::Stopped {
        message: format!(
            "{what} changed from {was} to {is}, so the ledger of {} cannot be compared; choose: put it back, take the audience's rows over under the new key with `convoke adopt`, or fill another audience under a new sync name",
            ledger.audience
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_held_against_the_last_one_whatever_was_added_since() {
        let counts = |read| PlanCounts { read, ..PlanCounts::default() };
        let whole = snapshot_records(None, Coverage::Snapshot, &counts(1_000_000));
        assert_eq!(whole, Some(1_000_000));
        let added = snapshot_records(whole, Coverage::Delta, &counts(3));
        let checkpoint = Checkpoint {
            version: 2,
            position: None,
            config_hash: None,
            ledger_version: 1,
            counts: Some(counts(3)),
            snapshot_records: added,
            clean: true,
        };
        assert_eq!(last_snapshot(&checkpoint, Coverage::Snapshot), Some(1_000_000));
        assert_eq!(last_snapshot(&checkpoint, Coverage::Delta), None, "an addition is no snapshot");
        assert_eq!(snapshot_records(added, Coverage::Snapshot, &counts(400_000)), Some(400_000));
        let nothing_yet = Checkpoint { snapshot_records: None, ..checkpoint };
        assert_eq!(last_snapshot(&nothing_yet, Coverage::Snapshot), None);
    }
}
