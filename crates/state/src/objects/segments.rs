//! Ledger segments on an object store, with a cache in a local folder.
//!
//! The store's names are those of the cache: a folder for each audience, and in it a file for each segment. A segment is
//! written in the cache, and sealed once the store has it whole; what stands in the cache under a segment's own name was
//! forced to disk before it got that name. Where a segment is not in the cache, it is fetched.
//!
//! The cache is bounded by what is live: removing a segment removes it here as well, and listing an audience's segments
//! removes what other machines have taken out of the store since.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use convoke_core::ledger::{SegmentStore, StagedSegment};
use convoke_core::{AudienceKey, StateError};
use object_store::ObjectStore;
use object_store::path::Path;

use super::transfer;
use crate::fault::{MISSING_CHOICES, disk_fault};
use crate::file;
use crate::segments::{LocalSegments, folder_name, is_sealed};

const FETCHED_EXTENSION: &str = "fetched";

/// A [`SegmentStore`] that machines share.
///
/// Several processes of one machine may have the same cache.
#[derive(Clone, Debug)]
pub struct ObjectSegments {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    cache: LocalSegments,
}

impl ObjectSegments {
    /// Keeps segments beneath `prefix` of a store, and copies in the folder `cache`, which is made when it is needed.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, cache: impl Into<PathBuf>) -> Self {
        Self { store, prefix, cache: LocalSegments::new(cache) }
    }

    /// Where a segment is in the store.
    fn location(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Names of an audience's segments as the store has them now.
    async fn stored(&self, folder: &str) -> Result<Vec<String>, StateError> {
        let found = transfer::list(self.store.as_ref(), &self.location(folder)).await?;
        let names = found.iter().filter_map(|location| location.filename()).filter(|name| is_sealed(name));
        let mut names: Vec<String> = names.map(|name| format!("{folder}/{name}")).collect();
        names.sort();
        Ok(names)
    }

    /// Removes segments from the cache, also half fetched ones.
    async fn forget(&self, names: &[String]) -> Result<(), StateError> {
        for name in names {
            file::remove_if_there(&self.cache.path_of(name)?.with_extension(FETCHED_EXTENSION))?;
        }
        self.cache.remove(names).await
    }

    /// Brings a segment into the cache. Whoever wants the same one at the same time waits.
    async fn fetch(&self, name: &str, target: PathBuf) -> Result<PathBuf, StateError> {
        let fetched = target.with_extension(FETCHED_EXTENSION);
        let Some(lock) = lock_new(fetched.clone(), target.clone()).await? else { return Ok(target) };
        let content = lock.try_clone().map_err(|error| disk_fault("writing", &fetched, error))?;
        let location = self.location(name);
        match transfer::get(self.store.as_ref(), &location, content, &fetched).await {
            Ok(Some(_)) => finish(fetched, target).await,
            Ok(None) => {
                file::remove_if_there(&fetched)?;
                let store = &self.store;
                let message = format!("the ledger segment `{location}` is gone from {store}; {MISSING_CHOICES}");
                Err(StateError::Missing { message })
            }
            Err(error) => {
                file::discard(&fetched);
                Err(error)
            }
        }
    }
}

#[async_trait]
impl SegmentStore for ObjectSegments {
    async fn stage(&self, audience: &AudienceKey) -> Result<StagedSegment, StateError> {
        self.cache.stage(audience).await
    }

    async fn seal(&self, staged: StagedSegment) -> Result<(), StateError> {
        let location = self.location(&staged.name);
        if self.cache.path_of(&staged.name)?.exists() {
            return Err(StateError::Conflict { what: format!("the sealed ledger segment `{location}`") });
        }
        transfer::put_new(self.store.as_ref(), &location, &staged.path).await?;
        if let Err(error) = self.cache.seal(staged).await {
            // The store has it: it is sealed, and fetched when it is asked for.
            tracing::warn!(%error, segment = %location, "a ledger segment could not be kept in the cache");
        }
        Ok(())
    }

    async fn open(&self, name: &str) -> Result<PathBuf, StateError> {
        let target = self.cache.path_of(name)?;
        if target.is_file() {
            return Ok(target);
        }
        self.fetch(name, target).await
    }

    async fn remove(&self, names: &[String]) -> Result<(), StateError> {
        // Refused as a whole before anything is removed.
        names.iter().try_for_each(|name| self.cache.path_of(name).map(drop))?;
        for name in names {
            transfer::remove(self.store.as_ref(), &self.location(name)).await?;
        }
        self.forget(names).await
    }

    async fn list(&self, audience: &AudienceKey) -> Result<Vec<String>, StateError> {
        // Asked for first: a segment gets into the cache after it got into the store, so what the store does not list
        // later was removed from it.
        let mut cached = self.cache.list(audience).await?;
        cached.extend(self.cache.names(audience, FETCHED_EXTENSION).await?);
        let stored = self.stored(&folder_name(audience)).await?;
        cached.retain(|name| stored.binary_search(name).is_err());
        self.forget(&cached).await?;
        Ok(stored)
    }
}

/// Makes the file into which a segment is fetched, and locks it; none if the segment has come while it was locked by
/// somebody else. What a crash left in it is dropped.
async fn lock_new(fetched: PathBuf, target: PathBuf) -> Result<Option<fs::File>, StateError> {
    file::blocking(move || lock_new_now(&fetched, &target)).await
}

fn lock_new_now(fetched: &FilePath, target: &FilePath) -> Result<Option<fs::File>, StateError> {
    file::create_private_folder(file::folder_of(target))?;
    let failed = |error| disk_fault("writing", fetched, error);
    loop {
        let handle = file::open_private(fetched).map_err(failed)?;
        rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        if target.is_file() {
            file::remove_if_there(fetched)?;
            return Ok(None);
        }
        // Whoever had the lock before may have removed the file that this handle is about.
        if file::is_named(&handle, fetched) {
            handle.set_len(0).map_err(failed)?;
            return Ok(Some(handle));
        }
    }
}

/// Gives a segment that was fetched whole its own name.
async fn finish(fetched: PathBuf, target: PathBuf) -> Result<PathBuf, StateError> {
    file::blocking(move || {
        fs::rename(&fetched, &target).map_err(|error| disk_fault("renaming", &fetched, error))?;
        file::make_names_durable(file::folder_of(&target))?;
        Ok(target)
    })
    .await
}

#[cfg(test)]
mod tests;
