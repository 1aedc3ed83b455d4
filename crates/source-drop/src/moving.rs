//! Moves files without ever replacing one.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use convoke_core::{Origin, SourceError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// What the name of a quarantined file ends in when it tells why another one lies there.
pub(crate) const REASON_ENDING: &str = ".reason.txt";

/// Moves a file into a folder, under its name or the next free numbered one, and tells which that was.
pub(crate) fn move_to_free_name(
    path: &Path,
    name: &str,
    target: &Path,
    reason: Option<&str>,
) -> Result<String, SourceError> {
    let mut number = 0;
    loop {
        let free = numbered(name, number);
        number += 1;
        let candidate = target.join(&free);
        if candidate.exists() || !place_reason(&candidate, reason)? {
            continue;
        }
        match rename_new(path, &candidate) {
            Ok(()) => return Ok(free),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot("move", path, error)),
        }
    }
}

/// Writes the reason beside the place a file is going to; `false` if another reason stands there.
fn place_reason(candidate: &Path, reason: Option<&str>) -> Result<bool, SourceError> {
    let Some(reason) = reason else { return Ok(true) };
    let mut path = candidate.as_os_str().to_owned();
    path.push(REASON_ENDING);
    let (path, text) = (PathBuf::from(path), format!("{reason}\n"));
    // For its owner alone: it may tell more of the file than others are to know.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).map_err(|error| cannot("write", &path, error))?;
            Ok(true)
        }
        // The same one was written before a crash, which came before the file was moved.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(&path).is_ok_and(|existing| existing == text))
        }
        Err(error) => Err(cannot("write", &path, error)),
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
pub(crate) fn without_number(name: &str) -> String {
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
}
