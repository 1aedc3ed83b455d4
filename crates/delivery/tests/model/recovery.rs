//! What a run does before it plans: settles what is open, sweeps, folds. And the sweep at its end.

use convoke_core::journal::{Entry, Operation, RowOutcome};
use convoke_core::sink::{FoundRow, KeyCell};
use convoke_core::{KeyHash, RowId};
use convoke_delivery::protocol::{Evidence, Surplus, Verdict};

use crate::destination::{COMMIT, Job, Key, Part, Payload, Row, SETTLE, TIMEOUT, id_of, key_cell, key_hash, row_id};
use crate::model::{Next, Phase, Property, State, Step, leave};
use crate::scenario::{Mutant, Scenario};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Wait {
        left: u8,
        is_second: bool,
    },
    Look {
        is_second: bool,
    },
    /// Waits for the ends of delete jobs.
    Jobs,
    /// Closes one entry after the other; `is_noted` tells whether what the next one leaves to the sweep is noted.
    Close {
        is_noted: bool,
    },
    Sweep(Sweep),
    Fold,
}

/// How far a sweep has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sweep {
    Look,
    /// Deletes these rows next.
    Remove(Vec<(RowId, KeyHash)>),
    /// Has sent their delete.
    Await {
        number: u8,
        rows: Vec<(RowId, KeyHash)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recovery {
    stage: Stage,
    /// What look-ups by key cell and by id found so far.
    by_cell: Vec<Row>,
    by_id: Vec<Row>,
    /// How often everything that is open was looked up.
    looks: u8,
}

impl Recovery {
    fn at(stage: Stage) -> Self {
        Self { stage, by_cell: Vec::new(), by_id: Vec::new(), looks: 0 }
    }

    fn to(&self, stage: Stage) -> Self {
        Self { stage, ..self.clone() }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Wait { .. })
    }

    pub(crate) fn tick(&mut self) {
        if let Stage::Wait { left, is_second } = &mut self.stage {
            *left -= 1;
            if *left == 0 {
                self.stage = if *is_second { Stage::Look { is_second: true } } else { Stage::Jobs };
            }
        }
    }

    fn evidence(&self, state: &State, open: &[Entry]) -> Evidence {
        let mut evidence = Evidence::new(state.books.recreated(), open);
        let (cells, ids) = evidence.wanted(open);
        (0..self.looks).for_each(|_| evidence.asked(&cells, &ids));
        evidence.add(found(&self.by_cell), found(&self.by_id));
        evidence
    }
}

fn found(rows: &[Row]) -> Vec<FoundRow> {
    let of = |row: &Row| FoundRow { row_id: row_id(row.id), key_cell: row.cell.map(key_cell) };
    rows.iter().map(of).collect()
}

fn holds(cells: &[KeyCell], row: &Row) -> bool {
    row.cell.is_some_and(|cell| cells.contains(&key_cell(cell)))
}

impl Scenario {
    pub(crate) fn recover(&self, state: &State, recovery: &Recovery, next: &mut Next) {
        match &recovery.stage {
            Stage::Wait { .. } => {}
            Stage::Jobs => self.await_jobs(state, recovery, next),
            Stage::Look { is_second } => self.look_up_open(state, recovery, *is_second, next),
            Stage::Close { is_noted } => next.push((Step::Goes("settles"), self.settle(state, recovery, *is_noted))),
            Stage::Sweep(sweep) => {
                let with = |sweep| Phase::Recover(recovery.to(Stage::Sweep(sweep)));
                self.sweep(state, sweep, (&with, Phase::Recover(recovery.to(Stage::Fold))), next);
            }
            Stage::Fold => {
                let mut after = state.clone();
                if !self.has(Mutant::FoldAtTheEnd) {
                    after.books.fold();
                }
                after.phase = Phase::Plan;
                next.push((Step::Goes("folds"), after));
            }
        }
    }

