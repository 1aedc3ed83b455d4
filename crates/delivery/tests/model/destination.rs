//! The destination: rows, and requests that may still commit. Time goes in ticks.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use convoke_core::sink::{AttemptTag, JobState, KeyCell};
use convoke_core::{KeyHash, RowId};

/// A request commits within this many ticks after it was sent, or never.
pub(crate) const COMMIT: u8 = 2;
/// A committed row is found by search within this many ticks.
pub(crate) const SETTLE: u8 = 1;
/// A process that lost its lease has no request under way any more after this many ticks.
pub(crate) const TIMEOUT: u8 = 2;

pub(crate) type Key = u8;
pub(crate) type Id = u8;
/// Version of what a record holds.
pub(crate) type Content = u8;

/// A row of the audience.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) id: Id,
    /// None: a person's.
    pub(crate) cell: Option<(Key, AttemptTag)>,
    pub(crate) content: Content,
    /// Ticks that search may still miss it for.
    pub(crate) hidden: u8,
    /// Whether a person made it; its cell may be a copy of ours all the same.
    pub(crate) by_person: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payload {
    Create(Vec<(Key, AttemptTag, Content)>),
    Update(Vec<(Id, Content)>),
    Delete(Vec<Id>),
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Create(rows) => rows.len(),
            Self::Update(rows) => rows.len(),
            Self::Delete(ids) => ids.len(),
        }
    }

    pub(crate) fn creates(&self, key: Key) -> bool {
        matches!(self, Self::Create(rows) if rows.iter().any(|(of, ..)| *of == key))
    }
}

/// A request that has not committed, and whose sender may have gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InFlight {
    pub(crate) number: u8,
    pub(crate) payload: Payload,
    /// Ticks within which it may commit; none: it has outlived its bound.
    pub(crate) left: Option<u8>,
    /// Whether its answer is still to come.
    pub(crate) awaited: bool,
    pub(crate) job: Job,
}

/// Whether a request goes on as a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    None,
    /// It was accepted as one, and only the process that asked for it knows. If that ends, it is a request like others.
    Accepted,
    /// Its id is in the journal: it may take as long as it likes, since whoever settles asks for its end.
    Noted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) rows: Vec<Row>,
    pub(crate) in_flight: Vec<InFlight>,
    /// How jobs ended.
    pub(crate) ended: BTreeMap<u8, JobState>,
    next_id: Id,
    next_number: u8,
}

impl Hash for Destination {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ended: Vec<(u8, bool)> =
            self.ended.iter().map(|(number, how)| (*number, *how == JobState::Succeeded)).collect();
        (&self.rows, &self.in_flight, ended, self.next_id, self.next_number).hash(state);
    }
}

/// Which rows of a request are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    /// All but those that nothing can be done with.
    Good,
    /// All but the last one.
    ButLast,
}

impl Destination {
    pub(crate) fn add_row(&mut self, cell: Option<(Key, AttemptTag)>, content: Content, hidden: u8) -> Id {
        self.next_id += 1;
        self.rows.push(Row { id: self.next_id, cell, content, hidden, by_person: false });
        self.next_id
    }

    /// A person makes a row, of nothing or as a copy of one of ours.
    pub(crate) fn add_by_person(&mut self, cell: Option<(Key, AttemptTag)>) {
        let id = self.add_row(cell, 50, 0);
        self.rows.iter_mut().filter(|row| row.id == id).for_each(|row| row.by_person = true);
    }

    pub(crate) fn receive(&mut self, payload: Payload) -> u8 {
        self.next_number += 1;
        self.in_flight.push(InFlight {
            number: self.next_number,
            payload,
            left: Some(COMMIT),
            awaited: true,
            job: Job::None,
        });
        self.next_number
    }

    pub(crate) fn request(&mut self, number: u8) -> &mut InFlight {
        self.in_flight.iter_mut().find(|request| request.number == number).expect("it is in flight")
    }

    pub(crate) fn take(&mut self, number: u8) -> Payload {
        let at = self.in_flight.iter().position(|request| request.number == number).expect("it is in flight");
        self.in_flight.remove(at).payload
    }

