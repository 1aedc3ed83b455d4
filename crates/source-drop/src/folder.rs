//! The drop folder: which of its files count, and how they are put away.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use convoke_core::spec::{CsvDropSpec, DropMode};
use convoke_core::{Origin, SourceError};
use glob::{MatchOptions, Pattern};

use crate::file::{DroppedFile, Identity, Lot, LotName, Place};
use crate::manifest::{self, Listed};
use crate::marker::{Marked, Markers};
use crate::moved::MovedFiles;
use crate::moving::{Attempts, REASON_ENDING, move_to_free_name, without_number};
use crate::near_misses::{NearMisses, escaped};
use crate::storage::{Storage, cannot_read};

/// Endings that upload tools give to files that are not complete yet.
const TEMPORARY_ENDINGS: &[&str] = &[".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~"];
/// Endings of files that are compressed: what a pattern says of a name holds for the name with one of these, too.
const COMPRESSED_ENDINGS: &[&str] = &[".gz", ".zst", ".zip"];

/// The drop folder with its two subfolders.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) mode: DropMode,
    pattern: Pattern,
    markers: Markers,
    manifests: Option<Pattern>,
}

/// What lies in the drop folder itself.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Oldest first.
    pub(crate) files: Vec<DroppedFile>,
    markers: HashMap<String, DroppedFile>,
    /// Oldest first.
    pub(crate) manifests: Vec<DroppedFile>,
    /// What looks as if it were meant, and is not read.
    pub(crate) notices: Vec<String>,
}

impl Folder {
    pub(crate) fn of(spec: &CsvDropSpec, storage: Arc<dyn Storage>) -> Result<Self, SourceError> {
        Ok(Self {
            storage,
            mode: spec.drop_mode,
            pattern: pattern(&spec.pattern)?,
            markers: Markers::new(spec.done_suffix.clone()),
            manifests: spec.manifest.as_deref().map(pattern).transpose()?,
        })
    }

    /// Lists the drop folder itself.
    pub(crate) fn contents(&self) -> Result<Contents, SourceError> {
        let mut near_misses = NearMisses::default();
        let listed = self.storage.list(Place::Folder, &mut |name| {
            let counts = self.admits(name) || self.is_beside(name);
            if !counts && self.nearly_admits(name) {
                near_misses.note(name);
            }
            counts
        })?;
        let mut contents = Contents::default();
        let told = listed.skipped.iter().map(|(name, why)| format!("`{}` is not read: {why}", escaped(name)));
        contents.notices.extend(told.chain(near_misses.told(&self.pattern)));
        for file in oldest_first(listed.files) {
            if self.is_manifest(&file.name) {
                contents.manifests.push(file);
            } else if self.markers.file_of(&file.name).is_some() {
                contents.markers.insert(file.name.clone(), file);
            } else {
                contents.files.push(file);
            }
        }
        Ok(contents)
    }

    /// Lists what was moved to one of the subfolders, oldest first.
    pub(crate) fn list_moved(&self, place: Place) -> Result<Vec<DroppedFile>, SourceError> {
        let counts = |name: &str| self.admits(name) || self.is_manifest(name);
        let mut was_ours =
            |name: &str| !name.ends_with(REASON_ENDING) && (counts(name) || counts(&without_number(name)));
        Ok(oldest_first(self.storage.list(place, &mut was_ours)?.files))
    }

    /// Lists the files that were moved to `processed/`, oldest first.
    pub(crate) fn list_processed(&self) -> Result<Vec<DroppedFile>, SourceError> {
        let mut files = self.list_moved(Place::Processed)?;
        files.retain(|file| !self.is_manifest(&file.name));
        Ok(files)
    }

    /// What was moved to `quarantine/` last, with when it was dropped.
    pub(crate) fn newest_quarantined(&self) -> Result<Option<LotName>, SourceError> {
        let Some(file) = self.list_moved(Place::Quarantine)?.pop() else { return Ok(None) };
        Ok(Some(LotName { written_ns: self.storage.written_ns(&file)?, name: file.name }))
    }

    /// The newest lot that was moved to `processed/`.
    pub(crate) fn newest_processed(&self) -> Result<Option<Lot>, SourceError> {
        let mut moved = self.list_moved(Place::Processed)?;
        if !self.uses_manifests() {
            return Ok(moved.pop().map(Lot::of_one));
        }
        let Some(manifest) = moved.iter().rfind(|file| self.is_manifest(&file.name)) else { return Ok(None) };
        let listed = self.read_manifest(manifest)?.unwrap_or_default();
        let found = MovedFiles::of(self)?;
        let files = listed.iter().filter_map(|listed| found.since(&listed.name, i64::MIN));
        let files = files.filter(|file| file.place == Place::Processed).cloned().collect();
        Ok(Some(Lot { name: LotName::of(manifest), files }))
    }

