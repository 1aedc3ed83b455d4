//! The clients behind a store: which one a location needs, and how each of them lists.

use std::sync::Arc;
use std::time::Duration;

use convoke_clients::{azure, gcs, plain, s3};
use convoke_core::ids::ConnectionName;
use convoke_core::spec::ObjectStoreConnection;
use convoke_core::{Origin, SourceError};
use futures::TryStreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ListResult, ObjectStore, RetryConfig};

use crate::fault::Place;
use crate::location::{Location, Scheme};

/// Attempts after the first, and how long after the first a further one may begin. A store that is down is told within half
/// a minute, one that accepts requests and does not answer in one; a read that breaks off goes on where it broke off.
const RETRIES: usize = 3;
const RETRY_TIME: Duration = Duration::from_secs(45);
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(4), base: 3.0 };

#[derive(Debug)]
pub(crate) enum Backend {
    /// Lists in pages.
    Bucket {
        objects: Arc<dyn ObjectStore>,
        pages: Pages,
    },
    /// Does not list.
    Plain(Arc<dyn ObjectStore>),
    Local(LocalFileSystem),
}

/// A client that lists in pages.
#[derive(Clone)]
pub(crate) struct Pages(Arc<dyn PaginatedListStore>);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

/// Whether what lies in folders beneath is listed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Objects and the names of folders, of one level.
    Level,
    Everything,
}

impl Backend {
    pub(crate) fn open(
        location: &Location,
        name: Option<&ConnectionName>,
        connection: Option<&ObjectStoreConnection>,
    ) -> Result<(Self, Place), SourceError> {
        let scheme = location.scheme();
        let Some(bucket) = location.bucket() else {
            refuse_connection(location, name)?;
            return Ok((Self::Local(LocalFileSystem::new()), Place::Local));
        };
        let place = Place::remote(scheme, bucket, name, connection);
        let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_TIME };
        let failed = |error: convoke_clients::ClientError| error.of_source(place.settings());
        let backend = match (scheme, connection) {
            (Scheme::S3, None) => Self::bucket(s3::client(bucket, None, retry).map_err(failed)?),
            (Scheme::S3, Some(ObjectStoreConnection::S3(s3))) => {
                Self::bucket(s3::client(bucket, Some(s3), retry).map_err(failed)?)
            }
            (Scheme::Gs, None) => Self::bucket(gcs::client(bucket, None, retry).map_err(failed)?),
            (Scheme::Gs, Some(ObjectStoreConnection::Gcs(gcs))) => {
                Self::bucket(gcs::client(bucket, Some(gcs), retry).map_err(failed)?)
            }
            (Scheme::Az, None) => Self::bucket(azure::client(bucket, None, retry).map_err(failed)?),
            (Scheme::Az, Some(ObjectStoreConnection::Azure(azure))) => {
                Self::bucket(azure::client(bucket, Some(azure), retry).map_err(failed)?)
            }
            (Scheme::Http | Scheme::Https, _) => {
                refuse_connection(location, name)?;
                let url = format!("{}://{bucket}", scheme.word());
                Self::Plain(Arc::new(plain::client(&url, retry).map_err(failed)?))
            }
            (_, Some(connection)) => return Err(wrong_kind(location, name, connection)),
            (Scheme::File, None) => Self::Local(LocalFileSystem::new()),
        };
        Ok((backend, place))
    }

    fn bucket<C: ObjectStore + PaginatedListStore>(client: C) -> Self {
        let client = Arc::new(client);
        let objects = Arc::clone(&client) as Arc<dyn ObjectStore>;
        Self::Bucket { objects, pages: Pages(client) }
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        match self {
            Self::Bucket { objects, .. } | Self::Plain(objects) => objects.as_ref(),
            Self::Local(files) => files,
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// One page of what begins with `start`, and the token of the next one. A folder is one page.
    pub(crate) async fn page(
        &self,
        start: &str,
        depth: Depth,
        page_token: Option<String>,
    ) -> object_store::Result<(ListResult, Option<String>)> {
        let client = match self {
            Self::Bucket { pages, .. } => &pages.0,
            Self::Local(files) => return Ok((list_files(files, start, depth).await?, None)),
            Self::Plain(_) => return Ok((nothing(), None)),
        };
        let delimiter = (depth == Depth::Level).then_some("/".into());
        let options = PaginatedListOptions { delimiter, page_token, ..PaginatedListOptions::default() };
        let page = client.list_paginated(Some(start), options).await?;
        Ok((page.result, page.page_token))
    }
}

fn refuse_connection(location: &Location, name: Option<&ConnectionName>) -> Result<(), SourceError> {
    if name.is_none() {
        return Ok(());
    }
    let place = if location.scheme() == Scheme::File { "on this machine" } else { "read as everyone may read it" };
    let message = format!("`url: {}` is {place} and takes no `connection`; remove it", location.url());
    Err(SourceError::new(Origin::User, message))
}

fn wrong_kind(location: &Location, name: Option<&ConnectionName>, connection: &ObjectStoreConnection) -> SourceError {
    let name = name.map_or_else(|| "the connection".to_owned(), |name| format!("connection `{name}`"));
    let message = format!(
        "{name} is of kind `{}`, and `url: {}` is on another kind of store; name one that fits",
        connection.kind(),
        location.url()
    );
    SourceError::new(Origin::User, message)
}

/// Lists the folder in which names begin as `start` does.
async fn list_files(files: &LocalFileSystem, start: &str, depth: Depth) -> object_store::Result<ListResult> {
    let folder = start.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = Path::parse(folder)?;
    match depth {
        Depth::Level => files.list_with_delimiter(Some(&folder)).await,
        Depth::Everything => {
            let objects = files.list(Some(&folder)).try_collect().await?;
            Ok(ListResult { objects, ..nothing() })
        }
    }
}

fn nothing() -> ListResult {
    ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() }
}
