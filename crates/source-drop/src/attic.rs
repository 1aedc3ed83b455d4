//! Where files that were read before are found again: in the folder, or among those that were moved to `processed/`.

use std::collections::{HashMap, HashSet};

use convoke_core::SourceError;
use convoke_core::source::Split;

use crate::earlier::{Prefix, folded, prefix};
use crate::file::{DroppedFile, Identity, LotName};
use crate::folder::Folder;
use crate::known::Hashes;
use crate::position::{SettledFile, split};

/// The files that may be read again.
pub(crate) struct Attic<'a> {
    files: Vec<DroppedFile>,
    by_stamp: HashMap<Stamp, usize>,
    by_size: HashMap<u32, Vec<usize>>,
    hashes: Hashes<'a>,
    hashed: HashSet<u32>,
    by_contents: HashMap<Prefix, usize>,
}

/// What stays of an identity when the file is moved.
type Stamp = (u64, u64, u64, Option<i64>, Option<String>);

fn stamp(identity: &Identity) -> Stamp {
    let Identity { device, inode, size, modified_ns, version, .. } = identity;
    (*device, *inode, *size, version.is_none().then_some(*modified_ns), version.clone())
}

impl<'a> Attic<'a> {
    pub(crate) fn open(folder: &'a Folder) -> Result<Self, SourceError> {
        let mut files = folder.contents()?.files;
        files.extend(folder.list_processed()?);
        let (mut by_stamp, mut by_size) = (HashMap::new(), HashMap::<u32, Vec<usize>>::new());
        for (index, file) in files.iter().enumerate() {
            by_stamp.entry(stamp(&file.identity)).or_insert(index);
            by_size.entry(folded(file.identity.size)).or_default().push(index);
        }
        let (hashes, hashed, by_contents) = (Hashes::new(folder), HashSet::new(), HashMap::new());
        Ok(Self { files, by_stamp, by_size, hashes, hashed, by_contents })
    }

    /// The split that reads a settled file again, from wherever it lies; none if it is gone.
    pub(crate) fn find(&mut self, known: &SettledFile, lot: Option<&LotName>) -> Result<Option<Split>, SourceError> {
        let found = match self.by_stamp.get(&stamp(&known.identity)) {
            Some(index) => Some(*index),
            None => match prefix(&known.fingerprint) {
                Some(wanted) => self.with_contents(wanted, folded(known.identity.size))?,
                None => None,
            },
        };
        Ok(found.map(|index| split(&known.name, &self.files[index], lot)))
    }

    /// The split that reads a file again of which no more than this is remembered.
    pub(crate) fn find_earlier(&mut self, wanted: Prefix, size: u32) -> Result<Option<Split>, SourceError> {
        let found = self.with_contents(wanted, size)?;
        Ok(found.map(|index| split(&self.files[index].name, &self.files[index], None)))
    }

    fn with_contents(&mut self, wanted: Prefix, size: u32) -> Result<Option<usize>, SourceError> {
        if self.hashed.insert(size) {
            for &index in self.by_size.get(&size).into_iter().flatten() {
                if let Some(prefix) = prefix(self.hashes.of(&self.files[index])?) {
                    self.by_contents.entry(prefix).or_insert(index);
                }
            }
        }
        Ok(self.by_contents.get(&wanted).copied())
    }
}