    fn look_up_open(&self, state: &State, recovery: &Recovery, is_second: bool, next: &mut Next) {
        let open = self.found_open(state);
        let (cells, ids) = recovery.evidence(state, &open).wanted(&open);
        let is_wanted = |row: &Row| holds(&cells, row) || ids.contains(&row_id(row.id));
        for rows in state.destination.search(is_wanted) {
            let mut after = recovery.clone();
            let (by_cell, by_id): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| holds(&cells, row));
            after.by_cell.extend(by_cell);
            after.by_id.extend(by_id);
            let is_single = self.has(Mutant::SingleLookUp);
            after.looks = if is_second || is_single { 2 } else { 1 };
            let (cells_left, ids_left) = after.evidence(state, &open).missing(&cells, &ids);
            if state.budget.shortages > 0 {
                self.run_short(state, (recovery, &after), (&open, &cells, &ids), next);
            }
            let is_known = cells_left.is_empty() && ids_left.is_empty();
            after.stage = match is_known || is_second || is_single {
                true => Stage::Close { is_noted: false },
                false => Stage::Wait { left: SETTLE, is_second: true },
            };
            next.push((Step::Goes("looks up"), State { phase: Phase::Recover(after), ..state.clone() }));
        }
    }

    /// The rate budget lets out only the first of the look-ups for these cells and ids, or its answer is the last: what is
    /// known by then is kept, and the run ends, for that reason or because its process does so on the way.
    fn run_short(
        &self,
        state: &State,
        (before, after): (&Recovery, &Recovery),
        (open, cells, ids): (&[Entry], &[KeyCell], &[RowId]),
        next: &mut Next,
    ) {
        let asked = cells.split_at(cells.len().min(1)).0;
        let ids = if asked.is_empty() { ids.split_at(ids.len().min(1)).0 } else { &[] };
        let is_asked = |row: &Row| holds(asked, row) || ids.contains(&row_id(row.id));
        let of = |rows: &[Row]| rows.iter().filter(|row| is_asked(row)).cloned().collect::<Vec<_>>();
        let mut recovery = before.clone();
        recovery.by_cell.extend(of(&after.by_cell[before.by_cell.len()..]));
        recovery.by_id.extend(of(&after.by_id[before.by_id.len()..]));
        let mut evidence = recovery.evidence(state, open);
        evidence.asked(asked, ids);
        if self.has(Mutant::SingleLookUpWhenShort) {
            evidence.asked(asked, ids);
        }
        let mut short = state.clone();
        short.budget.shortages -= 1;
        for entry in open {
            let verdict = evidence.verdict(entry);
            if verdict.rest.len() == entry.intent.rows.len() {
                continue;
            }
            if !verdict.rest.is_empty() && !self.has(Mutant::RestForgottenWhenShort) {
                short.books.intend_rest(entry, verdict.rest.clone());
                next.push((Step::Goes("dies before it closes what it has cut in two"), ended(&short)));
            }
            note(&mut short, &verdict);
            close(&mut short, entry, verdict);
        }
        next.push((Step::Goes("keeps what it knows and waits for quota"), ended(&short)));
    }

    /// Where a run begins that has its lease.
    pub(crate) fn first_phase(&self, state: &State) -> Phase {
        let under_way = if state.taken_over && !self.has(Mutant::NoWaitForTheTimeout) { TIMEOUT } else { 0 };
        match self.found_open(state).is_empty() {
            true => self.settled(state),
            false => {
                let left = under_way + COMMIT + SETTLE;
                Phase::Recover(Recovery::at(Stage::Wait { left, is_second: false }))
            }
        }
    }

    /// Nothing is left to settle: the run goes on, or stops for what stays in doubt.
    fn settled(&self, state: &State) -> Phase {
        match self.is_in_doubt(state) {
            true => Phase::Ended,
            false => Phase::Recover(Recovery::at(Stage::Sweep(Sweep::Look))),
        }
    }

    /// Open entries whose rows can be looked up.
    fn found_open(&self, state: &State) -> Vec<Entry> {
        let mut open = state.books.open();
        open.retain(|entry| self.key_look_up || entry.intent.operation != Operation::Create);
        open
    }

    fn await_jobs(&self, state: &State, recovery: &Recovery, next: &mut Next) {
        let jobs: Vec<u8> =
            self.found_open(state).iter().filter_map(|of| state.books.jobs.get(&of.id)).copied().collect();
        let runs = |number: &u8| state.destination.in_flight.iter().any(|request| request.number == *number);
        if self.has(Mutant::JobNotAwaited) || !jobs.iter().any(runs) {
            let phase = Phase::Recover(recovery.to(Stage::Look { is_second: false }));
            next.push((Step::Goes("sees no job run"), State { phase, ..state.clone() }));
        }
    }

    /// Removes late doubles, if there are any, and then counts the sweep. `with` and `then`: the phase in which the sweep
    /// has come so far, and the one after it.
    pub(crate) fn sweep(
        &self,
        state: &State,
        sweep: &Sweep,
        (with, then): (&dyn Fn(Sweep) -> Phase, Phase),
        next: &mut Next,
    ) {
        match sweep {
            Sweep::Look => self.look_for_doubles(state, (with, then), next),
            Sweep::Remove(rows) => {
                let mut after = state.clone();
                let payload = Payload::Delete(rows.iter().map(|(row_id, _)| id_of(row_id)).collect());
                if state.destination.deletes_of_others(&payload) {
                    after.broken = Some(Property::NothingOfOthersIsDeleted);
                }
                let number = after.destination.receive(payload);
                after.phase = with(Sweep::Await { number, rows: rows.clone() });
                next.push((Step::Goes("deletes doubles"), after));
            }
            Sweep::Await { number, rows } => self.answer_sweep(state, (*number, rows), (with, then), next),
        }
    }

    fn look_for_doubles(&self, state: &State, (with, then): (&dyn Fn(Sweep) -> Phase, Phase), next: &mut Next) {
        let keys = state.books.recreated();
        if keys.is_empty() || self.has(Mutant::NoSweep) || !self.key_look_up {
            next.push((Step::Goes("has nothing to sweep"), State { phase: then, ..state.clone() }));
            return;
        }
        let in_ledger = |key: KeyHash| state.books.ledger.get(&key.0[0]).map(|known| row_id(known.row));
        let named = state.books.named();
        let named: &dyn Fn(KeyHash) -> Option<RowId> =
            if self.has(Mutant::SweepWithoutJournal) { &in_ledger } else { &named };
        let is_wanted = |row: &Row| row.cell.is_some_and(|(key, _)| state.books.noted.contains_key(&key));
        for rows in state.destination.search(is_wanted) {
            let surplus = Surplus::of(&keys, found(&rows), named);
            let mut surplus_rows = surplus.ours;
            if self.has(Mutant::SweepByKeyAlone) {
                let of = |row_id: &RowId| state.destination.row(id_of(row_id)).and_then(|row| row.cell);
                let cells = surplus.doubled.iter().filter_map(|row_id| Some((row_id.clone(), key_hash(of(row_id)?.0))));
                surplus_rows.extend(cells);
            }
            let mut after = state.clone();
            if surplus_rows.is_empty() {
                after.phase = then.clone();
                count(&mut after, &[]);
                next.push((Step::Goes("sweeps"), after));
            } else {
                after.phase = with(Sweep::Remove(surplus_rows));
                next.push((Step::Goes("finds doubles"), after));
            }
        }
    }

    /// What becomes of the sweep's delete. Once it is done, the sweep looks again.
    fn answer_sweep(
        &self,
        state: &State,
        (number, rows): (u8, &[(RowId, KeyHash)]),
        (with, then): (&dyn Fn(Sweep) -> Phase, Phase),
        next: &mut Next,
    ) {
        let Some(request) = state.destination.in_flight.iter().find(|request| request.number == number) else {
            let phase = with(Sweep::Look);
            return next.push((Step::Goes("sees the end of its job"), State { phase, ..state.clone() }));
        };
        if !request.awaited {
            return;
        }
        let mut after = state.clone();
        let is_refused = !state.destination.faults_of(&request.payload, &[]).is_empty();
        if is_refused {
            after.destination.take(number);
            after.unswept = true;
            count(&mut after, rows);
            after.phase = then.clone();
            next.push((Step::Goes("is refused its delete"), after));
        } else if self.deletes_by_job {
            let request = after.destination.request(number);
            (request.awaited, request.job) = (false, Job::Accepted);
            next.push((Step::Goes("has its delete accepted"), after));
        } else {
            let payload = after.destination.take(number);
            after.destination.commit(&payload, Part::All, &[], 0);
            after.phase = with(Sweep::Look);
            next.push((Step::Goes("has removed doubles"), after));
        }
        if state.budget.faults > 0 {
            let mut lost = state.clone();
            lost.budget.faults -= 1;
            lost.unswept = true;
            lost.destination.request(number).awaited = false;
            if !self.has(Mutant::NoQuietAfterTheSweep) {
                lost.books.quiet = lost.books.quiet.max(COMMIT + SETTLE);
            }
            count(&mut lost, rows);
            lost.phase = then;
            next.push((Step::Goes("loses the answer to its delete"), lost));
        }
    }

    /// Notes what the sweep is to look up of the first open entry, then closes it.
    fn settle(&self, state: &State, recovery: &Recovery, is_noted: bool) -> State {
        let mut after = state.clone();
        let open = self.found_open(state);
        let Some(entry) = open.first() else {
            after.phase = self.settled(state);
            return after;
        };
        let verdict = recovery.evidence(state, &open).verdict(entry);
        assert!(verdict.rest.is_empty(), "everything was looked up as often as it takes");
        if !is_noted && !verdict.to_sweep.is_empty() {
            note(&mut after, &verdict);
            after.phase = Phase::Recover(recovery.to(Stage::Close { is_noted: true }));
            return after;
        }
        close(&mut after, entry, verdict);
        after.phase = Phase::Recover(recovery.to(Stage::Close { is_noted: false }));
        after
    }
}

/// Notes what an entry leaves to the sweep.
fn note(state: &mut State, verdict: &Verdict) {
    let swept: Vec<Key> = verdict.swept.iter().map(|key| key.0[0]).collect();
    state.books.count_sweep(&swept);
    verdict.to_sweep.iter().for_each(|(key, tag)| state.books.note(key.0[0], *tag));
}

fn close(state: &mut State, entry: &Entry, verdict: Verdict) {
    let outcomes = verdict.fates.into_iter().zip(&entry.intent.rows);
    let outcomes = outcomes.map(|(fate, row)| fate.outcome(row).unwrap_or(RowOutcome::NotApplied)).collect();
    state.books.close(entry.id, outcomes);
}

/// The run ends, and the next one begins.
fn ended(state: &State) -> State {
    let mut state = state.clone();
    leave(&mut state, 0);
    state.taken_over = false;
    state
}

/// Counts a sweep of all noted keys but those whose doubles may still be there.
fn count(state: &mut State, unfinished: &[(RowId, KeyHash)]) {
    let is_done = |key: &&Key| !unfinished.iter().any(|(_, of)| of.0[0] == **key);
    let swept: Vec<Key> = state.books.noted.keys().filter(is_done).copied().collect();
    state.books.count_sweep(&swept);
}
