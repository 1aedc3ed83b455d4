//! What an audience has to hold, worked out from the source and from what persons did, and from nothing that Convoke
//! believes.

use std::collections::{BTreeMap, BTreeSet};

use convoke_core::KeyHash;
use convoke_testkit::fake_sink::LiveRow;

use crate::source::{Source, key_hash};

/// What may be wrong at the end of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A key stands in more than one row.
    Doubled,
    /// A row is missing, or does not hold what it should.
    Lost,
    /// A row that is not ours is gone, or changed.
    Others,
    /// A row of ours that should not be there.
    Unexplained,
    /// A reject is missing, or one too many.
    Reject,
    /// Something does not add up, or is left open.
    Books,
    /// Nothing goes wrong any more, and yet the day does not come to its end.
    Endless,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    #[expect(dead_code, reason = "for whoever reads it")]
    what: String,
}

impl Violation {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

/// What became of a row that a person removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    /// While everything was settled, and nothing has been sent to it since.
    Unnoticed,
    /// Something was sent to it since: it is never made again.
    Noticed,
    /// While a run was going on: whether its create was answered by then is chance, so it may be there again.
    Midway,
}

/// What a row may hold, nothing if its cell failed; none: that there is no row.
type Cells = Option<String>;

#[derive(Default)]
pub(crate) struct Oracle {
    /// For each key what is right once the source is delivered. More than one thing where the destination refuses the
    /// record, so that what was there stays, and the source had moved while that was being delivered.
    right: BTreeMap<u32, BTreeSet<Cells>>,
    /// For each key what it may have come to since everything was settled last.
    reached: BTreeMap<u32, BTreeSet<Cells>>,
    removed: BTreeMap<u32, Removed>,
    /// Rows of others, with their cells.
    others: Vec<LiveRow>,
}

impl Oracle {
    pub(crate) fn person_added(&mut self, row: LiveRow) {
        self.others.push(row);
    }

    /// Keys whose row a person may remove between two days so that what has to come of it is known.
    pub(crate) fn removable(&self, source: &Source) -> Vec<u32> {
        let is_plain = |key: &&u32| !self.removed.contains_key(key);
        source.iter().filter(|(_, record)| !record.is_poison).map(|(key, _)| key).filter(is_plain).copied().collect()
    }

    pub(crate) fn person_removed_between_days(&mut self, key: u32) {
        self.removed.insert(key, Removed::Unnoticed);
    }

    pub(crate) fn person_removed_midway(&mut self, key: u32) {
        self.removed.insert(key, Removed::Midway);
    }

    /// A new day has come, and everything of the last one is settled.
    pub(crate) fn expect(&mut self, source: &Source) {
        self.reached = self.right.clone();
        for (key, removed) in self.removed.iter_mut().filter(|(_, removed)| **removed == Removed::Unnoticed) {
            let of_key = source.get(key).map(|record| BTreeSet::from([Some(record.text(*key))]));
            if of_key.is_some() && of_key.as_ref() != self.right.get(key) {
                *removed = Removed::Noticed;
            }
        }
        self.deliver(source);
    }

    /// The source has moved before everything of it was settled.
    pub(crate) fn expect_midway(&mut self, source: &Source) {
        self.removed.values_mut().for_each(|removed| *removed = Removed::Midway);
        self.deliver(source);
    }

    fn deliver(&mut self, source: &Source) {
        let nothing = BTreeSet::from([None]);
        let keys: BTreeSet<u32> = self.reached.keys().chain(source.keys()).copied().collect();
        for key in keys {
            let reached = self.reached.entry(key).or_insert_with(|| nothing.clone());
            let right = match source.get(&key) {
                None => nothing.clone(),
                Some(record) if record.is_poison => reached.clone(),
                Some(record) => BTreeSet::from([Some(record.text(key))]),
            };
            reached.extend(right.iter().cloned());
            self.right.insert(key, right);
        }
    }

    /// Everything is settled, and nothing was wrong: from here on it is known what each row holds.
    pub(crate) fn settle(&mut self, source: &Source, rows: &[LiveRow]) {
        for (key, right) in self.right.iter_mut().filter(|(_, right)| right.len() > 1) {
            let held = rows.iter().find(|row| is_of(row, *key));
            *right = BTreeSet::from([held.and_then(text_of)]);
        }
        // A row that was gone and that the source no longer has is forgotten; then its key is like any other.
        self.removed.retain(|key, removed| source.contains_key(key) || *removed != Removed::Unnoticed);
        self.right.retain(|key, _| source.contains_key(key));
    }

    /// Takes these rows for what they should hold.
    pub(crate) fn believe(&self, rows: &mut [LiveRow], is_believed: impl Fn(&LiveRow) -> bool) {
        for row in rows.iter_mut().filter(|row| is_believed(row)) {
            let of_key = self.right.iter().find(|(key, _)| is_of(row, **key));
            let held = of_key.and_then(|(_, right)| right.iter().flatten().next().cloned());
            row.cells = vec![held];
        }
    }

    /// What is wrong with the audience, once nothing is on its way any more. `rejected` are the keys that were rejected
    /// of this source.
    pub(crate) fn violations(&self, source: &Source, rows: &[LiveRow], rejected: &BTreeSet<KeyHash>) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let mut add = |kind, what| wrong.push(Violation::new(kind, what));
        for other in self.others.iter().filter(|other| !rows.contains(other)) {
            add(Kind::Others, format!("{}, which is not ours, is gone or changed", other.row_id));
        }
        for key in self.right.keys() {
            let held: Vec<&LiveRow> = rows.iter().filter(|row| is_of(row, *key)).collect();
            if let Some((kind, what)) = self.judge(*key, &held) {
                add(kind, what);
            }
        }
        let is_explained = |row: &&LiveRow| row.key_cell.is_none() || self.right.keys().any(|key| is_of(row, *key));
        for row in rows.iter().filter(|row| !is_explained(row)) {
            add(Kind::Unexplained, format!("{row:?} has no record in the source"));
        }
        for (key, record) in source {
            let (is_rejected, removed) = (rejected.contains(&key_hash(*key)), self.removed.contains_key(key));
            if is_rejected && !record.is_poison {
                add(Kind::Reject, format!("key {key} was rejected, and nothing is wrong with it"));
            }
            if record.is_poison && !is_rejected && !removed {
                add(Kind::Reject, format!("key {key} is refused by the destination, and no reject tells it"));
            }
        }
        wrong
    }

    fn judge(&self, key: u32, held: &[&LiveRow]) -> Option<(Kind, String)> {
        let (right, removed) = (&self.right[&key], self.removed.get(&key));
        let must_be_gone = matches!(removed, Some(Removed::Unnoticed | Removed::Noticed));
        let may_be_gone = removed.is_some() || right.contains(&None);
        let kind = match held {
            [] if may_be_gone => return None,
            [] => Kind::Lost,
            [row] if !must_be_gone && right.contains(&text_of(row)) => return None,
            // Its cell failed, and then came a record that is refused.
            [row] if right.len() > 1 && row.cells == [None] => return None,
            [_] if must_be_gone || right.iter().all(Option::is_none) => Kind::Unexplained,
            [_] => Kind::Lost,
            _ => Kind::Doubled,
        };
        Some((kind, format!("key {key} (removed: {removed:?}) should hold {right:?}, and there is {held:?}")))
    }
}

fn text_of(row: &LiveRow) -> Cells {
    Some(row.cells[0].clone().unwrap_or_default())
}

fn is_of(row: &LiveRow, key: u32) -> bool {
    row.key_cell.is_some_and(|cell| cell.key == key_hash(key))
}
