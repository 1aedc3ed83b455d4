//! The store behind a source: listing it, and reading objects under their pins.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use convoke_clients::s3;
use convoke_core::spec::{ObjectsSpec, S3Connection};
use convoke_core::{Origin, SourceError};
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};

use crate::fault::{Attempt, Place, explained, is_code_hidden, is_gone};
use crate::listed::Pin;
use crate::location::Location;

/// Attempts after the first, and how long after the first a further one may begin. A store that is down is told within half
/// a minute, one that accepts requests and does not answer in one; a read that breaks off goes on where it broke off.
const RETRIES: usize = 3;
const RETRY_TIME: Duration = Duration::from_secs(45);
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(4), base: 3.0 };

/// Where the objects are.
pub(crate) struct Store {
    backend: Backend,
    place: Place,
}

enum Backend {
    S3(Box<AmazonS3>),
    Local(LocalFileSystem),
}

impl Store {
    /// Sets the client up; sends nothing.
    pub(crate) fn open(
        spec: &ObjectsSpec,
        location: &Location,
        connection: Option<&S3Connection>,
    ) -> Result<Self, SourceError> {
        let Some(bucket) = location.bucket() else {
            if spec.connection.is_some() {
                let message = format!("`url: {}` is on this machine and takes no `connection`; remove it", spec.url);
                return Err(SourceError::new(Origin::User, message));
            }
            return Ok(Self { backend: Backend::Local(LocalFileSystem::new()), place: Place::local() });
        };
        let place = Place::s3(bucket, spec.connection.as_ref(), connection);
        let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_TIME };
        let client = s3::client(bucket, connection, retry).map_err(|error| error.of_source(place.settings()))?;
        Ok(Self { backend: Backend::S3(Box::new(client)), place })
    }

    fn objects(&self) -> &dyn ObjectStore {
        match &self.backend {
            Backend::S3(client) => client.as_ref(),
            Backend::Local(files) => files,
        }
    }

    /// Lists what may match the location, in no order: what begins as it does, and lies no deeper than it can.
    pub(crate) async fn list(&self, location: &Location) -> Result<Vec<ObjectMeta>, SourceError> {
        if let Some(key) = location.only_key() {
            return Ok(self.look(&key).await?.into_iter().collect());
        }
        let listed = match &self.backend {
            Backend::S3(client) => list_pages(client, location).await,
            Backend::Local(files) => {
                self.check_folder(location).await?;
                list_files(files, location).await
            }
        };
        listed.map_err(|error| explained(&self.place, &Attempt::List { url: location.url() }, error))
    }

    /// What the store says of one object; none if there is no such object.
    async fn look(&self, key: &str) -> Result<Option<ObjectMeta>, SourceError> {
        let attempt = Attempt::Look { key };
        let path = self.path(key)?;
        let error = match self.objects().head(&path).await {
            Ok(meta) => return Ok(Some(meta)),
            Err(error) => error,
        };
        // An answer without a body does not tell why; one with a body does.
        let error = match is_code_hidden(&self.place, &error) {
            true => match self.objects().get_range(&path, 0..1).await {
                Err(told) => told,
                Ok(_) => error,
            },
            false => error,
        };
        if is_gone(&self.place, &error) { Ok(None) } else { Err(explained(&self.place, &attempt, error)) }
    }

    /// Reads a range of an object, all of it from what the pin says.
    pub(crate) async fn get(&self, pin: &Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
        let attempt = Attempt::Read { key: &pin.key };
        let read = self.get_unchecked(pin, &range).await;
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(Failure::Changed) => return Err(self.changed(pin)),
            Err(Failure::Unmarked) => return Err(self.unmarked(pin)),
            Err(Failure::Store(error)) if is_gone(&self.place, &error) => return Err(self.changed(pin)),
            Err(Failure::Store(error)) => {
                self.check_file(pin).await?;
                return Err(explained(&self.place, &attempt, error));
            }
        };
        self.check_file(pin).await?;
        Ok(bytes)
    }

    async fn get_unchecked(&self, pin: &Pin, range: &Range<u64>) -> Result<Bytes, Failure> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: pin.condition(),
            version: pin.version.clone(),
            ..GetOptions::default()
        };
        let path = Path::parse(&pin.key).map_err(object_store::Error::from)?;
        let answer: GetResult = self.objects().get_opts(&path, options).await?;
        // Not every store heeds conditions.
        if pin.e_tag.is_some() && answer.meta.e_tag.is_none() {
            return Err(Failure::Unmarked);
        }
        if !pin.fits(&answer.meta) {
            return Err(Failure::Changed);
        }
        let bytes = answer.bytes().await?;
        if bytes.len() as u64 == range.end - range.start { Ok(bytes) } else { Err(Failure::Changed) }
    }

    /// A file can be written to while it is read, which no condition sees: it is looked at again afterwards.
    async fn check_file(&self, pin: &Pin) -> Result<(), SourceError> {
        let Backend::Local(files) = &self.backend else { return Ok(()) };
        match files.head(&self.path(&pin.key)?).await {
            Ok(meta) if pin.fits(&meta) => Ok(()),
            _ => Err(self.changed(pin)),
        }
    }

    async fn check_folder(&self, location: &Location) -> Result<(), SourceError> {
        let folder = format!("/{}", location.root().trim_end_matches('/'));
        match tokio::fs::metadata(&folder).await {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(SourceError::new(Origin::User, format!("`{folder}` is no folder; correct `url`"))),
            Err(error) => {
                let remedy = match error.kind() {
                    std::io::ErrorKind::NotFound => "create it, or correct `url`",
                    _ => "give this user the right to read it",
                };
                let message = format!("cannot list the folder `{folder}`; {remedy}");
                Err(SourceError::new(Origin::User, message).caused_by(error))
            }
        }
    }

    fn path(&self, key: &str) -> Result<Path, SourceError> {
        let invalid = |error| explained(&self.place, &Attempt::Look { key }, object_store::Error::from(error));
        Path::parse(key).map_err(invalid)
    }

    fn changed(&self, pin: &Pin) -> SourceError {
        let object = self.place.object(&pin.key);
        SourceError::changed(format!(
            "{object} was replaced or removed after it was listed; run again to read what is there now"
        ))
    }

    fn unmarked(&self, pin: &Pin) -> SourceError {
        let object = self.place.object(&pin.key);
        let message = format!(
            "an answer about {object} has no ETag, though it was listed with one, so nothing says that it is still the same \
             object; let the store, and what stands in front of it, send ETags"
        );
        SourceError::new(Origin::External, message)
    }
}

/// Why a range was not read.
enum Failure {
    Changed,
    /// The answer does not say of which contents it is.
    Unmarked,
    Store(object_store::Error),
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::Precondition { .. } => Self::Changed,
            other => Self::Store(other),
        }
    }
}

async fn list_pages(client: &AmazonS3, location: &Location) -> object_store::Result<Vec<ObjectMeta>> {
    let (start, mut objects, mut page_token) = (location.key_start(), Vec::new(), None);
    loop {
        let delimiter = location.is_flat().then_some("/".into());
        let options = PaginatedListOptions { delimiter, page_token, ..PaginatedListOptions::default() };
        let page = client.list_paginated(Some(&start), options).await?;
        objects.extend(page.result.objects);
        page_token = page.page_token;
        if page_token.is_none() {
            return Ok(objects);
        }
    }
}

async fn list_files(files: &LocalFileSystem, location: &Location) -> object_store::Result<Vec<ObjectMeta>> {
    let root = Path::parse(location.root())?;
    match location.is_flat() {
        true => Ok(files.list_with_delimiter(Some(&root)).await?.objects),
        false => files.list(Some(&root)).try_collect().await,
    }
}
