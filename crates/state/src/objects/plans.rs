//! Plan files on an object store.
//!
//! Each plan has a folder of its own, and in it, beside its files, an index with the length and digest of each. The
//! index is written last and removed first: without it there is no plan, and with it there is all of it.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use convoke_core::ledger::PlanArchive;
use convoke_core::{PlanId, StateError};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::transfer;
use crate::fault::disk_fault;
use crate::file;

/// Stands beside files that the engine names; none of them begins so.
const INDEX: &str = "_index.json";

/// A [`PlanArchive`] that machines share.
#[derive(Clone, Debug)]
pub struct ObjectPlans {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// Everything about a plan's files but their content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    files: Vec<IndexedFile>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IndexedFile {
    name: String,
    /// BLAKE3, hexadecimal.
    digest: String,
}

impl ObjectPlans {
    /// Keeps plans beneath `prefix` of a store.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    fn location(&self, plan: PlanId) -> Path {
        self.prefix.clone().join(plan.to_string())
    }

    async fn index(&self, plan: PlanId) -> Result<Option<Index>, StateError> {
        let at = self.location(plan).join(INDEX);
        let failed = |error| transfer::explain("reading", self.store.as_ref(), &at, error);
        let got = match self.store.get(&at).await {
            Ok(got) => got.bytes().await.map_err(failed)?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let index: Option<Index> = serde_json::from_slice(&got).ok();
        let is_whole = |index: &Index| index.files.iter().all(|file| is_plain(&file.name));
        match index.filter(is_whole) {
            Some(index) => Ok(Some(index)),
            None => Err(self.damaged(&at)),
        }
    }

    async fn put_index(&self, plan: PlanId, index: &Index) -> Result<(), StateError> {
        let at = self.location(plan).join(INDEX);
        let failed = |error: Error| transfer::explain("writing", self.store.as_ref(), &at, error);
        let content = serde_json::to_vec(index)
            .map_err(|error| StateError::storage(format!("writing `{at}` failed; report this as a bug"), error))?;
        match self.store.put_opts(&at, PutPayload::from(content), PutMode::Create.into()).await {
            Ok(_) => Ok(()),
            // Of an earlier attempt, whose answer was lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => match self.index(plan).await? {
                Some(there) if there == *index => Ok(()),
                _ => Err(StateError::Conflict { what: format!("the archived plan `{at}`") }),
            },
            Err(error) => Err(failed(error)),
        }
    }

    async fn fetch_file(&self, plan: PlanId, indexed: &IndexedFile, folder: &FilePath) -> Result<(), StateError> {
        let (at, path) = (self.location(plan).join(indexed.name.as_str()), folder.join(&indexed.name));
        let handle = file::open_private(&path).map_err(|error| disk_fault("writing", &path, error))?;
        match transfer::get(self.store.as_ref(), &at, handle, &path).await? {
            Some(digest) if digest.to_hex().as_str() == indexed.digest => Ok(()),
            _ => Err(self.damaged(&at)),
        }
    }

    fn damaged(&self, at: &Path) -> StateError {
        let store = &self.store;
        let message = format!("`{at}` of {store} is not what was published there; give the plan up and plan again");
        StateError::Unusable { message }
    }
}

#[async_trait]
impl PlanArchive for ObjectPlans {
    /// May be repeated after a failure: files that are there as they should be are left alone.
    async fn publish(&self, plan: PlanId, folder: &FilePath) -> Result<(), StateError> {
        let mut files = Vec::new();
        for (name, path) in files_of(folder)? {
            let digest = transfer::digest_file(path.clone()).await?.to_hex().to_string();
            let at = self.location(plan).join(name.as_str());
            transfer::put_new(self.store.as_ref(), &at, &path).await?;
            files.push(IndexedFile { name, digest });
        }
        self.put_index(plan, &Index { files }).await
    }

    /// What is in `folder` gives way to the plan's files, once all of them are there.
    async fn fetch(&self, plan: PlanId, folder: &FilePath) -> Result<bool, StateError> {
        let Some(index) = self.index(plan).await? else { return Ok(false) };
        let unfinished = unfinished(folder);
        // Of an earlier attempt that was stopped.
        remove_folder(&unfinished)?;
        file::create_private_folder(&unfinished)?;
        for indexed in &index.files {
            if let Err(error) = self.fetch_file(plan, indexed, &unfinished).await {
                remove_folder(&unfinished)?;
                return Err(error);
            }
        }
        let folder = folder.to_owned();
        file::blocking(move || replace_folder(&unfinished, &folder)).await?;
        Ok(true)
    }

    async fn remove(&self, plan: PlanId) -> Result<(), StateError> {
        let beneath = self.location(plan);
        transfer::remove(self.store.as_ref(), &beneath.clone().join(INDEX)).await?;
        for at in transfer::list(self.store.as_ref(), &beneath).await? {
            transfer::remove(self.store.as_ref(), &at).await?;
        }
        Ok(())
    }
}

/// The files of a plan's folder, by name.
fn files_of(folder: &FilePath) -> Result<Vec<(String, PathBuf)>, StateError> {
    let failed = |error| disk_fault("reading", folder, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_string().ok().filter(|name| is_plain(name) && name != INDEX);
        match name {
            Some(name) if entry.file_type().map_err(failed)?.is_file() => files.push((name, entry.path())),
            _ => {
                let message =
                    format!("`{}` is no file of a plan; move it out of the plan's folder", entry.path().display());
                return Err(StateError::Unusable { message });
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a name stays in its folder, and means the same in a store.
fn is_plain(name: &str) -> bool {
    let is_usual = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_usual)
}

fn unfinished(folder: &FilePath) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".fetched");
    folder.with_file_name(name)
}

/// Puts a finished folder in the place of whatever was there.
fn replace_folder(finished: &FilePath, folder: &FilePath) -> Result<(), StateError> {
    file::make_names_durable(finished)?;
    remove_folder(folder)?;
    fs::rename(finished, folder).map_err(|error| disk_fault("renaming", finished, error))?;
    file::make_names_durable(file::folder_of(folder))
}

fn remove_folder(folder: &FilePath) -> Result<(), StateError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk_fault("removing", folder, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
