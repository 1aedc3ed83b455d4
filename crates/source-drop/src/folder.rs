//! The folder on disk: listing it, and moving files out of it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use convoke_core::spec::CsvDropSpec;
use convoke_core::{Origin, SourceError};
use glob::Pattern;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::file::{DroppedFile, Identity};
use crate::marker::{Marked, Markers};
use crate::moving::{REASON_ENDING, cannot, move_to_free_name, without_number};

const PROCESSED: &str = "processed";
const QUARANTINE: &str = "quarantine";
/// Endings that upload tools give to files that are not complete yet.
const TEMPORARY_ENDINGS: &[&str] = &[".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~"];

/// The drop folder with its two subfolders.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pattern: Pattern,
    markers: Markers,
}

impl Folder {
    pub(crate) fn of(spec: &CsvDropSpec) -> Result<Self, SourceError> {
        let pattern = Pattern::new(&spec.pattern).map_err(|error| {
            let message = format!("`{}` is no file name pattern; write for example `*.csv`", spec.pattern);
            SourceError::new(Origin::User, message).caused_by(error)
        })?;
        Ok(Self { path: spec.path.clone(), pattern, markers: Markers::new(spec.done_suffix.clone()) })
    }

    pub(crate) fn processed(&self) -> PathBuf {
        self.path.join(PROCESSED)
    }

