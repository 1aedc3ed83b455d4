//! The world around the machine: one state, and everything that may happen next in it.

use std::collections::{BTreeMap, BTreeSet};

use convoke_core::journal::{Entry, Operation};
use convoke_core::sink::{AttemptTag, JobState};
use convoke_delivery::protocol::Action;

use crate::books::{Books, Known, Plan, Planned};
use crate::checker::Model;
use crate::destination::{Content, Destination, Id, InFlight, Job, Key, Part, Payload, Row, TIMEOUT, key_hash, row_id};
use crate::recovery::{Recovery, Sweep};
use crate::scenario::{Budget, Mutant, Scenario};
use crate::slot::Slot;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Property {
    /// Once settled and swept, no key has two rows of ours.
    NoKeyIsDoubled,
    /// What was acknowledged is in the ledger and in the audience, as the source has it.
    NothingIsLost,
    /// Nothing is created while it stands, or may yet come to stand, or overtaken by an older request.
    NothingIsSentBeforeItsBound,
    /// No row that is not ours is deleted.
    NothingOfOthersIsDeleted,
    /// Every run ends.
    EveryRunEnds,
}

/// Where the process is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Takes the lease.
    Start,
    Recover(Recovery),
    /// Goes on with the plan, or makes one.
    Plan,
    /// Waits until no earlier request can commit.
    Quiet,
    Deliver(Vec<Slot>),
    /// The sweep at the end of a delivery; then it is folded, and the plan is done.
    SweepAtTheEnd(Sweep),
    FoldAtTheEnd,
    Ended,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct State {
    pub(crate) destination: Destination,
    pub(crate) books: Books,
    pub(crate) phase: Phase,
    pub(crate) budget: Budget,
    pub(crate) source: BTreeMap<Key, Content>,
    pub(crate) rejected: BTreeSet<Key>,
    /// Keys whose rows a person deleted.
    pub(crate) removed: BTreeSet<Key>,
    /// Rows that a person edited.
    pub(crate) edited: BTreeSet<Id>,
    /// Whether the lease was taken from a process that had not given it back.
    pub(crate) taken_over: bool,
    /// Whether a sweep came to no end: another run takes it up.
    pub(crate) unswept: bool,
    /// Whether the delivery was told to stop.
    pub(crate) halted: bool,
    pub(crate) broken: Option<Property>,
}

