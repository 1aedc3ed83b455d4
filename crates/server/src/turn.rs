//! One turn of a sync: lease, mark, run, mark.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::state::{Lease, Leases, RunRecord, RunState, ScheduleMark, Schedules, schedule_resource};
use convoke_core::{Clock, StateError, SyncName, Timestamp};
use convoke_schedule::Due;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::agenda::{Setback, StepEnd, Then};
use crate::figures::Figures;
use crate::jobs::{JobEnd, Jobs, Task};
use crate::lease::Hold;
use crate::scheduled::{Scheduled, Times};
use crate::watched_store::WatchedStore;

/// How long after a try to write the mark the next one comes.
const MARK_RETRY: Duration = Duration::from_secs(1);

/// When a run that waits for quota goes on if nobody knows.
const QUOTA_WAIT: Duration = Duration::from_secs(60);

/// How the daemon works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names this process in leases: host and process id.
    pub holder: String,
    /// Runs at a time.
    pub concurrency: NonZeroUsize,
    /// A turn whose holder died is free after this.
    pub lease_ttl: Duration,
    /// How long runs may take to end once they are asked to.
    pub drain_timeout: Duration,
    /// A sync without catch-up lets go of a time that was missed by more than this while no daemon was looking.
    pub grace: Duration,
}

/// Takes turns.
pub(crate) struct Turns {
    pub(crate) store: WatchedStore,
    pub(crate) jobs: Arc<dyn Jobs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) settings: Settings,
    pub(crate) drain: CancellationToken,
}

/// What a turn is about besides the times that have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand {
    /// Whether a plan is to be finished, also if no time has come.
    pub(crate) is_unfinished: bool,
    /// Since when this daemon has looked at the clock without a break.
    pub(crate) watching_since: Timestamp,
}

/// A turn that is held.
struct Held<'a> {
    scheduled: &'a Scheduled,
    errand: Errand,
    lease: &'a Lease,
    /// Cancelled if the lease is lost.
    lost: CancellationToken,
    /// Cancelled if the lease is lost or the daemon drains.
    cancel: CancellationToken,
}

impl Turns {
    /// Learns how far a sync is served; one that never was begins now.
    pub(crate) async fn look(&self, scheduled: &Scheduled) -> StepEnd {
        let Some(times) = &scheduled.times else { return StepEnd { served_to: None, then: Then::Idle } };
        match self.store.schedule_mark(&scheduled.sync).await {
            Ok(Some(mark)) if mark.schedule == times.words => {
                return StepEnd { served_to: Some(mark.served_to), then: Then::Idle };
            }
            Ok(_) => {}
            Err(error) => return met(&error),
        }
        let lease = match self.acquire(&scheduled.sync).await {
            Ok(lease) => lease,
            Err(error) => return met(&error),
        };
        let begun = self.served_to(&scheduled.sync, times, &lease).await;
        self.release(&lease).await;
        match begun {
            Ok(served_to) => StepEnd { served_to: Some(served_to), then: Then::Idle },
            Err(error) => met(&error),
        }
    }

    /// Takes the turn of a sync and does what is to be done in it.
    pub(crate) async fn take(&self, scheduled: &Scheduled, errand: Errand) -> StepEnd {
        let asked_at = self.clock.elapsed();
        let lease = match self.acquire(&scheduled.sync).await {
            Ok(lease) => lease,
            Err(error) => return met(&error),
        };
        let (lost, cancel) = (CancellationToken::new(), self.drain.child_token());
        let held = Held { scheduled, errand, lease: &lease, lost: lost.clone(), cancel: cancel.clone() };
        let (leases, clock, ttl) = (&self.store, self.clock.as_ref(), self.settings.lease_ttl);
        let hold = Hold { leases, clock, lease: &lease, ttl, asked_at };
        let on_loss = || {
            tracing::error!(sync = %scheduled.sync, "the lease of the turn was lost; the run is stopped");
            self.figures.lease_lost();
            lost.cancel();
            cancel.cancel();
        };
        let end = hold.during(self.serve(&held), on_loss).await;
        if lost.is_cancelled() {
            return StepEnd { then: Then::Soon(Setback::LeaseLost), ..end };
        }
        self.release(&lease).await;
        end
    }

