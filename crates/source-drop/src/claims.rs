//! Claims: who takes which files, where several might.
//!
//! Runs of one sync on one state take turns by the lease of the audience. Two syncs whose patterns overlap, or two
//! installations with states of their own that read one folder, know nothing of each other; for them the folder holds a
//! list of claims, `.convoke/claims.json`. It is replaced as a whole, under a lock or a condition of the storage, so that
//! of two that claim one file only one can succeed.
//!
//! A run claims its files right before it sends anything of them, and lets go once they are moved. A plan that is never
//! applied claims nothing. A claim outlasts the process: what was half sent is for the same sync to finish. Others take
//! over once it was not renewed for [`LASTS`].

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use convoke_core::spec::DropMode;
use convoke_core::{Origin, SourceError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::file::{DroppedFile, Lot, Place};
use crate::folder::Folder;
use crate::moving::without_number;
use crate::settle::Judged;
use crate::storage::{CLAIMS_FILE, ClaimsFile, Storage};

/// How long a claim lasts unless it is renewed: longer than a run waits for the quota of the next day.
pub(crate) const LASTS: Duration = Duration::from_secs(48 * 3_600);

/// How often a run renews its claim.
pub(crate) const RENEWED_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// Tries to replace the list before somebody has to look at it: each fails only because another one succeeded.
const TRIES: usize = 100;

/// Who takes files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    /// What all replicas on one state have in common, and no other installation has.
    pub installation: String,
    pub sync: String,
    /// Names this process for people: host and process id.
    pub holder: String,
}

/// What tells a claimed file from another one of its name, on whichever machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct ClaimedFile {
    name: String,
    size: u64,
    modified_ns: i64,
}

/// What one taker has claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    installation: String,
    sync: String,
    holder: String,
    /// Milliseconds since the Unix epoch.
    until: i64,
    files: Vec<ClaimedFile>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    claims: Vec<Claim>,
}

/// Files that others have claimed, each with who it was.
#[derive(Debug, Default)]
pub(crate) struct OthersClaims(HashMap<ClaimedFile, String>);

impl OthersClaims {
    pub(crate) fn of(storage: &dyn Storage, taker: &Taker, now: Timestamp) -> Result<Self, SourceError> {
        let (list, _) = read(storage)?;
        let mut claimed = HashMap::new();
        for claim in list.claims.into_iter().filter(|claim| !claim.is_of(taker) && claim.lasts(now)) {
            let owner = claim.owner();
            claimed.extend(claim.files.into_iter().map(|file| (file, owner.clone())));
        }
        Ok(Self(claimed))
    }

    /// Who has claimed this file.
    pub(crate) fn owner_of(&self, file: &DroppedFile) -> Option<&str> {
        self.0.get(&ClaimedFile::of(file)).map(String::as_str)
    }
}

/// Leaves what others have claimed to them. Of snapshots, what is older than such a one is no truth either.
pub(crate) fn leave_claimed(
    folder: &Folder,
    judged: Judged,
    taker: Option<&Taker>,
    now: Timestamp,
) -> Result<Judged, SourceError> {
    let Some(taker) = taker else { return Ok(judged) };
    let others = OthersClaims::of(folder.storage.as_ref(), taker, now)?;
    let Judged { settled, mut notices } = judged;
    let mut left: Vec<Lot> = Vec::with_capacity(settled.len());
    for mut lot in settled {
        let is_whole = lot.files.len();
        lot.files.retain(|file| match others.owner_of(file) {
            Some(owner) => {
                notices.push(told(folder, &file.name, owner));
                false
            }
            None => true,
        });
        if folder.mode == DropMode::Snapshot && lot.files.len() < is_whole {
            left.clear();
        } else if !lot.files.is_empty() {
            left.push(lot);
        }
    }
    Ok(Judged { settled: left, notices })
}

/// Claims these files for a taker, and lets go of what it had claimed before. All or none: an error of kind
/// [`Changed`](convoke_core::error::SourceErrorKind::Changed) if others have claimed or taken some.
pub(crate) fn claim(folder: &Folder, taker: &Taker, files: &[DroppedFile], now: Timestamp) -> Result<(), SourceError> {
    let wanted: Vec<_> = files.iter().map(ClaimedFile::of).collect();
    let mut before = HashSet::new();
    change(folder.storage.as_ref(), |list| {
        list.claims.retain(|claim| claim.is_of(taker) || claim.lasts(now));
        let mine = list.claims.iter().position(|claim| claim.is_of(taker)).map(|index| list.claims.remove(index));
        before = mine.map(|claim| claim.files.into_iter().collect()).unwrap_or_default();
        let set: HashSet<_> = wanted.iter().collect();
        let taken =
            list.claims.iter().find_map(|claim| Some((claim, claim.files.iter().find(|file| set.contains(file))?)));
        if let Some((claim, file)) = taken {
            return Err(told_claimed(folder, &file.name, &claim.owner()));
        }
        list.claims.push(Claim::by(taker, now, wanted.clone()));
        Ok(true)
    })?;
    let refused = taken_away(folder, files, &before);
    if !matches!(refused, Ok(None)) {
        release(folder.storage.as_ref(), taker)?;
    }
    refused?.map_or(Ok(()), |name| {
        let message = format!("`{name}` was taken by somebody else since it was read; run again to read what is left");
        Err(SourceError::changed(message))
    })
}

