//! What the source remembers between runs, and what a split carries.

use convoke_core::source::{SourcePosition, Split, SplitOutcome, SplitResult};
use convoke_core::spec::DropMode;
use convoke_core::{Origin, SourceError};
use serde::{Deserialize, Serialize};

use crate::file::{DroppedFile, Identity};

/// A settled file: enough to recognise it, and to find it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettledFile {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) identity: Identity,
}

/// The files whose records are in the audience: the last one in snapshot mode, all of them in append mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// In the order in which they were read.
    pub(crate) files: Vec<SettledFile>,
    /// In snapshot mode: what was dropped before this moment no longer counts, in nanoseconds since the Unix epoch.
    /// Never goes back, also when the newest file was broken or an older one with the same contents was read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) superseded_before_ns: Option<i64>,
}

impl Position {
    pub(crate) fn parse(stored: &SourcePosition) -> Result<Self, SourceError> {
        serde_json::from_value(stored.0.clone()).map_err(|error| {
            let message = "the stored position is not that of a drop folder; \
                           if the sync had another source before, give the sync a new name";
            SourceError::new(Origin::User, message).caused_by(error)
        })
    }

    /// The position after these splits: of those that were read to their end, and past those that were broken.
    pub(crate) fn after(mut self, outcomes: &[SplitOutcome], mode: DropMode) -> Self {
        for outcome in outcomes {
            let Ok(detail) = SplitDetail::of(&outcome.split) else { continue };
            if mode == DropMode::Snapshot {
                self.superseded_before_ns = self.superseded_before_ns.max(Some(detail.identity.modified_ns));
            }
            let SplitResult::Read { fingerprint, .. } = &outcome.result else { continue };
            if mode == DropMode::Snapshot {
                self.files.clear();
            }
            self.files.retain(|known| known.fingerprint != *fingerprint);
            self.files.push(SettledFile {
                name: outcome.split.name.clone(),
                fingerprint: fingerprint.clone(),
                identity: detail.identity,
            });
        }
        self
    }

    pub(crate) fn store(&self) -> SourcePosition {
        SourcePosition(serde_json::json!(self))
    }
}

/// Where the file of a split lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Folder,
    Processed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitDetail {
    pub(crate) place: Place,
    /// The file's own name, which may have got a number when it was moved.
    pub(crate) file: String,
    pub(crate) identity: Identity,
}

impl SplitDetail {
    pub(crate) fn of(split: &Split) -> Result<Self, SourceError> {
        serde_json::from_value(split.detail.clone()).map_err(|error| {
            let message = format!("split `{}` is not one of a drop folder", split.name);
            SourceError::new(Origin::Internal, message).caused_by(error)
        })
    }
}

/// The split that reads `file`; `name` is the name under which it was dropped.
pub(crate) fn split(name: &str, file: &DroppedFile, place: Place) -> Split {
    let detail = SplitDetail { place, file: file.name.clone(), identity: file.identity };
    Split { name: name.to_owned(), detail: serde_json::json!(detail), bytes: Some(file.identity.size) }
}
