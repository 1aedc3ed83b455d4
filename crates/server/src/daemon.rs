//! The loop.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::state::{Leases, Schedules};
use convoke_core::{Clock, StateError, SyncName, Timestamp};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::agenda::{Agenda, Moment, Setback, Step, StepEnd, Then};
use crate::facts::Facts;
use crate::figures::Figures;
use crate::jobs::Jobs;
use crate::scheduled::Scheduled;
use crate::status::{Status, StoreChange};
use crate::surface::Surface;
use crate::turn::{Blind, Errand, Turns};
use crate::watched_store::WatchedStore;

pub use crate::turn::Settings;

/// The loop moves at least this often: a jump of the wall clock is noticed by then.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often the store is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// A probe that takes longer tells that the store does not answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often unfinished plans are asked about: what a daemon left that died is found then.
const UNFINISHED_EVERY: Duration = Duration::from_secs(60);

/// What the daemon works with.
#[derive(Clone)]
pub struct Ports {
    pub leases: Arc<dyn Leases>,
    pub schedules: Arc<dyn Schedules>,
    pub jobs: Arc<dyn Jobs>,
    pub facts: Arc<dyn Facts>,
    pub clock: Arc<dyn Clock>,
}

/// Runs syncs when they are due.
pub struct Daemon {
    syncs: Vec<Scheduled>,
    turns: Turns,
    status: Arc<Status>,
    surface: Arc<Surface>,
}

/// How the daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Syncs whose run had not ended when the time to drain was over. The run was dropped where it stood; the next
    /// daemon settles what it left, and goes on.
    pub cut_off: Vec<SyncName>,
}

/// Something that came to its end.
enum Event {
    Step(Step, StepEnd),
    Unfinished(Result<Vec<SyncName>, StateError>),
    Probed,
}

type Errands<'a> = FuturesUnordered<BoxFuture<'a, Event>>;

impl Daemon {
    /// A daemon for these syncs, each named once; cancelling `drain` ends it in order.
    pub fn new(ports: Ports, syncs: Vec<Scheduled>, settings: Settings, drain: CancellationToken) -> Self {
        let Ports { leases, schedules, jobs, facts, clock } = ports;
        let names: Vec<_> = syncs.iter().map(|scheduled| scheduled.sync.clone()).collect();
        let figures = Arc::new(Figures::new(&names));
        let status = Arc::new(Status::new(Arc::clone(&clock), drain.clone()));
        let store = WatchedStore { leases, schedules, status: Arc::clone(&status), figures: Arc::clone(&figures) };
        let surface = Surface::new(Arc::clone(&status), Arc::clone(&figures), facts, names, Arc::clone(&clock));
        let turns = Turns { store, jobs, clock, figures, settings, drain, blind: Blind::default() };
        Self { syncs, turns, status, surface: Arc::new(surface) }
    }

    /// What the endpoint tells about this daemon.
    pub fn surface(&self) -> Arc<Surface> {
        Arc::clone(&self.surface)
    }

    /// Runs syncs until the daemon is drained and its runs have ended.
    pub async fn run(&self) -> Drained {
        tracing::info!(syncs = self.syncs.len(), holder = self.turns.settings.holder, "the scheduler begins");
        let mut agenda = Agenda::new(&self.syncs, self.turns.settings.lease_ttl);
        let mut errands = Errands::new();
        errands.push(Box::pin(self.probe(Duration::ZERO)));
        errands.push(Box::pin(self.ask_unfinished(Duration::ZERO)));
        let mut changes = self.turns.jobs.changes();
        let (mut watching_since, mut last_look) = (self.turns.clock.now(), self.turns.clock.now());
        while !self.turns.drain.is_cancelled() {
            let moment = self.move_on();
            if moment.now.since(last_look) > self.turns.settings.grace {
                watching_since = moment.now;
            }
            last_look = moment.now;
            while let Some(step) = agenda.begin_next(moment, self.turns.settings.concurrency.get()) {
                errands.push(self.begin(step, &agenda, watching_since));
            }
            self.show(&agenda, moment.now);
            tokio::select! {
                biased;
                () = self.turns.drain.cancelled() => {}
                Some(event) = errands.next() => self.conclude(event, &mut agenda, &errands),
                Some(sync) = changes.next() => agenda.wake(&sync, self.turns.clock.elapsed()),
                () = self.turns.clock.sleep(agenda.pause(moment, LONGEST_PAUSE)) => {}
            }
        }
        self.drain(agenda, errands).await
    }