/// Renews the claim of a taker, if it has one.
pub(crate) fn renew(storage: &dyn Storage, taker: &Taker, now: Timestamp) -> Result<(), SourceError> {
    change(storage, |list| {
        let mine = list.claims.iter_mut().find(|claim| claim.is_of(taker));
        Ok(mine.map(|claim| claim.until = now.after(LASTS).0).is_some())
    })
}

/// Lets go of all that a taker has claimed.
pub(crate) fn release(storage: &dyn Storage, taker: &Taker) -> Result<(), SourceError> {
    change(storage, |list| {
        let before = list.claims.len();
        list.claims.retain(|claim| !claim.is_of(taker));
        Ok(list.claims.len() < before)
    })
}

/// What is said of a file that is left to another.
pub(crate) fn told_claimed(folder: &Folder, name: &str, owner: &str) -> SourceError {
    SourceError::changed(told(folder, name, owner))
}

pub(crate) fn told(folder: &Folder, name: &str, owner: &str) -> String {
    let list = folder.storage.shown(Place::Folder, CLAIMS_FILE);
    format!("`{name}` is left to {owner}, which has claimed it; if that is gone for good, remove `{list}`")
}

/// The first file that somebody else has moved away since it was listed. What we had claimed before nobody else took.
fn taken_away(
    folder: &Folder,
    files: &[DroppedFile],
    before: &HashSet<ClaimedFile>,
) -> Result<Option<String>, SourceError> {
    let now: HashMap<_, _> = folder.contents()?.files.into_iter().map(|file| (file.name, file.identity)).collect();
    let is_there = |file: &DroppedFile| now.get(&file.name).is_some_and(|found| file.identity.is_moved(found));
    let unclaimed = files.iter().filter(|file| !before.contains(&ClaimedFile::of(file)));
    let absent: Vec<_> = unclaimed.filter(|file| !is_there(file)).collect();
    if absent.is_empty() {
        return Ok(None);
    }
    // What lies nowhere any more somebody has cleared away: what was read of it is all that is left.
    let mut moved = folder.list_moved(Place::Processed)?;
    moved.extend(folder.list_moved(Place::Quarantine)?);
    // A store may call a copy's contents by another name than those of the original.
    let is_copy = |file: &DroppedFile, moved: &DroppedFile| {
        let has_name = moved.name == file.name || without_number(&moved.name) == file.name;
        moved.identity.version.is_some() && has_name && moved.identity.size == file.identity.size
    };
    let is_same =
        |file: &DroppedFile, moved: &DroppedFile| file.identity.is_moved(&moved.identity) || is_copy(file, moved);
    let is_moved = |file: &&DroppedFile| moved.iter().any(|moved| is_same(file, moved));
    Ok(absent.into_iter().find(is_moved).map(|file| file.name.clone()))
}

/// Replaces the list; `edit` tells whether there is anything to replace.
fn change(
    storage: &dyn Storage,
    mut edit: impl FnMut(&mut List) -> Result<bool, SourceError>,
) -> Result<(), SourceError> {
    for _ in 0..TRIES {
        let (mut list, known) = read(storage)?;
        if !edit(&mut list)? {
            return Ok(());
        }
        let text = serde_json::to_string(&list).expect("a list of claims is plain data");
        if storage.replace_claims(known.as_ref(), &text)? {
            return Ok(());
        }
    }
    let list = storage.shown(Place::Folder, CLAIMS_FILE);
    Err(SourceError::new(Origin::External, format!("`{list}` is being rewritten without end; who does that?")))
}

fn read(storage: &dyn Storage) -> Result<(List, Option<ClaimsFile>), SourceError> {
    let Some(file) = storage.claims()? else { return Ok((List::default(), None)) };
    match serde_json::from_slice(&file.text) {
        Ok(list) => Ok((list, Some(file))),
        Err(error) => {
            let shown = storage.shown(Place::Folder, CLAIMS_FILE);
            let message =
                format!("`{shown}` cannot be read as a list of claims; once no run is under way anywhere, remove it");
            Err(SourceError::new(Origin::User, message).caused_by(error))
        }
    }
}

impl ClaimedFile {
    fn of(file: &DroppedFile) -> Self {
        let DroppedFile { name, identity, .. } = file;
        Self { name: name.clone(), size: identity.size, modified_ns: identity.modified_ns }
    }
}

impl Claim {
    fn by(taker: &Taker, now: Timestamp, files: Vec<ClaimedFile>) -> Self {
        let Taker { installation, sync, holder } = taker.clone();
        Self { installation, sync, holder, until: now.after(LASTS).0, files }
    }

    fn is_of(&self, taker: &Taker) -> bool {
        (&self.installation, &self.sync) == (&taker.installation, &taker.sync)
    }

    fn lasts(&self, now: Timestamp) -> bool {
        Timestamp(self.until) > now
    }

    fn owner(&self) -> String {
        let Self { installation, sync, holder, .. } = self;
        format!("sync `{sync}` of installation {installation}, last at work as {holder}")
    }
}
