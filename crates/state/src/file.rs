//! Files and folders that only their owner may read, and that survive a power cut.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use convoke_core::StateError;

use crate::fault::disk_fault;

/// State holds personal data and the secret hash key.
pub(crate) const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

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
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(disk_fault("making", folder, error)),
        _ => make_names_durable(above),
    }
}

/// Makes an empty file for the owner alone; one that is there is an error.
pub(crate) fn create_private(path: &Path) -> Result<(), StateError> {
    create_new(path).map_err(|error| disk_fault("creating", path, error))
}

pub(crate) fn create_new(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path).map(drop)
}

/// Opens a file for writing as it is, made for the owner alone if it is not there.
pub(crate) fn open_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path)
}

/// Whether an open file still stands under this name.
pub(crate) fn is_named(file: &fs::File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (opened, named) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    matches!((opened, named), (Ok(opened), Ok(named)) if opened == named)
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

/// Removes a file that was made in vain. That it may stay there is no further error to tell.
pub(crate) fn discard(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "an unfinished copy stays behind");
    }
}

/// Removes a file; an absent one is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk_fault("removing", path, error)),
        _ => Ok(()),
    }
}

/// Runs blocking work on files where it does not hold up other tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StateError::storage("work on files was cut off; run the command again", error)),
    }
}
