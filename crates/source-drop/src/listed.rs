//! Holds files against the manifests that list them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use convoke_core::SourceError;
use convoke_core::spec::DropMode;
use convoke_formats::may_be_value;

use crate::file::{DroppedFile, Lot, LotName};
use crate::folder::Contents;
use crate::manifest::{Checksum, Listed};
use crate::moved::MovedFiles;
use crate::settle::Rule;
use crate::storage::cannot_read;

/// Files that are named in a notice; the others are counted.
const NAMED: usize = 3;

/// Which checksums hold for which files, by identity: each is computed once.
#[derive(Debug, Default)]
pub(crate) struct Checked(Mutex<HashMap<([u8; 8], Checksum), bool>>);

/// The manifests of a folder, with what they are about.
pub(crate) struct Manifests<'a> {
    rule: Rule<'a>,
    files: HashMap<&'a str, &'a DroppedFile>,
    moved: MovedFiles,
    is_calm: &'a dyn Fn(&DroppedFile) -> bool,
    /// What the manifests list that were judged so far, which are the newer ones; true: one that is complete.
    listed: HashMap<String, bool>,
    /// Files of which nothing tells that they are complete but that nobody writes to them any more.
    pub(crate) young: Vec<DroppedFile>,
}

/// What is found of a file that a manifest lists.
enum Verdict {
    Ready(DroppedFile),
    /// It was read before, or with a newer manifest.
    Taken,
    Young(DroppedFile),
    /// With what is wrong.
    Lacking(String),
}

impl<'a> Manifests<'a> {
    /// `is_calm` tells whether nobody has written to a file for long enough.
    pub(crate) fn new(
        rule: Rule<'a>,
        contents: &'a Contents,
        is_calm: &'a dyn Fn(&DroppedFile) -> bool,
    ) -> Result<Self, SourceError> {
        let files = contents.files.iter().map(|file| (file.name.as_str(), file)).collect();
        let moved = match contents.manifests.is_empty() || rule.folder.mode == DropMode::Snapshot {
            true => MovedFiles::default(),
            false => MovedFiles::of(rule.folder)?,
        };
        Ok(Self { rule, files, moved, is_calm, listed: HashMap::new(), young: Vec::new() })
    }

    /// The lots of those manifests that are complete, in the order of the manifests.
    ///
    /// What adds may be listed twice; then the newer manifest decides. A snapshot is all that its manifest lists, or
    /// nothing: without one of its files it would say of that one's records that they are gone.
    pub(crate) fn complete(
        &mut self,
        manifests: &[DroppedFile],
        notices: &mut Vec<String>,
    ) -> Result<Vec<Lot>, SourceError> {
        let mut lots = Vec::new();
        for manifest in manifests.iter().rev() {
            match self.rule.folder.read_manifest(manifest)? {
                Ok(listed) => lots.extend(self.lot_of(manifest, listed, notices)?),
                Err(reason) => {
                    notices.push(format!("`{}` cannot be used as a manifest: {reason}", manifest.name));
                }
            }
        }
        lots.reverse();
        Ok(lots)
    }

    fn lot_of(
        &mut self,
        manifest: &DroppedFile,
        listed: Vec<Listed>,
        notices: &mut Vec<String>,
    ) -> Result<Option<Lot>, SourceError> {
        let (mut files, mut young, mut lacks) = (Vec::new(), Vec::new(), Vec::new());
        for listed in &listed {
            match self.judge(manifest, listed)? {
                Verdict::Ready(file) => files.push(file),
                Verdict::Young(file) => young.push(file),
                Verdict::Lacking(reason) => lacks.push(reason),
                Verdict::Taken => {}
            }
        }
        let is_complete = young.is_empty() && lacks.is_empty();
        for Listed { name, .. } in listed {
            *self.listed.entry(name).or_default() |= is_complete;
        }
        if !lacks.is_empty() {
            let name = &manifest.name;
            notices.push(format!("`{name}` is not complete: {}; nothing of it is read yet", told(&lacks)));
            return Ok(None);
        }
        self.young.extend(young);
        if !is_complete || files.is_empty() {
            return Ok(None);
        }
        files.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
        Ok(Some(Lot { name: LotName::of(manifest), files }))
    }

