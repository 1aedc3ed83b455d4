//! One turn of a sync: lease, mark, run, mark.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use convoke_core::source::Arrivals;
use convoke_core::state::{Lease, Leases, RunRecord, RunState, ScheduleMark, Schedules, schedule_resource};
use convoke_core::{Clock, StateError, SyncName, Timestamp};
use convoke_schedule::Due;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::agenda::{Arrival, Setback, StepEnd, Then};
use crate::figures::Figures;
use crate::jobs::{JobEnd, Jobs, Task};
use crate::lease::Hold;
use crate::scheduled::{Scheduled, Times};
use crate::watch::{Sight, Trial};
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
    pub(crate) blind: Blind,
}

/// Syncs of which it cannot be seen at present whether something has come: each is told once, and once again when it can.
#[derive(Debug, Default)]
pub(crate) struct Blind(Mutex<HashSet<SyncName>>);

impl Blind {
    /// Takes note of a look; true if the one before had ended otherwise.
    fn turns(&self, sync: &SyncName, sees: bool) -> bool {
        let mut blind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sees { blind.remove(sync) } else { blind.insert(sync.clone()) }
    }
}

/// What a turn is about besides the times that have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand {
    /// Whether a plan is to be finished, also if no time has come.
    pub(crate) is_unfinished: bool,
    /// Whether something has come to the source.
    pub(crate) has_arrived: bool,
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
        let Some(times) = &scheduled.times else { return StepEnd::of(None, Then::Idle) };
        match self.store.schedule_mark(&scheduled.sync).await {
            Ok(Some(mark)) if mark.schedule == times.words => {
                return StepEnd::of(Some(mark.served_to), Then::Idle);
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
            Ok(served_to) => StepEnd::of(Some(served_to), Then::Idle),
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
        let Some(times) = &held.scheduled.times else { return self.attend(held, None).await };
        // Another daemon may have served it since this one looked.
        let served_to = match self.served_to(sync, times, held.lease).await {
            Ok(served_to) => served_to,
            Err(error) => return met(&error),
        };
        match times.schedule.due(served_to, self.clock.now(), &times.jitter) {
            None => self.attend(held, Some(served_to)).await,
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
            then => StepEnd::of(Some(served_to), then),
        }
    }

    /// Does what is to be done although no time has come.
    async fn attend(&self, held: &Held<'_>, served_to: Option<Timestamp>) -> StepEnd {
        if held.errand.has_arrived {
            return self.run_arrived(held, served_to).await;
        }
        self.finish(held, served_to).await
    }

    /// Runs what has come to the source, if it still is there: another daemon may have had the turn meanwhile. The run
    /// goes on first with a plan that was interrupted.
    async fn run_arrived(&self, held: &Held<'_>, served_to: Option<Timestamp>) -> StepEnd {
        let sync = &held.scheduled.sync;
        let Some(Sight { mark: Some(mark), count, .. }) = self.sight(sync).await else {
            return StepEnd { arrival: Some(Arrival::Over), ..StepEnd::of(served_to, Then::Idle) };
        };
        tracing::info!(%sync, count, "something has come");
        self.figures.arrival_run(sync);
        let end = self.run_job(held, Task::Run).await;
        let then = end.as_ref().map_or(Then::Soon(Setback::Interrupted), |end| self.follows(end));
        let failed = end.is_none_or(|end| may_pass(&end));
        let arrival = (then == Then::Ran).then_some(Arrival::Tried(Trial { mark, failed }));
        StepEnd { arrival, ..StepEnd::of(served_to, then) }
    }

    /// Looks whether something has come.
    pub(crate) async fn scan(&self, scheduled: &Scheduled) -> StepEnd {
        let sight = self.sight(&scheduled.sync).await;
        StepEnd { arrival: Some(Arrival::Seen(sight)), ..StepEnd::of(None, Then::Idle) }
    }

    /// What has come; none if that cannot be seen.
    async fn sight(&self, sync: &SyncName) -> Option<Sight> {
        match self.jobs.arrivals(sync).await {
            Ok(arrivals) => {
                if self.blind.turns(sync, true) {
                    tracing::info!(%sync, "it can be seen again whether something has come");
                }
                let Arrivals { mark, count, settling } = arrivals.unwrap_or_default();
                Some(Sight { mark: mark.map(|mark| number_of(&mark)), count, settling })
            }
            Err(message) => {
                self.figures.arrival_look_failed(sync);
                // Nobody else tells it where nothing but an arrival makes a run; told at each look it would fill the log.
                if self.blind.turns(sync, false) {
                    tracing::warn!(%sync, reason = message, "it cannot be seen whether something has come; until it can, no arrival is run");
                } else {
                    tracing::debug!(%sync, reason = message, "it still cannot be seen whether something has come");
                }
                None
            }
        }
    }

    /// Goes on with an unfinished plan, if there still is one.
    async fn finish(&self, held: &Held<'_>, served_to: Option<Timestamp>) -> StepEnd {
        let sync = &held.scheduled.sync;
        if !held.errand.is_unfinished {
            return StepEnd::of(served_to, Then::Idle);
        }
        match self.store.note(self.jobs.unfinished().await) {
            Ok(unfinished) if unfinished.contains(sync) => {
                tracing::info!(%sync, "an interrupted plan goes on");
                StepEnd::of(served_to, self.run(held, Task::Finish).await)
            }
            Ok(_) => StepEnd::of(served_to, Then::Idle),
            Err(error) => met(&error),
        }
    }

    async fn run(&self, held: &Held<'_>, task: Task) -> Then {
        let end = self.run_job(held, task).await;
        end.map_or(Then::Soon(Setback::Interrupted), |end| self.follows(&end))
    }

    /// None: the daemon drains, and nothing was begun.
    async fn run_job(&self, held: &Held<'_>, task: Task) -> Option<JobEnd> {
        let sync = &held.scheduled.sync;
        if held.cancel.is_cancelled() {
            return None;
        }
        self.figures.run_began(sync);
        let job = AssertUnwindSafe(self.jobs.run(sync, task, held.cancel.clone())).catch_unwind();
        let end = job.await.unwrap_or_else(|_| JobEnd::Failed {
            message: "the run panicked, which is a bug; standard error tells where".to_owned(),
        });
        self.figures.job_ended(sync, &end);
        tell(sync, &end);
        Some(end)
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
                Ok(()) => return StepEnd::of(Some(served_to), then),
                Err(StateError::LeaseLost { .. }) => break,
                Err(_) => self.clock.sleep(MARK_RETRY).await,
            }
        }
        StepEnd::of(None, Then::Soon(Setback::LeaseLost))
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

/// Whether a run that ended by itself may end otherwise without anybody's doing. What a guard has stopped waits for a
/// person, or for something new.
fn may_pass(end: &JobEnd) -> bool {
    match end {
        JobEnd::Failed { .. } => true,
        JobEnd::Ran(ran) => matches!(ran.run.state, RunState::Failed | RunState::Unbalanced),
        JobEnd::Busy { .. } | JobEnd::Nothing => false,
    }
}

/// Stands for a mark: it is only ever compared within one process.
fn number_of(mark: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    mark.hash(&mut hasher);
    hasher.finish()
}

/// What follows from an error of the store.
fn met(error: &StateError) -> StepEnd {
    let then = match error {
        StateError::Busy { expires_at, .. } => Then::Elsewhere(*expires_at),
        StateError::LeaseLost { .. } => Then::Soon(Setback::LeaseLost),
        _ => Then::Soon(Setback::StoreDown),
    };
    StepEnd::of(None, then)
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
