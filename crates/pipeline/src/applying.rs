//! The second half of a run: a plan is delivered, folded, held against its balances, and committed.

use std::sync::atomic::{AtomicU64, Ordering};

use convoke_core::boundary::Boundary;
use convoke_core::journal::Operation;
use convoke_core::plan::{DeliveryCounts, LedgerCounts, PlanContent, PlanManifest, PlannedBatch};
use convoke_core::sink::AudienceBinding;
use convoke_core::source::Coverage;
use convoke_core::spec::RemovedRows;
use convoke_core::state::{
    Checkpoint, PlanRecord, PlanState, RejectRecord, RejectStage, RunRecord, RunState, Settlement, audience_resource,
};
use convoke_core::{StateError, Timestamp};
use convoke_delivery::courier::{tally, until_quiet};
use convoke_delivery::provision::{ProvisionError, ensure};
use convoke_delivery::{Courier, DeliveryEnd, DeliveryProgress, DeliveryReport, Guarantee, Terms};
use convoke_engine::{ConfirmedRecords, EngineError, read_invalid};
use futures::stream::{self, Stream, StreamExt};

use crate::error::{Error, chain};
use crate::lease::LeaseKeeper;
use crate::planning::snapshot_records;
use crate::recovery::delivery_error;
use crate::run::name_window;
use crate::{Event, Pipeline};

/// Rejects that are stored in one go.
const REJECTS_PER_WRITE: usize = 500;

/// What becomes of a plan's deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    Sent,
    /// A mirror's whose source cannot be seen: nothing confirms any more that the records are gone. A plan does not tell
    /// which rows it deletes for a suppression list, so these are put off with the others. The next plan finds them all.
    Cancelled,
}

impl Pipeline {
    /// Applies a plan that waits, or goes on with one that was interrupted.
    pub(crate) async fn apply_plan(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        deletes: Deletes,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        let manifest = &plan.manifest;
        run.plan = Some(manifest.id);
        run.counts = Some(manifest.counts);
        if plan.state == PlanState::Waiting {
            self.refuse_rows_since(plan).await?;
            self.refuse_lost_lease(keeper).await?;
            self.end_absent(plan, keeper).await?;
            self.services.state.move_plan(manifest.id, PlanState::Waiting, PlanState::Applying).await?;
        }
        if manifest.counts.changes() == 0 && manifest.setup.is_empty() {
            self.report(Event::Unchanged { counts: manifest.counts });
            if let Some(confirmed) = self.confirmed_by(plan).await?
                && let Some(binding) = self.services.state.binding(&manifest.sync).await?
            {
                self.fold_with(&binding.key, Some(confirmed), keeper).await?;
            }
            return self.settle(run, plan, DeliveryCounts::default(), keeper).await;
        }
        // If this process dies, its record tells which plan it was about.
        self.services.state.update_run(run).await?;

        let binding = self.ready_audience(keeper).await?;
        let own_keeper = self.lease_for(&binding, keeper).await?;
        let Some(own_keeper) = own_keeper else {
            return Box::pin(self.deliver_and_settle(run, plan, binding, deletes, keeper)).await;
        };
        let outcome = match self.enter(run, plan, &binding, &own_keeper).await {
            Ok(()) => Box::pin(self.deliver_and_settle(run, plan, binding, deletes, &own_keeper)).await,
            Err(error) => Err(error),
        };
        own_keeper.release().await;
        outcome
    }

    /// Comes into an audience of which only the name was held so far: whoever held it in between has to be settled, and
    /// must not have written it since the plan was made.
    async fn enter(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        binding: &AudienceBinding,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        self.claim(binding, keeper).await?;
        Box::pin(self.recover(run.id, keeper)).await?;
        let PlanManifest { id, basis, .. } = &plan.manifest;
        if self.ledger_version().await? == basis.ledger_version {
            return Ok(());
        }
        let reason = "the ledger has changed since";
        run.delivery = Some(self.abandon(plan, reason).await?);
        Err(Error::Stopped { message: format!("plan {id} is stale: {reason}; plan again") })
    }

