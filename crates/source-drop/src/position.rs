//! What the source remembers between runs, and what a split carries.

use std::collections::HashSet;

use convoke_core::source::{SourcePosition, Split, SplitOutcome, SplitResult};
use convoke_core::spec::{DropMode, ProcessedFiles};
use convoke_core::{Origin, SourceError};
use serde::{Deserialize, Serialize};

use crate::earlier::{Earlier, prefix};
use crate::file::{DroppedFile, Identity, LotName, Place};

/// Files that are remembered with all that is known of them; of those before, only what tells them again is kept.
pub(crate) const WHOLE: usize = 1_000;

/// A settled file: enough to recognise it, and to find it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettledFile {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) identity: Identity,
}

/// The files whose records are in the audience: the last lot in snapshot mode, all of them in append mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Those before `files`, in the order in which they were read.
    #[serde(default, skip_serializing_if = "Earlier::is_empty")]
    pub(crate) earlier: Earlier,
    /// In the order in which they were read.
    pub(crate) files: Vec<SettledFile>,
    /// In snapshot mode: what was dropped before this moment no longer counts, in nanoseconds since the Unix epoch.
    /// Never goes back, also when the newest file was broken or an older one with the same contents was read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) superseded_before_ns: Option<i64>,
    /// In snapshot mode: the manifest whose files were read last, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lot: Option<LotName>,
    /// In snapshot mode: files of that manifest that could not be read. `files` alone are no whole truth then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<String>,
    /// Files that could not be read and were kept where they are, in the order in which they were met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) broken: Vec<BrokenFile>,
}

/// A file that cannot be read, and lies where it was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokenFile {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) reason: String,
}

/// What a folder is like, as far as that decides what is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) mode: DropMode,
    pub(crate) processed: ProcessedFiles,
}

