//! What the source remembers between runs: the objects whose records are settled, and the columns they had.
//!
//! An object is remembered by two digests, of its URL and of what tells its contents (ETag or version, and size): fifteen
//! bytes, whatever the key. A million objects are 15 MB in memory and 20 MB in the checkpoint. A snapshot that is settled
//! whole is told by one digest over those of its objects. Objects that are gone from the listing are forgotten, so a
//! position is never larger than what is listed. Of columns that objects no longer have at most a few thousand are kept.
//!
//! That two URLs have one digest (72 bits), and their contents too (48 bits), does not happen; if two URLs had, one of the
//! two objects would be read again with each run.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use convoke_core::source::{SourcePosition, SplitOutcome, SplitResult};
use convoke_core::{Origin, SourceError};
use convoke_objects::{ListedObject, Location, Pin};
use serde::{Deserialize, Serialize};

use crate::drift::KnownColumn;

const URL_BYTES: usize = 9;
const CONTENTS_BYTES: usize = 6;
const MARK_BYTES: usize = URL_BYTES + CONTENTS_BYTES;

/// An object as it was settled.
pub(crate) type Mark = [u8; MARK_BYTES];

/// What is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    settled: Settled,
    /// The columns of what was read; none before anything was.
    columns: Option<Vec<KnownColumn>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Settled {
    /// Ordered, so that one is found soon.
    Objects(Arc<Vec<Mark>>),
    /// A snapshot: how many objects, and a digest over their marks.
    Together { count: u64, digest: String },
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marks: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<(u64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<KnownColumn>>,
}

/// As it was stored before it was digested.
#[derive(Deserialize)]
struct Named {
    root: String,
    objects: BTreeMap<String, (String, u64)>,
}

const VERSION: u32 = 2;

/// Tells an object by where it is and what it holds.
pub(crate) fn mark_of(location: &Location, pin: &Pin) -> Mark {
    mark(&location.url_of(&pin.key), &pin.fingerprint(), pin.size)
}

fn mark(url: &str, fingerprint: &str, size: u64) -> Mark {
    let mut mark = [0; MARK_BYTES];
    let (of_url, of_contents) = mark.split_at_mut(URL_BYTES);
    of_url.copy_from_slice(&blake3::hash(url.as_bytes()).as_bytes()[..URL_BYTES]);
    let contents = blake3::hash(format!("{size} {fingerprint}").as_bytes());
    of_contents.copy_from_slice(&contents.as_bytes()[..CONTENTS_BYTES]);
    mark
}

impl Position {
    pub(crate) fn empty() -> Self {
        Self { settled: Settled::Objects(Arc::default()), columns: None }
    }

    pub(crate) fn parse(stored: &SourcePosition) -> Result<Self, SourceError> {
        if let Ok(named) = Named::deserialize(&stored.0) {
            let url = |name: &str| format!("{}{name}", named.root);
            let marks = named.objects.iter().map(|(name, (fingerprint, size))| mark(&url(name), fingerprint, *size));
            return Ok(Self { settled: Settled::of(marks.collect()), columns: None });
        }
        let not_ours = || {
            let message = "the stored position is not that of an object store; \
                           if the sync had another source before, give the sync a new name";
            SourceError::new(Origin::User, message)
        };
        let stored = Stored::deserialize(&stored.0).map_err(|error| not_ours().caused_by(error))?;
        let settled = match (stored.marks, stored.snapshot) {
            (Some(marks), None) if stored.version == VERSION => Settled::of(decoded(&marks).ok_or_else(not_ours)?),
            (None, Some((count, digest))) if stored.version == VERSION => Settled::Together { count, digest },
            _ => return Err(not_ours()),
        };
        Ok(Self { settled, columns: stored.columns })
    }

    pub(crate) fn columns(&self) -> Option<&[KnownColumn]> {
        self.columns.as_deref()
    }

    /// Whether this object is settled as it is.
    #[cfg(test)]
    pub(crate) fn holds(&self, mark: &Mark) -> bool {
        match &self.settled {
            Settled::Objects(marks) => marks.binary_search(mark).is_ok(),
            Settled::Together { .. } => false,
        }
    }

    /// Whether these objects, and no others, are settled as they are.
    pub(crate) fn is_exactly(&self, location: &Location, objects: &[ListedObject]) -> bool {
        let marks: Vec<Mark> = objects.iter().map(|object| mark_of(location, &object.pin)).collect();
        self.settled.summary() == Settled::of(marks).summary()
    }

    /// The position after a snapshot of these splits. One that is broken is to be met again, so it is not settled.
    pub(crate) fn of_snapshot(location: &Location, outcomes: &[SplitOutcome]) -> Self {
        let read = outcomes.iter().filter(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
        let (count, digest) = Settled::of(marks_of(location, read)).summary();
        Self { settled: Settled::Together { count, digest }, columns: None }
    }

    /// The position after these additions. One that is broken is settled too: it is not read again until it is replaced.
    /// Of what was settled before, what is no longer listed as it was is forgotten.
    pub(crate) fn after_additions(self, location: &Location, outcomes: &[SplitOutcome], kept: Option<&[Mark]>) -> Self {
        let mut marks = match (&self.settled, kept) {
            (_, Some(kept)) => kept.to_vec(),
            (Settled::Objects(marks), None) => marks.to_vec(),
            (Settled::Together { .. }, None) => Vec::new(),
        };
        let added = marks_of(location, outcomes);
        let replaced: HashSet<&[u8]> = added.iter().map(|mark| &mark[..URL_BYTES]).collect();
        marks.retain(|mark| !replaced.contains(&mark[..URL_BYTES]));
        marks.extend(added);
        Self { settled: Settled::of(marks), ..self }
    }

    /// With the columns that are known from now on.
    pub(crate) fn knowing(self, columns: Option<Vec<KnownColumn>>) -> Self {
        Self { columns, ..self }
    }

    pub(crate) fn store(&self) -> SourcePosition {
        let (marks, snapshot) = match &self.settled {
            Settled::Objects(marks) => (Some(STANDARD.encode(marks.concat())), None),
            Settled::Together { count, digest } => (None, Some((*count, digest.clone()))),
        };
        let stored = Stored { version: VERSION, marks, snapshot, columns: self.columns.clone() };
        SourcePosition(serde_json::json!(stored))
    }
}

/// Holds what is listed against what is settled, object by object.
#[derive(Debug)]
pub(crate) struct Sift<'p> {
    marks: &'p [Mark],
    is_there: Vec<bool>,
    kept: Vec<Mark>,
}

impl<'p> Sift<'p> {
    pub(crate) fn new(known: Option<&'p Position>) -> Self {
        let marks: &[Mark] = match known.map(|known| &known.settled) {
            Some(Settled::Objects(marks)) => marks,
            Some(Settled::Together { .. }) | None => &[],
        };
        Self { marks, is_there: vec![false; marks.len()], kept: Vec::new() }
    }

    /// Takes note that an object is listed; tells whether it is settled as it is.
    pub(crate) fn is_settled(&mut self, mark: Mark) -> bool {
        let is_settled = self.note(&mark).is_some_and(|settled| settled == mark);
        if is_settled {
            self.kept.push(mark);
        }
        is_settled
    }

    /// Takes note that an object of this URL is listed, but not to be judged yet: what is settled of it stays so.
    pub(crate) fn put_off(&mut self, mark: &Mark) {
        let settled = self.note(mark);
        self.kept.extend(settled);
    }

    /// Takes note that an object of this URL is listed; gives back what is settled of it.
    fn note(&mut self, mark: &Mark) -> Option<Mark> {
        let index = self.marks.binary_search_by(|known| known[..URL_BYTES].cmp(&mark[..URL_BYTES])).ok()?;
        self.is_there[index] = true;
        Some(self.marks[index])
    }

    /// What is settled and listed as it was or not to be judged yet, and how many settled objects are not listed in any form.
    pub(crate) fn finish(self) -> (Vec<Mark>, usize) {
        (self.kept, self.is_there.into_iter().filter(|is_there| !is_there).count())
    }
}

impl Settled {
    fn of(mut marks: Vec<Mark>) -> Self {
        marks.sort_unstable();
        marks.dedup();
        Self::Objects(Arc::new(marks))
    }

    /// How many objects, and a digest over their marks.
    fn summary(&self) -> (u64, String) {
        match self {
            Self::Objects(marks) => {
                let mut hasher = blake3::Hasher::new();
                for mark in marks.iter() {
                    hasher.update(mark);
                }
                (marks.len() as u64, hasher.finalize().to_hex().to_string())
            }
            Self::Together { count, digest } => (*count, digest.clone()),
        }
    }
}

fn marks_of<'o>(location: &Location, outcomes: impl IntoIterator<Item = &'o SplitOutcome>) -> Vec<Mark> {
    let pins = outcomes.into_iter().filter_map(|outcome| Pin::of(&outcome.split).ok());
    pins.map(|pin| mark_of(location, &pin)).collect()
}

fn decoded(marks: &str) -> Option<Vec<Mark>> {
    let bytes = STANDARD.decode(marks).ok()?;
    let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
    rest.is_empty().then(|| marks.to_vec())
}

#[cfg(test)]
mod tests;
