//! A drop folder on a file system.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use convoke_core::{Origin, SourceError};
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, RenameFlags, accessat, flock, renameat_with};
use rustix::io::Errno;

use crate::file::{DroppedFile, Identity, Place};
use crate::storage::{CLAIMS_FILE, ClaimsFile, Moved, Storage, cannot, subfolder};

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
        fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder.display().to_string(), error))
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
    fn list(&self, place: Place, counts: &(dyn Fn(&str) -> bool + Sync)) -> Result<Vec<DroppedFile>, SourceError> {
        match list_in(&self.folder(place), place, counts) {
            Err(error) if error.kind() == ErrorKind::NotFound && place != Place::Folder => Ok(Vec::new()),
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
            Err(error) => Err(cannot("move", &from.display().to_string(), error)),
        }
    }

    fn is_there(&self, _file: &DroppedFile, place: Place, name: &str) -> Result<bool, SourceError> {
        Ok(self.look(place, name)?.is_some())
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

    fn can_move_processed(&self) -> Result<(), SourceError> {
        let processed = self.folder(Place::Processed);
        let left = match fs::metadata(&processed) {
            // It is made when the first file is moved.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(not_writable(&processed, &processed, error)),
            Ok(found) if !found.is_dir() => {
                return Err(not_writable(&processed, &processed, ErrorKind::NotADirectory.into()));
            }
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

fn list_in(folder: &Path, place: Place, counts: &(dyn Fn(&str) -> bool + Sync)) -> io::Result<Vec<DroppedFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A name that is not Unicode cannot match the pattern.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !counts(&name) {
            continue;
        }
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                files.push(DroppedFile { place, name, identity: Identity::of(&metadata) });
            }
            Ok(_) => {}
            // The file went away between the listing and the look at it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Renames without ever replacing a file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems know no such flag; the caller has just seen that the name is free.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        other => Ok(other?),
    }
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
