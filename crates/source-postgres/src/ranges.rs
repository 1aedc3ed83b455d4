//! What the reads of one discovery share: the snapshot that all ranges are read in, and what each of them saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use convoke_core::source::Split;

use crate::coordinator::Coordinator;
use crate::incremental::{Arrival, Standing};
use crate::snapshot::Snapshot;
use crate::tracker::Seen;

/// Of one discovery.
#[derive(Default)]
pub(crate) struct Ranges {
    /// Held while the snapshot is opened, so that only one of those who come at the same time opens it.
    pub(crate) coordinator: tokio::sync::Mutex<Option<Coordinator>>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    /// The ranges that were listed and have not been read to their ends.
    missing: BTreeSet<String>,
    ended: BTreeMap<String, Ended>,
    /// What the relation was like; there if what is read tells where the next read begins.
    standing: Option<Standing>,
}

/// A split that was read to its end.
#[derive(Clone)]
struct Ended {
    /// Of a range, in which all have to be read.
    snapshot: Option<Snapshot>,
    arrival: Option<Arrival>,
}

/// What a read saw.
pub(crate) struct Sight {
    pub(crate) snapshot: Option<Snapshot>,
    /// Whether others are to read in the same snapshot.
    pub(crate) is_range: bool,
    pub(crate) is_whole: bool,
    pub(crate) seen: Seen,
}

impl Ranges {
    fn read(&self) -> MutexGuard<'_, Read> {
        // Whoever panicked left nothing half done.
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew with these splits.
    pub(crate) async fn begin(&self, splits: &[Split], standing: Option<Standing>) {
        *self.coordinator.lock().await = None;
        let missing = splits.iter().map(|split| split.name.clone()).collect();
        *self.read() = Read { missing, ended: BTreeMap::new(), standing };
    }

    /// Lets go of the snapshot.
    pub(crate) async fn end(&self) {
        *self.coordinator.lock().await = None;
    }

    /// A split was read to its end; lets go of the snapshot if it was the last.
    pub(crate) async fn note(&self, name: &str, sight: Sight) {
        let Sight { snapshot, is_range, is_whole, seen } = sight;
        let is_last = {
            let mut read = self.read();
            let arrival = read.standing.clone().zip(snapshot);
            let arrival = arrival.map(|(standing, snapshot)| Arrival { standing, is_whole, snapshot, seen });
            let snapshot = snapshot.filter(|_| is_range);
            read.ended.insert(name.to_owned(), Ended { snapshot, arrival });
            read.missing.remove(name) && read.missing.is_empty()
        };
        if is_last {
            self.end().await;
        }
    }

    /// Whether these splits were read, each to its end, and all in one snapshot if there is more than one.
    pub(crate) fn are_one(&self, splits: &[Split]) -> bool {
        let read = self.read();
        let mut snapshots = splits.iter().map(|split| read.ended.get(&split.name).map(|ended| ended.snapshot));
        let first = snapshots.next().flatten();
        splits.len() < 2 || (first.flatten().is_some() && snapshots.all(|snapshot| snapshot == first))
    }

    /// What these splits together say of where the next read begins.
    pub(crate) fn arrival<'s>(&self, splits: impl Iterator<Item = &'s Split>) -> Option<Arrival> {
        let read = self.read();
        let mut together: Option<Arrival> = None;
        for split in splits {
            let arrival = read.ended.get(&split.name)?.arrival.clone()?;
            together = Some(match together {
                None => arrival,
                Some(other) if other.snapshot == arrival.snapshot => {
                    Arrival { seen: other.seen.and(arrival.seen), ..arrival }
                }
                Some(_) => return None,
            });
        }
        together
    }
}
