//! What has become of files that were dropped: which of those that were moved is which.

use std::collections::{HashMap, HashSet};

use convoke_core::SourceError;

use crate::file::{DroppedFile, Place};
use crate::folder::Folder;
use crate::manifest::Listed;
use crate::moving::without_number;

/// What was moved to the subfolders, by the names under which the files were dropped.
#[derive(Default)]
pub(crate) struct MovedFiles(HashMap<String, Vec<DroppedFile>>);

impl MovedFiles {
    pub(crate) fn of(folder: &Folder) -> Result<Self, SourceError> {
        let mut by_name: HashMap<String, Vec<DroppedFile>> = HashMap::new();
        for place in [Place::Processed, Place::Quarantine] {
            let files = folder.list_moved(place)?;
            let names: HashSet<String> = files.iter().map(|file| file.name.clone()).collect();
            for file in files {
                // A move gives a number only where the name is taken; any other number is the file's own.
                let dropped_as = without_number(&file.name);
                if dropped_as != file.name && names.contains(&dropped_as) {
                    by_name.entry(dropped_as).or_default().push(file.clone());
                }
                by_name.entry(file.name.clone()).or_default().push(file);
            }
        }
        Ok(Self(by_name))
    }

    /// The last file of this name that was moved at this moment or later: a move changes `changed_ns`.
    pub(crate) fn since(&self, name: &str, moment_ns: i64) -> Option<&DroppedFile> {
        let moved = self.0.get(name)?.iter().filter(|moved| moved.identity.changed_ns >= moment_ns);
        moved.max_by_key(|moved| moved.identity.changed_ns)
    }

    /// The file that a manifest lists, if one like it was moved since the manifest was written.
    pub(crate) fn of_manifest(&self, manifest: &DroppedFile, listed: &Listed) -> Option<&DroppedFile> {
        let moved = self.since(&listed.name, manifest.identity.touched_ns())?;
        listed.size.is_none_or(|size| size == moved.identity.size).then_some(moved)
    }
}
