//! A batch under way: the machine that production runs, and what its actions do to this world.

use std::collections::BTreeSet;
use std::time::Duration;

use convoke_core::journal::{EntryId, IntentRow, Operation};
use convoke_core::sink::{Answer, AppliedRow, AttemptTag, FailedCell, JobId, JobState, KeyCell, Problem, Refusal};
use convoke_delivery::protocol::{
    Action, Assumptions, BatchTask, CELL_FAILED, Fact, Fate, Found, MAX_POLLS, Machine, Resume,
};

use crate::books::Plan;
use crate::destination::{COMMIT, Job, Part, Payload, Row, SETTLE, id_of, key_cell, row_id};
use crate::model::{Next, Phase, Property, State, Step, is_too_early};
use crate::scenario::{Mutant, Pointing, Scenario};

const JOB_RUNS: &str = "a delete job is running";
const SECOND_LOOK: &str = "rows are looked up a second time";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    batch: u32,
    machine: Machine,
    /// The entry being worked on, and its rows.
    entry: Option<(EntryId, Vec<u32>)>,
    /// Ticks left to wait.
    waiting: u8,
    /// The request whose answer is to come.
    awaiting: Option<u8>,
    /// An intent that a planted bug has not written yet.
    unwritten: Option<(Vec<u32>, u32, AttemptTag)>,
    /// The job that a delete was accepted as, before it is noted.
    job: Option<u8>,
    /// Whether rows left in doubt have an entry of their own, and the one they come from is still to be closed.
    is_half_left: bool,
    /// Set by a planted bug: the next look-up is not made.
    skips_look: bool,
}

impl Slot {
    pub(crate) fn new(scenario: &Scenario, state: &State, plan: &Plan, resume: &Resume, batch: u32) -> Option<Self> {
        let rows = plan.intent_rows(batch);
        let left = resume.left_of(batch, &rows);
        if left.is_empty() {
            return None;
        }
        let operation = plan.batches[batch as usize].0;
        let is_noted = |row: &u32| state.books.noted.contains_key(&rows[*row as usize].key.0[0]);
        let recreated = left.iter().copied().filter(|row| operation == Operation::Create && is_noted(row));
        let attempts_before = resume.attempts_of(batch);
        let keys = left.iter().map(|row| rows[*row as usize].key.0[0]);
        let noted: Vec<_> = keys.filter_map(|key| state.books.noted.get(&key)).flat_map(|(tags, _)| tags).collect();
        let noted = noted.into_iter().copied();
        let task = BatchTask {
            operation,
            recreated: recreated.collect::<BTreeSet<u32>>(),
            rows: left,
            attempts_before,
            attempts_swept: BatchTask::swept(noted, plan.tag_seed(batch), attempts_before),
            tag_seed: plan.tag_seed(batch),
        };
        let assumptions = Assumptions {
            atomic_refusals: scenario.atomic_refusals || scenario.has(Mutant::BisectWithoutReadBack),
            max_commit_delay: ticks(COMMIT),
            settle: ticks(SETTLE),
            key_look_up: scenario.key_look_up,
        };
        let machine = Machine::new(assumptions, task);
        let (entry, awaiting, unwritten, job) = (None, None, None, None);
        let (is_half_left, skips_look) = (false, false);
        Some(Self { batch, machine, entry, waiting: 0, awaiting, unwritten, job, is_half_left, skips_look })
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    pub(crate) fn tick(&mut self) {
        if self.waiting > 0 {
            self.waiting -= 1;
            if self.waiting == 0 {
                self.machine.on(Fact::Done);
                self.pass_waits(false);
            }
        }
    }

    fn take(&mut self, fact: Fact, scenario: &Scenario) {
        self.machine.on(fact);
        self.pass_waits(scenario.has(Mutant::SingleLookUp));
    }

    /// Begins the wait that is due; one of no length is over at once, and random parts may be nothing.
    fn pass_waits(&mut self, is_single_look: bool) {
        while let Action::Wait { at_least, why, .. } = self.machine.next() {
            self.skips_look = is_single_look && *why == SECOND_LOOK;
            // Between two questions about a job any time may pass, or none.
            let at_least = if *why == JOB_RUNS { Duration::ZERO } else { *at_least };
            let left = u8::try_from(at_least.as_secs()).expect("waits of models are short");
            if left > 0 && !self.skips_look {
                self.waiting = left;
                return;
            }
            self.machine.on(Fact::Done);
        }
    }

    /// Is told to stop: waits are cut short, what is under way goes on to its answer.
    fn cancel(&mut self) {
        if self.awaiting.is_none() && self.job.is_none() {
            self.waiting = 0;
            self.machine.cancel();
        }
    }

    fn payload(&self, plan: &Plan, rows: &[u32], tag: AttemptTag) -> Payload {
        let (operation, planned) = &plan.batches[self.batch as usize];
        let of = rows.iter().map(|row| &planned[*row as usize]);
        let id = |row: Option<u8>| row.expect("updates and deletes have ids");
        match operation {
            Operation::Create => Payload::Create(of.map(|row| (row.key, tag, row.content)).collect()),
            Operation::Update => Payload::Update(of.map(|row| (id(row.row), row.content)).collect()),
            Operation::Delete => Payload::Delete(of.map(|row| id(row.row)).collect()),
        }
    }
}

pub(crate) fn ticks(ticks: u8) -> Duration {
    Duration::from_secs(u64::from(ticks))
}

impl Scenario {
    pub(crate) fn deliver(&self, state: &State, slots: &[Slot], next: &mut Next) {
        for (at, slot) in slots.iter().enumerate() {
            match slot.awaiting {
                Some(number) => self.answer(state, at, slot, number, next),
                None if slot.is_waiting() => {}
                None => self.act(state, at, slot, next),
            }
        }
        if state.budget.cancels > 0 {
            let mut after = state.clone();
            after.budget.cancels -= 1;
            halt(&mut after);
            next.push((Step::Cancel, after));
        }
    }

