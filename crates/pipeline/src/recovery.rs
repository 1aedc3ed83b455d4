//! What an earlier run left: settled, folded, and its plan resumed or given up.
//!
//! One path for every ending: a crash, a lost plan folder, a cancelled run and a failed one all leave the same journal.

use std::collections::HashMap;
use std::time::Duration;

use convoke_core::journal::Operation;
use convoke_core::plan::DeliveryCounts;
use convoke_core::sink::AudienceBinding;
use convoke_core::state::{PlanRecord, PlanState};
use convoke_core::{KeyHash, RowId, RunId, StateError};
use convoke_delivery::Courier;
use convoke_delivery::courier::tally;
use convoke_engine::ledger_identity;

use crate::applying::check_changes;
use crate::error::Error;
use crate::lease::LeaseKeeper;
use crate::{Event, Pipeline};

/// Runs that are looked through, newest first: a sync has one writer, so those that died are among its newest.
pub(crate) const LOOK_BACK: u32 = 50;

impl Pipeline {
    /// Settles what is in doubt, sweeps, and folds. Needs the journal only, neither plan files nor source.
    pub(crate) async fn recover(&self, run: RunId, keeper: &LeaseKeeper) -> Result<(), Error> {
        self.close_dead_runs(run).await?;
        let Some(binding) = self.services.state.binding(&self.sync.spec.name).await? else {
            return Ok(());
        };
        let courier = self.courier(binding.clone(), keeper.view());
        let in_doubt = self.settle_open(&courier, &binding, keeper).await?;
        if in_doubt > 0 {
            return Err(Error::Unbalanced {
                message: format!(
                    "{in_doubt} rows are in doubt and audience `{}` cannot be searched for them; `convoke adopt` reads the audience and settles them",
                    binding.name
                ),
            });
        }
        self.sweep(&courier, &binding).await?;
        self.fold(&binding.key, keeper).await?;
        self.remove_orphan_segments(&binding.key, keeper).await
    }

    /// Settles the entries that are open, of an earlier run or of a delivery that was cut short; returns how many rows
    /// stay in doubt.
    pub(crate) async fn settle_open(
        &self,
        courier: &Courier,
        binding: &AudienceBinding,
        keeper: &LeaseKeeper,
    ) -> Result<u64, Error> {
        let open_entries = self.services.state.open_entries(&binding.key).await?.len() as u64;
        if open_entries == 0 {
            return Ok(0);
        }
        let until = self.services.clock.now().after(self.settling_time(keeper));
        self.report(Event::Recovering { open_entries, until });
        let settled = courier.settle_open().await.map_err(delivery_error)?;
        if settled.interrupted {
            return Err(Error::Interrupted);
        }
        self.report(Event::Recovered { settled_rows: settled.found + settled.not_applied });
        Ok(settled.in_doubt)
    }

    /// How long requests of an earlier run may still take effect, at most.
    pub(crate) fn settling_time(&self, keeper: &LeaseKeeper) -> Duration {
        let capabilities = self.sync.destination.capabilities();
        let under_way = if keeper.lease().taken_over { capabilities.request_timeout } else { Duration::ZERO };
        under_way + capabilities.max_commit_delay + capabilities.settle
    }

    /// Looks keys that were created twice up again, and removes late doubles.
    pub(crate) async fn sweep(&self, courier: &Courier, binding: &AudienceBinding) -> Result<u64, Error> {
        let keys = courier.keys_to_sweep().await.map_err(delivery_error)?;
        if keys.is_empty() {
            return Ok(0);
        }
        let named = self.rows_named_by_ledger(binding, &keys).await?;
        let swept = courier.sweep(&|key| named.get(&key).cloned()).await.map_err(delivery_error)?;
        if !swept.doubled.is_empty() {
            self.notice(format!(
                "{} rows of audience `{}` share a key with another row and are not known to be ours; they are left alone",
                swept.doubled.len(),
                binding.name
            ));
        }
        Ok(swept.removed)
    }

