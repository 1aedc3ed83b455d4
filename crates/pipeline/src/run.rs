//! The story of a run.

use std::collections::HashSet;
use std::sync::Arc;

use convoke_core::backfill::PlannedWindow;
use convoke_core::plan::PlanManifest;
use convoke_core::source::Selection;
use convoke_core::state::{PlanRecord, PlanState, RunRecord, RunState, audience_name_resource, audience_resource};
use convoke_core::{KeyHash, PlanId, RunId, SyncName};
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::Pipeline;
use crate::applying::Deletes;
use crate::error::{Error, chain};
use crate::lease::LeaseKeeper;
use crate::recovery::LOOK_BACK;

/// How often a run plans at most because others take what it has read. Each time there is less for it to read.
const TAKINGS: usize = 5;

/// How much a plan takes in.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// Read everything, also what is unchanged.
    pub full: bool,
    /// At most this many changes, no deletes; the checkpoint stays.
    pub limit: Option<u64>,
    /// Read this, beside the live position; the checkpoint stays.
    pub backfill: Option<Selection>,
    /// Which window of a backfill that is.
    pub window: Option<PlannedWindow>,
    /// The plan will not be applied: what is broken stays where it is.
    pub only_counted: bool,
    /// The plan waits to be applied: whoever does so asks then whether what was read can be put away.
    pub waits: bool,
    /// Refused records that are sent again whatever their age.
    pub resend: Option<Arc<HashSet<KeyHash>>>,
}

/// How a run ended: its record, the plan it was about, and the error that ended it early, if one did.
#[derive(Debug)]
pub struct Ended {
    pub run: RunRecord,
    /// The run that finished an interrupted plan first, if there was one.
    pub resumed: Option<RunRecord>,
    pub plan: Option<PlanRecord>,
    pub error: Option<Error>,
}

/// What became of what an interrupted run had left.
#[derive(Debug)]
pub enum Finished {
    /// It was gone on with, and ended like a run of its own: well, or early by an error.
    Ended(Ended),
    /// It can no longer go on: what it had not sent is cancelled, and to be planned anew.
    GivenUp(Ended),
}

impl Finished {
    /// The run that finished it or gave it up.
    pub fn into_ended(self) -> Ended {
        match self {
            Self::Ended(ended) | Self::GivenUp(ended) => ended,
        }
    }
}

impl Pipeline {
    /// Plans and applies; first finishes what an interrupted run left.
    pub async fn run(&self, extent: Extent) -> Result<Ended, Error> {
        let mut resumed = None;
        let ended = self.recorded_of(extent.window, async |run, keeper| {
            if extent.window.is_none() {
                self.stop_asking_for_room(&keeper.lease().resource).await;
            }
            self.refuse_unsafe_part(&extent).await?;
            Box::pin(self.run_leased(run, &mut resumed, &extent, keeper)).await
        });
        let ended = ended.await?;
        if extent.window.is_none()
            && let Some(error) = &ended.error
        {
            self.ask_for_room(error).await;
        }
        Ok(Ended { resumed, ..ended })
    }

    async fn run_leased(
        &self,
        run: &mut RunRecord,
        resumed: &mut Option<RunRecord>,
        extent: &Extent,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        Box::pin(self.recover(run.id, keeper)).await?;
        if let Some(plan) = self.leftover_plan(run.id, keeper).await?
            && let Some(state) = Box::pin(self.resume(run, &plan, keeper)).await?
        {
            // What the interrupted run saw is done; now for what the source says today.
            let next = self.continue_as_new(run).await?;
            *resumed = Some(RunRecord { state, ..std::mem::replace(run, next) });
        }
        if resumed.is_some() {
            // What was finished on the way may have been the first live run.
            self.refuse_unsafe_part(extent).await?;
        }
        self.refuse_settled_window(extent).await?;
        let plan = self.plan_and_take(run, extent, keeper).await?;
        let state = Box::pin(self.apply_plan(run, &plan, Deletes::Sent, keeper)).await?;
        // Nobody else is told what became of the plan that was finished on the way.
        let Some(resumed) = resumed else { return Ok(state) };
        run.message = Some(ending_of(resumed));
        Ok(if state == RunState::Succeeded { resumed.state } else { state })
    }

