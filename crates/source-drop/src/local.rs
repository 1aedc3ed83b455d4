//! A drop folder on a file system.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use convoke_core::{Origin, SourceError};
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, RenameFlags, accessat, flock, renameat_with};
use rustix::io::Errno;

use crate::file::{DroppedFile, Identity, Place};
use crate::storage::{CLAIMS_FILE, ClaimsFile, Counts, Listing, Moved, Storage, cannot, subfolder};

/// A folder of a file system.
#[derive(Clone, Debug)]
pub(crate) struct LocalFolder {
    path: PathBuf,
}

impl LocalFolder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn folder(&self, place: Place) -> PathBuf {
        // Joined with an empty name, a path would end in a slash.
        if place == Place::Folder { self.path.clone() } else { self.path.join(subfolder(place)) }
    }

    fn path(&self, place: Place, name: &str) -> PathBuf {
        self.folder(place).join(name)
    }

    fn cannot_list(&self, place: Place, error: io::Error) -> SourceError {
        let folder = self.folder(place);
        if place != Place::Folder {
            return cannot("list", &folder.display().to_string(), error);
        }
        let remedy = match error.kind() {
            ErrorKind::NotFound => "create it, or correct `path`",
            ErrorKind::PermissionDenied => "give this user the right to read it",
            _ => "check `path`",
        };
        let message = format!("cannot list the drop folder `{}`; {remedy}", folder.display());
        SourceError::new(Origin::User, message).caused_by(error)
    }

    fn make(&self, place: Place) -> Result<(), SourceError> {
        let folder = self.folder(place);
        match fs::create_dir(&folder) {
            // Who drops files is to find again what became of them.
            Ok(()) => self.share(&folder, 0o777),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(cannot("create", &folder.display().to_string(), error)),
        }
    }

    /// A file is moved by giving it another name, which does not lead from one file system to another.
    fn on_another_device(&self, processed: &Path) -> SourceError {
        let message = format!(
            "files that were read are to be moved to `{}`, which is on another file system than `{}`, so they cannot be; \
             make it a folder of the same file system, or set `processed: keep`",
            processed.display(),
            self.path.display()
        );
        SourceError::new(Origin::User, message)
    }

    /// Takes the lock under which claims are written; it goes with the handle, also if this process dies.
    fn lock_claims(&self) -> Result<File, SourceError> {
        let path = self.path.join(".convoke/claims.lock");
        let failed = |error| cannot("lock", &path.display().to_string(), error);
        let own = path.parent().unwrap_or(&self.path);
        // The drop folder itself is not made: it may be away for a while.
        match fs::create_dir(own) {
            Ok(()) => self.share(own, 0o777)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        self.share(&path, 0o666)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(lock)
    }

    /// Lets those use it who may use the drop folder: another installation may run as another user.
    fn share(&self, path: &Path, rights: u32) -> Result<(), SourceError> {
        let failed = |error| cannot("share", &path.display().to_string(), error);
        let folder = fs::metadata(&self.path).map_err(failed)?.permissions().mode();
        match fs::set_permissions(path, Permissions::from_mode(folder & rights)) {
            // Whoever made it has done so.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            result => result.map_err(failed),
        }
    }
}

impl Storage for LocalFolder {
    fn list(&self, place: Place, counts: &mut Counts<'_>) -> Result<Listing, SourceError> {
        match list_in(&self.folder(place), place, counts) {
            Err(error) if error.kind() == ErrorKind::NotFound && place != Place::Folder => Ok(Listing::default()),
            listed => listed.map_err(|error| self.cannot_list(place, error)),
        }
    }

    fn look(&self, place: Place, name: &str) -> Result<Option<Identity>, SourceError> {
        let path = self.path(place, name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(Identity::of(&metadata))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(cannot("look at", &path.display().to_string(), error)),
        }
    }

    fn open(&self, file: &DroppedFile) -> Result<Box<dyn Read + Send>, SourceError> {
        let path = self.path(file.place, &file.name);
        match File::open(&path) {
            Ok(opened) => Ok(Box::new(opened)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(SourceError::changed(format!("`{}` went away; run again", path.display())))
            }
            Err(error) => Err(cannot("open", &path.display().to_string(), error)),
        }
    }

