//! What a run does before it plans: settles what is open, sweeps, folds. And the sweep at its end.

use convoke_core::journal::{Entry, RowOutcome};
use convoke_core::sink::{FoundRow, KeyCell};
use convoke_core::{KeyHash, RowId};
use convoke_delivery::protocol::{Evidence, Surplus};

use crate::destination::{COMMIT, Id, Key, Row, SETTLE, TIMEOUT, id_of, key_cell, row_id};
use crate::model::{Next, Phase, Property, State, Step};
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
    /// Closes one entry after the other; `is_noted` tells whether what the next one leaves to the sweep is noted.
    Close {
        is_noted: bool,
    },
    Sweep,
    Fold,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recovery {
    stage: Stage,
    /// What look-ups by key cell and by id found so far.
    by_cell: Vec<Row>,
    by_id: Vec<Row>,
}

impl Recovery {
    pub(crate) fn first(state: &State, scenario: &Scenario) -> Self {
        let under_way = if state.taken_over && !scenario.has(Mutant::NoWaitForTheTimeout) { TIMEOUT } else { 0 };
        let stage = match state.books.open().is_empty() {
            true => Stage::Sweep,
            false => Stage::Wait { left: under_way + COMMIT + SETTLE, is_second: false },
        };
        Self::at(stage)
    }

    fn at(stage: Stage) -> Self {
        Self { stage, by_cell: Vec::new(), by_id: Vec::new() }
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
                self.stage = Stage::Look { is_second: *is_second };
            }
        }
    }

    fn evidence(&self, state: &State, open: &[Entry]) -> Evidence {
        let mut evidence = Evidence::new(state.books.recreated(), open);
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
            Stage::Look { is_second } => self.look_up_open(state, recovery, *is_second, next),
            Stage::Close { is_noted } => next.push((Step::Goes("settles"), settle(state, recovery, *is_noted))),
            Stage::Sweep => self.sweep(state, Phase::Recover(recovery.to(Stage::Fold)), next),
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
        let open = state.books.open();
        let (cells, ids) = recovery.evidence(state, &open).wanted(&open);
        let is_wanted = |row: &Row| holds(&cells, row) || ids.contains(&row_id(row.id));
        for rows in state.destination.search(is_wanted) {
            let mut after = recovery.clone();
            let (by_cell, by_id): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| holds(&cells, row));
            after.by_cell.extend(by_cell);
            after.by_id.extend(by_id);
            let evidence = after.evidence(state, &open);
            let is_again = !is_second && open.iter().any(|entry| evidence.misses(entry));
            after.stage = match is_again && !self.has(Mutant::SingleLookUp) {
                true => Stage::Wait { left: SETTLE, is_second: true },
                false => Stage::Close { is_noted: false },
            };
            next.push((Step::Goes("looks up"), State { phase: Phase::Recover(after), ..state.clone() }));
        }
    }

    /// Removes late doubles, if there are any, and then counts the sweep.
    pub(crate) fn sweep(&self, state: &State, then: Phase, next: &mut Next) {
        let keys = state.books.recreated();
        if keys.is_empty() || self.has(Mutant::NoSweep) {
            next.push((Step::Goes("has nothing to sweep"), State { phase: then, ..state.clone() }));
            return;
        }
        let named = state.books.named();
        let is_wanted = |row: &Row| row.cell.is_some_and(|(key, _)| state.books.noted.contains_key(&key));
        for rows in state.destination.search(is_wanted) {
            let surplus = Surplus::of(&keys, found(&rows), &named);
            let mut after = state.clone();
            if surplus.ours.is_empty() {
                let swept: Vec<Key> = state.books.noted.keys().copied().collect();
                after.books.count_sweep(&swept);
                after.phase = then.clone();
                next.push((Step::Goes("sweeps"), after));
            } else {
                remove(&mut after, &surplus.ours, &named);
                // The count is a write of its own: the process may end before it.
                next.push((Step::Goes("removes doubles"), after.clone()));
            }
        }
    }
}

fn remove(state: &mut State, surplus: &[(RowId, KeyHash)], named: &dyn Fn(KeyHash) -> Option<RowId>) {
    for (row_id, key) in surplus {
        let id: Id = id_of(row_id);
        let is_ours = state.destination.row(id).is_some_and(|row| row.cell.is_some());
        if !is_ours || named(*key).as_ref() == Some(row_id) {
            state.broken = Some(Property::NothingOfOthersIsDeleted);
        }
        state.destination.rows.retain(|row| row.id != id);
    }
}

/// Notes what the sweep is to look up of the first open entry, then closes it.
fn settle(state: &State, recovery: &Recovery, is_noted: bool) -> State {
    let mut after = state.clone();
    let open = state.books.open();
    let Some(entry) = open.first() else {
        after.phase = Phase::Recover(Recovery::at(Stage::Sweep));
        return after;
    };
    let verdict = recovery.evidence(state, &open).verdict(entry);
    if !is_noted && !verdict.to_sweep.is_empty() {
        verdict.to_sweep.iter().for_each(|(key, tag)| after.books.note(key.0[0], *tag));
        after.phase = Phase::Recover(recovery.to(Stage::Close { is_noted: true }));
        return after;
    }
    let outcomes = verdict.fates.into_iter().zip(&entry.intent.rows);
    let outcomes = outcomes.map(|(fate, row)| fate.outcome(row).unwrap_or(RowOutcome::NotApplied)).collect();
    after.books.close(entry.id, outcomes);
    after.phase = Phase::Recover(recovery.to(Stage::Close { is_noted: false }));
    after
}