    async fn refuse_rows_since(&self, plan: &PlanRecord) -> Result<(), Error> {
        let Some(hit) = self.rows_since(plan).await? else { return Ok(()) };
        let id = plan.manifest.id;
        Err(Error::Stopped {
            message: format!(
                "nothing of plan {id} was sent: somebody added rows since it was made ({}: {}); plan again",
                hit.guard, hit.message
            ),
        })
    }

    pub(crate) async fn deliver_and_settle(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        binding: AudienceBinding,
        deletes: Deletes,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        self.claim(&binding, keeper).await?;
        self.wait_until_quiet(&binding).await?;
        self.report(Event::Guaranteed { guarantee: self.guarantee_of(&binding) });
        let courier = self.courier_of(&plan.manifest, binding.clone(), keeper.view());
        let report = match self.deliver(run, plan, deletes, &courier).await {
            Ok(report) => report,
            Err(error) => {
                self.keep_what_was_delivered(run, plan, &binding, keeper).await;
                return Err(error);
            }
        };
        let mut counts = report.counts;
        run.delivery = Some(counts);
        self.end_early_if_unfinished(run, &report, plan, &binding, keeper).await?;
        if deletes == Deletes::Cancelled {
            counts.deletes.cancel_rest(plan.manifest.counts.deletes);
        }
        counts.doubles_removed += self.sweep(&courier, &binding).await?;
        run.delivery = Some(counts);
        self.report(Event::Delivered { counts });

        let ledger = self.fold_with(&binding.key, self.confirmed_by(plan).await?, keeper).await?;
        run.ledger = Some(ledger);
        check_changes(&plan.manifest, &counts)?;
        check_ledger(&ledger)?;
        self.settle(run, plan, counts, keeper).await
    }

    /// What a plan has confirmed without sending anything.
    pub(crate) async fn confirmed_by(&self, plan: &PlanRecord) -> Result<Option<ConfirmedRecords>, Error> {
        let PlanManifest { id, files, .. } = &plan.manifest;
        let (folder, files) = (self.services.folders.plan(*id), files.clone());
        let opening = tokio::task::spawn_blocking(move || ConfirmedRecords::open(&folder, &files));
        Ok(opening.await.expect("opening plan files does not panic")?)
    }

    fn guarantee_of(&self, binding: &AudienceBinding) -> Guarantee {
        let capabilities = self.sync.destination.capabilities();
        Guarantee::of(&capabilities, binding.key_look_up, self.sync.allow_blind_creates)
    }

    async fn deliver(
        &self,
        run: &RunRecord,
        plan: &PlanRecord,
        deletes: Deletes,
        courier: &Courier,
    ) -> Result<DeliveryReport, Error> {
        let manifest = &plan.manifest;
        let terms = Terms {
            sync: self.sync.spec.name.clone(),
            plan: manifest.id,
            run: run.id,
            changes: manifest.counts.changes(),
            reject_limit: self.sync.spec.guards.max_reject,
            allow_blind_creates: self.sync.allow_blind_creates,
        };
        let is_sent = move |batch: &PlannedBatch| deletes == Deletes::Sent || batch.operation != Operation::Delete;
        let batches = self.open_batches(plan).await?.filter(move |batch| batch.as_ref().map_or(true, is_sent));
        let batches = read_ahead(batches).boxed();
        let progress = Progress { pipeline: self, settled: AtomicU64::new(0), total: manifest.counts.changes() };
        courier.deliver(batches, &terms, &progress).await.map_err(delivery_error)
    }

    /// After an error: what was acknowledged is folded at once, as after any other end. The error is the one to tell, and
    /// what cannot be folded now is folded by the next run.
    async fn keep_what_was_delivered(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        binding: &AudienceBinding,
        keeper: &LeaseKeeper,
    ) {
        run.delivery = tally(self.services.state.as_ref(), plan.manifest.id).await.ok();
        if let Err(error) = self.fold(&binding.key, keeper).await {
            tracing::warn!(error = %chain(&error), "what was delivered could not be folded yet");
        }
    }

