//! What a read-back asks, and what follows from what it finds.

use std::collections::BTreeMap;

use convoke_core::RowId;
use convoke_core::journal::Operation;

use super::machine::{Machine, Part};
use super::refusal::Refused;
use super::{Action, Fate, Found, MAX_CREATE_ROUNDS, Stop};

/// A read-back under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    /// None: the answer was lost or short, or a job was not done in full.
    refused: Option<Refused>,
    found: BTreeMap<u32, RowId>,
    is_second_look: bool,
}

impl Machine {
    pub(super) fn read_back(&mut self, refused: Option<Refused>) {
        self.entry.reading = Some(Reading { refused, found: BTreeMap::new(), is_second_look: false });
        self.look_up(self.open_rows());
    }

    fn look_up(&mut self, rows: Vec<u32>) {
        if self.operation != Operation::Create {
            self.due.push_back(Action::LookUpIds { rows });
            return;
        }
        let mut cells = Vec::with_capacity(rows.len());
        for row in rows {
            let first = if self.recreated.contains(&row) { 1 } else { self.attempt };
            cells.extend((first..=self.attempt).map(|attempt| (row, self.tag(attempt))));
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
            self.entry.fates.entry(row).or_insert(Fate::Acknowledged(row_id));
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
        if let Some(refused) = reading.refused {
            return self.split(refused);
        }
        let rounds = self.entry.rounds + 1;
        self.set_fates(missing.clone(), Fate::NotApplied);
        self.close();
        match rounds < MAX_CREATE_ROUNDS {
            true => self.parts.push(Part { rows: missing, rounds }),
            false => {
                let reason = "answers were lost again and again".to_owned();
                self.due.push_back(Action::Stop(Stop::GaveUp { attempts: rounds, reason }));
            }
        }
    }

    /// What is gone has its fate; what is there is sent again, in halves if it was refused and nothing was gone.
    fn conclude_by_id(&mut self, reading: Reading, missing: Vec<u32>, gone: Fate) {
        let explained = !missing.is_empty();
        self.set_fates(missing, gone);
        if self.open_rows().is_empty() {
            return self.close();
        }
        match reading.refused {
            Some(refused) if !explained => self.split(refused),
            _ => self.send(),
        }
    }

    /// Rejects a row that was refused alone; else sends the rows again in two parts.
    pub(super) fn split(&mut self, refused: Refused) {
        let rows = self.open_rows();
        if let [row] = rows[..] {
            self.set_fates(rows, Fate::Rejected);
            self.due.push_back(Action::Reject { row, reason: refused.reason(row) });
            return self.close();
        }
        let (first, second) = refused.split(&rows);
        let rounds = self.entry.rounds;
        self.parts.push(Part { rows: second, rounds });
        self.parts.push(Part { rows: first, rounds });
        let in_doubt = self.operation == Operation::Update && self.entry.unknown > 0;
        self.set_fates(rows, if in_doubt { Fate::Unsure } else { Fate::NotApplied });
        self.close();
    }
}
