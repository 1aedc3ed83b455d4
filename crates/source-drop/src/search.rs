//! Decides which files are to be read, given which were read before.

use convoke_core::source::{Split, SplitOutcome, SplitResult};
use convoke_core::spec::DropMode;
use convoke_core::{Origin, SourceError};

use crate::file::{DroppedFile, fingerprint};
use crate::folder::{Folder, cannot};
use crate::position::{Place, SettledFile, split};

/// Holds what lies in the folder against what is known.
pub(crate) struct Search {
    folder: Folder,
    known: Vec<SettledFile>,
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
    pub(crate) fn new(folder: Folder, known: Vec<SettledFile>, notices: Vec<String>) -> Self {
        Self { folder, known, settled: Vec::new(), notices }
    }

    pub(crate) fn run(mut self, mode: DropMode, files: Vec<DroppedFile>, reread: bool) -> Result<Found, SourceError> {
        let splits = match mode {
            DropMode::Snapshot => self.snapshot(files, reread)?,
            DropMode::Append => self.additions(files, reread)?,
        };
        Ok(Found { splits, settled: self.settled, notices: self.notices })
    }

    /// The newest file, unless it is the one already known.
    fn snapshot(&mut self, mut files: Vec<DroppedFile>, reread: bool) -> Result<Vec<Split>, SourceError> {
        let Some(newest) = files.pop() else { return self.last_again(reread) };
        let last_order = self.known.last().map(|last| (last.identity.modified_ns, last.name.clone()));
        let is_new = |file: &DroppedFile| {
            let order = (file.identity.modified_ns, file.name.clone());
            last_order.as_ref().is_none_or(|last| order > *last)
        };
        let skipped = files.iter().filter(|file| is_new(file));
        self.notices.extend(skipped.map(|file| format!("`{}` is older than `{}`; skipped", file.name, newest.name)));
        if self.recognise(&newest)?.is_some() {
            return self.last_again(reread);
        }
        if !is_new(&newest) {
            let name = &newest.name;
            self.notices.push(format!("`{name}` is older than the file read last; skipped (touch it to have it read)"));
            return self.last_again(reread);
        }
        Ok(vec![split(&newest.name, &newest, Place::Folder)])
    }

    fn last_again(&self, reread: bool) -> Result<Vec<Split>, SourceError> {
        match self.known.last() {
            Some(last) if reread => Ok(vec![self.again(last, &self.everywhere()?)?]),
            _ => Ok(Vec::new()),
        }
    }

    /// All files that are not known, in the order in which they were dropped.
    fn additions(&mut self, files: Vec<DroppedFile>, reread: bool) -> Result<Vec<Split>, SourceError> {
        let mut splits = Vec::new();
        if reread {
            let everywhere = self.everywhere()?;
            for known in &self.known {
                splits.push(self.again(known, &everywhere)?);
            }
        }
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

    /// The known file that this one is, by what the file system says or else by its contents.
    fn recognise(&mut self, file: &DroppedFile) -> Result<Option<SettledFile>, SourceError> {
        if let Some(same) = self.known.iter().find(|known| known.identity == file.identity) {
            let same = same.clone();
            self.note_settled(file, &same);
            return Ok(Some(same));
        }
        if !self.known.iter().any(|known| known.identity.size == file.identity.size) {
            return Ok(None);
        }
        let hash = fingerprint(&file.path).map_err(|error| cannot("read", &file.path, error))?;
        let same = self.known.iter().find(|known| known.fingerprint == hash).cloned();
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

    /// The split that reads a settled file again, from wherever it lies.
    fn again(&self, known: &SettledFile, candidates: &[(Place, DroppedFile)]) -> Result<Split, SourceError> {
        if let Some((place, file)) = candidates.iter().find(|(_, file)| known.identity.is_moved(&file.identity)) {
            return Ok(split(&known.name, file, *place));
        }
        for (place, file) in candidates.iter().filter(|(_, file)| file.identity.size == known.identity.size) {
            let hash = fingerprint(&file.path).map_err(|error| cannot("read", &file.path, error))?;
            if hash == known.fingerprint {
                return Ok(split(&known.name, file, *place));
            }
        }
        let place = self.folder.processed().join(&known.name);
        let message = format!(
            "`{}` was read before and has to be read again, but it is gone; put it back as `{}`, or drop a newer file",
            known.name,
            place.display()
        );
        Err(SourceError::new(Origin::User, message))
    }
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