    fn move_to_new(&self, file: &DroppedFile, place: Place, name: &str) -> Result<Moved, SourceError> {
        self.make(place)?;
        let (from, to) = (self.path(file.place, &file.name), self.path(place, name));
        match rename_new(&from, &to) {
            Ok(()) => Ok(Moved::Done),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Moved::NameTaken),
            Err(error) if error.kind() == ErrorKind::NotFound && !from.exists() => Ok(Moved::Gone),
            Err(error) => {
                let action = format!("move `{}` into", from.display());
                Err(cannot(&action, &self.folder(place).display().to_string(), error))
            }
        }
    }

    fn is_there(&self, file: &DroppedFile, place: Place, name: &str) -> Result<bool, SourceError> {
        let is_another = |found: &Identity| (found.device, found.inode) != (file.identity.device, file.identity.inode);
        Ok(self.look(place, name)?.as_ref().is_some_and(is_another))
    }

    fn put_new(&self, place: Place, name: &str, text: &str) -> Result<bool, SourceError> {
        self.make(place)?;
        let path = self.path(place, name);
        let failed = |error| cannot("write", &path.display().to_string(), error);
        // It may tell more of a file than others are to know.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).map_err(failed)?;
                Ok(true)
            }
            // The same one was written before a crash, which came before the file was moved.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(fs::read_to_string(&path).is_ok_and(|existing| existing == text))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn can_move_processed(&self, _files: &[DroppedFile]) -> Result<(), SourceError> {
        let processed = self.folder(Place::Processed);
        let own = fs::metadata(&self.path).map_err(|error| not_writable(&self.path, &processed, error))?;
        let left = match fs::metadata(&processed) {
            // It is made when the first file is moved.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(not_writable(&processed, &processed, error)),
            Ok(found) if !found.is_dir() => {
                return Err(not_writable(&processed, &processed, ErrorKind::NotADirectory.into()));
            }
            Ok(found) if found.dev() != own.dev() => return Err(self.on_another_device(&processed)),
            Ok(_) => Some(&processed),
        };
        for folder in [Some(&self.path), left].into_iter().flatten() {
            let may_write = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
            // A system that cannot tell finds out by moving; some filters of system calls say so with EPERM.
            if let Err(errno @ (Errno::ACCESS | Errno::ROFS)) = may_write {
                return Err(not_writable(folder, &processed, errno.into()));
            }
        }
        Ok(())
    }

    fn claims(&self) -> Result<Option<ClaimsFile>, SourceError> {
        let path = self.path.join(CLAIMS_FILE);
        match fs::read(&path) {
            Ok(text) => Ok(Some(ClaimsFile { text, version: None })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(cannot("read", &path.display().to_string(), error)),
        }
    }

    fn replace_claims(&self, known: Option<&ClaimsFile>, text: &str) -> Result<bool, SourceError> {
        let lock = self.lock_claims()?;
        if self.claims()?.as_ref() != known {
            return Ok(false);
        }
        let path = self.path.join(CLAIMS_FILE);
        let failed = |error| cannot("write", &path.display().to_string(), error);
        let draft = path.with_extension("json.new");
        let mut file = File::create(&draft).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        self.share(&draft, 0o666)?;
        fs::rename(&draft, &path).map_err(failed)?;
        // A claim outlasts the machine: what it is for may be half sent.
        let own = path.parent().unwrap_or(&self.path);
        File::open(own).and_then(|folder| folder.sync_all()).map_err(failed)?;
        drop(lock);
        Ok(true)
    }

    fn shown(&self, place: Place, name: &str) -> String {
        self.path(place, name).display().to_string()
    }

    fn shown_folder(&self) -> String {
        self.path.display().to_string()
    }
}

fn list_in(folder: &Path, place: Place, counts: &mut Counts<'_>) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(name) => {
                let shown = name.to_string_lossy().into_owned();
                if counts(&shown) {
                    listing.skipped.push((shown, "its name is not Unicode; rename it".to_owned()));
                }
                continue;
            }
        };
        if !counts(&name) {
            continue;
        }
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                listing.files.push(DroppedFile { place, name, identity: Identity::of(&metadata) });
            }
            Ok(_) => {}
            // The file went away between the listing and the look at it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                listing.skipped.push((name, format!("it cannot be looked at ({error}); see where it leads to")))
            }
        }
    }
    Ok(listing)
}

/// Renames without ever replacing a file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems know no such flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from, to),
        other => Ok(other?),
    }
}

/// The same in two steps, of which the first replaces nothing. After a crash between them the file has both names.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let (one, other) = (fs::symlink_metadata(from)?, fs::symlink_metadata(to)?);
            if (one.dev(), one.ino()) != (other.dev(), other.ino()) {
                return Err(error);
            }
        }
        // Nothing is left but to trust the look at the name that the caller has just taken.
        Err(error) if is_no_link(&error) => return fs::rename(from, to),
        linked => linked?,
    }
    fs::remove_file(from)
}

/// Whether a file system knows no second names.
fn is_no_link(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL))
}

/// `folder` is the one that keeps files from being moved to `processed`.
fn not_writable(folder: &Path, processed: &Path, error: io::Error) -> SourceError {
    let remedy = match error.kind() {
        ErrorKind::NotADirectory => "move away the file that stands in its place",
        ErrorKind::PermissionDenied => "give this user the right to write it",
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only",
        _ => "check the disk",
    };
    let message = format!(
        "files that were read are to be moved to `{}`, but nothing can be written in `{}`; {remedy}, or set `processed: keep`",
        processed.display(),
        folder.display()
    );
    SourceError::new(Origin::External, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_flag_a_move_replaces_nothing_either_and_goes_on_after_a_crash() {
        let folder = tempfile::TempDir::new().unwrap();
        let (from, to) = (folder.path().join("a.csv"), folder.path().join("moved.csv"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert_eq!(link_new(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        fs::remove_file(&to).unwrap();
        link_new(&from, &to).unwrap();
        // As if a crash had come before the first name was removed.
        fs::hard_link(&to, &from).unwrap();
        link_new(&from, &to).unwrap();
        assert!(!from.exists());
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }
}
