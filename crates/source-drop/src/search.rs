//! Decides which files are to be read, given which were read before.

use std::collections::{HashMap, HashSet};

use convoke_core::source::{Split, SplitOutcome, SplitResult};
use convoke_core::spec::DropMode;
use convoke_core::{Origin, SourceError};

use crate::attic::Attic;
use crate::earlier::{Prefix, prefix};
use crate::file::{DroppedFile, Lot, LotName, Place};
use crate::folder::Folder;
use crate::known::{Hashes, Known, Recognised};
use crate::position::{Position, SettledFile, split};

/// Holds what lies in the folder against what is known.
pub(crate) struct Search<'a> {
    folder: &'a Folder,
    position: &'a Position,
    known: &'a Known,
    hashes: Hashes<'a>,
    settled: Vec<SplitOutcome>,
    notices: Vec<String>,
    new: HashSet<String>,
    is_whole: bool,
}

/// What a search came to.
pub(crate) struct Found {
    /// To be read.
    pub(crate) splits: Vec<Split>,
    /// Lying in the folder although their records are settled.
    pub(crate) settled: Vec<SplitOutcome>,
    pub(crate) notices: Vec<String>,
    /// Names in the folder of those files to be read that were not read before.
    pub(crate) new: HashSet<String>,
    /// False if a part of what is to be read is known to be missing.
    pub(crate) is_whole: bool,
}

impl<'a> Search<'a> {
    pub(crate) fn new(folder: &'a Folder, position: &'a Position, known: &'a Known, notices: Vec<String>) -> Self {
        let (hashes, settled, new) = (Hashes::new(folder), Vec::new(), HashSet::new());
        Self { folder, position, known, hashes, settled, notices, new, is_whole: true }
    }

    pub(crate) fn run(mut self, lots: Vec<Lot>, reread: bool) -> Result<Found, SourceError> {
        let splits = match self.folder.mode {
            DropMode::Snapshot => self.snapshot(lots, reread)?,
            DropMode::Append => self.additions(lots, reread)?,
        };
        let Self { settled, notices, new, is_whole, .. } = self;
        Ok(Found { splits, settled, notices, new, is_whole })
    }

    /// The newest lot, unless one that was dropped later is known.
    ///
    /// It is read even if its contents are known: only a file that was read moves the position, and behind a position
    /// that stays, an older file that was skipped would pass for new in a later run.
    fn snapshot(&mut self, mut lots: Vec<Lot>, reread: bool) -> Result<Vec<Split>, SourceError> {
        let Some(newest) = lots.pop() else { return self.last_again(reread) };
        let quarantined = self.folder.newest_quarantined()?;
        if let Some(later) = superseded_by(&newest.name, self.position, quarantined.as_ref()) {
            let mut is_known = true;
            for file in &newest.files {
                is_known &= self.tell_broken(file) || self.recognise(file, lot_of(self.folder, &newest))?.is_some();
            }
            if !is_known {
                let name = &newest.name.name;
                self.notices.push(format!("`{name}` is older than {later}; skipped (touch it to have it read)"));
            }
            return self.last_again(reread);
        }
        lots.retain(|lot| superseded_by(&lot.name, self.position, quarantined.as_ref()).is_none());
        let newest_name = &newest.name.name;
        let skipped = lots.iter().map(|lot| format!("`{}` is older than `{newest_name}`; skipped", lot.name.name));
        self.notices.extend(skipped);
        let lot = lot_of(self.folder, &newest);
        self.new.extend(newest.files.iter().map(|file| file.name.clone()));
        Ok(newest.files.iter().map(|file| split(&file.name, file, lot)).collect())
    }