    /// Hands a fact to the machine of a slot, after what `change` does to the world.
    fn hand(&self, state: &State, at: usize, fact: Fact, change: impl FnOnce(&mut State, &mut Slot)) -> State {
        let mut after = state.clone();
        let Phase::Deliver(slots) = &mut after.phase else { unreachable!("machines run in a delivery") };
        let mut slot = slots.remove(at);
        change(&mut after, &mut slot);
        slot.take(fact, self);
        if after.halted {
            slot.cancel();
        }
        let Phase::Deliver(slots) = &mut after.phase else { unreachable!("the phase has not changed") };
        match slot.machine.next() {
            Action::Done => {}
            Action::Stop(_) => halt(&mut after),
            _ => slots.insert(at, slot),
        }
        after
    }

    fn act(&self, state: &State, at: usize, slot: &Slot, next: &mut Next) {
        if let Some(job) = slot.job {
            return next.push((Step::Goes("notes the job"), self.note_job(state, at, job)));
        }
        let action = slot.machine.next();
        let step = || Step::Does(slot.batch, action.clone());
        let plan = state.books.plan.as_ref().expect("there is a plan");
        let rows = plan.intent_rows(slot.batch);
        let key = |row: u32| rows[row as usize].key.0[0];
        let mut done = |change: &dyn Fn(&mut State, &mut Slot)| {
            next.push((step(), self.hand(state, at, Fact::Done, change)));
        };
        match action {
            Action::NoteRecreated { rows, tag } => {
                done(&|after, _| rows.iter().for_each(|row| after.books.note(key(*row), *tag)));
            }
            Action::Journal { rows, attempt, tag } => done(&|after, slot| match self.has(Mutant::SendBeforeJournal) {
                true => slot.unwritten = Some((rows.clone(), *attempt, *tag)),
                false => write(after, slot, (rows.clone(), *attempt, *tag)),
            }),
            Action::ExtendQuiet { by } => {
                let by = u8::try_from(by.as_secs()).expect("waits of models are short");
                let by = if self.has(Mutant::NoQuiet) { 0 } else { by };
                done(&|after, _| after.books.quiet = after.books.quiet.max(by));
            }
            // The row is there, and is to hold what the source says in the end.
            Action::Reject { reason, .. } if reason.code == CELL_FAILED => done(&|_, _| {}),
            Action::Reject { row, .. } => done(&|after, _| {
                after.rejected.insert(key(*row));
            }),
            Action::Close { fates } => done(&|after, slot| close(after, slot, &rows, fates)),
            Action::Send { rows, tag } => next.push((step(), self.send(state, at, slot.payload(plan, rows, *tag)))),
            Action::LookUpKeys { cells } => {
                let of = |(row, tag): &(u32, AttemptTag)| (KeyCell { key: rows[*row as usize].key, tag: *tag }, *row);
                let wanted: Vec<(KeyCell, u32)> = cells.iter().map(of).collect();
                let place = |row: &Row| {
                    let cell = key_cell(row.cell?);
                    wanted.iter().find(|(of, _)| *of == cell).map(|(_, row)| *row)
                };
                self.look(state, at, slot, &place, next);
            }
            Action::LookUpIds { rows: wanted } => {
                let is = |place: &u32, row: &Row| rows[*place as usize].row_id.as_ref().map(id_of) == Some(row.id);
                self.look(state, at, slot, &|row| wanted.iter().copied().find(|place| is(place, row)), next);
            }
            Action::Poll { job } => self.poll(state, at, job.0.parse().expect("job ids are numbers"), next),
            Action::LeaveInDoubt { rows: left, attempt, tag, fates } => {
                let intent = (left.clone(), *attempt, *tag);
                next.push((step(), self.leave_in_doubt(state, at, &rows, intent, fates)));
            }
            Action::Wait { .. } => unreachable!("waits are begun at once"),
            Action::Done | Action::Stop(_) => unreachable!("the slot is freed at once"),
        }
    }

