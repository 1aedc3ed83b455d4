//! The folder that queries spill to: kept for as long as the process uses it, and cleaned of what killed ones left.
//!
//! Each process has a folder of its own in it, which it removes at its end; a killed one does not. While a process uses
//! the folder it holds a lock on a file there, together with all others that do; the kernel lets go of it however the
//! process ends. Whoever gets the lock for itself alone knows that nobody else lives, and that what lies there is left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

const LOCK: &str = "in-use.lock";
/// How the query engine's folders begin.
const PREFIX: &str = "datafusion-";

/// The right to spill to a folder, for as long as this lives.
#[derive(Debug)]
pub(crate) struct SpillFolder {
    _lock: File,
}

impl SpillFolder {
    /// Makes the folder if it is not there, and removes what killed processes left if no other one uses it.
    pub(crate) fn enter(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_leftovers(folder);
        }
        if let Err(error) = retry_on_intr(|| flock(&lock, FlockOperation::LockShared)) {
            // Where there are no locks nobody gets one for itself alone, so nothing is ever removed.
            tracing::debug!(folder = %folder.display(), error = %error, "the spill folder cannot be locked");
        }
        Ok(Self { _lock: lock })
    }
}

fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(folder = %entry.path().display(), error = %error, "spilled files could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_folder_is_removed_only_when_nobody_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("datafusion-left");
        let user = SpillFolder::enter(folder.path()).unwrap();
        fs::create_dir(&left).unwrap();
        let second_user = SpillFolder::enter(folder.path()).unwrap();
        assert!(left.exists(), "it may be the first user's");
        drop((user, second_user));
        let _third_user = SpillFolder::enter(folder.path()).unwrap();
        assert!(!left.exists());
        assert!(folder.path().join(LOCK).exists(), "nothing else is touched");
    }
}
