//! Which files a backfill reads, whatever was read before.

use std::collections::BTreeSet;

use convoke_core::source::{Selection, Split};
use convoke_core::spec::DropMode;
use convoke_core::{SourceError, Timestamp};
use glob::Pattern;

use crate::file::{DroppedFile, Lot};
use crate::folder::Folder;
use crate::position::split;

/// The files in the folder and in `processed/` that are asked for, in the order in which they were dropped. In a folder
/// of snapshots only the newest still counts: an older one holds values that it has replaced.
pub(crate) fn select_files(
    folder: &Folder,
    settled: Vec<Lot>,
    mode: DropMode,
    selection: &Selection,
) -> Result<Vec<Split>, SourceError> {
    let wanted = Wanted::of(selection)?;
    if mode == DropMode::Snapshot && !matches!(wanted, Wanted::All) {
        let message = "each file of this drop folder replaces the one before, so older ones cannot be read again; \
                       ask for everything (`--all`) to read the newest, or set `mode: append` if each file adds";
        return Err(SourceError::selection(message));
    }
    if mode == DropMode::Snapshot {
        return newest(folder, settled);
    }
    let mut files: Vec<_> = settled.into_iter().flat_map(|lot| lot.files).collect();
    files.extend(folder.list_processed()?);
    files.retain(|file| wanted.takes(file));
    files.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
    Ok(files.iter().map(|file| split(&file.name, file, None)).collect())
}

/// The newest lot, wherever it lies.
fn newest(folder: &Folder, mut settled: Vec<Lot>) -> Result<Vec<Split>, SourceError> {
    let dropped = settled.pop();
    let processed = folder.newest_processed()?;
    let newest = match (dropped, processed) {
        (Some(dropped), Some(processed)) if dropped.name < processed.name => Some(processed),
        (dropped, processed) => dropped.or(processed),
    };
    let files = newest.map(|lot| lot.files).unwrap_or_default();
    Ok(files.iter().map(|file| split(&file.name, file, None)).collect())
}

/// A selection that can be made.
enum Wanted {
    All,
    Matching(Pattern),
    Named(BTreeSet<String>),
    Written { from: Option<Timestamp>, to: Option<Timestamp> },
}

impl Wanted {
    fn of(selection: &Selection) -> Result<Self, SourceError> {
        Ok(match selection {
            Selection::All => Self::All,
            Selection::Objects(glob) => Self::Matching(Pattern::new(glob).map_err(|error| {
                let message = format!("`{glob}` is no file name pattern; write for example `2026-01-*.csv`");
                SourceError::selection(message).caused_by(error)
            })?),
            Selection::Named(names) => Self::Named(names.iter().cloned().collect()),
            Selection::Between { from, to } => Self::Written { from: *from, to: *to },
            // Each file tells when it was written.
            Selection::Untimed => Self::Named(BTreeSet::new()),
        })
    }

    fn takes(&self, file: &DroppedFile) -> bool {
        match self {
            Self::All => true,
            Self::Matching(pattern) => pattern.matches(&file.name),
            Self::Named(names) => names.contains(&file.name),
            Self::Written { from, to } => {
                let written = Timestamp(file.identity.modified_ns.div_euclid(1_000_000));
                from.is_none_or(|from| written >= from) && to.is_none_or(|to| written < to)
            }
        }
    }
}
