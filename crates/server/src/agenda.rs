//! What the loop does next: pure decisions over what it knows of each sync.
//!
//! The store decides whether a time is still to be served; the agenda only knows when asking is worth while.

use std::time::Duration;

use convoke_core::{SyncName, Timestamp};

use crate::scheduled::Scheduled;
use crate::watch::{Sight, Trial, Watch};

/// The first wait after something that stands in the way; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Everything the loop looks after.
pub(crate) struct Agenda<'a> {
    entries: Vec<Entry<'a>>,
    /// No wait is longer, but for quota: a holder that died is gone after one lease.
    longest_wait: Duration,
}

/// One sync.
struct Entry<'a> {
    scheduled: &'a Scheduled,
    under_way: Option<Step>,
    /// As last seen in the store; none until looked at.
    served_to: Option<Timestamp>,
    /// When the first time after that starts.
    starts_at: Option<Timestamp>,
    /// Since when its plan is known to be unfinished, if it is to go on.
    unfinished_since: Option<Timestamp>,
    /// Whether the last run ended by itself: what it left unfinished waits for the sync's next time.
    had_its_turn: bool,
    /// When its source is looked at, if it runs on arrival.
    watch: Option<Watch>,
    /// Whether somebody else had the turn when it was last asked for.
    is_elsewhere: bool,
    /// Nothing is begun before this monotonic time.
    not_before: Duration,
    wait: Duration,
}

/// What can be begun for a sync, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Learn from the store how far it is served.
    Look(usize),
    /// Look whether something has come to its source.
    Scan(usize),
    /// Take its turn.
    Turn(usize),
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepEnd {
    /// How far the sync is served, where that was seen.
    pub(crate) served_to: Option<Timestamp>,
    pub(crate) then: Then,
    /// What it has to do with what comes to the source, if anything.
    pub(crate) arrival: Option<Arrival>,
}

/// What a step has to do with what comes to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A look saw this; none: it could not see.
    Seen(Option<Sight>),
    /// A run was made of it.
    Tried(Trial),
    /// There was nothing any more when the turn came.
    Over,
}

impl StepEnd {
    pub(crate) fn of(served_to: Option<Timestamp>, then: Then) -> Self {
        Self { served_to, then, arrival: None }
    }
}

/// What follows from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// A run ended by itself, well or not.
    Ran,
    /// There was nothing to run.
    Idle,
    /// The run goes on at this time.
    At(Timestamp),
    /// Somebody else has the turn until then, unless they renew it.
    Elsewhere(Timestamp),
    /// Something stood in the way.
    Soon(Setback),
}

/// What stood in the way of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    AudienceBusy,
    Interrupted,
    LeaseLost,
    StoreDown,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    pub(crate) elapsed: Duration,
}

/// How a sync stands, for the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    pub(crate) sync: &'a SyncName,
    pub(crate) starts_at: Option<Timestamp>,
    /// For how long a run is due that nobody is known to make.
    pub(crate) overdue: Duration,
    /// How much has come to its source and is not read, if it runs on arrival.
    pub(crate) arrived: Option<u64>,
}

impl<'a> Agenda<'a> {
    pub(crate) fn new(syncs: &'a [Scheduled], longest_wait: Duration) -> Self {
        Self { entries: syncs.iter().map(Entry::new).collect(), longest_wait }
    }