    /// Lists the files in the folder itself that match, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<DroppedFile>, SourceError> {
        self.list_here(|name| self.admits(name))
    }

    fn list_here(&self, counts: impl Fn(&str) -> bool) -> Result<Vec<DroppedFile>, SourceError> {
        list_in(&self.path, counts).map_err(|error| {
            let folder = self.path.display();
            let remedy = match error.kind() {
                ErrorKind::NotFound => "create it, or correct `path`",
                ErrorKind::PermissionDenied => "give this user the right to read it",
                _ => "check `path`",
            };
            SourceError::new(Origin::User, format!("cannot list the drop folder `{folder}`; {remedy}")).caused_by(error)
        })
    }

    /// Lists what was moved to `processed/`, oldest first; nothing if there is no such folder.
    pub(crate) fn list_processed(&self) -> Result<Vec<DroppedFile>, SourceError> {
        self.list_below(PROCESSED)
    }

    /// Lists what was moved to `quarantine/`, oldest first; nothing if there is no such folder.
    pub(crate) fn list_quarantined(&self) -> Result<Vec<DroppedFile>, SourceError> {
        self.list_below(QUARANTINE)
    }

    fn list_below(&self, subfolder: &str) -> Result<Vec<DroppedFile>, SourceError> {
        let path = self.path.join(subfolder);
        let was_dropped_here =
            |name: &str| !name.ends_with(REASON_ENDING) && (self.admits(name) || self.admits(&without_number(name)));
        match list_in(&path, was_dropped_here) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(cannot("list", &path, error)),
            Ok(files) => Ok(files),
        }
    }

    fn admits(&self, name: &str) -> bool {
        let is_temporary = name.starts_with(['.', '~']) || TEMPORARY_ENDINGS.iter().any(|end| name.ends_with(end));
        let is_marker = self.markers.file_of(name).is_some();
        !is_temporary && !is_marker && self.pattern.matches(name)
    }

    /// How the file stands with its marker.
    pub(crate) fn marked(&self, file: &DroppedFile) -> Marked {
        self.markers.state_of(file)
    }

    /// Tells why no file can be moved to `processed/`, as far as the rights tell it.
    pub(crate) fn can_move_processed(&self) -> Result<(), SourceError> {
        let processed = self.processed();
        let left = match fs::metadata(&processed) {
            // It is made when the first file is moved.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(not_writable(&processed, &processed, error)),
            Ok(found) if !found.is_dir() => {
                return Err(not_writable(&processed, &processed, ErrorKind::NotADirectory.into()));
            }
            Ok(_) => Some(&processed),
        };
        for folder in [Some(&self.path), left].into_iter().flatten() {
            let may_write = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
            // A system that cannot tell finds out by moving; some filters of system calls say so with EPERM.
            if let Err(errno @ (Errno::ACCESS | Errno::ROFS)) = may_write {
                return Err(not_writable(folder, &processed, errno.into()));
            }
        }
        Ok(())
    }

    /// Moves a file whose records are settled to `processed/`, if it still is the one that was read.
    pub(crate) fn move_processed(&self, name: &str, read: &Identity) -> Result<(), SourceError> {
        let Some(path) = self.still_there(name, read) else { return Ok(()) };
        self.move_out(&path, name, &self.processed(), None)
    }

    /// Moves a file that cannot be used to `quarantine/`, with the reason beside it.
    pub(crate) fn move_broken(&self, name: &str, read: &Identity, reason: &str) -> Result<(), SourceError> {
        let Some(path) = self.still_there(name, read) else { return Ok(()) };
        self.move_out(&path, name, &self.path.join(QUARANTINE), Some(reason))
    }

    /// `None` if the file was moved already, or another one stands in its place.
    fn still_there(&self, name: &str, read: &Identity) -> Option<PathBuf> {
        let path = self.path.join(name);
        read.is_moved(&identity_of(&path)?).then_some(path)
    }

    fn move_out(&self, path: &Path, name: &str, target: &Path, reason: Option<&str>) -> Result<(), SourceError> {
        fs::create_dir_all(target).map_err(|error| cannot("create", target, error))?;
        let marker = self.markers.beside(path);
        let marked = marker.as_deref().and_then(identity_of);
        // The file goes first: one that had lost its marker to a crash in between would wait for it for ever. A marker
        // that has lost its file does no harm, because it is older than the next file of this name.
        let moved = move_to_free_name(path, name, target, reason)?;
        match marker {
            // Another one in its place is meant for a file that is yet to be read.
            Some(marker) if marked.is_some() && identity_of(&marker) == marked => {
                move_to_free_name(&marker, &self.markers.name_for(&moved), target, None).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Moves markers along whose files were moved just before a crash.
    pub(crate) fn move_orphaned_markers(&self) -> Result<(), SourceError> {
        for marker in self.orphaned_markers()? {
            let Some(file) = self.markers.file_of(&marker.name) else { continue };
            let mut moved = self.list_processed()?;
            moved.extend(self.list_quarantined()?);
            // A move changes `changed_ns`: a marker that was written later is meant for a file that is yet to come.
            moved.retain(|moved| {
                let has_name = moved.name == file || without_number(&moved.name) == file;
                has_name && moved.identity.changed_ns >= marker.identity.modified_ns
            });
            let Some(moved) = moved.iter().max_by_key(|moved| moved.identity.changed_ns) else { continue };
            let target = moved.path.parent().unwrap_or(&self.path);
            move_to_free_name(&marker.path, &self.markers.name_for(&moved.name), target, None)?;
        }
        Ok(())
    }

    /// Markers beside which no file lies.
    fn orphaned_markers(&self) -> Result<Vec<DroppedFile>, SourceError> {
        self.list_here(|name| {
            let marked = self.markers.file_of(name);
            marked.is_some_and(|file| self.admits(file) && !self.path.join(file).exists())
        })
    }
}

/// `folder` is the one that keeps files from being moved to `processed`.
fn not_writable(folder: &Path, processed: &Path, error: io::Error) -> SourceError {
    let remedy = match error.kind() {
        ErrorKind::NotADirectory => "move away the file that stands in its place",
        ErrorKind::PermissionDenied => "give this user the right to write it",
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only",
        _ => "check the disk",
    };
    let message = format!(
        "files that were read are to be moved to `{}`, but nothing can be written in `{}`; {remedy}, or set `processed: keep`",
        processed.display(),
        folder.display()
    );
    SourceError::new(Origin::External, message).caused_by(error)
}

fn identity_of(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| Identity::of(&metadata))
}

fn list_in(folder: &Path, counts: impl Fn(&str) -> bool) -> io::Result<Vec<DroppedFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A name that is not Unicode cannot match the pattern.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !counts(&name) {
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                files.push(DroppedFile { name, path, identity: Identity::of(&metadata) });
            }
            Ok(_) => {}
            // The file went away between the listing and the look at it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_temporary_and_marker_files_do_not_count() {
        let markers = Markers::new(Some(".done".to_owned()));
        let folder = Folder { path: PathBuf::new(), pattern: Pattern::new("*").unwrap(), markers };
        assert!(folder.admits("a.csv"));
        for name in [".a.csv", "~a.csv", "a.csv.part", "a.csv.tmp", "a.csv~", "a.csv.done"] {
            assert!(!folder.admits(name), "{name}");
        }
    }
}