    async fn refuse_unsafe_part(&self, extent: &Extent) -> Result<(), Error> {
        match &extent.backfill {
            Some(selection) => self.refuse_unsafe_backfill(selection).await,
            None => Ok(()),
        }
    }

    /// Whoever had the audience until now may have settled the window, and none is read twice.
    async fn refuse_settled_window(&self, extent: &Extent) -> Result<(), Error> {
        let Some(window) = extent.window else { return Ok(()) };
        let backfill = self.services.state.backfill(window.backfill).await?;
        if backfill.is_none_or(|backfill| backfill.settled < window.number) {
            return Ok(());
        }
        let (number, name) = (window.number, &self.sync.spec.name);
        let message = format!(
            "window {number} of the backfill was settled meanwhile; `convoke backfill {name} --resume` goes on behind it"
        );
        Err(Error::Stopped { message })
    }

    /// Plans, and takes what the plan was made from. Where somebody else was faster, it plans with what is left.
    ///
    /// Boxed by its type: whoever awaits it need not look into a future this large.
    fn plan_and_take<'a>(
        &'a self,
        run: &'a mut RunRecord,
        extent: &'a Extent,
        keeper: &'a LeaseKeeper,
    ) -> BoxFuture<'a, Result<PlanRecord, Error>> {
        Box::pin(async move {
            let mut tries = 0;
            loop {
                let plan = Box::pin(self.compute_plan(run, extent, keeper)).await?;
                hold_for_approval(&plan, None)?;
                tries += 1;
                match self.take_source(&plan).await {
                    Err(error) if error.is_changed_source() && tries < TAKINGS => {
                        self.notice(format!("the source is read again: {}", chain(&error)));
                    }
                    taken => return taken.map(|()| plan),
                }
            }
        })
    }

    /// Takes what a plan was made from for this sync alone, before anything of it is sent.
    pub(crate) async fn take_source(&self, plan: &PlanRecord) -> Result<(), Error> {
        if !plan.manifest.moves_checkpoint() {
            return Ok(());
        }
        let splits: Vec<_> = plan.manifest.source.outcomes.iter().map(|outcome| outcome.split.clone()).collect();
        Ok(self.sync.source.claim(&splits).await?)
    }

    /// Finishes what an interrupted run left, and nothing else; none if there is nothing to finish.
    pub async fn finish(&self) -> Result<Option<Finished>, Error> {
        let name = &self.sync.spec.name;
        let plans = self.services.state.plans_in(name, PlanState::Applying).await?;
        let Some(newest) = plans.first() else { return Ok(None) };
        let mut is_given_up = false;
        let ended = self.recorded_of(newest.manifest.window, async |run, keeper| {
            Box::pin(self.recover(run.id, keeper)).await?;
            let state = match self.leftover_plan(run.id, keeper).await? {
                Some(plan) => Box::pin(self.resume(run, &plan, keeper)).await?,
                None => None,
            };
            is_given_up = state.is_none();
            state.ok_or_else(|| Error::Stopped {
                message: format!("the interrupted plan of `{name}` can no longer go on; the next run plans anew"),
            })
        });
        let ended = ended.await?;
        Ok(Some(if is_given_up { Finished::GivenUp(ended) } else { Finished::Ended(ended) }))
    }

    /// Plans and stops.
    pub async fn plan(&self, extent: Extent) -> Result<Ended, Error> {
        self.recorded(async |run, keeper| {
            Box::pin(self.recover(run.id, keeper)).await?;
            if let Some(leftover) = self.leftover_plan(run.id, keeper).await? {
                self.abandon_enriched(run.id, &leftover, "a new plan was asked for", keeper).await?;
            }
            let extent = Extent { waits: true, ..extent };
            let plan = Box::pin(self.compute_plan(run, &extent, keeper)).await?;
            hold_for_approval(&plan, None)?;
            Ok(RunState::Planned)
        })
        .await
    }

    /// Applies a plan that was computed before, or goes on with one that was interrupted.
    pub async fn apply(&self, id: PlanId, approval: Option<&str>) -> Result<Ended, Error> {
        // As with a lease that somebody else has, nothing is begun then, and nothing is recorded.
        if self.services.state.plan(id).await?.is_some_and(|plan| plan.state == PlanState::Settled) {
            return Err(already_applied(id));
        }
        self.recorded(async |run, keeper| Box::pin(self.apply_leased(run, id, approval, keeper)).await).await
    }

    async fn apply_leased(
        &self,
        run: &mut RunRecord,
        id: PlanId,
        approval: Option<&str>,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        Box::pin(self.recover(run.id, keeper)).await?;
        let plan = self.plan_to_apply(id).await?;
        refuse_other_approval(&plan, approval)?;
        run.plan = Some(id);
        run.counts = Some(plan.manifest.counts);
        match plan.state {
            PlanState::Applying => self.resume_or_abandon(run, &plan, keeper).await,
            PlanState::Waiting => {
                self.refuse_stale(&plan).await?;
                if plan.manifest.moves_checkpoint() {
                    self.refuse_unmovable(plan.manifest.source.outcomes.iter().map(|outcome| &outcome.split)).await?;
                }
                hold_for_approval(&plan, approval)?;
                self.take_source(&plan).await.map_err(|error| match error {
                    error if error.is_changed_source() => {
                        Error::Stopped { message: format!("plan {id} is stale: {}; plan again", chain(&error)) }
                    }
                    error => error,
                })?;
                Box::pin(self.apply_plan(run, &plan, Deletes::Sent, keeper)).await
            }
            PlanState::Settled => Err(already_applied(id)),
            PlanState::Superseded | PlanState::Abandoned => {
                let message = format!("plan {id} was {}; plan again", plan.state.as_str());
                Err(Error::Stopped { message })
            }
        }
    }

    async fn resume_or_abandon(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        keeper: &LeaseKeeper,
    ) -> Result<RunState, Error> {
        let id = plan.manifest.id;
        let leftover = self.leftover_plan(run.id, keeper).await?.filter(|leftover| leftover.manifest.id == id);
        let state = match leftover {
            Some(leftover) => Box::pin(self.resume(run, &leftover, keeper)).await?,
            None => None,
        };
        state.ok_or_else(|| Error::Stopped { message: format!("plan {id} can no longer go on; plan again") })
    }

    async fn plan_to_apply(&self, id: PlanId) -> Result<PlanRecord, Error> {
        let plan = self.services.state.plan(id).await?;
        let plan = plan.ok_or_else(|| Error::Request {
            message: format!("no plan {id}; `plan` prints the id of the one it makes"),
        })?;
        self.fetch_plan(id).await?;
        self.verify_manifest(&plan)?;
        Ok(plan)
    }

    /// Takes the right to write the audience, or its name while it does not exist.
    pub(crate) async fn take_lease(&self) -> Result<LeaseKeeper, Error> {
        self.take_lease_of(&self.sync.spec.name).await
    }

    /// [`Pipeline::take_lease`], of the audience that is bound to this name.
    pub(crate) async fn take_lease_of(&self, sync: &SyncName) -> Result<LeaseKeeper, Error> {
        loop {
            let resource = self.lease_resource(sync).await?;
            let keeper = LeaseKeeper::acquire(&self.services, &resource).await?;
            // Whoever held the name until now may have bound the sync to the audience.
            if self.lease_resource(sync).await? == resource {
                return Ok(keeper);
            }
            keeper.release().await;
        }
    }

    pub(crate) async fn lease_resource(&self, sync: &SyncName) -> Result<String, Error> {
        let audience = &self.sync.spec.audience;
        Ok(match self.services.state.binding(sync).await? {
            Some(binding) => audience_resource(&binding.key),
            None => audience_name_resource(&audience.connection, &audience.name),
        })
    }

    /// Takes the lease and surrounds `work` with a run record that tells how it ended, whichever way it did. Where
    /// somebody else has the lease nothing was begun, and nothing is recorded.
    pub(crate) async fn recorded<Work>(&self, work: Work) -> Result<Ended, Error>
    where
        Work: AsyncFnOnce(&mut RunRecord, &LeaseKeeper) -> Result<RunState, Error>,
    {
        self.recorded_of(None, work).await
    }

    /// [`Pipeline::recorded`], of a run that is about a window of a backfill as long as it has no plan to say so.
    async fn recorded_of<Work>(&self, window: Option<PlannedWindow>, work: Work) -> Result<Ended, Error>
    where
        Work: AsyncFnOnce(&mut RunRecord, &LeaseKeeper) -> Result<RunState, Error>,
    {
        let mut run = new_run(&self.sync.spec.name, self.services.clock.now());
        let keeper = match self.take_lease().await {
            Ok(keeper) => keeper,
            Err(error) => {
                let (state, message) = (error.run_state(), Some(chain(&error)));
                let run = RunRecord { state, message, ended_at: Some(self.services.clock.now()), ..run };
                return Ok(Ended { run, resumed: None, plan: None, error: Some(error) });
            }
        };
        let outcome = match self.services.state.start_run(&run).await {
            Ok(()) => work(&mut run, &keeper).await,
            Err(error) => Err(error.into()),
        };
        // Whoever takes the lease next finds this run ended.
        let ended = self.end_run(run, outcome, window).await;
        keeper.release().await;
        ended
    }

    async fn end_run(
        &self,
        mut run: RunRecord,
        outcome: Result<RunState, Error>,
        window: Option<PlannedWindow>,
    ) -> Result<Ended, Error> {
        let error = match outcome {
            Ok(state) => {
                run.state = state;
                None
            }
            Err(error) => {
                run.state = error.run_state();
                run.message = Some(chain(&error));
                Some(error)
            }
        };
        run.ended_at = Some(self.services.clock.now());
        let plan = self.plan_of(&run).await;
        name_window(&mut run, plan.as_ref().map_or(window, |plan| plan.manifest.window));
        if let Err(failure) = self.services.state.update_run(&run).await {
            tracing::error!(run = %run.id, error = %chain(&failure), "the end of the run could not be recorded");
            // The error that ended the run is the one to tell; without one, this is.
            if error.is_none() {
                return Err(failure.into());
            }
        }
        self.clean_up(run.id).await;
        Ok(Ended { run, resumed: None, plan, error })
    }

    async fn plan_of(&self, run: &RunRecord) -> Option<PlanRecord> {
        self.services.state.plan(run.plan?).await.unwrap_or(None)
    }

    /// Ends the record of a run that finished an older plan, and begins one for the plan to come.
    async fn continue_as_new(&self, finished: &RunRecord) -> Result<RunRecord, Error> {
        self.services.folders.remove("spool", &finished.id.to_string());
        let run = new_run(&self.sync.spec.name, self.services.clock.now());
        self.services.state.start_run(&run).await?;
        Ok(run)
    }

    /// Runs that say they are going on although this process holds the lease: their process died.
    pub(crate) async fn close_dead_runs(&self, own: RunId) -> Result<(), Error> {
        for mut run in self.services.state.runs(Some(&self.sync.spec.name), LOOK_BACK).await? {
            if run.state == RunState::Running && run.id != own {
                run.state = RunState::Interrupted;
                run.ended_at = Some(self.services.clock.now());
                run.message = Some("its process ended without a word; what it left was settled".to_owned());
                let plan = self.plan_of(&run).await;
                name_window(&mut run, plan.and_then(|plan| plan.manifest.window));
                self.services.state.update_run(&run).await?;
                self.services.folders.remove("spool", &run.id.to_string());
            }
        }
        Ok(())
    }
}

