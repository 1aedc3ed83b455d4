//! Decides which files are to be read, given which were read before.

use convoke_core::source::{Split, SplitOutcome, SplitResult};
use convoke_core::spec::DropMode;
use convoke_core::{Origin, SourceError};

use crate::file::{DroppedFile, fingerprint};
use crate::folder::Folder;
use crate::moving::cannot;
use crate::position::{Place, Position, SettledFile, split};

/// Holds what lies in the folder against what is known.
pub(crate) struct Search {
    folder: Folder,
    known: Position,
    settled: Vec<SplitOutcome>,
    notices: Vec<String>,
}

/// What a search came to.
pub(crate) struct Found {
    /// To be read.
    pub(crate) splits: Vec<Split>,
    /// Lying in the folder although their records are settled.
    pub(crate) settled: Vec<SplitOutcome>,
    pub(crate) notices: Vec<String>,
}

impl Search {
    pub(crate) fn new(folder: Folder, known: Position, notices: Vec<String>) -> Self {
        Self { folder, known, settled: Vec::new(), notices }
    }

    pub(crate) fn run(mut self, mode: DropMode, files: Vec<DroppedFile>, reread: bool) -> Result<Found, SourceError> {
        let splits = match mode {
            DropMode::Snapshot => self.snapshot(files, reread)?,
            DropMode::Append => self.additions(files, reread)?,
        };
        Ok(Found { splits, settled: self.settled, notices: self.notices })
    }

    /// The newest file, unless one that was dropped later is known.
    ///
    /// It is read even if its contents are known: only a file that was read moves the position, and behind a position
    /// that stays, an older file that was skipped would pass for new in a later run.
    fn snapshot(&mut self, mut files: Vec<DroppedFile>, reread: bool) -> Result<Vec<Split>, SourceError> {
        let Some(newest) = files.pop() else { return self.last_again(reread) };
        let quarantined = self.folder.list_quarantined()?.pop();
        if let Some(later) = self.superseded_by(&newest, quarantined.as_ref()) {
            if self.recognise(&newest)?.is_none() {
                let name = &newest.name;
                self.notices.push(format!("`{name}` is older than {later}; skipped (touch it to have it read)"));
            }
            return self.last_again(reread);
        }
        files.retain(|file| self.superseded_by(file, quarantined.as_ref()).is_none());
        let skipped = files.iter().map(|file| format!("`{}` is older than `{}`; skipped", file.name, newest.name));
        self.notices.extend(skipped);
        Ok(vec![split(&newest.name, &newest, Place::Folder)])
    }

    /// What was dropped after this file and makes it count no longer, if anything was.
    ///
    /// A run that finds its only file broken commits nothing, so what lies in quarantine speaks for itself.
    fn superseded_by(&self, file: &DroppedFile, quarantined: Option<&DroppedFile>) -> Option<String> {
        let is_later = |moment: i64| moment > file.identity.modified_ns;
        let last = self.known.files.last();
        if let Some(broken) = quarantined.filter(|broken| is_later(broken.identity.modified_ns)) {
            Some(format!("`{}`, which lies in `quarantine/`", broken.name))
        } else if last.is_some_and(|last| (last.identity.modified_ns, last.name.as_str()) >= file.age_order()) {
            Some("the file read last".to_owned())
        } else if self.known.superseded_before_ns.is_some_and(is_later) {
            Some("a file that was dropped before".to_owned())
        } else {
            None
        }
    }

    fn last_again(&self, reread: bool) -> Result<Vec<Split>, SourceError> {
        let Some(last) = self.known.files.last().filter(|_| reread) else { return Ok(Vec::new()) };
        if let Some(split) = find(last, &self.everywhere()?)? {
            return Ok(vec![split]);
        }
        let place = self.folder.processed().join(&last.name);
        let message = format!(
            "`{}` was read before and has to be read again, but it is gone; put it back as `{}`, or drop a newer file",
            last.name,
            place.display()
        );
        Err(SourceError::new(Origin::User, message))
    }

