//! Markers: empty files that say of others that they are complete.

use std::fs;
use std::path::{Path, PathBuf};

use crate::file::{DroppedFile, Identity};

/// How a file stands with its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// Files need no markers here.
    NotUsed,
    Complete,
    Missing,
    /// The marker is older than the file: it was meant for what stood there before.
    Stale,
}

/// The ending that makes a file's name its marker's name, if markers are used.
#[derive(Clone, Debug)]
pub(crate) struct Markers(Option<String>);

impl Markers {
    pub(crate) fn new(suffix: Option<String>) -> Self {
        Self(suffix)
    }

    pub(crate) fn state_of(&self, file: &DroppedFile) -> Marked {
        let Some(marker) = self.beside(&file.path) else { return Marked::NotUsed };
        match fs::metadata(marker) {
            Ok(metadata) if Identity::of(&metadata).modified_ns >= file.identity.modified_ns => Marked::Complete,
            Ok(_) => Marked::Stale,
            Err(_) => Marked::Missing,
        }
    }

    /// Where the marker of this file lies, if there is one.
    pub(crate) fn beside(&self, file: &Path) -> Option<PathBuf> {
        let mut marker = file.as_os_str().to_owned();
        marker.push(self.0.as_ref()?);
        Some(PathBuf::from(marker))
    }

    /// The name of the marker of a file of this name; the name itself if markers are not used.
    pub(crate) fn name_for(&self, file: &str) -> String {
        format!("{file}{}", self.0.as_deref().unwrap_or_default())
    }

    /// The name of the file that a file of this name marks, if it is a marker at all.
    pub(crate) fn file_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.0.as_deref()?)
    }
}