    /// Waits for the runs that are under way; their tokens are cancelled.
    async fn drain<'a>(&'a self, mut agenda: Agenda<'a>, mut errands: Errands<'a>) -> Drained {
        let deadline = self.turns.clock.elapsed() + self.turns.settings.drain_timeout;
        tracing::info!(runs = agenda.turns_under_way(), "draining");
        while agenda.turns_under_way() > 0 {
            let moment = self.move_on();
            let left = deadline.saturating_sub(moment.elapsed);
            if left.is_zero() {
                break;
            }
            self.show(&agenda, moment.now);
            tokio::select! {
                biased;
                Some(event) = errands.next() => self.conclude(event, &mut agenda, &errands),
                () = self.turns.clock.sleep(left.min(LONGEST_PAUSE)) => {}
            }
        }
        let cut_off = agenda.turns();
        for sync in &cut_off {
            tracing::error!(%sync, "the run did not end in time and is cut off; the next one settles what it left");
        }
        tracing::info!(cut_off = cut_off.len(), "drained");
        Drained { cut_off }
    }

    /// Tells that the loop moves, and when it does.
    fn move_on(&self) -> Moment {
        self.status.beat();
        Moment { now: self.turns.clock.now(), elapsed: self.turns.clock.elapsed() }
    }

    fn show(&self, agenda: &Agenda<'_>, now: Timestamp) {
        agenda.standings(now).for_each(|standing| self.turns.figures.show(standing));
    }

    fn begin<'a>(&'a self, step: Step, agenda: &Agenda<'_>, watching_since: Timestamp) -> BoxFuture<'a, Event> {
        let scheduled = &self.syncs[step.index()];
        let (is_unfinished, has_arrived) = (agenda.is_unfinished(step.index()), agenda.has_arrived(step.index()));
        let errand = Errand { is_unfinished, has_arrived, watching_since };
        Box::pin(async move {
            let end = match step {
                Step::Look(_) => self.turns.look(scheduled).await,
                Step::Scan(_) => self.turns.scan(scheduled).await,
                Step::Turn(_) => self.turns.take(scheduled, errand).await,
            };
            Event::Step(step, end)
        })
    }

    fn conclude<'a>(&'a self, event: Event, agenda: &mut Agenda<'_>, errands: &Errands<'a>) {
        match event {
            Event::Step(step, end) => {
                let moment = Moment { now: self.turns.clock.now(), elapsed: self.turns.clock.elapsed() };
                let is_first = agenda.end(step, end, moment);
                if is_first {
                    tell(&self.syncs[step.index()].sync, end.then);
                }
            }
            Event::Unfinished(answer) => {
                if let Ok(syncs) = answer {
                    agenda.unfinished(&syncs, self.turns.clock.now());
                }
                errands.push(Box::pin(self.ask_unfinished(UNFINISHED_EVERY)));
            }
            Event::Probed => errands.push(Box::pin(self.probe(PROBE_EVERY))),
        }
    }

    async fn ask_unfinished(&self, after: Duration) -> Event {
        self.turns.clock.sleep(after).await;
        Event::Unfinished(self.turns.store.note(self.turns.jobs.unfinished().await))
    }

    async fn probe(&self, after: Duration) -> Event {
        self.turns.clock.sleep(after).await;
        tokio::select! {
            biased;
            // Whatever it says is noted on the way; nobody holds this one.
            _ = self.turns.store.holder("probe") => {}
            () = self.turns.clock.sleep(PROBE_TIMEOUT) => {
                if self.status.note_store(false) == StoreChange::WentDown {
                    tracing::error!("the checkpoint store does not answer");
                }
            }
        }
        Event::Probed
    }
}

/// Tells what stands in the way of a sync; said once until a run went through.
fn tell(sync: &SyncName, then: Then) {
    match then {
        Then::Soon(Setback::AudienceBusy) => {
            tracing::warn!(%sync, "somebody else writes the audience; the run waits for its turn");
        }
        Then::At(retry_at) => tracing::info!(%sync, retry_at = %retry_at, "waiting for quota"),
        Then::Elsewhere(until) => tracing::debug!(%sync, until = %until, "another daemon has the turn"),
        Then::Soon(Setback::Interrupted | Setback::LeaseLost | Setback::StoreDown) | Then::Ran | Then::Idle => {}
    }
}
