//! Files and folders that only their owner may read, and that survive a power cut.
//!
//! Nothing here opens a database file that exists: closing such a handle would drop the locks that SQLite holds
//! on the same file in this process.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use convoke_core::StateError;

use crate::fault::{Place, disk_fault};
use crate::file_system;
use crate::sqlite::OpenMode;

/// State holds personal data and the secret hash key.
pub(crate) const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// Sees to it that the database file exists where it may, and tells what is wrong if it cannot be used.
pub(crate) fn prepare(path: &Path, mode: OpenMode) -> Result<(), StateError> {
    let folder = folder_of(path);
    file_system::refuse_network(path, folder)?;
    if path.is_dir() {
        let message = format!("the state file `{}` is a folder; name a file in the configuration", path.display());
        return Err(StateError::Unusable { message });
    }
    let exists = path.try_exists().map_err(|error| disk_fault("looking for", path, error))?;
    match mode {
        _ if exists => Ok(()),
        OpenMode::ReadWrite => {
            create_private_folder(folder)?;
            create_private_unless_there(path)
        }
        OpenMode::Existing | OpenMode::ReadOnly => Err(Place::new(path).missing()),
    }
}

/// The folder that holds `path`; a bare file name stands in the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes a folder and those above it for the owner alone; what is there stays as it is.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), StateError> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if above != folder {
        create_private_folder(above)?;
    }
    match fs::DirBuilder::new().mode(PRIVATE_FOLDER).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(disk_fault("making", folder, error)),
        _ => make_names_durable(above),
    }
}

/// Makes an empty file for the owner alone; one that is there is an error.
pub(crate) fn create_private(path: &Path) -> Result<(), StateError> {
    create_new(path).map_err(|error| disk_fault("creating", path, error))
}

fn create_private_unless_there(path: &Path) -> Result<(), StateError> {
    match create_new(path) {
        // Another process was faster; both go on with the same file.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(disk_fault("creating", path, error)),
        Ok(()) => make_names_durable(folder_of(path)),
    }
}

fn create_new(path: &Path) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path).map(drop)
}

/// Forces a file's contents to disk.
pub(crate) fn make_contents_durable(path: &Path) -> Result<(), StateError> {
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| disk_fault("saving", path, error))
}

/// Forces a folder's list of names to disk: what was made or renamed in it.
pub(crate) fn make_names_durable(folder: &Path) -> Result<(), StateError> {
    make_contents_durable(folder)
}

/// Forces a new file and its name to disk.
pub(crate) fn make_durable(path: &Path) -> Result<(), StateError> {
    make_contents_durable(path)?;
    make_names_durable(folder_of(path))
}

/// Keeps other processes from opening state in this folder until the returned handle is dropped.
pub(crate) async fn lock_folder(folder: &Path) -> Result<fs::File, StateError> {
    let folder = folder.to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let handle = fs::File::open(&folder).map_err(|error| disk_fault("opening", &folder, error))?;
        rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| disk_fault("locking", &folder, error.into()))?;
        Ok(handle)
    });
    locked.await.map_err(|error| StateError::storage("opening the state was cut off; run the command again", error))?
}

/// SQLite takes file names as text.
pub(crate) fn text_of(path: &Path) -> Result<&str, StateError> {
    path.to_str().ok_or_else(|| StateError::Unusable {
        message: format!("the file name `{}` is not UTF-8; name another", path.display()),
    })
}

/// Removes a file that was made in vain. That it may stay there is no further error to tell.
pub(crate) fn discard(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "an unfinished copy stays behind");
    }
}
