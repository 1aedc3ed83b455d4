//! Where dropped files lie: what a file system and an object store have in common.
//!
//! All calls block; they run on threads that may.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroUsize;

use convoke_core::{Origin, SourceError};

use crate::file::{DroppedFile, Identity, Place};

/// A drop folder with its subfolders.
pub(crate) trait Storage: Send + Sync + Debug {
    /// Lists files of one place whose names count, in no order. A drop folder that is not there is an error; a subfolder
    /// that is not there is empty. What cannot be looked at stands in nobody's way: it is told.
    fn list(&self, place: Place, counts: &mut Counts<'_>) -> Result<Listing, SourceError>;

    /// What a file is now; none if there is none of this name.
    fn look(&self, place: Place, name: &str) -> Result<Option<Identity>, SourceError>;

    /// Opens a file at its start.
    fn open(&self, file: &DroppedFile) -> Result<Box<dyn Read + Send>, SourceError>;

    /// Moves a file without ever replacing one. `Gone`: it is no longer where it was.
    fn move_to_new(&self, file: &DroppedFile, place: Place, name: &str) -> Result<Moved, SourceError>;

    /// Whether the name that a file is to be moved to is taken: by another file, that is.
    fn is_there(&self, file: &DroppedFile, place: Place, name: &str) -> Result<bool, SourceError>;

    /// Writes a small file for its owner alone; false if there is one of this name.
    fn put_new(&self, place: Place, name: &str, text: &str) -> Result<bool, SourceError>;

    /// What is written beside a file that is moved to `quarantine/`.
    fn reason_text(&self, _file: &DroppedFile, reason: &str) -> String {
        format!("{reason}\n")
    }

    /// When the contents of a file in `quarantine/` were written, in nanoseconds since the Unix epoch.
    fn written_ns(&self, file: &DroppedFile) -> Result<i64, SourceError> {
        Ok(file.identity.written_ns())
    }

    /// Whether what is opened is what was listed, or an error, so that no look at it is needed before and after.
    fn is_pinned(&self, _file: &DroppedFile) -> bool {
        false
    }

    /// How many files are handled at a time: more than one where each takes requests over a network.
    fn at_once(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Tells why these files cannot be moved to `processed/`, as far as that can be seen without doing it.
    fn can_move_processed(&self, files: &[DroppedFile]) -> Result<(), SourceError>;

    /// What is written of claims; none if nothing is.
    fn claims(&self) -> Result<Option<ClaimsFile>, SourceError>;

    /// Replaces what is written of claims, if that still is `known`; false if somebody else has written meanwhile.
    fn replace_claims(&self, known: Option<&ClaimsFile>, text: &str) -> Result<bool, SourceError>;

    /// How a file is called in messages.
    fn shown(&self, place: Place, name: &str) -> String;

    /// How the drop folder is called in messages.
    fn shown_folder(&self) -> String;
}

/// Asked of each name whether it counts.
pub(crate) type Counts<'a> = dyn FnMut(&str) -> bool + Send + 'a;

/// What lies in one place.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<DroppedFile>,
    /// What would count, and cannot be read: its name, and why.
    pub(crate) skipped: Vec<(String, String)>,
}

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Done,
    /// There is a file of the new name.
    NameTaken,
    /// The file was moved or removed by somebody else.
    Gone,
}

/// What is written of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimsFile {
    pub(crate) text: Vec<u8>,
    /// What tells this state of the file from another one, where the text does not.
    pub(crate) version: Option<String>,
}

/// The subfolder's name; that of the drop folder itself is empty.
pub(crate) fn subfolder(place: Place) -> &'static str {
    match place {
        Place::Folder => "",
        Place::Processed => "processed",
        Place::Quarantine => "quarantine",
    }
}

/// Where claims are written, below the drop folder.
pub(crate) const CLAIMS_FILE: &str = ".convoke/claims.json";

/// Says that something could not be done to a file or folder.
pub(crate) fn cannot(action: &str, shown: &str, error: io::Error) -> SourceError {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "it is gone; put it back, or run again to read what is there now",
        ErrorKind::PermissionDenied => "give this user the right to",
        ErrorKind::StorageFull => "make room on the disk",
        _ => "check the disk",
    };
    SourceError::new(Origin::External, format!("cannot {action} `{shown}`; {remedy}")).caused_by(error)
}

/// Says that the bytes of a file could not be read.
pub(crate) fn cannot_read(shown: &str, error: io::Error) -> SourceError {
    convoke_objects::source_error(error).unwrap_or_else(|error| cannot("read", shown, error))
}