    fn judge(&self, manifest: &DroppedFile, listed: &Listed) -> Result<Verdict, SourceError> {
        let Listed { name, size, checksum } = listed;
        let (adds, newer) = (self.rule.folder.mode == DropMode::Append, self.listed.get(name));
        if adds && newer == Some(&true) {
            return Ok(Verdict::Taken);
        }
        let Some(&file) = self.files.get(name.as_str()) else {
            let is_taken = self.was_taken(manifest, listed);
            return Ok(if is_taken { Verdict::Taken } else { Verdict::Lacking(format!("{} is missing", shown(name))) });
        };
        if let Some(size) = size.filter(|size| *size != file.identity.size) {
            return Ok(Verdict::Lacking(format!("`{name}` has {} bytes and not {size}", file.identity.size)));
        }
        if let Some(checksum) = checksum {
            let holds = self.holds(file, checksum)?;
            let lacks = || Verdict::Lacking(format!("`{name}` has another checksum"));
            return Ok(if holds { Verdict::Ready(file.clone()) } else { lacks() });
        }
        // A manifest is written when its files are complete.
        if file.identity.touched_ns() <= manifest.identity.touched_ns() {
            return Ok(Verdict::Ready(file.clone()));
        }
        Ok(match newer {
            Some(_) if adds => Verdict::Taken,
            Some(_) => Verdict::Lacking(format!("`{name}` was replaced by that of a newer manifest")),
            None if !(self.is_calm)(file) => Verdict::Young(file.clone()),
            None => Verdict::Ready(file.clone()),
        })
    }

    /// Whether a file that is not there was read before.
    fn was_taken(&self, manifest: &DroppedFile, listed: &Listed) -> bool {
        match self.rule.folder.mode {
            // Else a file of this name may have been another snapshot's, moved away while this one was being dropped.
            DropMode::Snapshot => self.rule.known.is_last(&LotName::of(manifest)),
            DropMode::Append => self.moved.of_manifest(manifest, listed).is_some(),
        }
    }

    /// Whether a checksum holds, as far as anybody asked. What was read before is not held against it again.
    fn holds(&self, file: &DroppedFile, checksum: &Checksum) -> Result<bool, SourceError> {
        let Some(Checked(checked)) = self.rule.checked.filter(|_| self.rule.known.untouched(file).is_none()) else {
            return Ok(true);
        };
        let what = (file.identity.digest(), checksum.clone());
        if let Some(holds) = checked.lock().unwrap_or_else(PoisonError::into_inner).get(&what) {
            return Ok(*holds);
        }
        let holds = checksum.holds_for(self.rule.folder.storage.open(file)?);
        let holds = holds.map_err(|error| cannot_read(&self.rule.folder.shown(file), error))?;
        checked.lock().unwrap_or_else(PoisonError::into_inner).insert(what, holds);
        Ok(holds)
    }

    /// Tells of files that no manifest lists.
    pub(crate) fn tell_unlisted(&self, notices: &mut Vec<String>) {
        let mut unlisted: Vec<_> = self.files.keys().filter(|name| !self.listed.contains_key(**name)).collect();
        unlisted.sort_unstable();
        let named: Vec<_> = unlisted.iter().map(|name| format!("`{name}`")).collect();
        match named.len() {
            0 => {}
            1 => notices.push(format!("{} stands in no manifest yet; not read", told(&named))),
            _ => notices.push(format!("{} stand in no manifest yet; not read", told(&named))),
        }
    }
}

/// A name that no file here has: a line of data, if the manifest is none.
fn shown(name: &str) -> String {
    if may_be_value(name) || name.contains([',', ';', '|', '\t']) {
        return "something whose name looks like a value".to_owned();
    }
    format!("`{name}`")
}

fn told(what: &[String]) -> String {
    let named = what[..what.len().min(NAMED)].join(", ");
    match what.len().saturating_sub(NAMED) {
        0 => named,
        count => format!("{named}, and {count} more"),
    }
}