/// Tells in a run's record which window of a backfill it was about, once, whatever else there is to tell.
pub(crate) fn name_window(run: &mut RunRecord, window: Option<PlannedWindow>) {
    let Some(told) = window.and_then(window_told) else { return };
    run.message = match run.message.take() {
        Some(message) if message.starts_with(&told) => Some(message),
        Some(message) => Some(format!("{told}; {message}")),
        None => Some(told),
    };
}

/// Which window of a backfill a run was about, where there are several.
fn window_told(window: PlannedWindow) -> Option<String> {
    let PlannedWindow { number, of, .. } = window;
    (of > 1).then(|| format!("window {number} of {of} of a backfill"))
}

/// What the next run tells of one that finished an interrupted plan.
fn ending_of(run: &RunRecord) -> String {
    let id = run.id;
    let but = match run.delivery {
        Some(delivery) if delivery.cancelled() > 0 => ", but for deletes that the source did not confirm",
        _ if run.state == RunState::Partial => " and refused records",
        _ => "",
    };
    format!("run {id} finished the interrupted plan first{but}; `convoke show {id}` tells what it sent")
}

fn new_run(sync: &SyncName, started_at: convoke_core::Timestamp) -> RunRecord {
    RunRecord {
        id: RunId(Uuid::now_v7()),
        sync: sync.clone(),
        started_at,
        ended_at: None,
        state: RunState::Running,
        plan: None,
        message: None,
        counts: None,
        delivery: None,
        ledger: None,
        enrichment: None,
    }
}