/// What happens; counterexamples are told in these.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the fields are for whoever reads a counterexample")]
pub(crate) enum Step {
    /// The process does the next thing outside of a delivery.
    Goes(&'static str),
    /// Batch `.0` does what its machine names.
    Does(u32, Action),
    Answer(u32, &'static str),
    Tick,
    Commits(u8),
    JobEnds(&'static str),
    Crash {
        plan_is_lost: bool,
    },
    Cancel,
    Person(&'static str),
    SourceMoves,
}

pub(crate) type Next = Vec<(Step, State)>;

impl Model for Scenario {
    type State = State;
    type Step = Step;
    type Property = Property;

    fn initial(&self) -> State {
        let mut destination = Destination::default();
        let mut books = Books::default();
        for (key, content) in &self.before {
            let tag = AttemptTag(u32::from(*key));
            let row = destination.add_row(Some((*key, tag)), *content, 0);
            books.ledger.insert(*key, Known { row, content: Some(*content), is_live: true });
        }
        State {
            destination,
            books,
            phase: Phase::Start,
            budget: self.budget,
            source: self.source.clone(),
            rejected: BTreeSet::new(),
            removed: BTreeSet::new(),
            edited: BTreeSet::new(),
            taken_over: false,
            unswept: false,
            halted: false,
            broken: None,
        }
    }

    fn steps(&self, state: &State) -> Next {
        if state.phase == Phase::Ended || state.broken.is_some() {
            return Vec::new();
        }
        let mut next = Vec::new();
        match &state.phase {
            Phase::Start => next.push((Step::Goes("starts"), self.start(state))),
            Phase::Recover(recovery) => self.recover(state, recovery, &mut next),
            Phase::Plan => next.push((Step::Goes("plans"), self.plan(state))),
            Phase::Quiet if state.books.quiet > 0 => {}
            Phase::Quiet => next.push((Step::Goes("delivers"), self.begin_delivery(state))),
            Phase::Deliver(slots) if slots.is_empty() => {
                next.push((Step::Goes("ends its delivery"), self.end_delivery(state)));
            }
            Phase::Deliver(slots) => self.deliver(state, slots, &mut next),
            Phase::SweepAtTheEnd(sweep) => {
                self.sweep(state, sweep, (&Phase::SweepAtTheEnd, Phase::FoldAtTheEnd), &mut next);
            }
            Phase::FoldAtTheEnd => next.push((Step::Goes("settles its plan"), settle_plan(state))),
            Phase::Ended => {}
        }
        self.environment(state, &mut next);
        next
    }

    fn broken(&self, state: &State, is_end: bool) -> Option<Property> {
        match (&state.phase, state.broken) {
            (_, Some(property)) => Some(property),
            (Phase::Ended, None) => self.broken_at_the_end(state),
            (_, None) => is_end.then_some(Property::EveryRunEnds),
        }
    }

    fn endless(&self) -> Property {
        Property::EveryRunEnds
    }
}

impl Scenario {
    fn start(&self, state: &State) -> State {
        let mut state = state.clone();
        state.books.fence += 1;
        // What outlived its bound comes to an end before the next run looks at it for the last time.
        state.destination.in_flight.retain(|request| request.left.is_some());
        state.phase = self.first_phase(&state);
        state
    }

    /// Rows whose create cannot be looked up: a run stops for them.
    pub(crate) fn is_in_doubt(&self, state: &State) -> bool {
        let is_create = |entry: &Entry| entry.intent.operation == Operation::Create;
        !self.key_look_up && state.books.open().iter().any(is_create)
    }

    fn plan(&self, state: &State) -> State {
        let mut state = state.clone();
        if state.books.plan.is_none() {
            let batches = self.changes_of(&state);
            if batches.is_empty() {
                state.phase = if state.unswept { Phase::Start } else { Phase::Ended };
                (state.unswept, state.taken_over) = (false, false);
                return state;
            }
            state.books.plans += 1;
            state.books.plan = Some(Plan { number: state.books.plans, batches });
        }
        state.phase = Phase::Quiet;
        state
    }

    /// Source against ledger.
    fn changes_of(&self, state: &State) -> Vec<(Operation, Vec<Planned>)> {
        let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
        for (key, content) in state.source.iter().filter(|(key, _)| !state.rejected.contains(key)) {
            let planned = |row| Planned { key: *key, content: *content, row };
            match state.books.ledger.get(key) {
                None => creates.push(planned(None)),
                Some(known) if known.is_live && known.content != Some(*content) => {
                    updates.push(planned(Some(known.row)));
                }
                Some(_) => {}
            }
        }
        for (key, known) in state.books.ledger.iter().filter(|(key, _)| !state.source.contains_key(key)) {
            deletes.push(Planned { key: *key, content: 0, row: Some(known.row) });
        }
        let kinds = [(Operation::Create, creates), (Operation::Update, updates), (Operation::Delete, deletes)];
        let batches = |(operation, rows): (Operation, Vec<Planned>)| {
            rows.chunks(self.rows_per_batch).map(|rows| (operation, rows.to_vec())).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(batches).collect()
    }

    fn begin_delivery(&self, state: &State) -> State {
        let resume = state.books.resume();
        let plan = state.books.plan.as_ref().expect("there is a plan");
        let batches = 0..u32::try_from(plan.batches.len()).expect("plans of models are small");
        let slots = batches.filter_map(|batch| Slot::new(self, state, plan, &resume, batch));
        State { phase: Phase::Deliver(slots.collect()), ..state.clone() }
    }

    /// What was told to stop is left to the next run.
    fn end_delivery(&self, state: &State) -> State {
        let mut state = state.clone();
        if !state.halted && !self.is_in_doubt(&state) {
            state.phase = Phase::SweepAtTheEnd(Sweep::Look);
            return state;
        }
        if !self.has(Mutant::FoldAtTheEnd) {
            state.books.fold();
        }
        if !state.halted {
            state.phase = Phase::Ended;
            return state;
        }
        leave(&mut state, 0);
        state.taken_over = false;
        state
    }

    /// What happens whatever the process does.
    fn environment(&self, state: &State, next: &mut Next) {
        if is_waiting(state) && !state.destination.in_flight.iter().any(|of| of.awaited && of.left == Some(0)) {
            self.tick(state, next);
        }
        for request in state.destination.in_flight.iter().filter(|request| !request.awaited) {
            let mut after = state.clone();
            let payload = after.destination.take(request.number);
            if request.job != Job::None {
                self.end_job(state, request, next);
                continue;
            }
            if after.destination.faults_of(&payload, &self.poison).is_empty() {
                let hidden = if request.left.is_none() { 0 } else { self.lag };
                after.destination.commit(&payload, Part::All, &self.poison, hidden);
                if state.budget.duplicates > 0 {
                    let mut twice = after.clone();
                    twice.budget.duplicates -= 1;
                    twice.destination.in_flight.push(request.clone());
                    next.push((Step::Commits(request.number), twice));
                }
                next.push((Step::Commits(request.number), after));
            }
        }
        let is_running = !matches!(state.phase, Phase::Start);
        if state.budget.crashes > 0 && is_running {
            next.push((Step::Crash { plan_is_lost: false }, crash(state, false)));
            if state.budget.lost_plans > 0 && state.books.plan.is_some() {
                next.push((Step::Crash { plan_is_lost: true }, crash(state, true)));
            }
        }
        if state.budget.source_moves > 0 && matches!(state.phase, Phase::Plan) {
            let mut after = state.clone();
            after.budget.source_moves -= 1;
            match self.moved.is_empty() {
                true => after.source.values_mut().for_each(|content| *content += 1),
                false => after.source = self.moved.clone(),
            }
            after.books.drop_plan();
            next.push((Step::SourceMoves, after));
        }
        if state.budget.person > 0 {
            self.person(state, next);
        }
    }

    /// A job ends: done in full, in part, or not at all, as if it had been lost.
    fn end_job(&self, state: &State, request: &InFlight, next: &mut Next) {
        let mut end = |what, part: Option<Part>, cost| {
            let mut after = state.clone();
            after.budget.faults -= cost;
            let payload = after.destination.take(request.number);
            if let Some(part) = part {
                after.destination.commit(&payload, part, &self.poison, 0);
            }
            let ended = if part == Some(Part::All) { JobState::Succeeded } else { JobState::Incomplete };
            after.destination.ended.insert(request.number, ended);
            next.push((Step::JobEnds(what), after));
        };
        end("in full", Some(Part::All), 0);
        if state.budget.faults > 0 {
            end("in part", Some(Part::ButLast), 1);
            end("not at all", None, 1);
        }
    }

    fn tick(&self, state: &State, next: &mut Next) {
        let mut after = state.clone();
        after.books.quiet = after.books.quiet.saturating_sub(1);
        match &mut after.phase {
            Phase::Recover(recovery) => recovery.tick(),
            Phase::Deliver(slots) => slots.iter_mut().for_each(Slot::tick),
            _ => {}
        }
        let outlives = |request: &InFlight| request.left == Some(0);
        if state.budget.stragglers > 0 && state.destination.in_flight.iter().any(outlives) {
            let mut late = after.clone();
            late.budget.stragglers -= 1;
            late.destination.tick(true);
            next.push((Step::Tick, late));
        }
        after.destination.tick(false);
        next.push((Step::Tick, after));
    }

    fn person(&self, state: &State, next: &mut Next) {
        let mut act = |what, change: &dyn Fn(&mut State)| {
            let mut after = state.clone();
            after.budget.person -= 1;
            change(&mut after);
            next.push((Step::Person(what), after));
        };
        for row in state.destination.rows.iter().filter(|row| row.hidden == 0 && !row.by_person) {
            let (id, cell) = (row.id, row.cell);
            let Some((key, _)) = cell else { continue };
            act("deletes a row", &|after| {
                after.destination.rows.retain(|row| row.id != id);
                after.removed.insert(key);
            });
            act("edits a row", &|after| {
                after.destination.rows.iter_mut().filter(|row| row.id == id).for_each(|row| row.content = 99);
                after.edited.insert(id);
            });
            act("copies a row", &|after| after.destination.add_by_person(Some((key, TAG_OF_NOBODY))));
        }
        act("adds a row", &|after| after.destination.add_by_person(None));
    }

    /// A run that stops for creates in doubt has brought no more than it could. What was acknowledged is there.
    fn lost_beside_doubt(&self, state: &State) -> bool {
        let named = state.books.named();
        let is_there = |key: &Key| match named(key_hash(*key)) {
            Some(row) => state.destination.ours(*key).any(|held| row_id(held.id) == row),
            None => true,
        };
        !state.source.keys().filter(|key| !state.removed.contains(key)).all(is_there)
    }

    fn broken_at_the_end(&self, state: &State) -> Option<Property> {
        let ours = state.destination.rows.iter().filter(|row| !row.by_person);
        let keys: BTreeSet<Key> = ours.filter_map(|row| Some(row.cell?.0)).collect();
        if keys.iter().any(|key| state.destination.ours(*key).count() > 1) {
            return Some(Property::NoKeyIsDoubled);
        }
        if self.is_in_doubt(state) {
            return self.lost_beside_doubt(state).then_some(Property::NothingIsLost);
        }
        let is_wanted = |key: &&Key| !state.rejected.contains(key) && !state.removed.contains(key);
        let is_lost = |key: &Key| {
            let Some(row) = state.destination.ours(*key).next() else { return true };
            let is_known = state.books.ledger.get(key).is_some_and(|known| known.row == row.id && known.is_live);
            !is_known || (Some(&row.content) != state.source.get(key) && !state.edited.contains(&row.id))
        };
        let stays = |key: &Key| !state.source.contains_key(key) && state.destination.ours(*key).next().is_some();
        let is_unexplained =
            |row: &Row| !row.by_person && row.cell.is_some_and(|(key, _)| !state.books.ledger.contains_key(&key));
        let lost = state.source.keys().filter(is_wanted).any(is_lost)
            || keys.iter().any(stays)
            || state.destination.rows.iter().any(is_unexplained);
        lost.then_some(Property::NothingIsLost)
    }
}

/// A tag that no attempt of ours has.
const TAG_OF_NOBODY: AttemptTag = AttemptTag(9_999);

/// Whether somebody waits for time to pass.
fn is_waiting(state: &State) -> bool {
    match &state.phase {
        Phase::Recover(recovery) => recovery.is_waiting(),
        Phase::Quiet => state.books.quiet > 0,
        Phase::Deliver(slots) => slots.iter().any(Slot::is_waiting),
        _ => false,
    }
}

/// The process ends, and another takes its lease over. What it had sent may be under way for a time-out longer.
fn crash(state: &State, plan_is_lost: bool) -> State {
    let mut state = state.clone();
    state.budget.crashes -= 1;
    leave(&mut state, TIMEOUT);
    state.taken_over = true;
    if plan_is_lost {
        state.budget.lost_plans -= 1;
        // Not its journal: that is needed until it is folded.
        state.books.drop_plan();
    }
    state
}

/// Ends the process; requests whose answers it waited for go on without it.
pub(crate) fn leave(state: &mut State, longer: u8) {
    for request in state.destination.in_flight.iter_mut().filter(|request| request.awaited) {
        request.awaited = false;
        request.left = request.left.map(|left| left + longer);
    }
    for request in state.destination.in_flight.iter_mut().filter(|request| request.job == Job::Accepted) {
        request.job = Job::None;
    }
    state.halted = false;
    state.phase = Phase::Start;
}

fn settle_plan(state: &State) -> State {
    let mut state = state.clone();
    state.books.fold();
    state.books.drop_plan();
    state.taken_over = false;
    state.phase = Phase::Start;
    state
}

/// Whether a write must not leave yet.
pub(crate) fn is_too_early(state: &State, payload: &Payload) -> bool {
    let others = || state.destination.in_flight.iter();
    match payload {
        Payload::Create(rows) => rows.iter().any(|(key, ..)| {
            state.destination.ours(*key).next().is_some() || others().any(|request| request.payload.creates(*key))
        }),
        Payload::Update(rows) => rows.iter().any(|(id, content)| {
            let is_older = |of: &Payload| {
                matches!(of, Payload::Update(old) if old.iter().any(|(other, held)| other == id && held != content))
            };
            let deletes = |of: &Payload| matches!(of, Payload::Delete(ids) if ids.contains(id));
            others().any(|request| is_older(&request.payload) || deletes(&request.payload))
        }),
        Payload::Delete(_) => false,
    }
}
