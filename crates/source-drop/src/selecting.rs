//! Which files a backfill reads, whatever was read before.

use convoke_core::source::{Selection, Split};
use convoke_core::spec::DropMode;
use convoke_core::{SourceError, Timestamp};
use glob::Pattern;

use crate::file::DroppedFile;
use crate::folder::Folder;
use crate::position::{Place, split};

/// The files in the folder and in `processed/` that are asked for, in the order in which they were dropped. In a folder
/// of snapshots only the newest still counts: an older one holds values that it has replaced.
pub(crate) fn select_files(
    folder: &Folder,
    settled: Vec<DroppedFile>,
    mode: DropMode,
    selection: &Selection,
) -> Result<Vec<Split>, SourceError> {
    let wanted = Wanted::of(selection)?;
    if mode == DropMode::Snapshot && !matches!(wanted, Wanted::All) {
        let message = "each file of this drop folder replaces the one before, so older ones cannot be read again; \
                       ask for everything (`--all`) to read the newest, or set `mode: append` if each file adds";
        return Err(SourceError::selection(message));
    }
    let here = settled.into_iter().map(|file| (Place::Folder, file));
    let processed = folder.list_processed()?.into_iter().map(|file| (Place::Processed, file));
    let mut files: Vec<_> = here.chain(processed).filter(|(_, file)| wanted.takes(file)).collect();
    files.sort_by(|(_, one), (_, other)| one.age_order().cmp(&other.age_order()));
    if mode == DropMode::Snapshot {
        files.drain(..files.len().saturating_sub(1));
    }
    Ok(files.iter().map(|(place, file)| split(&file.name, file, *place)).collect())
}

/// A selection that can be made.
enum Wanted {
    All,
    Named(Pattern),
    Written { from: Option<Timestamp>, to: Option<Timestamp> },
}

impl Wanted {
    fn of(selection: &Selection) -> Result<Self, SourceError> {
        Ok(match selection {
            Selection::All => Self::All,
            Selection::Objects(glob) => Self::Named(Pattern::new(glob).map_err(|error| {
                let message = format!("`{glob}` is no file name pattern; write for example `2026-01-*.csv`");
                SourceError::selection(message).caused_by(error)
            })?),
            Selection::Between { from, to } => Self::Written { from: *from, to: *to },
        })
    }

    fn takes(&self, file: &DroppedFile) -> bool {
        match self {
            Self::All => true,
            Self::Named(pattern) => pattern.matches(&file.name),
            Self::Written { from, to } => {
                let written = Timestamp(file.identity.modified_ns.div_euclid(1_000_000));
                from.is_none_or(|from| written >= from) && to.is_none_or(|to| written < to)
            }
        }
    }
}