fn already_applied(id: PlanId) -> Error {
    Error::Request { message: format!("plan {id} is already applied") }
}

/// Lets a plan pass that no guard holds, or that is approved by its hash.
pub(crate) fn hold_for_approval(plan: &PlanRecord, approval: Option<&str>) -> Result<(), Error> {
    let PlanManifest { id, guard_hits, .. } = &plan.manifest;
    if guard_hits.is_empty() {
        return Ok(());
    }
    let messages: Vec<_> = guard_hits.iter().map(|hit| format!("{}: {}", hit.guard, hit.message)).collect();
    let messages = messages.join("; ");
    if guard_hits.iter().any(|hit| !hit.approvable) {
        return Err(Error::Stopped { message: format!("nothing of plan {id} was sent: {messages}") });
    }
    refuse_other_approval(plan, approval)?;
    if approval.is_some() {
        return Ok(());
    }
    Err(Error::Stopped {
        message: format!(
            "nothing of plan {id} was sent: {messages}. If that is right, `apply {id} --approve {}` lets it through",
            &plan.hash[..SHORTEST_APPROVAL.max(12)]
        ),
    })
}

/// An approval that names another plan stops even a plan that needs none: whoever gave it meant something else.
pub(crate) fn refuse_other_approval(plan: &PlanRecord, approval: Option<&str>) -> Result<(), Error> {
    if approval.is_none_or(|approval| approves(approval, &plan.hash)) {
        return Ok(());
    }
    // The hash itself stays untold: whoever approves a plan has looked at it.
    let id = plan.manifest.id;
    Err(Error::Stopped {
        message: format!(
            "nothing was sent: the approval is for another plan than {id}; `convoke show {id}` shows this one"
        ),
    })
}