    async fn serve(&self, held: &Held<'_>) -> StepEnd {
        let sync = &held.scheduled.sync;
        let Some(times) = &held.scheduled.times else { return self.finish(held, None).await };
        // Another daemon may have served it since this one looked.
        let served_to = match self.served_to(sync, times, held.lease).await {
            Ok(served_to) => served_to,
            Err(error) => return met(&error),
        };
        match times.schedule.due(served_to, self.clock.now(), &times.jitter) {
            None => self.finish(held, Some(served_to)).await,
            Some(due) if self.is_let_go(times, &due, held.errand) => {
                tracing::info!(%sync, due_at = %due.latest.at, skipped = due.earlier + 1, "missed times are let go");
                self.figures.times_skipped(sync, due.earlier + 1);
                self.move_mark(held, times, due.latest.at, Then::Idle).await
            }
            Some(due) => self.run_due(held, times, served_to, &due).await,
        }
    }

    async fn run_due(&self, held: &Held<'_>, times: &Times, served_to: Timestamp, due: &Due) -> StepEnd {
        let sync = &held.scheduled.sync;
        let late = self.clock.now().since(due.starts_at);
        tracing::info!(%sync, due_at = %due.latest.at, late_seconds = late.as_secs(), skipped = due.earlier, "due");
        match self.run(held, Task::Run).await {
            Then::Ran => {
                self.figures.times_skipped(sync, due.earlier);
                self.move_mark(held, times, due.latest.at, Then::Ran).await
            }
            then => StepEnd { served_to: Some(served_to), then },
        }
    }

    /// Goes on with an unfinished plan, if there still is one.
    async fn finish(&self, held: &Held<'_>, served_to: Option<Timestamp>) -> StepEnd {
        let sync = &held.scheduled.sync;
        if !held.errand.is_unfinished {
            return StepEnd { served_to, then: Then::Idle };
        }
        match self.store.note(self.jobs.unfinished().await) {
            Ok(unfinished) if unfinished.contains(sync) => {
                tracing::info!(%sync, "an interrupted plan goes on");
                StepEnd { served_to, then: self.run(held, Task::Finish).await }
            }
            Ok(_) => StepEnd { served_to, then: Then::Idle },
            Err(error) => met(&error),
        }
    }

    async fn run(&self, held: &Held<'_>, task: Task) -> Then {
        let sync = &held.scheduled.sync;
        if held.cancel.is_cancelled() {
            return Then::Soon(Setback::Interrupted);
        }
        self.figures.run_began(sync);
        let job = AssertUnwindSafe(self.jobs.run(sync, task, held.cancel.clone())).catch_unwind();
        let end = job.await.unwrap_or_else(|_| JobEnd::Failed {
            message: "the run panicked, which is a bug; standard error tells where".to_owned(),
        });
        self.figures.job_ended(sync, &end);
        tell(sync, &end);
        self.follows(&end)
    }

    fn follows(&self, end: &JobEnd) -> Then {
        match end {
            JobEnd::Busy { .. } => Then::Soon(Setback::AudienceBusy),
            JobEnd::Failed { .. } | JobEnd::Nothing => Then::Ran,
            JobEnd::Ran(ran) => match ran.run.state {
                RunState::WaitingForQuota => {
                    Then::At(ran.retry_at.unwrap_or_else(|| self.clock.now().after(QUOTA_WAIT)))
                }
                RunState::Interrupted => Then::Soon(Setback::Interrupted),
                RunState::Running
                | RunState::Planned
                | RunState::Succeeded
                | RunState::Partial
                | RunState::Failed
                | RunState::Stopped
                | RunState::Unbalanced => Then::Ran,
            },
        }
    }

