//! The first half of a run: from the source to a durable, immutable, hashed plan. Nothing is sent.

use std::path::PathBuf;

use convoke_core::boundary::Boundary;
use convoke_core::error::SinkError;
use convoke_core::ledger::{LedgerIdentity, LedgerManifest};
use convoke_core::plan::{Forecast, PLAN_FORMAT, PlanBasis, PlanCounts, PlanManifest, PlannedSource};
use convoke_core::sink::{AudienceBinding, Survey};
use convoke_core::source::{Coverage, SplitOutcome};
use convoke_core::state::{Checkpoint, PlanRecord, PlanState, RunRecord};
use convoke_core::{PlanId, RunId};
use convoke_delivery::provision::outlook;
use convoke_engine::{PlanBatches, PlanRequest, Planned, SuppressionList, ledger_identity, load_suppression};
use uuid::Uuid;

use crate::error::Error;
use crate::folders::{MANIFEST, create_private, write_durably};
use crate::guards::{AudienceRows, GuardInputs, evaluate};
use crate::lease::LeaseKeeper;
use crate::reading::{ReadSource, Reading};
use crate::run::Extent;
use crate::{Event, Pipeline};

/// Everything a plan is computed from, read once at its beginning.
struct Basis {
    binding: Option<AudienceBinding>,
    ledger: Option<LedgerManifest>,
    identity: LedgerIdentity,
    checkpoint: Checkpoint,
    suppressions: Vec<SuppressionList>,
    config_hash: String,
    survey: Survey,
}

impl Basis {
    fn ledger_version(&self) -> u64 {
        self.ledger.as_ref().map_or(0, |ledger| ledger.version)
    }
}

/// What was read and what it comes to.
struct Computed {
    planned: Planned,
    source: PlannedSource,
}

impl Pipeline {
    /// Computes a plan, makes it durable, and supersedes waiting ones.
    pub(crate) async fn compute_plan(
        &self,
        run: &mut RunRecord,
        extent: Extent,
        keeper: &LeaseKeeper,
    ) -> Result<PlanRecord, Error> {
        let id = PlanId(Uuid::now_v7());
        let basis = self.read_basis().await?;
        create_private(&self.services.folders.plan(id))?;
        self.reached(Boundary::BeforePlanFile);
        let computed = self.compute_changes(id, run.id, extent, &basis).await?;
        let manifest = self.manifest(id, run.id, extent, basis, computed)?;
        if !manifest.counts.is_balanced() {
            let message = format!("the plan does not account for every record: {:?}", manifest.counts);
            return Err(Error::Unbalanced { message });
        }
        let hash = self.write_manifest(&manifest)?;
        self.reached(Boundary::AfterPlanFile);
        self.stop_if_cancelled()?;

        self.reached(Boundary::BeforePlanRow);
        self.refuse_lost_lease(keeper).await?;
        self.services.state.add_plan(&manifest, &hash).await?;
        self.reached(Boundary::AfterPlanRow);
        run.plan = Some(id);
        run.counts = Some(manifest.counts);
        // Also of a plan that a guard holds: they are what the operator has to look at.
        self.note_invalid_records(run, &manifest).await?;
        self.report(Event::Planned { manifest: Box::new(manifest.clone()), hash: hash.clone() });
        Ok(PlanRecord { manifest, hash, state: PlanState::Waiting })
    }