    fn admits(&self, name: &str) -> bool {
        !is_temporary(name) && !self.is_beside(name) && self.matches(name, MatchOptions::new())
    }

    /// Whether a name would count if upper and lower case were the same.
    fn nearly_admits(&self, name: &str) -> bool {
        let any_case = MatchOptions { case_sensitive: false, ..MatchOptions::new() };
        !is_temporary(name) && self.matches(name, any_case)
    }

    fn matches(&self, name: &str, options: MatchOptions) -> bool {
        let uncompressed = COMPRESSED_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        // Whoever zips `people.csv` often calls it `people.zip`.
        let zipped = name.strip_suffix(".zip").filter(|stem| !stem.contains('.')).map(|stem| format!("{stem}.csv"));
        let names = [Some(name), uncompressed, zipped.as_deref()];
        names.into_iter().flatten().any(|name| self.pattern.matches_with(name, options))
    }

    /// Whether a file of this name says something of others.
    fn is_beside(&self, name: &str) -> bool {
        self.markers.file_of(name).is_some() || self.is_manifest(name)
    }

    fn is_manifest(&self, name: &str) -> bool {
        self.manifests.as_ref().is_some_and(|pattern| pattern.matches(name))
    }

    pub(crate) fn uses_manifests(&self) -> bool {
        self.manifests.is_some()
    }

    /// How the file stands with its marker.
    pub(crate) fn marked(&self, contents: &Contents, file: &DroppedFile) -> Marked {
        let Some(marker) = self.markers.name_for(&file.name) else { return Marked::NotUsed };
        Marked::by(contents.markers.get(&marker).map(|marker| &marker.identity), file)
    }

    /// What a manifest lists; the inner error says why it cannot be read.
    pub(crate) fn read_manifest(&self, file: &DroppedFile) -> Result<Result<Vec<Listed>, String>, SourceError> {
        if file.identity.size > manifest::LONGEST {
            return Ok(Err("it is too long for a manifest; does `manifest` match other files too?".to_owned()));
        }
        let mut bytes = Vec::new();
        let read = self.storage.open(file)?.take(manifest::LONGEST).read_to_end(&mut bytes);
        read.map_err(|error| cannot_read(&self.shown(file), error))?;
        Ok(manifest::parse(&bytes).and_then(|listed| {
            // Such a file never counts. What stands there may be a line of data, so it is not shown.
            match listed.iter().position(|listed| !self.admits(&listed.name)) {
                Some(at) => Err(format!(
                    "its {}. entry is no name that `pattern` admits; does `manifest` match other files too?",
                    at + 1
                )),
                None => Ok(listed),
            }
        }))
    }

    pub(crate) fn shown(&self, file: &DroppedFile) -> String {
        self.storage.shown(file.place, &file.name)
    }

    /// Moves a file whose records are settled to `processed/`, if it still is the one that was read.
    pub(crate) fn move_processed(&self, name: &str, read: &Identity) -> Result<(), SourceError> {
        self.move_out(name, read, Place::Processed, None)
    }

    /// Moves a file that cannot be used to `quarantine/`, with the reason beside it.
    pub(crate) fn move_broken(&self, name: &str, read: &Identity, reason: &str) -> Result<(), SourceError> {
        self.move_out(name, read, Place::Quarantine, Some(reason))
    }

    fn move_out(&self, name: &str, read: &Identity, place: Place, reason: Option<&str>) -> Result<(), SourceError> {
        let storage = self.storage.as_ref();
        // It was moved already, or another one stands in its place.
        let Some(identity) = storage.look(Place::Folder, name)?.filter(|found| read.is_moved(found)) else {
            return Ok(());
        };
        let file = DroppedFile { place: Place::Folder, name: name.to_owned(), identity };
        let marker = self.markers.name_for(name);
        let marked = match &marker {
            Some(marker) => storage.look(Place::Folder, marker)?,
            None => None,
        };
        // The file goes first: one that had lost its marker to a crash in between would wait for it for ever. A marker
        // that has lost its file does no harm, because it is older than the next file of this name.
        let Some(moved) = move_to_free_name(storage, &file, name, place, reason)? else { return Ok(()) };
        let (Some(marker), Some(identity), Some(target)) = (marker, marked, self.markers.name_for(&moved)) else {
            return Ok(());
        };
        // Another one in its place is meant for a file that is yet to be read.
        if storage.look(Place::Folder, &marker)?.as_ref() == Some(&identity) {
            let marker = DroppedFile { place: Place::Folder, name: marker, identity };
            move_to_free_name(storage, &marker, &target, place, None)?;
        }
        Ok(())
    }