    /// Keeps which job a delete became, and then tells the machine.
    fn note_job(&self, state: &State, at: usize, job: u8) -> State {
        let answer = Answer::Accepted(JobId(job.to_string()));
        self.hand(state, at, Fact::Answered(answer), |after, slot| {
            slot.job = None;
            let (id, _) = slot.entry.as_ref().expect("a job belongs to an entry");
            after.books.note_job(*id, job);
            if let Some(request) = after.destination.in_flight.iter_mut().find(|request| request.number == job) {
                request.job = Job::Noted;
            }
        })
    }

    /// A job that runs is asked about until it ends; how often before, makes no difference. Or it is given up: then it has
    /// been asked about as often as the machine does that.
    fn poll(&self, state: &State, at: usize, job: u8, next: &mut Next) {
        if let Some(ended) = state.destination.ended.get(&job) {
            let after = self.hand(state, at, Fact::Polled(*ended), |_, _| {});
            return next.push((Step::Goes("sees the end of its job"), after));
        }
        if self.has(Mutant::AskForEver) {
            return next.push((Step::Goes("sees its job run"), state.clone()));
        }
        if state.budget.faults > 0 {
            let mut world = state.clone();
            world.budget.faults -= 1;
            let after = self.hand(&world, at, Fact::Polled(JobState::Running), |_, slot| {
                for _ in 1..MAX_POLLS {
                    slot.machine.on(Fact::Polled(JobState::Running));
                    slot.pass_waits(false);
                }
            });
            next.push((Step::Goes("gives its job up"), after));
        }
    }

    /// Rows that cannot be looked up stay in an open entry, those that were answered for in one that is closed.
    fn leave_in_doubt(
        &self,
        state: &State,
        at: usize,
        of_batch: &[IntentRow],
        intent: (Vec<u32>, u32, AttemptTag),
        fates: &[Fate],
    ) -> State {
        if self.has(Mutant::BlindResend) {
            return self.hand(state, at, Fact::Done, |after, slot| close(after, slot, of_batch, fates));
        }
        if fates.iter().all(|fate| *fate == Fate::NotApplied) {
            return self.hand(state, at, Fact::Done, |_, slot| slot.entry = None);
        }
        let mut after = state.clone();
        let Phase::Deliver(slots) = &mut after.phase else { unreachable!("machines run in a delivery") };
        if !slots[at].is_half_left {
            slots[at].is_half_left = true;
            let batch = slots[at].batch;
            after.books.intend(batch, &intent.0, intent.1, intent.2);
            return after;
        }
        self.hand(state, at, Fact::Done, |after, slot| {
            slot.is_half_left = false;
            close(after, slot, of_batch, fates);
        })
    }

