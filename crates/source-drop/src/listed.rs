//! Holds files against the manifests that list them.

use std::collections::{HashMap, HashSet};

use convoke_core::SourceError;

use crate::file::{DroppedFile, Lot, LotName};
use crate::folder::{Contents, MovedFiles, written_last};
use crate::manifest::Listed;
use crate::settle::Rule;
use crate::storage::cannot_read;

/// Files that are named in a notice; the others are counted.
const NAMED: usize = 3;

/// The manifests of a folder, with what they are about.
pub(crate) struct Manifests<'a> {
    rule: Rule<'a>,
    files: HashMap<&'a str, &'a DroppedFile>,
    moved: MovedFiles,
    listed: HashSet<String>,
}

impl<'a> Manifests<'a> {
    pub(crate) fn new(rule: Rule<'a>, contents: &'a Contents) -> Result<Self, SourceError> {
        let files = contents.files.iter().map(|file| (file.name.as_str(), file)).collect();
        let moved = match contents.manifests.is_empty() {
            true => MovedFiles::default(),
            false => MovedFiles::of(rule.folder)?,
        };
        Ok(Self { rule, files, moved, listed: HashSet::new() })
    }

    /// The lots of those manifests that are complete, in the order of the manifests. Of a file that two list, the newer
    /// manifest decides.
    pub(crate) fn complete(
        &mut self,
        manifests: &[DroppedFile],
        notices: &mut Vec<String>,
    ) -> Result<Vec<Lot>, SourceError> {
        let mut lots = Vec::new();
        for manifest in manifests.iter().rev() {
            let listed = match self.rule.folder.read_manifest(manifest)? {
                Ok(listed) => listed,
                Err(reason) => {
                    notices.push(format!("`{}` cannot be used as a manifest: {reason}", manifest.name));
                    continue;
                }
            };
            let mut files = Vec::new();
            let mut lacks = Vec::new();
            for listed in &listed {
                match self.judge(manifest, listed)? {
                    Ok(file) => files.extend(file),
                    Err(reason) => lacks.push(reason),
                }
            }
            self.listed.extend(listed.into_iter().map(|listed| listed.name));
            if !lacks.is_empty() {
                notices.push(format!(
                    "`{}` is not complete: {}; nothing of it is read yet",
                    manifest.name,
                    told(&lacks)
                ));
            } else if !files.is_empty() {
                files.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
                lots.push(Lot { name: LotName::of(manifest), files });
            }
        }
        lots.reverse();
        Ok(lots)
    }

    /// The file that is meant; none if it was taken already. The inner error says what is wrong with it.
    fn judge(
        &self,
        manifest: &DroppedFile,
        listed: &Listed,
    ) -> Result<Result<Option<DroppedFile>, String>, SourceError> {
        let Listed { name, size, checksum } = listed;
        if self.listed.contains(name) {
            return Ok(Ok(None));
        }
        let Some(&file) = self.files.get(name.as_str()) else {
            let is_taken = self.moved.since(name, written_last(manifest)).is_some();
            return Ok(if is_taken { Ok(None) } else { Err(format!("`{name}` is missing")) });
        };
        if let Some(size) = size.filter(|size| *size != file.identity.size) {
            return Ok(Err(format!("`{name}` has {} bytes and not {size}", file.identity.size)));
        }
        if let Some(checksum) = checksum.as_ref().filter(|_| self.rule.known.untouched(file).is_none()) {
            let input = self.rule.folder.storage.open(file)?;
            let holds = checksum.holds_for(input);
            if !holds.map_err(|error| cannot_read(&self.rule.folder.shown(file), error))? {
                return Ok(Err(format!("`{name}` has another checksum")));
            }
        }
        Ok(Ok(Some(file.clone())))
    }

    /// Tells of files that no manifest lists.
    pub(crate) fn tell_unlisted(&self, notices: &mut Vec<String>) {
        let mut unlisted: Vec<_> = self.files.keys().filter(|name| !self.listed.contains(**name)).collect();
        unlisted.sort_unstable();
        let named: Vec<_> = unlisted.iter().map(|name| format!("`{name}`")).collect();
        match named.len() {
            0 => {}
            1 => notices.push(format!("{} stands in no manifest yet; not read", told(&named))),
            _ => notices.push(format!("{} stand in no manifest yet; not read", told(&named))),
        }
    }
}

fn told(what: &[String]) -> String {
    let named = what[..what.len().min(NAMED)].join(", ");
    match what.len().saturating_sub(NAMED) {
        0 => named,
        count => format!("{named}, and {count} more"),
    }
}
