//! Reading objects, and being sure of what was read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use convoke_core::ids::ConnectionName;
use convoke_core::spec::ObjectStoreConnection;
use convoke_core::{Origin, SourceError};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::backend::Backend;
use crate::fault::{Attempt, Place, explained, is_code_hidden, is_gone, is_refused_condition};
use crate::location::{Location, Scheme};
use crate::pin::{ListedObject, Pin};

/// Where objects are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    scheme: Scheme,
    backend: Backend,
    place: Place,
}

impl Store {
    /// Sets the client of a location's store up; sends nothing. Without a connection a store is reached as the environment
    /// says.
    ///
    /// # Errors
    ///
    /// A setting that no client can work with.
    pub fn open(
        location: &Location,
        name: Option<&ConnectionName>,
        connection: Option<&ObjectStoreConnection>,
    ) -> Result<Self, SourceError> {
        let (backend, place) = Backend::open(location, name, connection)?;
        Ok(Self { inner: Arc::new(Inner { scheme: location.scheme(), backend, place }) })
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.inner.backend
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.inner.scheme
    }

    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        self.backend().objects()
    }

    /// What the store says of one object now; none if there is no such object.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached.
    pub async fn look(&self, key: &str) -> Result<Option<ListedObject>, SourceError> {
        Ok(self.head(key).await?.map(|meta| ListedObject::new(key, meta)))
    }

    pub(crate) async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, SourceError> {
        let attempt = Attempt::Look { key };
        let path = self.path(key)?;
        let error = match self.objects().head(&path).await {
            Ok(meta) if self.backend().is_plain() && is_unmarked(&meta) => return Err(self.without_marks(key)),
            Ok(meta) => return Ok(Some(meta)),
            Err(error) => error,
        };
        // An answer without a body does not tell why; one with a body does.
        let error = match is_code_hidden(self.place(), &error) {
            true => match self.objects().get_range(&path, 0..1).await {
                Err(told) => told,
                Ok(_) => error,
            },
            false => error,
        };
        if is_gone(self.place(), &error) { Ok(None) } else { Err(explained(self.place(), &attempt, error)) }
    }

    /// Reads a range of an object, all of it from what the pin says.
    ///
    /// # Errors
    ///
    /// Of kind [`Changed`](convoke_core::error::SourceErrorKind::Changed) if the object is not, or no longer, what was
    /// pinned.
    pub async fn get(&self, pin: &Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
        let attempt = Attempt::Read { key: &pin.key };
        let read = self.get_unchecked(pin, &range).await;
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(Failure::Changed) => return Err(self.changed(pin)),
            Err(Failure::Unmarked) => return Err(self.unmarked(pin)),
            Err(Failure::Store(error)) if is_gone(self.place(), &error) => return Err(self.changed(pin)),
            Err(Failure::Store(error)) => {
                self.check_file(pin).await?;
                return Err(explained(self.place(), &attempt, error));
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
        if !self.backend().is_local() {
            return Ok(());
        }
        match self.objects().head(&self.path(&pin.key)?).await {
            Ok(meta) if pin.fits(&meta) => Ok(()),
            _ => Err(self.changed(pin)),
        }
    }

    pub(crate) fn path(&self, key: &str) -> Result<Path, SourceError> {
        let invalid = |error| explained(self.place(), &Attempt::Look { key }, object_store::Error::from(error));
        Path::parse(key).map_err(invalid)
    }

    pub(crate) fn changed(&self, pin: &Pin) -> SourceError {
        let object = self.place().object(&pin.key);
        SourceError::changed(format!(
            "{object} was replaced or removed after it was listed; run again to read what is there now"
        ))
    }

    fn without_marks(&self, key: &str) -> SourceError {
        let message = format!(
            "{} has neither an ETag nor a time, so nothing would say that it has changed; let the server send one of them",
            self.place().object(key)
        );
        SourceError::new(Origin::User, message)
    }

    fn unmarked(&self, pin: &Pin) -> SourceError {
        let object = self.place().object(&pin.key);
        let message = format!(
            "an answer about {object} has no ETag, though it was listed with one, so nothing says that it is still the same \
             object; let the store, and what stands in front of it, send ETags"
        );
        SourceError::new(Origin::External, message)
    }
}

/// A web server that says nothing of when a file was written has it written at the beginning of time.
fn is_unmarked(meta: &ObjectMeta) -> bool {
    meta.e_tag.is_none() && meta.last_modified.timestamp() == 0
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
            // Also where a connection broke and was taken up again.
            error if is_refused_condition(&error) => Self::Changed,
            other => Self::Store(other),
        }
    }
}
