//! The folder on disk: listing it, and moving files out of it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use convoke_core::spec::CsvDropSpec;
use convoke_core::{Origin, SourceError};
use glob::Pattern;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::file::{DroppedFile, Identity};

const PROCESSED: &str = "processed";
const QUARANTINE: &str = "quarantine";
/// Endings that upload tools give to files that are not complete yet.
const TEMPORARY_ENDINGS: &[&str] = &[".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~"];

/// The drop folder with its two subfolders.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pattern: Pattern,
    done_suffix: Option<String>,
}

impl Folder {
    pub(crate) fn of(spec: &CsvDropSpec) -> Result<Self, SourceError> {
        let pattern = Pattern::new(&spec.pattern).map_err(|error| {
            let message = format!("`{}` is no file name pattern; write for example `*.csv`", spec.pattern);
            SourceError::new(Origin::User, message).caused_by(error)
        })?;
        Ok(Self { path: spec.path.clone(), pattern, done_suffix: spec.done_suffix.clone() })
    }

    pub(crate) fn processed(&self) -> PathBuf {
        self.path.join(PROCESSED)
    }

    /// Lists the files in the folder itself that match, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<DroppedFile>, SourceError> {
        list_in(&self.path, |name| self.admits(name)).map_err(|error| {
            let folder = self.path.display();
            let remedy = match error.kind() {
                ErrorKind::NotFound => "create it, or correct `path`",
                ErrorKind::PermissionDenied => "give this user the right to read it",
                _ => "check `path`",
            };
            SourceError::new(Origin::User, format!("cannot list the drop folder `{folder}`; {remedy}")).caused_by(error)
        })
    }

    /// Lists what was moved to `processed/`; nothing if there is no such folder.
    pub(crate) fn list_processed(&self) -> Result<Vec<DroppedFile>, SourceError> {
        let path = self.processed();
        let was_dropped_here = |name: &str| self.admits(name) || self.admits(&without_number(name));
        match list_in(&path, was_dropped_here) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(cannot("list", &path, error)),
            Ok(files) => Ok(files),
        }
    }

    fn admits(&self, name: &str) -> bool {
        let is_temporary = name.starts_with(['.', '~']) || TEMPORARY_ENDINGS.iter().any(|end| name.ends_with(end));
        let is_marker = self.done_suffix.as_ref().is_some_and(|suffix| name.ends_with(suffix.as_str()));
        !is_temporary && !is_marker && self.pattern.matches(name)
    }

    /// Whether the file's marker lies beside it; `None` if markers are not used.
    pub(crate) fn has_marker(&self, file: &DroppedFile) -> Option<bool> {
        self.marker_of(&file.path).map(|marker| marker.exists())
    }

    fn marker_of(&self, file: &Path) -> Option<PathBuf> {
        let suffix = self.done_suffix.as_ref()?;
        let mut marker = file.as_os_str().to_owned();
        marker.push(suffix);
        Some(PathBuf::from(marker))
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
        let metadata = fs::metadata(&path).ok()?;
        read.is_moved(&Identity::of(&metadata)).then_some(path)
    }

    fn move_out(&self, path: &Path, name: &str, target: &Path, reason: Option<&str>) -> Result<(), SourceError> {
        fs::create_dir_all(target).map_err(|error| cannot("create", target, error))?;
        // The marker goes first: left behind, it would make the next file of this name count too early.
        if let Some(marker) = self.marker_of(path).filter(|marker| marker.exists()) {
            let marker_name = marker.file_name().unwrap_or_default().to_string_lossy().into_owned();
            move_to_free_name(&marker, &marker_name, target, None)?;
        }
        move_to_free_name(path, name, target, reason)
    }
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

fn move_to_free_name(path: &Path, name: &str, target: &Path, reason: Option<&str>) -> Result<(), SourceError> {
    for number in 0u64.. {
        let candidate = target.join(numbered(name, number));
        if candidate.exists() || !place_reason(&candidate, reason)? {
            continue;
        }
        match rename_new(path, &candidate) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot("move", path, error)),
        }
    }
    Ok(())
}

/// Writes the reason beside the place a file is going to; `false` if another reason stands there.
fn place_reason(candidate: &Path, reason: Option<&str>) -> Result<bool, SourceError> {
    let Some(reason) = reason else { return Ok(true) };
    let mut path = candidate.as_os_str().to_owned();
    path.push(".reason.txt");
    let (path, text) = (PathBuf::from(path), format!("{reason}\n"));
    match fs::read_to_string(&path) {
        // Written before a crash, which came before the file was moved.
        Ok(existing) => Ok(existing == text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::write(&path, text).map_err(|error| cannot("write", &path, error))?;
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

/// `contacts.csv`, `contacts.1.csv`, `contacts.2.csv`, …
fn numbered(name: &str, number: u64) -> String {
    match (number, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (_, Some((stem, extension))) => format!("{stem}.{number}.{extension}"),
        (_, None) => format!("{name}.{number}"),
    }
}

/// The name before [`numbered`] gave it a number; the name itself if it has none.
fn without_number(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        [stem @ .., number, extension] if !stem.is_empty() && is_number(number) => {
            format!("{}.{extension}", stem.join("."))
        }
        [stem, number] if is_number(number) => (*stem).to_owned(),
        _ => name.to_owned(),
    }
}

/// Renames without ever replacing a file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems know no such flag; the caller has just seen that the name is free.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        other => Ok(other?),
    }
}

pub(crate) fn cannot(action: &str, path: &Path, error: io::Error) -> SourceError {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "it is gone; put it back, or run again to read what is there now",
        ErrorKind::PermissionDenied => "give this user the right to",
        ErrorKind::StorageFull => "make room on the disk",
        _ => "check the disk",
    };
    let message = format!("cannot {action} `{}`; {remedy}", path.display());
    SourceError::new(Origin::External, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_goes_before_the_extension() {
        assert_eq!(numbered("a.csv", 0), "a.csv");
        assert_eq!(numbered("a.csv", 2), "a.2.csv");
        assert_eq!(numbered("a", 1), "a.1");
        for name in ["a.csv", "a", "a.b.csv"] {
            assert_eq!(without_number(&numbered(name, 3)), name);
            assert_eq!(without_number(name), name);
        }
    }

    #[test]
    fn hidden_temporary_and_marker_files_do_not_count() {
        let folder =
            Folder { path: PathBuf::new(), pattern: Pattern::new("*").unwrap(), done_suffix: Some(".done".to_owned()) };
        assert!(folder.admits("a.csv"));
        for name in [".a.csv", "~a.csv", "a.csv.part", "a.csv.tmp", "a.csv~", "a.csv.done"] {
            assert!(!folder.admits(name), "{name}");
        }
    }
}
