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
                file::remove_if_there(&path)?;
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
        names.iter().try_for_each(|name| file::remove_if_there(&self.path_of(name)?))
    }

    /// Names of an audience's segments that have a file with this extension.
    fn names_now(&self, audience: &AudienceKey, extension: &str) -> Result<Vec<String>, StateError> {
        let folder_name = folder_name(audience);
        let mut names = Vec::new();
        for path in files_in(&self.root.join(&folder_name))? {
            let sealed = path.with_extension(SEALED_EXTENSION);
            let Some(file_name) = sealed.file_name().and_then(|name| name.to_str()) else { continue };
            if has_extension(&path, extension) {
                names.push(format!("{folder_name}/{file_name}"));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Names of an audience's segments that have a file with this extension.
    pub(crate) async fn names(
        &self,
        audience: &AudienceKey,
        extension: &'static str,
    ) -> Result<Vec<String>, StateError> {
        let audience = audience.clone();
        self.blocking(move |segments| segments.names_now(&audience, extension)).await
    }

    /// Turns a name into a path; a name that would lead out of the folder is refused.
    pub(crate) fn path_of(&self, name: &str) -> Result<PathBuf, StateError> {
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

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let segments = self.clone();
        file::blocking(move || work(&segments)).await
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
        self.names(audience, SEALED_EXTENSION).await
    }
}

/// Names an audience's folder: readable, safe in every file system, and unlike that of any other audience.
pub(crate) fn folder_name(audience: &AudienceKey) -> String {
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

/// Whether a file has the name of a sealed segment.
pub(crate) fn is_sealed(file_name: &str) -> bool {
    has_extension(Path::new(file_name), SEALED_EXTENSION)
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

#[cfg(test)]
mod tests;
