//! Looks files up among those that were read before.

use std::collections::{HashMap, HashSet};

use convoke_core::SourceError;

use crate::earlier::{Prefix, digits, folded, prefix};
use crate::file::{DroppedFile, LotName, fingerprint};
use crate::folder::Folder;
use crate::position::Position;
use crate::storage::cannot_read;

/// The files of a position, found by what tells them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By [`Identity::digest`](crate::file::Identity::digest).
    by_identity: HashMap<[u8; 8], Prefix>,
    contents: HashSet<Prefix>,
    sizes: HashSet<u32>,
    /// Those of which all is remembered.
    whole: HashMap<Prefix, Recognised>,
    /// Why files that were kept could not be read, by identity.
    broken: HashMap<[u8; 8], String>,
    /// The manifest whose files were read last.
    lot: Option<LotName>,
}

/// A file that was read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recognised {
    /// Where it is long ago, only the first half.
    pub(crate) fingerprint: String,
    /// Under which name, unless it is long ago.
    pub(crate) name: Option<String>,
}

impl Recognised {
    /// How it is called in messages.
    pub(crate) fn shown(&self) -> String {
        match &self.name {
            Some(name) => format!("`{name}`, which was read before"),
            None => "a file that was read long before".to_owned(),
        }
    }
}

impl Known {
    pub(crate) fn of(position: &Position) -> Self {
        let broken = position.broken.iter().map(|file| (file.identity.digest(), file.reason.clone()));
        let mut known = Self { broken: broken.collect(), lot: position.lot.clone(), ..Self::default() };
        for file in position.earlier.iter() {
            known.note(file.prefix, file.identity, file.size);
        }
        for file in &position.files {
            let Some(prefix) = prefix(&file.fingerprint) else { continue };
            known.note(prefix, file.identity.digest(), folded(file.identity.size));
            let recognised = Recognised { fingerprint: file.fingerprint.clone(), name: Some(file.name.clone()) };
            known.whole.insert(prefix, recognised);
        }
        known
    }

    fn note(&mut self, prefix: Prefix, identity: [u8; 8], size: u32) {
        self.by_identity.insert(identity, prefix);
        self.contents.insert(prefix);
        self.sizes.insert(size);
    }

    /// The file that nobody has written to since it was read.
    pub(crate) fn untouched(&self, file: &DroppedFile) -> Option<Recognised> {
        self.by_identity.get(&file.identity.digest()).map(|prefix| self.recognised(prefix))
    }

    /// Why a file could not be read that nobody has written to since.
    pub(crate) fn why_broken(&self, file: &DroppedFile) -> Option<&str> {
        self.broken.get(&file.identity.digest()).map(String::as_str)
    }

    /// Whether these are the files that were read last: then some may have been moved since.
    pub(crate) fn is_last(&self, lot: &LotName) -> bool {
        self.lot.as_ref() == Some(lot)
    }

    /// The file that has the same contents.
    pub(crate) fn same_contents(
        &self,
        file: &DroppedFile,
        hashes: &mut Hashes<'_>,
    ) -> Result<Option<Recognised>, SourceError> {
        if !self.sizes.contains(&folded(file.identity.size)) {
            return Ok(None);
        }
        let found = prefix(hashes.of(file)?).filter(|prefix| self.contents.contains(prefix));
        Ok(found.map(|prefix| self.recognised(&prefix)))
    }

    fn recognised(&self, prefix: &Prefix) -> Recognised {
        let whole = self.whole.get(prefix).cloned();
        whole.unwrap_or_else(|| Recognised { fingerprint: digits(prefix), name: None })
    }
}

/// Hashes of files, each taken once.
pub(crate) struct Hashes<'a> {
    folder: &'a Folder,
    taken: HashMap<String, String>,
}

impl<'a> Hashes<'a> {
    pub(crate) fn new(folder: &'a Folder) -> Self {
        Self { folder, taken: HashMap::new() }
    }

    pub(crate) fn of(&mut self, file: &DroppedFile) -> Result<&str, SourceError> {
        let shown = self.folder.shown(file);
        if !self.taken.contains_key(&shown) {
            let input = self.folder.storage.open(file)?;
            let hash = fingerprint(input).map_err(|error| cannot_read(&shown, error))?;
            self.taken.insert(shown.clone(), hash);
        }
        Ok(&self.taken[&shown])
    }
}