    /// All files that are not known, in the order in which they were dropped.
    fn additions(&mut self, files: Vec<DroppedFile>, reread: bool) -> Result<Vec<Split>, SourceError> {
        let mut splits = if reread { self.known_again()? } else { Vec::new() };
        let mut accepted: Vec<DroppedFile> = Vec::new();
        for file in files {
            if self.recognise(&file)?.is_some() {
                continue;
            }
            if let Some(twin) = twin_of(&file, &accepted)? {
                self.notices.push(format!("`{}` has the same contents as `{}`; read once", file.name, twin.name));
                continue;
            }
            splits.push(split(&file.name, &file, Place::Folder));
            accepted.push(file);
        }
        Ok(splits)
    }

    /// The known files in the order in which they were read, from wherever they lie; only those behind the last one
    /// that is gone. What was read before that one may hold values that it had replaced.
    fn known_again(&mut self) -> Result<Vec<Split>, SourceError> {
        let everywhere = self.everywhere()?;
        let (mut splits, mut gone) = (Vec::new(), Vec::new());
        for known in &self.known.files {
            match find(known, &everywhere)? {
                Some(split) => splits.push(split),
                None => {
                    splits.clear();
                    gone.push(known.name.as_str());
                }
            }
        }
        if let Some((last, others)) = gone.split_last() {
            let what = match others.len() {
                0 => format!("`{last}`, which was read before, is gone"),
                count => format!("`{last}` and {count} more files that were read before are gone"),
            };
            let processed = self.folder.processed();
            self.notices.push(format!(
                "{what}; only what was read after `{last}` is read again (for all of it, put back what is missing into `{}` and run with `--full`)",
                processed.display()
            ));
        }
        Ok(splits)
    }

    /// The known file that this one is, by what the file system says or else by its contents.
    fn recognise(&mut self, file: &DroppedFile) -> Result<Option<SettledFile>, SourceError> {
        if let Some(same) = self.known.files.iter().find(|known| known.identity == file.identity) {
            let same = same.clone();
            self.note_settled(file, &same);
            return Ok(Some(same));
        }
        if !self.known.files.iter().any(|known| known.identity.size == file.identity.size) {
            return Ok(None);
        }
        let hash = fingerprint(&file.path).map_err(|error| cannot("read", &file.path, error))?;
        let same = self.known.files.iter().find(|known| known.fingerprint == hash).cloned();
        if let Some(same) = &same {
            self.notices
                .push(format!("`{}` has the same contents as `{}`, which was read before", file.name, same.name));
            self.note_settled(file, same);
        }
        Ok(same)
    }

    fn note_settled(&mut self, file: &DroppedFile, same: &SettledFile) {
        let result = SplitResult::Read { fingerprint: same.fingerprint.clone(), records: 0 };
        self.settled.push(SplitOutcome { split: split(&file.name, file, Place::Folder), result });
    }

    /// The files in the folder and those that were moved to `processed/`.
    fn everywhere(&self) -> Result<Vec<(Place, DroppedFile)>, SourceError> {
        let here = self.folder.list()?.into_iter().map(|file| (Place::Folder, file));
        let processed = self.folder.list_processed()?.into_iter().map(|file| (Place::Processed, file));
        Ok(here.chain(processed).collect())
    }
}

/// The split that reads a settled file again, from wherever it lies; none if it is gone.
fn find(known: &SettledFile, candidates: &[(Place, DroppedFile)]) -> Result<Option<Split>, SourceError> {
    if let Some((place, file)) = candidates.iter().find(|(_, file)| known.identity.is_moved(&file.identity)) {
        return Ok(Some(split(&known.name, file, *place)));
    }
    for (place, file) in candidates.iter().filter(|(_, file)| file.identity.size == known.identity.size) {
        let hash = fingerprint(&file.path).map_err(|error| cannot("read", &file.path, error))?;
        if hash == known.fingerprint {
            return Ok(Some(split(&known.name, file, *place)));
        }
    }
    Ok(None)
}

/// An accepted file with the same contents.
fn twin_of<'a>(file: &DroppedFile, accepted: &'a [DroppedFile]) -> Result<Option<&'a DroppedFile>, SourceError> {
    let hash = |file: &DroppedFile| fingerprint(&file.path).map_err(|error| cannot("read", &file.path, error));
    for other in accepted.iter().filter(|other| other.identity.size == file.identity.size) {
        if hash(other)? == hash(file)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