    /// Begins the next step, if there is one now. Turns are for those that are due longest, as long as slots are free.
    pub(crate) fn begin_next(&mut self, at: Moment, slots: usize) -> Option<Step> {
        let has_slot = self.turns_under_way() < slots;
        let entries = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_free(at));
        let look = entries.clone().find(|(_, entry)| entry.must_look()).map(|(index, _)| Step::Look(index));
        let scan = entries.clone().find(|(_, entry)| entry.must_scan(at)).map(|(index, _)| Step::Scan(index));
        let due = entries.filter(|(_, entry)| has_slot && !entry.must_look());
        let due = due.filter_map(|(index, entry)| Some((entry.wanted_at()?, index)));
        let turn = due.filter(|(wanted_at, _)| *wanted_at <= at.now).min().map(|(_, index)| Step::Turn(index));
        let step = look.or(scan).or(turn)?;
        self.entries[step.index()].under_way = Some(step);
        Some(step)
    }

    /// Takes note of a step's end. Returns whether it met a setback for the first time since a run went through.
    pub(crate) fn end(&mut self, step: Step, end: StepEnd, at: Moment) -> bool {
        let longest_wait = self.longest_wait;
        let entry = &mut self.entries[step.index()];
        entry.under_way = None;
        if matches!(step, Step::Scan(_)) {
            entry.attend_to(end, at);
            return false;
        }
        entry.is_elsewhere = matches!(end.then, Then::Elsewhere(_));
        if let Some(served_to) = end.served_to {
            entry.serve_to(served_to);
        }
        let is_over = matches!(end.then, Then::Ran | Then::Idle);
        if is_over && matches!(step, Step::Turn(_)) {
            entry.unfinished_since = None;
            entry.had_its_turn |= end.then == Then::Ran;
        }
        let is_first = entry.wait == FIRST_WAIT;
        let wait = match end.then {
            Then::Ran | Then::Idle => Duration::ZERO,
            // Not at all without a wait, whatever the clocks of others say.
            Then::At(time) => time.since(at.now).max(FIRST_WAIT),
            Then::Elsewhere(until) => until.since(at.now).clamp(FIRST_WAIT, longest_wait),
            Then::Soon(_) => entry.wait,
        };
        entry.wait = match end.then {
            Then::Soon(_) => (entry.wait * 2).min(longest_wait),
            _ => FIRST_WAIT,
        };
        entry.not_before = at.elapsed + wait;
        entry.attend_to(end, at);
        is_first
    }

    /// Takes note that something may have come to a sync's source.
    pub(crate) fn wake(&mut self, sync: &SyncName, elapsed: Duration) {
        let entries = self.entries.iter_mut().filter(|entry| entry.scheduled.sync == *sync);
        entries.filter_map(|entry| entry.watch.as_mut()).for_each(|watch| watch.wake(elapsed));
    }

    /// Takes note of which syncs have an unfinished plan.
    pub(crate) fn unfinished(&mut self, syncs: &[SyncName], now: Timestamp) {
        for entry in self.entries.iter_mut().filter(|entry| !entry.has_turn()) {
            let is_unfinished = syncs.contains(&entry.scheduled.sync);
            entry.had_its_turn &= is_unfinished;
            let goes_on = is_unfinished && !entry.had_its_turn;
            entry.unfinished_since = goes_on.then(|| entry.unfinished_since.unwrap_or(now));
        }
    }

    /// Whether the sync's turn is also for finishing a plan.
    pub(crate) fn is_unfinished(&self, index: usize) -> bool {
        self.entries[index].unfinished_since.is_some()
    }

    /// Whether the sync's turn is also for what has come to its source.
    pub(crate) fn has_arrived(&self, index: usize) -> bool {
        self.entries[index].watch.as_ref().is_some_and(|watch| watch.wanted_since().is_some())
    }

    /// How long there is nothing to begin, as far as is known; at most `longest`.
    pub(crate) fn pause(&self, at: Moment, longest: Duration) -> Duration {
        let idle = self.entries.iter().filter(|entry| entry.under_way.is_none());
        idle.filter_map(|entry| entry.startable_in(at)).fold(longest, Duration::min)
    }

    pub(crate) fn turns_under_way(&self) -> usize {
        self.entries.iter().filter(|entry| entry.has_turn()).count()
    }

    /// The syncs whose turn is under way.
    pub(crate) fn turns(&self) -> Vec<SyncName> {
        let entries = self.entries.iter().filter(|entry| entry.has_turn());
        entries.map(|entry| entry.scheduled.sync.clone()).collect()
    }

    pub(crate) fn standings(&self, now: Timestamp) -> impl Iterator<Item = Standing<'a>> {
        self.entries.iter().map(move |entry| {
            let is_served = entry.has_turn() || entry.is_elsewhere;
            let overdue = entry.starts_at.filter(|_| !is_served).map_or(Duration::ZERO, |at| now.since(at));
            let arrived = entry.watch.as_ref().map(Watch::count);
            Standing { sync: &entry.scheduled.sync, starts_at: entry.starts_at, overdue, arrived }
        })
    }
}

impl Step {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Look(index) | Self::Scan(index) | Self::Turn(index) => index,
        }
    }
}

impl<'a> Entry<'a> {
    fn new(scheduled: &'a Scheduled) -> Self {
        Self {
            scheduled,
            under_way: None,
            served_to: None,
            starts_at: None,
            unfinished_since: None,
            had_its_turn: false,
            watch: scheduled.scan.map(Watch::new),
            is_elsewhere: false,
            not_before: Duration::ZERO,
            wait: FIRST_WAIT,
        }
    }

    fn serve_to(&mut self, served_to: Timestamp) {
        if self.served_to == Some(served_to) {
            return;
        }
        self.served_to = Some(served_to);
        self.starts_at = self.scheduled.times.as_ref().and_then(|times| {
            let next = times.schedule.after(served_to).next()?;
            Some(times.jitter.start_of(next.at))
        });
    }

    fn has_turn(&self) -> bool {
        matches!(self.under_way, Some(Step::Turn(_)))
    }

    fn is_free(&self, at: Moment) -> bool {
        self.under_way.is_none() && self.not_before <= at.elapsed
    }

    fn must_look(&self) -> bool {
        self.scheduled.times.is_some() && self.served_to.is_none()
    }

    fn must_scan(&self, at: Moment) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.look_at() <= at.elapsed)
    }

    /// Takes note of what a step has to do with what comes to the source.
    fn attend_to(&mut self, end: StepEnd, at: Moment) {
        let Some(watch) = &mut self.watch else { return };
        match end.arrival {
            Some(Arrival::Seen(sight)) => watch.saw(sight, at),
            Some(Arrival::Tried(trial)) => watch.had_its_turn(Some(trial), at.elapsed),
            Some(Arrival::Over) => watch.had_its_turn(None, at.elapsed),
            None if self.is_elsewhere => watch.is_elsewhere(at.elapsed),
            // A run at its time reads what has come, too.
            None if end.then == Then::Ran => watch.had_its_turn(None, at.elapsed),
            None => {}
        }
    }

    /// Since when, or from when on, it is to run.
    fn wanted_at(&self) -> Option<Timestamp> {
        let arrived = self.watch.as_ref().and_then(Watch::wanted_since);
        [self.starts_at, self.unfinished_since, arrived].into_iter().flatten().min()
    }

    /// When its next step can begin; none if it has none, or only waits for a slot.
    fn startable_in(&self, at: Moment) -> Option<Duration> {
        let blocked = self.not_before.saturating_sub(at.elapsed);
        if self.must_look() {
            return Some(blocked);
        }
        let scan = self.watch.as_ref().map(|watch| watch.look_at().saturating_sub(at.elapsed).max(blocked));
        let turn = self.wanted_at().map(|wanted_at| wanted_at.since(at.now).max(blocked));
        [scan, turn].into_iter().flatten().filter(|wait| !wait.is_zero()).min()
    }
}
