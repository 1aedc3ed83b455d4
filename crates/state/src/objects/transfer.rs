//! Files to objects and back, whole or not at all.

use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};

use convoke_core::StateError;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fault::disk_fault;
use crate::file;

/// Larger files go up in parts of this size, a few at a time; smaller ones in one request.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

/// How a new object came to be where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Written,
    /// It was there with the same content: an earlier attempt has written it, though its answer was lost.
    WasThere,
}

/// Writes a file as a new object, and returns once the store has it whole. An object of another content that is there
/// already is a [`StateError::Conflict`].
pub(super) async fn put_new(store: &dyn ObjectStore, at: &Path, file: &FilePath) -> Result<Put, StateError> {
    let size = tokio::fs::metadata(file).await.map_err(|error| disk_fault("reading", file, error))?.len();
    // Also asked beforehand: not every store knows how to refuse.
    let put = match size_of(store, at).await? {
        Some(_) => None,
        None if size <= PART_BYTES as u64 => put_whole(store, at, file).await?,
        None => put_parts(store, at, file).await?,
    };
    let there = size_of(store, at).await?;
    if there == Some(size) && (put.is_some() || is_same(store, at, file).await?) {
        return Ok(put.unwrap_or(Put::WasThere));
    }
    if put.is_none() {
        return Err(StateError::Conflict { what: format!("the object `{at}`") });
    }
    let message = format!("writing `{at}` to {store} failed: it is not whole there; run the command again");
    Err(StateError::Storage { message, cause: None })
}

/// The length of an object; none if there is no such object.
pub(super) async fn size_of(store: &dyn ObjectStore, at: &Path) -> Result<Option<u64>, StateError> {
    match store.head(at).await {
        Ok(meta) => Ok(Some(meta.size)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(explain("looking for", store, at, error)),
    }
}

/// None if there is one already.
async fn put_whole(store: &dyn ObjectStore, at: &Path, file: &FilePath) -> Result<Option<Put>, StateError> {
    let content = tokio::fs::read(file).await.map_err(|error| disk_fault("reading", file, error))?;
    match store.put_opts(at, PutPayload::from(content), PutMode::Create.into()).await {
        Ok(_) => Ok(Some(Put::Written)),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
        Err(error) => Err(explain("writing", store, at, error)),
    }
}

/// A store takes parts together without asking whether there is such an object. Names are drawn and used once, so none
/// has come since it was looked for.
async fn put_parts(store: &dyn ObjectStore, at: &Path, file: &FilePath) -> Result<Option<Put>, StateError> {
    let failed = |error: Error| explain("writing", store, at, error);
    let mut content = tokio::fs::File::open(file).await.map_err(|error| disk_fault("reading", file, error))?;
    let upload = store.put_multipart(at).await.map_err(failed)?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let sent = async {
        let mut part = vec![0; PART_BYTES];
        loop {
            let read = content.read(&mut part).await.map_err(|error| disk_fault("reading", file, error))?;
            if read == 0 {
                return Ok(());
            }
            upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(failed)?;
            upload.write(&part[..read]);
        }
    };
    if let Err(error) = sent.await {
        // Parts that stay behind cost a little until the store's own rules remove them; the error is the one to tell.
        if let Err(failure) = upload.abort().await {
            tracing::debug!(error = %failure, "an unfinished upload stays behind");
        }
        return Err(error);
    }
    upload.finish().await.map_err(failed)?;
    Ok(Some(Put::Written))
}

/// Whether an object and a file of the same length hold the same.
async fn is_same(store: &dyn ObjectStore, at: &Path, file: &FilePath) -> Result<bool, StateError> {
    let digest = digest_file(file.to_owned()).await?;
    let mut hasher = blake3::Hasher::new();
    let failed = |error: Error| explain("reading", store, at, error);
    let mut content = store.get(at).await.map_err(failed)?.into_stream();
    while let Some(chunk) = content.try_next().await.map_err(failed)? {
        hasher.update(&chunk);
    }
    Ok(hasher.finalize() == digest)
}

/// Reads a file for its BLAKE3 digest.
pub(super) async fn digest_file(path: PathBuf) -> Result<blake3::Hash, StateError> {
    file::blocking(move || digest_now(&path).map_err(|error| disk_fault("reading", &path, error))).await
}

fn digest_now(path: &FilePath) -> io::Result<blake3::Hash> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut part = vec![0; 1 << 16];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&part[..read]),
        };
    }
}

/// Reads an object into an open, empty file and forces it to disk; gives its digest, or none if there is no such object.
pub(super) async fn get(
    store: &dyn ObjectStore,
    at: &Path,
    file: std::fs::File,
    path: &FilePath,
) -> Result<Option<blake3::Hash>, StateError> {
    let failed = |error: Error| explain("reading", store, at, error);
    let unwritten = |error| disk_fault("writing", path, error);
    let got = match store.get(at).await {
        Ok(got) => got,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let size = got.meta.size;
    let mut file = tokio::fs::File::from_std(file);
    let mut hasher = blake3::Hasher::new();
    let (mut content, mut written) = (got.into_stream(), 0);
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(failed)?;
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(unwritten)?;
        written += chunk.len() as u64;
    }
    if written != size {
        let message = format!("reading `{at}` of {store} failed: it broke off; run the command again");
        return Err(StateError::Storage { message, cause: None });
    }
    file.sync_all().await.map_err(unwritten)?;
    Ok(Some(hasher.finalize()))
}

/// Removes an object; an absent one is no error.
pub(super) async fn remove(store: &dyn ObjectStore, at: &Path) -> Result<(), StateError> {
    match store.delete(at).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(explain("removing", store, at, error)),
    }
}

/// Lists the objects beneath a prefix.
pub(super) async fn list(store: &dyn ObjectStore, beneath: &Path) -> Result<Vec<Path>, StateError> {
    let found = store.list(Some(beneath)).map_ok(|meta| meta.location).try_collect().await;
    found.map_err(|error: Error| explain("listing", store, beneath, error))
}

pub(super) fn explain(action: &str, store: &dyn ObjectStore, at: &Path, error: Error) -> StateError {
    let remedy = match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            let message = format!(
                "{action} `{at}` of {store} is not allowed; check the credentials of the connection and what they may do"
            );
            return StateError::Unusable { message };
        }
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            "the store cannot do that; it has to support `If-None-Match` on writing"
        }
        _ => "see the cause, and run the command again",
    };
    StateError::storage(format!("{action} `{at}` of {store} failed; {remedy}"), error)
}