/// Digits of a hash that an approval must give at least.
pub const SHORTEST_APPROVAL: usize = 8;

/// Whether an approval names the plan with this hash, by enough of its digits.
pub fn approves(approval: &str, hash: &str) -> bool {
    approval.len() >= SHORTEST_APPROVAL && hash.starts_with(&approval.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use convoke_core::Timestamp;
    use convoke_core::ids::BackfillId;

    use super::*;

    #[test]
    fn a_window_is_named_once_before_whatever_else_there_is_to_tell() {
        let window = |of| Some(PlannedWindow { backfill: BackfillId(Uuid::now_v7()), number: 3, of });
        let told = |message: Option<&str>, window| {
            let message = message.map(str::to_owned);
            let mut run = RunRecord { message, ..new_run(&SyncName::new("people"), Timestamp(0)) };
            name_window(&mut run, window);
            name_window(&mut run, window);
            run.message
        };
        assert_eq!(told(None, window(40)).as_deref(), Some("window 3 of 40 of a backfill"));
        assert_eq!(told(Some("stopped"), window(40)).as_deref(), Some("window 3 of 40 of a backfill; stopped"));
        assert_eq!(told(Some("stopped"), window(1)).as_deref(), Some("stopped"), "there is but one");
        assert_eq!(told(None, None), None);
    }

    #[test]
    fn an_approval_must_name_this_plan_by_enough_digits() {
        let hash = "0123456789abcdef";
        assert!(approves("01234567", hash));
        assert!(approves("0123456789ABCDEF", hash));
        assert!(!approves("0123456", hash), "too short to mean anything");
        assert!(!approves("11234567", hash));
    }
}