    async fn rows_named_by_ledger(
        &self,
        binding: &AudienceBinding,
        keys: &[KeyHash],
    ) -> Result<HashMap<KeyHash, RowId>, Error> {
        let Some(ledger) = self.services.state.ledger(&binding.key).await? else {
            return Ok(HashMap::new());
        };
        let segments = self.open_segments(&ledger).await?;
        let entries = self.services.engine.look_up(&segments, keys).await?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.row_id)).collect())
    }

    /// Finds the plan that an earlier run of this sync was delivering, if it can go on; else gives it up.
    pub(crate) async fn leftover_plan(&self, run: RunId, keeper: &LeaseKeeper) -> Result<Option<PlanRecord>, Error> {
        let plans = self.services.state.plans_in(&self.sync.spec.name, PlanState::Applying).await?;
        let mut resumable = None;
        for plan in plans {
            let reason = match self.reason_to_abandon(&plan).await? {
                None if resumable.is_none() => {
                    resumable = Some(plan);
                    continue;
                }
                None => "a newer plan goes on".to_owned(),
                Some(reason) => reason,
            };
            self.abandon_enriched(run, &plan, &reason, keeper).await?;
        }
        tracing::debug!(%run, resumable = resumable.is_some(), "looked for a plan to go on with");
        Ok(resumable)
    }

    async fn reason_to_abandon(&self, plan: &PlanRecord) -> Result<Option<String>, Error> {
        let basis = &plan.manifest.basis;
        if self.sync.spec.shared {
            return Ok(Some("other syncs may have written the shared audience since".to_owned()));
        }
        if basis.config_hash != self.current_config_hash()? {
            return Ok(Some("the configuration has changed since".to_owned()));
        }
        if basis.ledger_identity != ledger_identity(&self.sync.spec, &self.services.hash_key) {
            return Ok(Some("keys are hashed in another way since".to_owned()));
        }
        if self.services.state.checkpoint(&self.sync.spec.name).await?.version != basis.checkpoint_version {
            return Ok(Some("the source's checkpoint has moved since".to_owned()));
        }
        let are_gone = match self.fetch_plan(plan.manifest.id).await {
            Err(Error::State(StateError::Missing { .. } | StateError::Unusable { .. })) => true,
            fetched => fetched.map(|()| false)?,
        };
        if are_gone
            || self.verify_manifest(plan).is_err()
            || self.confirmed_by(plan).await.is_err()
            || self.open_batches(plan).await.is_err()
        {
            return Ok(Some("its files are gone or damaged".to_owned()));
        }
        if self.was_written_by_others(plan).await? {
            return Ok(Some("something else has written the audience since".to_owned()));
        }
        if self.rows_since(plan).await?.is_some() {
            return Ok(Some("somebody added rows to the audience since".to_owned()));
        }
        Ok(None)
    }

    /// Whether the ledger has moved for another reason than this plan, or another sync writes the audience as well.
    async fn was_written_by_others(&self, plan: &PlanRecord) -> Result<bool, Error> {
        let state = &self.services.state;
        let Some(binding) = state.binding(&self.sync.spec.name).await? else { return Ok(false) };
        let version = state.ledger(&binding.key).await?.map_or(0, |ledger| ledger.version);
        let has_entries = !state.entries_of(plan.manifest.id, None, 1).await?.is_empty();
        let planned = plan.manifest.basis.ledger_version;
        let has_moved = version < planned || (version > planned && !has_entries);
        Ok(has_moved || !self.other_syncs(&binding.key).await?.is_empty())
    }

    /// Gives a plan up: what it had sent is in the ledger already, the rest is cancelled and planned anew. Returns what
    /// became of its changes.
    pub(crate) async fn abandon(&self, plan: &PlanRecord, reason: &str) -> Result<DeliveryCounts, Error> {
        let id = plan.manifest.id;
        let mut counts = tally(self.services.state.as_ref(), id).await?;
        for operation in Operation::ALL {
            counts.of_mut(operation).cancel_rest(plan.manifest.counts.of(operation));
        }
        self.services.state.move_plan(id, PlanState::Applying, PlanState::Abandoned).await?;
        self.note_abandoned(plan, counts, reason).await?;
        self.report(Event::Abandoned { plan: id, reason: reason.to_owned(), cancelled: counts.cancelled() });
        check_changes(&plan.manifest, &counts)?;
        Ok(counts)
    }

    /// Tells in the record of the run that delivered a plan last what became of the rest. A run that is still going on
    /// tells it itself.
    async fn note_abandoned(&self, plan: &PlanRecord, counts: DeliveryCounts, reason: &str) -> Result<(), Error> {
        let id = Some(plan.manifest.id);
        let runs = self.services.state.runs(Some(&self.sync.spec.name), LOOK_BACK).await?;
        let newest = runs.into_iter().find(|run| run.plan == id);
        let Some(mut run) = newest.filter(|run| run.ended_at.is_some()) else { return Ok(()) };
        let ended = run.message.map_or_else(String::new, |message| format!("{message}; "));
        run.message = Some(format!("{ended}the rest of its plan was given up: {reason}"));
        let DeliveryCounts { requests, doubles_removed, .. } = run.delivery.unwrap_or_default();
        run.delivery = Some(DeliveryCounts { requests, doubles_removed, ..counts });
        Ok(self.services.state.update_run(&run).await?)
    }
}

/// Turns a delivery error into the way the run ends.
pub(crate) fn delivery_error(error: convoke_delivery::DeliveryError) -> Error {
    match error.quota() {
        Some(exhausted) => Error::WaitingForQuota { until: exhausted.until },
        None => Error::Delivery(error),
    }
}
