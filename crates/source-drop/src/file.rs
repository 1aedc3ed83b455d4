//! A file as the folder shows it, and what tells it from others.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// What the storage says of a file. Equal identities mean that nobody wrote to the file in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    #[serde(default, skip_serializing_if = "is_nought")]
    pub(crate) device: u64,
    #[serde(default, skip_serializing_if = "is_nought")]
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) modified_ns: i64,
    /// Last change of contents, name or rights; nanoseconds since the Unix epoch.
    pub(crate) changed_ns: i64,
    /// What an object store calls these contents; a file system has no such thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_nought(number: &u64) -> bool {
    *number == 0
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            version: None,
        }
    }

    /// When the contents were written. A copy can keep a time, also a wrong one that lies ahead; nothing was written
    /// after the last change of any kind, where the system tells when that was.
    pub(crate) fn written_ns(&self) -> i64 {
        if self.changed_ns > 0 { self.modified_ns.min(self.changed_ns) } else { self.modified_ns }
    }

    /// When the last was done to the file.
    pub(crate) fn touched_ns(&self) -> i64 {
        if self.changed_ns > 0 { self.changed_ns } else { self.modified_ns }
    }

    /// Whether this is the same file with the same contents, perhaps moved: a move changes `changed_ns`.
    pub(crate) fn is_moved(&self, other: &Self) -> bool {
        match (&self.version, &other.version) {
            (None, None) => (self.file(), self.modified_ns) == (other.file(), other.modified_ns),
            // Of a moved object all times are new.
            (one, other_version) => one == other_version && self.size == other.size,
        }
    }

    fn file(&self) -> (u64, u64, u64) {
        (self.device, self.inode, self.size)
    }

    /// Eight bytes that stand for the identity where there are many.
    pub(crate) fn digest(&self) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new();
        for number in [self.device, self.inode, self.size] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&self.modified_ns.to_le_bytes()).update(&self.changed_ns.to_le_bytes());
        hasher.update(self.version.as_deref().unwrap_or_default().as_bytes());
        let mut digest = [0; 8];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        digest
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Where a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// In the drop folder itself.
    Folder,
    /// Below it, among those that were read.
    Processed,
    /// Below it, among those that could not be.
    Quarantine,
}

/// A file that lies in the drop folder or below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DroppedFile {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) identity: Identity,
}

impl DroppedFile {
    /// The order in which files were dropped.
    pub(crate) fn age_order(&self) -> (i64, &str) {
        (self.identity.written_ns(), &self.name)
    }
}

/// Files that were dropped together: those of a manifest, else a file alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lot {
    pub(crate) name: LotName,
    /// Oldest first.
    pub(crate) files: Vec<DroppedFile>,
}

/// What tells a lot from others, and which is the newer one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LotName {
    /// When the manifest was written, or the only file; nanoseconds since the Unix epoch.
    pub(crate) written_ns: i64,
    /// Name of the manifest, or of the only file.
    pub(crate) name: String,
}

impl Lot {
    pub(crate) fn of_one(file: DroppedFile) -> Self {
        Self { name: LotName::of(&file), files: vec![file] }
    }
}

impl LotName {
    pub(crate) fn of(file: &DroppedFile) -> Self {
        Self { written_ns: file.identity.written_ns(), name: file.name.clone() }
    }
}

/// Hashes all that a reader has to give.
pub(crate) fn fingerprint(mut input: impl Read) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..length]);
    }
}