    /// Writes the mark, as often as it takes while the lease is held: without it the turn would be taken once more.
    async fn move_mark(&self, held: &Held<'_>, times: &Times, served_to: Timestamp, then: Then) -> StepEnd {
        let mark = ScheduleMark { schedule: times.words.clone(), served_to };
        while !held.lost.is_cancelled() {
            match self.store.set_schedule_mark(&held.scheduled.sync, &mark, held.lease).await {
                Ok(()) => return StepEnd { served_to: Some(served_to), then },
                Err(StateError::LeaseLost { .. }) => break,
                Err(_) => self.clock.sleep(MARK_RETRY).await,
            }
        }
        StepEnd { served_to: None, then: Then::Soon(Setback::LeaseLost) }
    }

    /// How far the sync is served; without a mark, or under another schedule's, it begins now.
    async fn served_to(&self, sync: &SyncName, times: &Times, lease: &Lease) -> Result<Timestamp, StateError> {
        match self.store.schedule_mark(sync).await? {
            Some(mark) if mark.schedule == times.words => Ok(mark.served_to),
            _ => {
                let served_to = self.clock.now();
                let mark = ScheduleMark { schedule: times.words.clone(), served_to };
                self.store.set_schedule_mark(sync, &mark, lease).await?;
                tracing::info!(%sync, schedule = times.words, "the schedule begins");
                Ok(served_to)
            }
        }
    }

    fn is_let_go(&self, times: &Times, due: &Due, errand: Errand) -> bool {
        !times.catch_up && due.starts_at.after(self.settings.grace) < errand.watching_since
    }

    async fn acquire(&self, sync: &SyncName) -> Result<Lease, StateError> {
        self.store.acquire(&schedule_resource(sync), &self.settings.holder, self.settings.lease_ttl).await
    }

    /// Gives the turn back. Failing to is no harm: it expires.
    async fn release(&self, lease: &Lease) {
        if self.store.release(lease).await.is_err() {
            tracing::debug!(resource = lease.resource, "the lease could not be released and will expire");
        }
    }
}

/// What follows from an error of the store.
fn met(error: &StateError) -> StepEnd {
    let then = match error {
        StateError::Busy { expires_at, .. } => Then::Elsewhere(*expires_at),
        StateError::LeaseLost { .. } => Then::Soon(Setback::LeaseLost),
        _ => Then::Soon(Setback::StoreDown),
    };
    StepEnd { served_to: None, then }
}

fn tell(sync: &SyncName, end: &JobEnd) {
    match end {
        JobEnd::Ran(ran) => tell_run(sync, &ran.run),
        // Said louder where it is known that it is the first time.
        JobEnd::Busy { message } => tracing::debug!(%sync, message, "the audience is held"),
        JobEnd::Nothing => tracing::debug!(%sync, "nothing was left to finish"),
        JobEnd::Failed { message } => tracing::error!(%sync, message, "no run came about"),
    }
}

fn tell_run(sync: &SyncName, run: &RunRecord) {
    let seconds = run.ended_at.map_or(0, |ended_at| ended_at.since(run.started_at).as_secs());
    let changes = run.counts.map_or(0, |counts| counts.changes());
    let (in_part, rejected) = run.delivery.map_or((0, 0), |delivery| (delivery.failed(), delivery.rejected()));
    let (id, state, message) = (run.id, run.state.as_str(), run.message.as_deref());
    match run.state {
        RunState::Failed | RunState::Unbalanced => {
            tracing::error!(%sync, run = %id, state, seconds, changes, in_part, rejected, message, "run ended");
        }
        RunState::Partial | RunState::Stopped => {
            tracing::warn!(%sync, run = %id, state, seconds, changes, in_part, rejected, message, "run ended");
        }
        _ => tracing::info!(%sync, run = %id, state, seconds, changes, in_part, rejected, message, "run ended"),
    }
}