    /// What was acknowledged is folded whatever ended delivery; the plan itself stays open for the next run.
    async fn end_early_if_unfinished(
        &self,
        run: &mut RunRecord,
        report: &DeliveryReport,
        plan: &PlanRecord,
        binding: &AudienceBinding,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        if report.end == DeliveryEnd::Complete && report.in_doubt == 0 {
            return Ok(());
        }
        let in_doubt = self.in_doubt_at_the_end(report, binding, keeper).await;
        self.fold(&binding.key, keeper).await?;
        let in_doubt = in_doubt?;
        match report.end {
            DeliveryEnd::Complete => Err(creates_in_doubt(in_doubt, binding)),
            DeliveryEnd::Interrupted => {
                let settled = Operation::ALL.iter().map(|operation| report.counts.of(*operation).settled()).sum();
                let (sync, total) = (plan.manifest.sync.clone(), plan.manifest.counts.changes());
                Err(Error::DeliveryInterrupted { sync, settled, total })
            }
            DeliveryEnd::WaitingForQuota { until } => Err(Error::WaitingForQuota { until }),
            DeliveryEnd::RejectLimit { .. } if in_doubt > 0 => Err(creates_in_doubt(in_doubt, binding)),
            DeliveryEnd::RejectLimit { rejected } => {
                let counts = self.abandon_enriched(run.id, plan, "`max_reject` was passed", keeper).await?;
                run.delivery = Some(DeliveryCounts { requests: report.counts.requests, ..counts });
                Err(Error::Stopped {
                    message: format!(
                        "the destination refused {rejected} of {} changes, in part or whole, more than `guards.max_reject` allows; nothing more was sent. See `convoke rejects list {}`",
                        plan.manifest.counts.changes(),
                        self.sync.spec.name
                    ),
                })
            }
        }
    }

    /// Rows that stay in doubt. Once too many were refused the plan is given up, so what was cut short with it is settled
    /// first: what may stand in the audience is not cancelled.
    async fn in_doubt_at_the_end(
        &self,
        report: &DeliveryReport,
        binding: &AudienceBinding,
        keeper: &LeaseKeeper,
    ) -> Result<u64, Error> {
        if !matches!(report.end, DeliveryEnd::RejectLimit { .. }) {
            return Ok(report.in_doubt);
        }
        let courier = self.courier(binding.clone(), keeper.view());
        self.settle_open(&courier, binding, keeper).await
    }

    async fn ready_audience(&self, keeper: &LeaseKeeper) -> Result<AudienceBinding, Error> {
        let known = self.services.state.binding(&self.sync.spec.name).await?;
        let known_id = known.as_ref().map(|binding| binding.key.audience_id.as_str());
        self.refuse_lost_lease(keeper).await?;
        self.ensure_audience(known_id, keeper).await
    }

    /// Finds the audience, or makes it. It is bound under the name that the configuration gives it: at the destination it
    /// may be renamed at any time.
    pub(crate) async fn ensure_audience(
        &self,
        known_id: Option<&str>,
        keeper: &LeaseKeeper,
    ) -> Result<AudienceBinding, Error> {
        let ports = self.setup_ports(keeper.view());
        let ready = ensure(&ports, &self.target(), known_id).await.map_err(|error| match error {
            ProvisionError::Problem(problem) => Error::Stopped { message: problem.to_string() },
            ProvisionError::Interrupted { .. } => Error::Interrupted,
            ProvisionError::Sink { source: convoke_core::SinkError::Quota(exhausted), .. } => {
                Error::WaitingForQuota { until: exhausted.until }
            }
            ProvisionError::Sink { source, .. } => Error::Sink(source),
            ProvisionError::State { source, .. } => Error::State(source),
            gave_up @ ProvisionError::GaveUp { .. } => Error::Unusable { message: gave_up.to_string() },
        })?;
        Ok(AudienceBinding { name: self.sync.spec.audience.name.clone(), ..ready })
    }

    /// The lease on the audience itself, if so far only its name was held.
    pub(crate) async fn lease_for(
        &self,
        binding: &AudienceBinding,
        held: &LeaseKeeper,
    ) -> Result<Option<LeaseKeeper>, Error> {
        let resource = audience_resource(&binding.key);
        if held.lease().resource == resource {
            return Ok(None);
        }
        LeaseKeeper::acquire(&self.services, &resource).await.map(Some)
    }

    pub(crate) async fn refuse_lost_lease(&self, keeper: &LeaseKeeper) -> Result<(), Error> {
        let resource = keeper.lease().resource;
        if keeper.view().remaining().is_zero() {
            return Err(StateError::LeaseLost { resource }.into());
        }
        Ok(())
    }