    /// What was read last, if it is asked for. Of a lot that could not be read whole the rest is no whole truth either.
    fn last_again(&mut self, reread: bool) -> Result<Vec<Split>, SourceError> {
        let mut splits = Vec::new();
        if !reread {
            return Ok(splits);
        }
        let mut attic = Attic::open(self.folder)?;
        for last in &self.position.files {
            match attic.find(last, self.position.lot.as_ref())? {
                Some(split) => splits.push(split),
                None => return Err(self.gone(last)),
            }
        }
        if let Some(lacking) = self.position.lacking.first() {
            self.is_whole = false;
            let more = match self.position.lacking.len() - 1 {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            self.notices.push(format!(
                "`{lacking}`{more} could not be read with what was dropped last; until something newer is, no row is deleted for want of a record"
            ));
        }
        Ok(splits)
    }

    /// Tells of a file that could not be read before and has not changed since.
    fn tell_broken(&mut self, file: &DroppedFile) -> bool {
        let Some(reason) = self.known.why_broken(file) else { return false };
        self.notices.push(format!("`{}` could not be read and is as it was: {reason}", file.name));
        true
    }

    fn gone(&self, last: &SettledFile) -> SourceError {
        let message = format!(
            "`{}` was read before and has to be read again, but it is gone; put it back as `{}`, or drop a newer file",
            last.name,
            self.folder.storage.shown(Place::Processed, &last.name)
        );
        SourceError::new(Origin::User, message)
    }

    /// All files that are not known, in the order in which they were dropped.
    fn additions(&mut self, lots: Vec<Lot>, reread: bool) -> Result<Vec<Split>, SourceError> {
        let mut splits = if reread { self.known_again()? } else { Vec::new() };
        let sizes = count_sizes(&lots);
        let mut accepted: HashMap<Prefix, String> = HashMap::new();
        for lot in &lots {
            for file in &lot.files {
                // With other settings it may be another file.
                if !reread && self.tell_broken(file) {
                    continue;
                }
                if self.recognise(file, lot_of(self.folder, lot))?.is_some() {
                    continue;
                }
                // What has a size of its own has no twin, and need not be hashed.
                if sizes[&file.identity.size] > 1
                    && let Some(hash) = prefix(self.hashes.of(file)?)
                {
                    if let Some(twin) = accepted.get(&hash) {
                        let notice = format!("`{}` has the same contents as `{twin}`; read once", file.name);
                        self.notices.push(notice);
                        continue;
                    }
                    accepted.insert(hash, file.name.clone());
                }
                self.new.insert(file.name.clone());
                splits.push(split(&file.name, file, lot_of(self.folder, lot)));
            }
        }
        Ok(splits)
    }

    /// The known files in the order in which they were read, from wherever they lie; only those behind the last one
    /// that is gone. What was read before that one may hold values that it had replaced.
    fn known_again(&mut self) -> Result<Vec<Split>, SourceError> {
        let mut attic = Attic::open(self.folder)?;
        let (mut splits, mut gone) = (Vec::new(), Vec::new());
        for file in self.position.earlier.iter() {
            match attic.find_earlier(file.prefix, file.size)? {
                Some(split) => splits.push(split),
                None => {
                    splits.clear();
                    gone.push(None);
                }
            }
        }
        for known in &self.position.files {
            match attic.find(known, None)? {
                Some(split) => splits.push(split),
                None => {
                    splits.clear();
                    gone.push(Some(known.name.as_str()));
                }
            }
        }
        if let Some((last, others)) = gone.split_last() {
            let last = last.map_or_else(|| "a file of long ago".to_owned(), |name| format!("`{name}`"));
            let what = match others.len() {
                0 => format!("{last}, which was read before, is gone"),
                count => format!("{last} and {count} more files that were read before are gone"),
            };
            let processed = self.folder.storage.shown(Place::Processed, "");
            let processed = processed.trim_end_matches('/');
            self.notices.push(format!(
                "{what}; only what was read after {last} is read again (for all of it, put back what is missing into `{processed}` and run with `--full`)"
            ));
        }
        Ok(splits)
    }

    /// The known file that this one is, by what the storage says or else by its contents.
    fn recognise(&mut self, file: &DroppedFile, lot: Option<&LotName>) -> Result<Option<Recognised>, SourceError> {
        if let Some(same) = self.known.untouched(file) {
            self.note_settled(file, lot, &same);
            return Ok(Some(same));
        }
        let same = self.known.same_contents(file, &mut self.hashes)?;
        if let Some(same) = &same {
            self.notices.push(format!("`{}` has the same contents as {}", file.name, same.shown()));
            self.note_settled(file, lot, same);
        }
        Ok(same)
    }

    fn note_settled(&mut self, file: &DroppedFile, lot: Option<&LotName>, same: &Recognised) {
        let result = SplitResult::Read { fingerprint: same.fingerprint.clone(), records: 0 };
        self.settled.push(SplitOutcome { split: split(&file.name, file, lot), result });
    }
}

/// The manifest of a lot, if it has one.
fn lot_of<'l>(folder: &Folder, lot: &'l Lot) -> Option<&'l LotName> {
    folder.uses_manifests().then_some(&lot.name)
}

/// What was dropped after this lot and makes it count no longer, if anything was.
///
/// A run that finds its only file broken commits nothing, so what lies in quarantine speaks for itself.
pub(crate) fn superseded_by(lot: &LotName, position: &Position, quarantined: Option<&LotName>) -> Option<String> {
    let is_later = |moment: i64| moment > lot.written_ns;
    let last_file = || position.files.last().map(|last| (last.identity.written_ns(), last.name.as_str()));
    let last = position.lot.as_ref().map(|lot| (lot.written_ns, lot.name.as_str())).or_else(last_file);
    if let Some(broken) = quarantined.filter(|broken| is_later(broken.written_ns)) {
        Some(format!("`{}`, which lies in `quarantine/`", broken.name))
    } else if last.is_some_and(|last| last >= (lot.written_ns, lot.name.as_str())) {
        Some("the file read last".to_owned())
    } else if position.superseded_before_ns.is_some_and(is_later) {
        Some("a file that was dropped before".to_owned())
    } else {
        None
    }
}

fn count_sizes(lots: &[Lot]) -> HashMap<u64, usize> {
    let mut sizes = HashMap::new();
    for file in lots.iter().flat_map(|lot| &lot.files) {
        *sizes.entry(file.identity.size).or_default() += 1;
    }
    sizes
}