impl Position {
    pub(crate) fn parse(stored: &SourcePosition) -> Result<Self, SourceError> {
        serde_json::from_value(stored.0.clone()).map_err(|error| {
            let message = "the stored position is not that of a drop folder; \
                           if the sync had another source before, give the sync a new name";
            SourceError::new(Origin::User, message).caused_by(error)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.earlier.is_empty()
    }

    /// The position after these splits: of those that were read to their end, and past those that were broken.
    pub(crate) fn after(mut self, outcomes: &[SplitOutcome], habits: Habits) -> Self {
        let mode = habits.mode;
        let details: Vec<_> = outcomes.iter().filter_map(|outcome| Some((outcome, detail_of(outcome)?))).collect();
        let read: Vec<SettledFile> = details.iter().filter_map(|(outcome, detail)| settled(outcome, detail)).collect();
        if mode == DropMode::Snapshot {
            let written = details.iter().map(|(_, detail)| detail.written_ns()).max();
            self.superseded_before_ns = self.superseded_before_ns.max(written);
            if !read.is_empty() {
                (self.files, self.earlier) = (Vec::new(), Earlier::default());
                self.begin_lot(details.iter().find_map(|(_, detail)| detail.lot.clone()), outcomes);
            }
        }
        if habits.processed == ProcessedFiles::Keep {
            self.note_broken(&details);
        }
        let again: HashSet<_> = read.iter().filter_map(|file| prefix(&file.fingerprint)).collect();
        self.files.retain(|known| prefix(&known.fingerprint).is_none_or(|known| !again.contains(&known)));
        self.earlier.forget(&again);
        self.files.extend(read);
        if mode == DropMode::Append && self.files.len() > WHOLE {
            let surplus = self.files.len() - WHOLE;
            self.earlier.extend(self.files.drain(..surplus));
        }
        self
    }

    /// Notes which files are the truth now, and what of it could not be read. A lot that is read again is not made whole by
    /// that.
    fn begin_lot(&mut self, lot: Option<LotName>, outcomes: &[SplitOutcome]) {
        let is_again = lot.is_some() && lot == self.lot;
        let mut lacking = if is_again { std::mem::take(&mut self.lacking) } else { Vec::new() };
        for SplitOutcome { split, result } in outcomes {
            lacking.retain(|name| *name != split.name);
            if matches!(result, SplitResult::Broken { .. }) {
                lacking.push(split.name.clone());
            }
        }
        (self.lot, self.lacking) = (lot, lacking);
    }

    fn note_broken(&mut self, details: &[(&SplitOutcome, SplitDetail)]) {
        let names: HashSet<&str> = details.iter().map(|(outcome, _)| outcome.split.name.as_str()).collect();
        self.broken.retain(|file| !names.contains(file.name.as_str()));
        for (outcome, detail) in details {
            if let SplitResult::Broken { reason } = &outcome.result {
                let (name, identity) = (outcome.split.name.clone(), detail.identity.clone());
                self.broken.push(BrokenFile { name, identity, reason: reason.clone() });
            }
        }
        let surplus = self.broken.len().saturating_sub(WHOLE);
        self.broken.drain(..surplus);
    }

    pub(crate) fn store(&self) -> SourcePosition {
        SourcePosition(serde_json::json!(self))
    }
}

fn detail_of(outcome: &SplitOutcome) -> Option<SplitDetail> {
    SplitDetail::of(&outcome.split).ok()
}

fn settled(outcome: &SplitOutcome, detail: &SplitDetail) -> Option<SettledFile> {
    let SplitResult::Read { fingerprint, .. } = &outcome.result else { return None };
    let (name, fingerprint) = (outcome.split.name.clone(), fingerprint.clone());
    Some(SettledFile { name, fingerprint, identity: detail.identity.clone() })
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitDetail {
    pub(crate) place: Place,
    /// The file's own name, which may have got a number when it was moved.
    pub(crate) file: String,
    pub(crate) identity: Identity,
    /// The manifest that lists the file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lot: Option<LotName>,
}

impl SplitDetail {
    pub(crate) fn of(split: &Split) -> Result<Self, SourceError> {
        serde_json::from_value(split.detail.clone()).map_err(|error| {
            let message = format!("split `{}` is not one of a drop folder", split.name);
            SourceError::new(Origin::Internal, message).caused_by(error)
        })
    }

    fn written_ns(&self) -> i64 {
        self.lot.as_ref().map_or(self.identity.written_ns(), |lot| lot.written_ns)
    }

    pub(crate) fn dropped(&self) -> DroppedFile {
        DroppedFile { place: self.place, name: self.file.clone(), identity: self.identity.clone() }
    }
}

/// The split that reads `file`; `name` is the name under which it was dropped, `lot` the manifest that lists it.
pub(crate) fn split(name: &str, file: &DroppedFile, lot: Option<&LotName>) -> Split {
    let DroppedFile { place, name: own_name, identity } = file.clone();
    let detail = SplitDetail { place, file: own_name, identity, lot: lot.cloned() };
    Split { name: name.to_owned(), detail: serde_json::json!(detail), bytes: Some(file.identity.size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::earlier::REMEMBERED;

    fn file(number: u64) -> SettledFile {
        let identity = Identity {
            device: 1,
            inode: number,
            size: 10 + number,
            modified_ns: number.cast_signed(),
            changed_ns: 0,
            version: None,
        };
        let fingerprint = blake3::hash(&number.to_le_bytes()).to_hex().to_string();
        SettledFile { name: format!("{number}.csv"), fingerprint, identity }
    }

    fn read(numbers: impl Iterator<Item = u64>) -> Vec<SplitOutcome> {
        let outcome = |number| {
            let SettledFile { name, fingerprint, identity } = file(number);
            let dropped = DroppedFile { place: Place::Folder, name: name.clone(), identity };
            let result = SplitResult::Read { fingerprint, records: 1 };
            SplitOutcome { split: split(&name, &dropped, None), result }
        };
        numbers.map(outcome).collect()
    }

    #[test]
    fn of_files_beyond_what_is_remembered_the_oldest_are_forgotten_at_once() {
        let surplus = 10;
        let mut earlier = Earlier::default();
        earlier.extend((0..REMEMBERED as u64 + surplus).map(file));
        assert_eq!(earlier.len(), REMEMBERED);
        assert_eq!(earlier.iter().next().map(|first| first.prefix), prefix(&file(surplus).fingerprint));
    }

    const ADDING: Habits = Habits { mode: DropMode::Append, processed: ProcessedFiles::Move };

    #[test]
    fn many_files_are_remembered_in_few_bytes_each_and_none_is_forgotten() {
        let position = Position::default().after(&read(0..5_000), ADDING);
        assert_eq!((position.files.len(), position.earlier.len()), (WHOLE, 4_000));
        let stored = position.store();
        let bytes = stored.0.to_string().len();
        assert!(bytes < WHOLE * 300 + 4_000 * 40, "{bytes} bytes");
        assert_eq!(Position::parse(&stored).unwrap(), position);
        // Read once more, as after `--full`: each still stands there once.
        let again = position.after(&read(0..5_000), ADDING);
        assert_eq!((again.files.len(), again.earlier.len()), (WHOLE, 4_000));
        assert_eq!(again.files.last(), Some(&file(4_999)));
    }
}
