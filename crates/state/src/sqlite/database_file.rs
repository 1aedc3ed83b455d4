//! The database file itself: where it may stand, and who makes it.
//!
//! Nothing here opens a database file that exists: closing such a handle would drop the locks that SQLite holds
//! on the same file in this process.

use std::fs;
use std::path::Path;

use convoke_core::StateError;

use crate::OpenMode;
use crate::fault::disk_fault;
use crate::file::{blocking, create_new, create_private_folder, folder_of, make_names_durable};
use crate::sqlite::file_system;
use crate::sqlite::place::Place;

/// Sees to it that the database file exists where it may, and tells what is wrong if it cannot be used.
pub(super) fn prepare(path: &Path, mode: OpenMode) -> Result<(), StateError> {
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

fn create_private_unless_there(path: &Path) -> Result<(), StateError> {
    match create_new(path) {
        // Another process was faster; both go on with the same file.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(disk_fault("creating", path, error)),
        Ok(()) => make_names_durable(folder_of(path)),
    }
}

/// Keeps other processes from opening state in this folder until the returned handle is dropped.
pub(super) async fn lock_folder(folder: &Path) -> Result<fs::File, StateError> {
    let folder = folder.to_owned();
    blocking(move || {
        let handle = fs::File::open(&folder).map_err(|error| disk_fault("opening", &folder, error))?;
        rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| disk_fault("locking", &folder, error.into()))?;
        Ok(handle)
    })
    .await
}

/// SQLite takes file names as text.
pub(super) fn text_of(path: &Path) -> Result<&str, StateError> {
    path.to_str().ok_or_else(|| StateError::Unusable {
        message: format!("the file name `{}` is not UTF-8; name another", path.display()),
    })
}