    /// Moves markers and manifests along whose files were moved, now or just before a crash. `done`: manifests of which is
    /// known that their files were.
    pub(crate) fn move_what_is_left(&self, done: &[LotName]) -> Result<(), SourceError> {
        let contents = self.contents()?;
        let names: HashSet<&str> = contents.files.iter().map(|file| file.name.as_str()).collect();
        let is_orphan = |name: &str| {
            let marked = self.markers.file_of(name);
            marked.is_some_and(|file| self.admits(file) && !names.contains(file))
        };
        let mut orphans: Vec<_> = contents.markers.values().filter(|marker| is_orphan(&marker.name)).collect();
        orphans.sort_by(|one, other| one.name.cmp(&other.name));
        if orphans.is_empty() && contents.manifests.is_empty() {
            return Ok(());
        }
        let moved = MovedFiles::of(self)?;
        let mut attempts = Attempts::default();
        for marker in orphans {
            let Some(file) = self.markers.file_of(&marker.name) else { continue };
            // A marker that was written after the move is meant for a file that is yet to come.
            let Some(moved) = moved.since(file, marker.identity.modified_ns) else { continue };
            let Some(target) = self.markers.name_for(&moved.name) else { continue };
            attempts.note(move_to_free_name(self.storage.as_ref(), marker, &target, moved.place, None));
        }
        for manifest in &contents.manifests {
            attempts.note(self.move_done_manifest(manifest, &names, &moved, done));
        }
        attempts.end()
    }

    fn move_done_manifest(
        &self,
        manifest: &DroppedFile,
        names: &HashSet<&str>,
        moved: &MovedFiles,
        done: &[LotName],
    ) -> Result<(), SourceError> {
        let is_done = done.contains(&LotName::of(manifest));
        // A file of a snapshot may have the name of one of the snapshot before, which has just been moved: the names alone
        // do not tell whose it was.
        if self.mode == DropMode::Snapshot && !is_done {
            return Ok(());
        }
        if let Some(place) = self.place_of_done(manifest, names, moved, is_done)? {
            let reason = (place == Place::Quarantine).then_some("a file that it lists cannot be used");
            move_to_free_name(self.storage.as_ref(), manifest, &manifest.name, place, reason)?;
        }
        Ok(())
    }

    /// Where a manifest goes whose files have all been moved; none if some have not. With a file in quarantine it goes
    /// there, and says of older ones that they are not the truth again.
    fn place_of_done(
        &self,
        manifest: &DroppedFile,
        names: &HashSet<&str>,
        moved: &MovedFiles,
        is_done: bool,
    ) -> Result<Option<Place>, SourceError> {
        let Ok(listed) = self.read_manifest(manifest)? else { return Ok(None) };
        let mut place = Place::Processed;
        for listed in &listed {
            match moved.of_manifest(manifest, listed) {
                _ if names.contains(listed.name.as_str()) => return Ok(None),
                Some(file) => place = place.max(file.place),
                // Somebody has cleared it away.
                None if is_done => {}
                None => return Ok(None),
            }
        }
        Ok(Some(place))
    }
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(['.', '~']) || TEMPORARY_ENDINGS.iter().any(|end| name.ends_with(end))
}

fn pattern(text: &str) -> Result<Pattern, SourceError> {
    Pattern::new(text).map_err(|error| {
        let message = format!("`{text}` is no file name pattern; write for example `*.csv`");
        SourceError::new(Origin::User, message).caused_by(error)
    })
}

fn oldest_first(mut files: Vec<DroppedFile>) -> Vec<DroppedFile> {
    files.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalFolder;

    fn folder(pattern: &str) -> Folder {
        Folder {
            storage: Arc::new(LocalFolder::new(std::path::PathBuf::new())),
            mode: DropMode::Snapshot,
            pattern: Pattern::new(pattern).unwrap(),
            markers: Markers::new(Some(".done".to_owned())),
            manifests: Some(Pattern::new("*.manifest").unwrap()),
        }
    }

    #[test]
    fn hidden_temporary_and_marker_files_and_manifests_do_not_count() {
        let folder = folder("*");
        assert!(folder.admits("a.csv"));
        for name in [".a.csv", "~a.csv", "a.csv.part", "a.csv.tmp", "a.csv~", "a.csv.done", "a.manifest"] {
            assert!(!folder.admits(name), "{name}");
        }
    }

    #[test]
    fn a_pattern_admits_what_is_compressed_too() {
        let folder = folder("people-*.csv");
        for name in ["people-1.csv", "people-1.csv.gz", "people-1.csv.zst", "people-1.csv.zip", "people-1.zip"] {
            assert!(folder.admits(name), "{name}");
        }
        for name in ["people-1.txt", "people-1.txt.gz", "companies.zip", "people-1.csv.gz.part"] {
            assert!(!folder.admits(name), "{name}");
        }
    }
}
