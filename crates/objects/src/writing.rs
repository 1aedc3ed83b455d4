//! Small writes, and moving objects: each of them says what it must not overwrite.

use bytes::Bytes;
use convoke_core::error::SourceErrorKind;
use convoke_core::{Origin, SourceError};
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::fault::{Attempt, explained};
use crate::location::Scheme;
use crate::pin::{ListedObject, Pin};
use crate::store::Store;

/// Up to this size an object is moved through this process: what is written is then what was pinned, whatever becomes of
/// the original meanwhile, and no store has a limit below it.
const CARRIED_BYTES: u64 = 4 << 20;

/// Up to this size S3 copies an object in one request, and there is no other way that replaces nothing.
const LARGEST_COPY: u64 = 5 << 30;

/// How moving an object ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// There is an object of that name already; nothing was changed.
    Taken,
    /// The object is not, or no longer, what was pinned; the original was left, and nothing stands under the new name.
    Changed,
}

impl Store {
    /// Puts an object, whatever is there.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached.
    pub async fn put(&self, key: &str, contents: Bytes) -> Result<(), SourceError> {
        let put = self.objects().put(&self.path(key)?, PutPayload::from(contents)).await;
        put.map(drop).map_err(|error| explained(self.place(), &Attempt::Write { key }, error))
    }

    /// Puts an object if there is none of that name; tells whether there was none. Of several that try at once one succeeds.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached. After an error the object may be there; and where an answer was lost and the
    /// request was made again, false may be about an object of this very call: who has to know reads what is there.
    pub async fn put_new(&self, key: &str, contents: Bytes) -> Result<bool, SourceError> {
        self.put_on_condition(key, contents, PutMode::Create).await
    }

    /// Puts an object in the place of the one that is pinned; false if that is no longer what is there.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached. A folder of this machine cannot do this.
    pub async fn put_if(&self, pin: &Pin, contents: Bytes) -> Result<bool, SourceError> {
        // Google's store knows no condition on the ETag for this, only on its own number of the version.
        let version = match self.scheme() {
            Scheme::Gs => match self.head(&pin.key).await? {
                Some(meta) if pin.fits(&meta) => meta.version,
                _ => return Ok(false),
            },
            _ => pin.version.clone(),
        };
        let version = UpdateVersion { e_tag: pin.condition(), version };
        self.put_on_condition(&pin.key, contents, PutMode::Update(version)).await
    }

    async fn put_on_condition(&self, key: &str, contents: Bytes, mode: PutMode) -> Result<bool, SourceError> {
        let options = PutOptions::from(mode);
        match self.objects().put_opts(&self.path(key)?, PutPayload::from(contents), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(explained(self.place(), &Attempt::Write { key }, error)),
        }
    }

    /// Gives a pinned object another name, unless there is an object of that name.
    ///
    /// A store that was interrupted has both names; whoever repeats this is told that the name is taken. Between the last
    /// look at the original and its removal lies one request, in which somebody could still replace it.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached, or the object is larger than what it moves.
    pub async fn move_unless_there(&self, pin: &Pin, to: &str) -> Result<Moved, SourceError> {
        self.can_move(pin)?;
        if pin.size > CARRIED_BYTES || self.backend().is_local() {
            if !self.copy_new(&pin.key, to).await? {
                return Ok(Moved::Taken);
            }
            if !self.is_still(pin).await? {
                self.delete(to).await?;
                return Ok(Moved::Changed);
            }
        } else {
            let Some(contents) = self.contents(pin).await? else { return Ok(Moved::Changed) };
            if !self.put_new(to, contents).await? {
                return Ok(Moved::Taken);
            }
        }
        self.delete_if(pin).await?;
        Ok(Moved::Done)
    }

    /// Whether an object could be given another name, as far as its size tells.
    ///
    /// # Errors
    ///
    /// It is larger than what the store moves.
    pub fn can_move(&self, pin: &Pin) -> Result<(), SourceError> {
        if self.scheme() != Scheme::S3 || pin.size <= LARGEST_COPY {
            return Ok(());
        }
        let message = format!(
            "{} has {} bytes, and S3 moves no object of more than {LARGEST_COPY} (5 GiB); write it in smaller parts, or pack it",
            self.place().object(&pin.key),
            pin.size
        );
        Err(SourceError::new(Origin::User, message))
    }

    /// All of a small object; none if it is no longer what was pinned. Of nothing no range can be asked for.
    async fn contents(&self, pin: &Pin) -> Result<Option<Bytes>, SourceError> {
        if pin.size == 0 {
            return Ok(self.is_still(pin).await?.then(Bytes::new));
        }
        match self.get(pin, 0..pin.size).await {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind == SourceErrorKind::Changed => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn copy_new(&self, from: &str, to: &str) -> Result<bool, SourceError> {
        match self.objects().copy_if_not_exists(&self.path(from)?, &self.path(to)?).await {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(explained(self.place(), &Attempt::Write { key: to }, error)),
        }
    }

    /// Whether an object is still what was pinned.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached.
    pub async fn is_still(&self, pin: &Pin) -> Result<bool, SourceError> {
        Ok(self.head(&pin.key).await?.is_some_and(|meta| pin.fits(&meta)))
    }

    /// Removes an object if it is still what was pinned; tells whether it was.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached.
    pub async fn delete_if(&self, pin: &Pin) -> Result<bool, SourceError> {
        let is_still = self.is_still(pin).await?;
        if is_still {
            self.delete(&pin.key).await?;
        }
        Ok(is_still)
    }

    async fn delete(&self, key: &str) -> Result<(), SourceError> {
        match self.objects().delete(&self.path(key)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(explained(self.place(), &Attempt::Delete { key }, error)),
        }
    }

    /// What stands under a key now, small as it is, and the pin of it; none if there is no such object.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached, or the object was replaced while it was read.
    pub async fn read_small(&self, key: &str) -> Result<Option<(ListedObject, Bytes)>, SourceError> {
        let Some(object) = self.look(key).await? else { return Ok(None) };
        let contents = match object.pin.size {
            0 => Bytes::new(),
            size => self.get(&object.pin, 0..size).await?,
        };
        Ok(Some((object, contents)))
    }
}
