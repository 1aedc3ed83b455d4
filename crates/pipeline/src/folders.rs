//! Where a run keeps its files: one folder per plan, one per spool.
//!
//! Everything here holds personal data: folders are 0700, files 0600. The ledger's segments and the checkpoint store
//! have their own places.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use convoke_core::{PlanId, RunId};

use crate::error::Error;

/// Name of the manifest in a plan's folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The folders below the state directory.
#[derive(Clone, Debug)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Uses `state_dir`, which must exist.
    pub fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.to_owned() }
    }

    pub(crate) fn plan(&self, id: PlanId) -> PathBuf {
        self.root.join("plans").join(id.to_string())
    }

    pub(crate) fn spool(&self, run: RunId) -> PathBuf {
        self.root.join("spool").join(run.to_string())
    }

    /// Names of the folders of a kind; none if there are none, or they cannot be listed.
    pub(crate) fn list(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(kind)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    pub(crate) fn remove(&self, kind: &str, name: &str) {
        let folder = self.root.join(kind).join(name);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), error = %error, "a folder could not be removed");
        }
    }
}

pub(crate) fn create_private(folder: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|cause| Error::files(format!("creating the folder `{}`", folder.display()), cause))
}

/// Writes a file so that after a crash it is either whole or absent.
pub(crate) fn write_durably(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let describe = |cause| Error::files(format!("writing `{}`; is there room on the disk?", path.display()), cause);
    let staged = path.with_extension("staged");
    let folder = path.parent().expect("a plan file lies in a plan's folder");
    (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        File::open(folder)?.sync_all()?;
        // The folder's own name must survive as well.
        folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    })()
    .map_err(describe)
}
