//! Markers: empty files that say of others that they are complete.

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

impl Marked {
    /// How a file stands with this marker.
    pub(crate) fn by(marker: Option<&Identity>, file: &DroppedFile) -> Self {
        match marker {
            Some(marker) if marker.written_ns() >= file.identity.written_ns() => Self::Complete,
            Some(_) => Self::Stale,
            None => Self::Missing,
        }
    }
}

/// The ending that makes a file's name its marker's name, if markers are used.
#[derive(Clone, Debug)]
pub(crate) struct Markers(Option<String>);

impl Markers {
    pub(crate) fn new(suffix: Option<String>) -> Self {
        Self(suffix)
    }

    /// The name of the marker of a file of this name, if markers are used.
    pub(crate) fn name_for(&self, file: &str) -> Option<String> {
        self.0.as_ref().map(|suffix| format!("{file}{suffix}"))
    }

    /// The name of the file that a file of this name marks, if it is a marker at all.
    pub(crate) fn file_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.0.as_deref()?)
    }
}