    fn send(&self, state: &State, at: usize, payload: Payload) -> State {
        let mut after = state.clone();
        if state.destination.deletes_of_others(&payload) {
            after.broken = Some(Property::NothingOfOthersIsDeleted);
        }
        if self.watches_sends && is_too_early(state, &payload) {
            after.broken = Some(Property::NothingIsSentBeforeItsBound);
        }
        let number = after.destination.receive(payload);
        if let Phase::Deliver(slots) = &mut after.phase {
            slots[at].awaiting = Some(number);
        }
        after
    }

    /// One state for each answer that search may give; `place` tells which row of the batch a hit stands for.
    fn look(&self, state: &State, at: usize, slot: &Slot, place: &dyn Fn(&Row) -> Option<u32>, next: &mut Next) {
        let step = || Step::Does(slot.batch, slot.machine.next().clone());
        let by_id = matches!(slot.machine.next(), Action::LookUpIds { .. });
        let mut hits = state.destination.search(|row| place(row).is_some());
        if slot.skips_look {
            hits = vec![Vec::new()];
        }
        for rows in hits {
            let of = |row: &Row| {
                let tag = row.cell.map(|(_, tag)| tag).filter(|_| !by_id);
                Some(Found { row: place(row)?, row_id: row_id(row.id), tag })
            };
            let fact = Fact::LookedUp(rows.iter().filter_map(of).collect());
            next.push((step(), self.hand(state, at, fact, |_, slot| slot.skips_look = false)));
        }
    }

    fn answer(&self, state: &State, at: usize, slot: &Slot, number: u8, next: &mut Next) {
        let payload = &state.destination.in_flight.iter().find(|of| of.number == number).expect("in flight").payload;
        let bad = state.destination.faults_of(payload, &self.poison);
        let mut push = |what, cost: u8, part: Option<Part>, answer: &dyn Fn(Vec<(usize, u8)>) -> Answer| {
            next.push((Step::Answer(slot.batch, what), self.answered(state, at, number, (cost, part), answer)));
        };
        if bad.is_empty() && self.deletes_by_job && matches!(payload, Payload::Delete(_)) {
            next.push((Step::Answer(slot.batch, "accepted"), self.accepted(state, at, number)));
        } else if bad.is_empty() {
            push("applied", 0, Some(Part::All), &applied);
        } else {
            let refused = |_| self.refusal(&bad, payload.len());
            push("refused", 0, None, &refused);
            if !self.atomic_refusals && bad.len() < payload.len() {
                push("refused in part", 0, Some(Part::Good), &refused);
            }
        }
        if bad.is_empty() && state.budget.failed_cells > 0 && !matches!(payload, Payload::Delete(_)) {
            next.push((Step::Answer(slot.batch, "cells failed"), self.failed_cells(state, at, number)));
        }
        let mut push = |what, cost: u8, part: Option<Part>, answer: &dyn Fn(Vec<(usize, u8)>) -> Answer| {
            next.push((Step::Answer(slot.batch, what), self.answered(state, at, number, (cost, part), answer)));
        };
        if state.budget.faults == 0 {
            return;
        }
        push("asks to come later", 1, None, &|_| Answer::NotApplied { reason: String::new(), retry_after: None });
        if bad.is_empty() {
            push("applied, one row is not named", 1, Some(Part::All), &|mut rows| {
                rows.pop();
                applied(rows)
            });
            push("applied but for a row", 1, Some(Part::ButLast), &applied);
        }
        // It stays in flight, and commits at once, late, or never.
        let mut lost = self.lost(state, at, number);
        lost.budget.faults -= 1;
        next.push((Step::Answer(slot.batch, "lost"), lost));
    }

    fn answered(
        &self,
        state: &State,
        at: usize,
        number: u8,
        (cost, part): (u8, Option<Part>),
        answer: &dyn Fn(Vec<(usize, u8)>) -> Answer,
    ) -> State {
        let mut world = state.clone();
        world.budget.faults -= cost;
        let payload = world.destination.take(number);
        let rows = part.map(|part| world.destination.commit(&payload, part, &self.poison, self.lag));
        let answer = answer(rows.unwrap_or_default());
        self.hand(&world, at, Fact::Answered(answer), come_back)
    }

