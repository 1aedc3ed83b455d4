//! Files that were read long ago, by the bytes that tell them again.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::position::SettledFile;

/// The first half of a fingerprint: of a billion files no two are likely to share one.
pub(crate) type Prefix = [u8; 16];

/// Files that are remembered at most, some 20 MB. The oldest are forgotten first: dropped again, they would be read again.
pub(crate) const REMEMBERED: usize = 500_000;

/// What is kept of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EarlierFile {
    pub(crate) prefix: Prefix,
    /// Tells most files apart that were never read, so that they need not be hashed.
    pub(crate) size: u32,
    /// [`Identity::digest`](crate::file::Identity::digest): by it a file that was kept is known without reading it.
    pub(crate) identity: [u8; 8],
}

const BYTES: usize = 28;

/// Files in the order in which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Earlier(Vec<EarlierFile>);

impl Earlier {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &EarlierFile> {
        self.0.iter()
    }

    pub(crate) fn extend(&mut self, files: impl Iterator<Item = SettledFile>) {
        for file in files {
            // A fingerprint that is none of ours recognises nothing.
            let Some(prefix) = prefix(&file.fingerprint) else { continue };
            let (size, identity) = (folded(file.identity.size), file.identity.digest());
            self.0.push(EarlierFile { prefix, size, identity });
        }
        // Once for all of them: each time moves all that stay.
        let surplus = self.0.len().saturating_sub(REMEMBERED);
        self.0.drain(..surplus);
    }

    pub(crate) fn forget(&mut self, prefixes: &HashSet<Prefix>) {
        self.0.retain(|file| !prefixes.contains(&file.prefix));
    }
}

/// The lower half of a size.
pub(crate) fn folded(size: u64) -> u32 {
    (size & u64::from(u32::MAX)) as u32
}

/// The first half of a fingerprint; none if it is not one.
pub(crate) fn prefix(fingerprint: &str) -> Option<Prefix> {
    let digits = fingerprint.as_bytes().get(..32)?;
    let mut prefix = [0; 16];
    for (byte, pair) in prefix.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(prefix)
}

/// What [`prefix`] was made from, as far as it goes.
pub(crate) fn digits(prefix: &Prefix) -> String {
    prefix.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Serialize for Earlier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * BYTES);
        for file in &self.0 {
            bytes.extend_from_slice(&file.prefix);
            bytes.extend_from_slice(&file.size.to_be_bytes());
            bytes.extend_from_slice(&file.identity);
        }
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Earlier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let files = bytes.chunks(BYTES).map(EarlierFile::parse).collect::<Option<_>>();
        files.map(Self).ok_or_else(|| D::Error::custom("files that were read earlier are cut short"))
    }
}

impl EarlierFile {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let identity = rest.try_into().ok()?;
        Some(Self { prefix: *prefix, size: u32::from_be_bytes(*size), identity })
    }
}
