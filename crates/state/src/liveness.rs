//! Tells whether the process that holds a lease still lives, where the kernel can say so.
//!
//! Whoever holds a lease also holds a lock on a file beside the store. The kernel lets go of it when the process ends,
//! however it ends, so after a crash the next process need not wait for the lease to run out. The store lies on a
//! local disk, so every process that can open it asks the same kernel. The lock only ever shortens that wait: who may
//! write is decided by the lease and its fence.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{FlockOperation, flock};

/// The locks of one handle.
#[derive(Debug)]
pub(crate) struct Liveness {
    folder: PathBuf,
    held: Mutex<HashMap<String, File>>,
}

impl Liveness {
    /// Keeps lock files in `locks/` beside the store.
    pub(crate) fn beside(store: &Path) -> Self {
        let folder = store.parent().unwrap_or(Path::new(".")).join("locks");
        Self { folder, held: Mutex::default() }
    }

    /// Takes the resource's lock, unless somebody who lives has it. Failing to is never an error: then leases run out.
    pub(crate) fn try_hold(&self, resource: &str) -> bool {
        let mut held = self.held();
        if held.contains_key(resource) {
            return false;
        }
        let Some(file) = self.open(resource) else { return false };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return false;
        }
        held.insert(resource.to_owned(), file);
        true
    }

    pub(crate) fn let_go(&self, resource: &str) {
        self.held().remove(resource);
    }

    fn open(&self, resource: &str) -> Option<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).ok()?;
        let name = format!("{}.lock", blake3::hash(resource.as_bytes()).to_hex());
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.folder.join(name)).ok()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.held.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_again_once_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("state.sqlite");
        let (one, two) = (Liveness::beside(&store), Liveness::beside(&store));
        assert!(one.try_hold("audience/a"));
        assert!(!one.try_hold("audience/a"), "held by this handle already");
        assert!(!two.try_hold("audience/a"));
        assert!(two.try_hold("audience/b"));
        drop(one);
        assert!(two.try_hold("audience/a"));
    }
}