    /// Rows of the request, by index, that it is refused for.
    pub(crate) fn faults_of(&self, payload: &Payload, poison: &[Key]) -> Vec<usize> {
        let is_bad: Vec<bool> = match payload {
            Payload::Create(rows) => rows.iter().map(|(key, ..)| poison.contains(key)).collect(),
            Payload::Update(rows) => rows.iter().map(|(id, _)| self.is_bad(*id, poison)).collect(),
            Payload::Delete(ids) => ids.iter().map(|id| self.row(*id).is_none()).collect(),
        };
        (0..is_bad.len()).filter(|index| is_bad[*index]).collect()
    }

    fn is_bad(&self, id: Id, poison: &[Key]) -> bool {
        self.row(id).is_none_or(|row| row.cell.is_some_and(|(key, _)| poison.contains(&key)))
    }

    pub(crate) fn row(&self, id: Id) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// Commits a part of a request; returns index and id of each row that was touched.
    pub(crate) fn commit(&mut self, payload: &Payload, part: Part, poison: &[Key], hidden: u8) -> Vec<(usize, Id)> {
        let bad = self.faults_of(payload, poison);
        let is_done = |index: &usize| match part {
            Part::All => true,
            Part::Good => !bad.contains(index),
            Part::ButLast => index + 1 < payload.len(),
        };
        let indices: Vec<usize> = (0..payload.len()).filter(is_done).collect();
        indices.into_iter().filter_map(|index| Some((index, self.write(payload, index, hidden)?))).collect()
    }

    fn write(&mut self, payload: &Payload, index: usize, hidden: u8) -> Option<Id> {
        match payload {
            Payload::Create(rows) => {
                let (key, tag, content) = rows[index];
                Some(self.add_row(Some((key, tag)), content, hidden))
            }
            Payload::Update(rows) => {
                let (id, content) = rows[index];
                self.rows.iter_mut().find(|row| row.id == id)?.content = content;
                Some(id)
            }
            Payload::Delete(ids) => {
                self.rows.retain(|row| row.id != ids[index]);
                Some(ids[index])
            }
        }
    }

    /// Whether a request would delete a row that a person made.
    pub(crate) fn deletes_of_others(&self, payload: &Payload) -> bool {
        let Payload::Delete(ids) = payload else { return false };
        ids.iter().any(|id| self.row(*id).is_some_and(|row| row.by_person))
    }

    /// A tick. `outlives` tells whether requests past their bound stay.
    pub(crate) fn tick(&mut self, outlives: bool) {
        for row in &mut self.rows {
            row.hidden = row.hidden.saturating_sub(1);
        }
        self.in_flight.retain_mut(|request| match request.left {
            _ if request.job != Job::None => true,
            Some(0) if !outlives => false,
            Some(0) => {
                request.left = None;
                true
            }
            Some(left) => {
                request.left = Some(left - 1);
                true
            }
            None => true,
        });
    }

    /// Rows of ours under a key.
    pub(crate) fn ours(&self, key: Key) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| !row.by_person && row.cell.is_some_and(|(of, _)| of == key))
    }

    /// Every answer that search may give to a question: rows that just came may be missing in any combination.
    pub(crate) fn search(&self, wanted: impl Fn(&Row) -> bool) -> Vec<Vec<Row>> {
        let hits: Vec<&Row> = self.rows.iter().filter(|row| wanted(row)).collect();
        let hidden: Vec<Id> = hits.iter().filter(|row| row.hidden > 0).map(|row| row.id).collect();
        let answer = |seen: u32| -> Vec<Row> {
            let is_seen = |row: &&&Row| {
                let place = hidden.iter().position(|id| *id == row.id);
                place.is_none_or(|place| seen & (1 << place) != 0)
            };
            hits.iter().filter(is_seen).map(|row| (*row).clone()).collect()
        };
        (0..1_u32 << hidden.len()).map(answer).collect()
    }
}

pub(crate) fn key_hash(key: Key) -> KeyHash {
    KeyHash([key; 16])
}

pub(crate) fn key_cell((key, tag): (Key, AttemptTag)) -> KeyCell {
    KeyCell { key: key_hash(key), tag }
}

pub(crate) fn row_id(id: Id) -> RowId {
    RowId::new(id.to_string())
}

pub(crate) fn id_of(row_id: &RowId) -> Id {
    row_id.as_str().parse().expect("the model's row ids are numbers")
}