    pub(crate) async fn wait_until_quiet(&self, binding: &AudienceBinding) -> Result<(), Error> {
        let Some(until) = self.services.state.quiet_until(&binding.key).await? else {
            return Ok(());
        };
        let wait = until_quiet(&self.sync.destination.capabilities(), until, self.services.clock.now());
        if wait.is_zero() {
            return Ok(());
        }
        self.report(Event::WaitingForQuiet { until });
        self.unless_cancelled(self.services.clock.sleep(wait)).await
    }

    /// Keeps what the plan refused, with reasons, for `rejects list` and `export`.
    pub(crate) async fn note_invalid_records(&self, run: &RunRecord, manifest: &PlanManifest) -> Result<(), Error> {
        let Some(file) = manifest.files.iter().find(|file| file.content == PlanContent::Invalid) else {
            return Ok(());
        };
        let folder = self.services.folders.plan(manifest.id);
        let mut rejects = Vec::with_capacity(REJECTS_PER_WRITE);
        for invalid in read_invalid(&folder, file)? {
            let invalid = invalid?;
            rejects.push(RejectRecord {
                sync: manifest.sync.clone(),
                run: run.id,
                plan: manifest.id,
                at: self.services.clock.now(),
                stage: RejectStage::Invalid,
                key: invalid.key,
                content: None,
                origin: Some(invalid.origin),
                code: invalid.code,
                column: invalid.column,
                reason: invalid.reason,
                cells: invalid.cells,
            });
            if rejects.len() == REJECTS_PER_WRITE {
                self.services.state.add_rejects(&rejects).await?;
                rejects.clear();
            }
        }
        Ok(self.services.state.add_rejects(&rejects).await?)
    }

    /// Commits run, plan and checkpoint in one transaction, then lets the source move its files.
    async fn settle(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        counts: DeliveryCounts,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        let manifest = &plan.manifest;
        let state = outcome(manifest, &counts);
        run.state = state;
        name_window(run, manifest.window);
        run.ended_at = Some(self.services.clock.now());
        self.close_rejects(manifest, keeper).await?;
        Box::pin(self.note_enrichments(run.id, manifest, &counts, keeper)).await?;
        self.reached(Boundary::BeforeCheckpoint);
        let settlement = Settlement {
            run: run.clone(),
            plan: manifest.id,
            checkpoint: self.next_checkpoint(manifest, &counts).await?,
            window: manifest.window,
        };
        self.services.state.settle_run(&settlement, &keeper.lease()).await?;
        self.reached(Boundary::AfterCheckpoint);
        self.services.state.forget_entries(manifest.id).await?;
        if manifest.moves_checkpoint() {
            self.sync.source.acknowledge(&manifest.source.outcomes).await.map_err(|error| Error::Unusable {
                message: format!(
                    "delivery is done and recorded; only what was read could not be put away at the source: {}",
                    chain(&error)
                ),
            })?;
        }
        Box::pin(self.enrich(run, keeper)).await;
        Ok(state)
    }

    async fn ledger_version(&self) -> Result<u64, Error> {
        let Some(binding) = self.services.state.binding(&self.sync.spec.name).await? else { return Ok(0) };
        Ok(self.services.state.ledger(&binding.key).await?.map_or(0, |ledger| ledger.version))
    }

    /// Rows that were found removed and that the next plan creates again.
    fn to_restore(&self, counts: &DeliveryCounts) -> u64 {
        match self.sync.spec.removed_at_destination {
            RemovedRows::Respect => 0,
            RemovedRows::Restore => counts.updates.found_removed,
        }
    }

    async fn next_checkpoint(
        &self,
        manifest: &PlanManifest,
        counts: &DeliveryCounts,
    ) -> Result<Option<Checkpoint>, Error> {
        let Some(proposed) = manifest.source.proposed.clone().filter(|_| manifest.moves_checkpoint()) else {
            return Ok(None);
        };
        // It is the one that the plan was made from: settling compares the versions.
        let before = self.services.state.checkpoint(&manifest.sync).await?;
        // A broken part of what only adds is remembered as such; a snapshot has to be read again for its sake.
        let is_whole = manifest.source.complete || manifest.source.coverage == Coverage::Delta;
        let incomplete: u64 = Operation::ALL.iter().map(|operation| counts.of(*operation).incomplete).sum();
        Ok(Some(Checkpoint {
            version: manifest.basis.checkpoint_version,
            position: Some(proposed),
            config_hash: Some(self.settled_under(&manifest.basis.config_hash, manifest.created_at)),
            ledger_version: self.ledger_version().await?,
            counts: Some(manifest.counts),
            snapshot_records: snapshot_records(before.snapshot_records, manifest.source.coverage, &manifest.counts),
            clean: counts.rejected() + counts.cancelled() + incomplete + self.to_restore(counts) == 0 && is_whole,
        }))
    }
}

