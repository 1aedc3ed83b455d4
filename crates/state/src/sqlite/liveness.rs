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

/// The fence of a lock whose lease is not stored yet; fences begin at 1.
pub(super) const UNASSIGNED: u64 = 0;

/// The locks of one handle.
#[derive(Debug)]
pub(super) struct Liveness {
    folder: PathBuf,
    held: Mutex<HashMap<String, Held>>,
}

/// A lock, let go of when it is dropped.
#[derive(Debug)]
struct Held {
    _file: File,
    /// Of the lease that the lock goes with.
    fence: u64,
}

impl Liveness {
    /// Keeps lock files in `locks/` beside the store.
    pub(super) fn beside(store: &Path) -> Self {
        let folder = store.parent().unwrap_or(Path::new(".")).join("locks");
        Self { folder, held: Mutex::default() }
    }

    /// Takes the resource's lock, unless somebody who lives has it. Failing to is never an error: then leases run out.
    pub(super) fn try_hold(&self, resource: &str) -> bool {
        let mut held = self.held();
        if held.contains_key(resource) {
            return false;
        }
        let Some(file) = self.open(resource) else { return false };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return false;
        }
        held.insert(resource.to_owned(), Held { _file: file, fence: UNASSIGNED });
        true
    }

    /// Says which lease the lock that was just taken goes with.
    pub(super) fn belongs_to(&self, resource: &str, fence: u64) {
        if let Some(held) = self.held().get_mut(resource) {
            held.fence = fence;
        }
    }

    /// Lets go of the lock that goes with the lease of this fence; that of another lease stays.
    pub(super) fn let_go(&self, resource: &str, fence: u64) {
        let mut held = self.held();
        if held.get(resource).is_some_and(|held| held.fence == fence) {
            held.remove(resource);
        }
    }

    fn open(&self, resource: &str) -> Option<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).ok()?;
        let name = format!("{}.lock", blake3::hash(resource.as_bytes()).to_hex());
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.folder.join(name)).ok()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
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

    #[test]
    fn a_lock_goes_with_one_lease_and_not_with_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("state.sqlite");
        let (one, two) = (Liveness::beside(&store), Liveness::beside(&store));
        assert!(one.try_hold("audience/a"));
        one.belongs_to("audience/a", 7);
        one.let_go("audience/a", 6);
        assert!(!two.try_hold("audience/a"), "a stale lease does not take the lock of a newer one along");
        one.let_go("audience/a", 7);
        assert!(two.try_hold("audience/a"));
    }
}
