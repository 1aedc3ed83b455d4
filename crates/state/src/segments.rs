//! Ledger segments in a local folder.
//!
//! Each audience has a folder of its own, each segment a file with a name that is never used again. A segment is
//! written under a temporary name and appears under its own only once its bytes are on disk. Whoever stages a
//! segment holds the audience's lease, so a staged file that this handle does not know was left by a crash: the
//! next [`SegmentStore::stage`] removes it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use convoke_core::AudienceKey;
use convoke_core::StateError;
use convoke_core::ledger::{SegmentStore, StagedSegment};
use uuid::Uuid;

use crate::fault::{MISSING_CHOICES, disk_fault};
use crate::file;

const SEALED_EXTENSION: &str = "parquet";
const STAGED_EXTENSION: &str = "staged";

/// A [`SegmentStore`] in a folder of this machine.
#[derive(Clone, Debug)]
pub struct LocalSegments {
    root: PathBuf,
    /// Staged by this handle or a clone of it, and not sealed yet.
    staged: Arc<Mutex<HashSet<PathBuf>>>,
}

impl LocalSegments {
    /// Uses the folder `root`, which is made when the first segment is staged.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), staged: Arc::default() }
    }

    fn stage_now(&self, audience: &AudienceKey) -> Result<StagedSegment, StateError> {
        let folder_name = folder_name(audience);
        let folder = self.root.join(&folder_name);
        file::create_private_folder(&folder)?;
        self.remove_left_behind(&folder)?;
        let name = format!("{folder_name}/{}.{SEALED_EXTENSION}", Uuid::now_v7());
        let path = staged_path(&self.root.join(&name));
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file::PRIVATE_FILE)
            .open(&path)
            .map_err(|error| disk_fault("creating", &path, error))?;
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Ok(StagedSegment { name, path })
    }

    fn remove_left_behind(&self, folder: &Path) -> Result<(), StateError> {
        for path in files_in(folder)? {
            let is_ours = self.staged.lock().unwrap_or_else(PoisonError::into_inner).contains(&path);
            if !is_ours && has_extension(&path, STAGED_EXTENSION) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    fn seal_now(&self, staged: &StagedSegment) -> Result<(), StateError> {
        let sealed = self.path_of(&staged.name)?;
        if sealed.exists() {
            return Err(StateError::Conflict { what: format!("the sealed ledger segment `{}`", staged.name) });
        }
        file::make_contents_durable(&staged.path)?;
        fs::rename(&staged.path, &sealed).map_err(|error| disk_fault("renaming", &staged.path, error))?;
        file::make_names_durable(sealed.parent().unwrap_or(&self.root))?;
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).remove(&staged.path);
        Ok(())
    }

    fn open_now(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path_of(name)?;
        if path.is_file() {
            return Ok(path);
        }
        Err(StateError::Missing {
            message: format!("the ledger segment `{}` is gone; {MISSING_CHOICES}", path.display()),
        })
    }

    fn remove_now(&self, names: &[String]) -> Result<(), StateError> {
        names.iter().try_for_each(|name| remove_if_there(&self.path_of(name)?))
    }

    fn list_now(&self, audience: &AudienceKey) -> Result<Vec<String>, StateError> {
        let folder_name = folder_name(audience);
        let folder = self.root.join(&folder_name);
        let mut names = Vec::new();
        for path in files_in(&folder)? {
            let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if has_extension(&path, SEALED_EXTENSION) {
                names.push(format!("{folder_name}/{file_name}"));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Turns a name into a path; a name that would lead out of the folder is refused.
    fn path_of(&self, name: &str) -> Result<PathBuf, StateError> {
        let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
        match name.split_once('/') {
            Some((folder, file)) if is_plain(folder) && is_plain(file) && !file.contains('/') => {
                Ok(self.root.join(folder).join(file))
            }
            _ => Err(StateError::Unusable {
                message: format!("`{name}` is no name of a ledger segment; restore the state from a backup"),
            }),
        }
    }

    /// Runs blocking file work where it does not hold up other tasks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let segments = self.clone();
        match tokio::task::spawn_blocking(move || work(&segments)).await {
            Ok(result) => result,
            Err(error) => {
                Err(StateError::storage("the work on ledger segments was cut off; run the command again", error))
            }
        }
    }
}

#[async_trait]
impl SegmentStore for LocalSegments {
    async fn stage(&self, audience: &AudienceKey) -> Result<StagedSegment, StateError> {
        let audience = audience.clone();
        self.blocking(move |segments| segments.stage_now(&audience)).await
    }

    async fn seal(&self, staged: StagedSegment) -> Result<(), StateError> {
        self.blocking(move |segments| segments.seal_now(&staged)).await
    }

    async fn open(&self, name: &str) -> Result<PathBuf, StateError> {
        let name = name.to_owned();
        self.blocking(move |segments| segments.open_now(&name)).await
    }

    async fn remove(&self, names: &[String]) -> Result<(), StateError> {
        let names = names.to_vec();
        self.blocking(move |segments| segments.remove_now(&names)).await
    }

    async fn list(&self, audience: &AudienceKey) -> Result<Vec<String>, StateError> {
        let audience = audience.clone();
        self.blocking(move |segments| segments.list_now(&audience)).await
    }
}

/// Names an audience's folder: readable, safe in every file system, and unlike that of any other audience.
fn folder_name(audience: &AudienceKey) -> String {
    let readable: String = audience
        .to_string()
        .chars()
        .map(|symbol| if symbol.is_ascii_alphanumeric() || symbol == '-' { symbol } else { '_' })
        .take(64)
        .collect();
    let mut hasher = blake3::Hasher::new();
    // The zero byte keeps `a/b` + `c` apart from `a` + `b/c`.
    hasher.update(audience.connection.as_str().as_bytes()).update(&[0]).update(audience.audience_id.as_bytes());
    let digest = hasher.finalize().to_hex();
    format!("{readable}-{}", &digest[..16])
}

fn staged_path(sealed: &Path) -> PathBuf {
    sealed.with_extension(STAGED_EXTENSION)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Lists a folder; one that is absent holds nothing.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, StateError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk_fault("reading", folder, error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(|error| disk_fault("reading", folder, error))
}

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk_fault("removing", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