fn creates_in_doubt(count: u64, binding: &AudienceBinding) -> Error {
    Error::Unbalanced {
        message: format!(
            "{count} creates are in doubt and audience `{}` cannot be searched for them; look at the audience, then `convoke adopt` settles them",
            binding.name
        ),
    }
}

/// How a plan that was delivered to its end is called.
fn outcome(manifest: &PlanManifest, counts: &DeliveryCounts) -> RunState {
    let refused_here = manifest.counts.read > 0 && manifest.counts.invalid + manifest.counts.refused_before > 0;
    if counts.rejected() + counts.failed() + counts.cancelled() > 0 || refused_here || !manifest.source.complete {
        RunState::Partial
    } else {
        RunState::Succeeded
    }
}

/// Every change of the plan is settled. What does not add up is never called done.
pub(crate) fn check_changes(manifest: &PlanManifest, counts: &DeliveryCounts) -> Result<(), Error> {
    for operation in Operation::ALL {
        let (planned, settled) = (manifest.counts.of(operation), counts.of(operation).settled());
        if settled != planned {
            let name = operation.as_str();
            return Err(Error::Unbalanced {
                message: format!("plan {}: {planned} changes of kind {name}, {settled} settled", manifest.id),
            });
        }
    }
    Ok(())
}

fn check_ledger(ledger: &LedgerCounts) -> Result<(), Error> {
    if ledger.is_balanced() {
        return Ok(());
    }
    Err(Error::Unbalanced { message: format!("the ledger does not balance: {ledger:?}") })
}

/// Reads batches on a blocking thread, a few ahead of delivery. A reader that breaks off is an error: it must not look
/// like the end of the plan.
fn read_ahead<Batches>(batches: Batches) -> impl Stream<Item = Result<PlannedBatch, Error>> + Send
where
    Batches: Iterator<Item = Result<PlannedBatch, EngineError>> + Send + 'static,
{
    /// Enough to keep several requests in flight; at 500 rows a batch it is a few megabytes.
    const BATCHES_AHEAD: usize = 4;
    let (sender, receiver) = tokio::sync::mpsc::channel(BATCHES_AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        for batch in batches {
            if sender.blocking_send(batch).is_err() {
                return;
            }
        }
    });
    let read = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|batch| (batch.map_err(Error::from), receiver))
    });
    let broke_off = stream::once(reader).filter_map(|ended| async move {
        let message = "reading the plan's files broke off; see the log, and run the same command again".to_owned();
        ended.err().map(|_| Err(Error::Unusable { message }))
    });
    read.chain(broke_off)
}

/// Passes delivery's progress on as events.
struct Progress<'a> {
    pipeline: &'a Pipeline,
    settled: AtomicU64,
    total: u64,
}

impl DeliveryProgress for Progress<'_> {
    fn settled(&self, _operation: Operation, rows: u64) {
        let settled = self.settled.fetch_add(rows, Ordering::Relaxed) + rows;
        self.pipeline.report(Event::Delivering { settled, total: self.total });
    }

    fn waiting(&self, reason: &'static str, until: Timestamp) {
        tracing::debug!(reason, until = %until, "delivery waits");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_breaks_off_is_not_the_end_of_the_plan() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let breaks_off = std::iter::from_fn(|| panic!("the reader breaks off"));
        let read: Vec<_> = runtime.block_on(async { read_ahead(breaks_off).collect().await });
        assert!(matches!(read.as_slice(), [Err(Error::Unusable { .. })]), "{read:?}");
        let read: Vec<_> = runtime.block_on(async { read_ahead(std::iter::empty()).collect().await });
        assert!(read.is_empty(), "{read:?}");
    }
}
