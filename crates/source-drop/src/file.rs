//! A file as the folder shows it, and what tells it from others.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What the file system says of a file. Equal identities mean that nobody wrote to the file in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) modified_ns: i64,
    /// Last change of contents, name or rights; nanoseconds since the Unix epoch.
    pub(crate) changed_ns: i64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether this is the same file with the same contents, perhaps moved: a move changes `changed_ns`.
    pub(crate) fn is_moved(&self, other: &Self) -> bool {
        Self { changed_ns: other.changed_ns, ..*self } == *other
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// A file that lies in the drop folder or below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DroppedFile {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
}

impl DroppedFile {
    /// The order in which files were dropped.
    pub(crate) fn age_order(&self) -> (i64, &str) {
        (self.identity.modified_ns, &self.name)
    }
}

/// Hashes a whole file.
pub(crate) fn fingerprint(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..length]);
    }
}