    /// A job has begun; that it is noted is a write of its own.
    fn accepted(&self, state: &State, at: usize, number: u8) -> State {
        if self.has(Mutant::JobTakenForDone) {
            let mut world = state.clone();
            let request = world.destination.request(number);
            (request.awaited, request.job) = (false, Job::Accepted);
            let Payload::Delete(ids) = &request.payload else { unreachable!("only deletes become jobs") };
            let answer = applied(ids.iter().copied().enumerate().collect());
            return self.hand(&world, at, Fact::Answered(answer), come_back);
        }
        let mut after = state.clone();
        let request = after.destination.request(number);
        (request.awaited, request.job) = (false, Job::Accepted);
        let Phase::Deliver(slots) = &mut after.phase else { unreachable!("machines run in a delivery") };
        (slots[at].awaiting, slots[at].job) = (None, Some(number));
        after
    }

    /// Applied, but for the cells of the first row.
    fn failed_cells(&self, state: &State, at: usize, number: u8) -> State {
        let mut world = state.clone();
        world.budget.failed_cells -= 1;
        let payload = world.destination.take(number);
        let rows = world.destination.commit(&payload, Part::All, &self.poison, self.lag);
        world.destination.rows.iter_mut().filter(|row| row.id == rows[0].1).for_each(|row| row.content = 98);
        let Answer::Applied(mut answered) = applied(rows) else { unreachable!("it says so") };
        answered[0].failed_cells = vec![FailedCell { column: "Email".to_owned(), summary: String::new() }];
        self.hand(&world, at, Fact::Answered(Answer::Applied(answered)), come_back)
    }

    fn lost(&self, state: &State, at: usize, number: u8) -> State {
        let mut world = state.clone();
        world.destination.request(number).awaited = false;
        let reason = "lost".to_owned();
        let answer = match self.has(Mutant::RetryOnUnknown) {
            true => Answer::NotApplied { reason, retry_after: None },
            false => Answer::Unknown { reason },
        };
        self.hand(&world, at, Fact::Answered(answer), come_back)
    }

    fn refusal(&self, bad: &[usize], rows: usize) -> Answer {
        let step = usize::from(self.pointing == Pointing::Wrong);
        let problem = |index: &usize| Problem {
            index: Some((index + step) % rows),
            column: None,
            code: "bad".to_owned(),
            detail: String::new(),
        };
        let problems = match self.pointing {
            Pointing::Nowhere => Vec::new(),
            Pointing::Right | Pointing::Wrong => bad.iter().map(problem).collect(),
        };
        Answer::Refused(Refusal { too_large: false, problems })
    }
}

/// An answer is there; what a planted bug has not written yet is written now.
fn come_back(after: &mut State, slot: &mut Slot) {
    slot.awaiting = None;
    if let Some(unwritten) = slot.unwritten.take() {
        write(after, slot, unwritten);
    }
}

fn write(after: &mut State, slot: &mut Slot, (rows, attempt, tag): (Vec<u32>, u32, AttemptTag)) {
    let id = after.books.intend(slot.batch, &rows, attempt, tag);
    slot.entry = Some((id, rows));
}

fn close(after: &mut State, slot: &mut Slot, of_batch: &[IntentRow], fates: &[Fate]) {
    if let Some(unwritten) = slot.unwritten.take() {
        write(after, slot, unwritten);
    }
    let (id, rows) = slot.entry.take().expect("a machine closes what it has opened");
    let outcomes = rows.iter().zip(fates).map(|(row, fate)| fate.clone().outcome(&of_batch[*row as usize]));
    after.books.close(id, outcomes.map(|outcome| outcome.expect("rows have their ids")).collect());
}

fn applied(rows: Vec<(usize, u8)>) -> Answer {
    let of = |(index, id)| AppliedRow { index, row_id: row_id(id), failed_cells: Vec::new() };
    Answer::Applied(rows.into_iter().map(of).collect())
}

/// Every machine is told to stop; those that have are done with.
fn halt(state: &mut State) {
    state.halted = true;
    if let Phase::Deliver(slots) = &mut state.phase {
        slots.iter_mut().for_each(Slot::cancel);
        slots.retain(|slot| !matches!(slot.machine.next(), Action::Done | Action::Stop(_)));
    }
}
