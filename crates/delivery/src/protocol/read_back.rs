//! What a read-back asks, and what follows from what it finds.

use std::collections::BTreeMap;

use convoke_core::RowId;
use convoke_core::journal::Operation;

use super::machine::{Machine, Part};
use super::refusal::{Refused, Split};
use super::{Action, Fate, Found, MAX_CREATE_ROUNDS, Stop};

/// Why rows are in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doubt {
    /// The answer was lost.
    Lost,
    /// The answer lacks rows, or a job was not done in full: something went wrong with these very rows.
    Short,
    /// The request was refused, and a part of it may have been done.
    Refused(Refused),
}

/// A read-back under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    doubt: Doubt,
    found: BTreeMap<u32, RowId>,
    is_second_look: bool,
}

impl Machine {
    pub(super) fn read_back(&mut self, doubt: Doubt) {
        self.entry.reading = Some(Reading { doubt, found: BTreeMap::new(), is_second_look: false });
        self.look_up(self.open_rows());
    }

    fn look_up(&mut self, rows: Vec<u32>) {
        if self.operation != Operation::Create {
            self.due.push_back(Action::LookUpIds { rows });
            return;
        }
        let mut cells = Vec::with_capacity(rows.len());
        let newest = [self.attempt];
        // Other parts of the batch have attempts of their own, which these rows were never in.
        let earlier = self.attempts_swept + 1..=self.attempts_before;
        let all: Vec<u32> = earlier.chain(self.entry.attempts.iter().copied()).collect();
        for row in rows {
            let attempts = if self.recreated.contains(&row) { &all[..] } else { &newest[..] };
            cells.extend(attempts.iter().map(|attempt| (row, self.tag(*attempt))));
        }
        self.due.push_back(Action::LookUpKeys { cells });
    }

    pub(super) fn looked_up(&mut self, found: Vec<Found>) {
        let Some(mut reading) = self.entry.reading.take() else { return };
        let newest = self.tag(self.attempt);
        for hit in found {
            let known = reading.found.contains_key(&hit.row);
            if known && self.operation == Operation::Create {
                // Two rows of ours: one is adopted, the sweep removes the other.
                self.recreated.insert(hit.row);
            }
            if !known || hit.tag == Some(newest) {
                reading.found.insert(hit.row, hit.row_id);
            }
        }
        let missing: Vec<u32> = self.open_rows().into_iter().filter(|row| !reading.found.contains_key(row)).collect();
        if !missing.is_empty() && !reading.is_second_look {
            reading.is_second_look = true;
            self.entry.reading = Some(reading);
            self.wait(self.assumptions.settle, "rows are looked up a second time");
            return self.look_up(missing);
        }
        match self.operation {
            Operation::Create => self.conclude_create(reading, missing),
            Operation::Update => self.conclude_by_id(reading, missing, Fate::Removed),
            Operation::Delete => self.conclude_by_id(reading, missing, Fate::Deleted),
        }
    }

    fn conclude_create(&mut self, reading: Reading, missing: Vec<u32>) {
        for (row, row_id) in reading.found {
            // A row that turns up although the answer lacks it, or although it was refused, need not hold all its cells.
            let fate = match reading.doubt {
                Doubt::Lost => Fate::Acknowledged(row_id),
                Doubt::Short | Doubt::Refused(_) => Fate::Incomplete(row_id),
            };
            self.entry.settle(row, fate);
        }
        self.recreated.extend(missing.iter().copied());
        let noted: Vec<u32> = self.entry.rows.iter().copied().filter(|row| self.recreated.contains(row)).collect();
        if !noted.is_empty() {
            // Before the entry is closed: after that nothing tells that these rows were in doubt.
            self.due.push_back(Action::NoteRecreated { rows: noted, tag: self.tag(self.attempt) });
        }
        if missing.is_empty() {
            return self.close();
        }
        if let Doubt::Refused(refused) = reading.doubt {
            return self.split(refused);
        }
        let rounds = self.entry.rounds + 1;
        let attempts = self.entry.attempts.clone();
        self.set_fates(&missing, &Fate::NotApplied);
        self.close();
        match rounds < MAX_CREATE_ROUNDS {
            true => self.parts.push(Part { rows: missing, rounds, attempts, cleared: false, verdict: None }),
            false => {
                let reason = "answers were lost again and again".to_owned();
                self.due.push_back(Action::Stop(Stop::GaveUp { attempts: rounds, reason }));
            }
        }
    }

    /// What is gone has its fate; what is there is sent again, in halves if it was refused and nothing was gone.
    fn conclude_by_id(&mut self, reading: Reading, missing: Vec<u32>, gone: Fate) {
        let explained = !missing.is_empty();
        self.set_fates(&missing, &gone);
        if self.open_rows().is_empty() {
            return self.close();
        }
        match reading.doubt {
            Doubt::Refused(refused) if !explained => self.split(refused),
            _ => self.send(),
        }
    }

    /// Rejects a row that was refused alone; else sends the rows again in two parts.
    pub(super) fn split(&mut self, refused: Refused) {
        let rows = self.open_rows();
        let (rounds, unapplied) = (self.entry.rounds, self.unapplied());
        if let [row] = rows[..] {
            if !refused.alone {
                // The others of its request were done. Whether this one is refused shows when it is sent alone.
                let attempts = self.entry.attempts.clone();
                self.parts.push(Part { rows: rows.clone(), rounds, attempts, cleared: false, verdict: None });
                self.set_fates(&rows, &unapplied);
                return self.close();
            }
            let reason = refused.reason(row);
            if unapplied == Fate::NotApplied {
                self.set_fates(&rows, &Fate::Rejected);
                self.due.push_back(Action::Reject { row, reason });
                return self.close();
            }
            // The ledger must not go on believing what it has of the row, so this entry says that it may have changed.
            // That it was rejected stands in an entry of its own, for which nothing is sent.
            let attempts = Vec::new();
            self.parts.push(Part { rows: rows.clone(), rounds, attempts, cleared: false, verdict: Some(reason) });
            self.set_fates(&rows, &unapplied);
            return self.close();
        }
        let Split { first, first_is_cleared, second } = refused.split(&rows, self.entry.cleared);
        for (rows, cleared) in [(second, false), (first, first_is_cleared)] {
            let attempts = self.entry.attempts.clone();
            self.parts.push(Part { rows, rounds, attempts, cleared, verdict: None });
        }
        self.set_fates(&rows, &unapplied);
        self.close();
    }
}