    async fn read_basis(&self) -> Result<Basis, Error> {
        let state = &self.services.state;
        let spec = &self.sync.spec;
        let suppressions = self.load_suppressions()?;
        let digests: Vec<_> = suppressions.iter().map(|list| list.digest().to_owned()).collect();
        let config_hash = (self.sync.config_hash)(spec, &digests);
        let binding = state.binding(&spec.name).await?;
        self.refuse_other_audience(binding.as_ref())?;
        let survey = self.survey(binding.as_ref()).await?;
        let ledger = match &binding {
            Some(binding) => state.ledger(&binding.key).await?,
            None => None,
        };
        let identity = ledger_identity(spec, &self.services.hash_key);
        refuse_other_identity(ledger.as_ref(), &identity)?;
        let checkpoint = state.checkpoint(&spec.name).await?;
        Ok(Basis { binding, ledger, identity, checkpoint, suppressions, config_hash, survey })
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

    pub(crate) async fn survey(&self, binding: Option<&AudienceBinding>) -> Result<Survey, Error> {
        let known_id = binding.map(|binding| binding.key.audience_id.as_str());
        let gone = |message: String| {
            let name = &self.sync.spec.audience.name;
            Error::Stopped {
                message: format!(
                    "audience `{name}` is no longer at the destination ({message}); restore it there, or give the sync a new name to fill another audience"
                ),
            }
        };
        match self.sync.destination.survey(&self.target(), known_id).await {
            Ok(survey) if known_id.is_some() && survey.audiences.is_empty() => Err(gone("not found".to_owned())),
            Ok(survey) => Ok(survey),
            Err(SinkError::NotFound { message }) if known_id.is_some() => Err(gone(message)),
            Err(SinkError::Quota(exhausted)) => Err(Error::WaitingForQuota { until: exhausted.until }),
            Err(error) => Err(error.into()),
        }
    }

    /// An audience's identity is its stored id. Another name in the configuration could mean either a rename or
    /// another audience, so it is asked back.
    fn refuse_other_audience(&self, binding: Option<&AudienceBinding>) -> Result<(), Error> {
        let Some(binding) = binding else { return Ok(()) };
        let wanted = &self.sync.spec.audience;
        let same_id = wanted.id.as_ref().is_none_or(|id| *id == binding.key.audience_id);
        if wanted.connection == binding.key.connection && wanted.name == binding.name && same_id {
            return Ok(());
        }
        Err(Error::Stopped {
            message: format!(
                "sync `{}` fills audience `{}` ({}), and its configuration now names `{}` on `{}`; put the old name back, or give the sync a new name to fill another audience",
                self.sync.spec.name, binding.name, binding.key, wanted.name, wanted.connection
            ),
        })
    }

    async fn compute_changes(&self, id: PlanId, run: RunId, extent: Extent, basis: &Basis) -> Result<Computed, Error> {
        let checkpoint = &basis.checkpoint;
        let settled_so = checkpoint.clean
            && checkpoint.config_hash.as_deref() == Some(&basis.config_hash)
            && checkpoint.ledger_version == basis.ledger_version();
        let reread = extent.full || (checkpoint.version > 0 && !settled_so);
        match self.read_source(run, checkpoint, reread).await? {
            Reading::Unchanged { settled, notices } => Ok(unchanged(checkpoint, settled, notices)),
            Reading::Read(read) => self.compare(id, extent, basis, *read).await,
        }
    }

    async fn compare(&self, id: PlanId, extent: Extent, basis: &Basis, read: ReadSource) -> Result<Computed, Error> {
        let segments = match &basis.ledger {
            Some(ledger) => self.open_segments(ledger).await?,
            None => Vec::new(),
        };
        let request = PlanRequest {
            spec: &self.sync.spec,
            spool: &read.spool,
            may_delete: read.coverage == Coverage::Snapshot && read.complete,
            segments: &segments,
            hash_key: &self.services.hash_key,
            suppressions: &basis.suppressions,
            limit: extent.limit,
            folder: &self.services.folders.plan(id),
            now: self.services.clock.now(),
        };
        let planned = self.services.engine.plan(request).await?;
        let source = PlannedSource {
            coverage: read.coverage,
            complete: read.complete,
            proposed: Some(read.proposed),
            outcomes: read.outcomes,
            notices: read.notices,
        };
        Ok(Computed { planned, source })
    }

    fn manifest(
        &self,
        id: PlanId,
        run: RunId,
        extent: Extent,
        basis: Basis,
        computed: Computed,
    ) -> Result<PlanManifest, Error> {
        let Computed { planned, source } = computed;
        let own_rows = basis.ledger.as_ref().map_or(0, |ledger| ledger.live_of(&self.sync.spec.name));
        let first_load = own_rows == 0;
        let guard_hits = evaluate(&GuardInputs {
            guards: &self.sync.spec.guards,
            counts: &planned.counts,
            own_rows,
            first_load,
            last_snapshot: last_snapshot(&basis.checkpoint, source.coverage),
            audience_rows: audience_rows(&basis.survey, basis.ledger.as_ref()),
        });
        let known_id = basis.binding.as_ref().map(|binding| binding.key.audience_id.as_str());
        let setup = outlook(&self.target(), &basis.survey, known_id)
            .map_err(|problem| Error::Stopped { message: problem.to_string() })?;
        let capabilities = self.sync.destination.capabilities();
        let ledger_version = basis.ledger_version();
        Ok(PlanManifest {
            format: PLAN_FORMAT,
            id,
            run,
            sync: self.sync.spec.name.clone(),
            created_at: self.services.clock.now(),
            basis: PlanBasis {
                audience: basis.binding.map(|binding| binding.key),
                audience_name: self.sync.spec.audience.name.clone(),
                ledger_version,
                ledger_identity: basis.identity,
                config_hash: basis.config_hash,
                checkpoint_version: basis.checkpoint.version,
            },
            forecast: self.forecast(&planned.counts, (capabilities.upsert_rows, capabilities.delete_rows)),
            files: planned.files,
            counts: planned.counts,
            first_load,
            limit: extent.limit,
            upsert_rows: capabilities.upsert_rows,
            delete_rows: capabilities.delete_rows,
            source,
            setup,
            guard_hits,
            samples: planned.samples,
        })
    }

    /// Requests without retries, and their time at the configured rate. A delete is a job: one request to start it and
    /// at least one to ask how it stands.
    fn forecast(&self, counts: &PlanCounts, (upsert_rows, delete_rows): (usize, usize)) -> Forecast {
        let upserts = counts.creates.div_ceil(upsert_rows as u64) + counts.updates.div_ceil(upsert_rows as u64);
        let requests = upserts + 2 * counts.deletes.div_ceil(delete_rows as u64);
        let rate = self.sync.rate;
        let windows = [(rate.per_second, 1), (rate.per_hour, 3_600), (rate.per_day, 86_400)];
        let seconds = windows
            .iter()
            .filter_map(|(limit, seconds)| limit.map(|limit| requests / u64::from(limit.max(1)) * seconds))
            .max();
        Forecast { requests, seconds: seconds.unwrap_or(0) }
    }

    fn write_manifest(&self, manifest: &PlanManifest) -> Result<String, Error> {
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

    /// Refuses a plan when anything that it was computed from has moved.
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
        match moved {
            None => Ok(()),
            Some(what) => Err(Error::Stopped {
                message: format!("plan {} is stale: {what} has changed since; plan again", plan.manifest.id),
            }),
        }
    }

    pub(crate) async fn open_segments(&self, ledger: &LedgerManifest) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::with_capacity(ledger.segments.len());
        for segment in &ledger.segments {
            paths.push(self.services.segments.open(&segment.name).await?);
        }
        Ok(paths)
    }
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
    Computed { planned: Planned { counts, files: Vec::new(), samples: Vec::new() }, source }
}

fn last_snapshot(checkpoint: &Checkpoint, coverage: Coverage) -> Option<u64> {
    let counts = checkpoint.counts.filter(|_| coverage == Coverage::Snapshot)?;
    Some(counts.read + counts.carried_over)
}

fn audience_rows(survey: &Survey, ledger: Option<&LedgerManifest>) -> Option<AudienceRows> {
    let [audience] = survey.audiences.as_slice() else { return None };
    Some(AudienceRows { held: audience.record_count?, explained: ledger.map_or(0, |ledger| ledger.live) })
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
