//! A drop folder in an object store: objects whose keys begin with the same prefix.
//!
//! What a file system does in one step takes several requests here, each of them on a condition: a file is moved by a
//! copy that replaces nothing and the removal of what was copied, if it still is that; claims are replaced only if they
//! are what was read.

use std::future::Future;
use std::io::Read;
use std::num::NonZeroUsize;

use bytes::Bytes;
use convoke_core::ids::ConnectionName;
use convoke_core::spec::ObjectStoreConnection;
use convoke_core::{SourceError, Timestamp};
use convoke_objects::{ListedObject, Location, Pin, Store};
use tokio::runtime::Handle;

use crate::file::{DroppedFile, Identity, Place};
use crate::moving::REASON_ENDING;
use crate::storage::{CLAIMS_FILE, ClaimsFile, Counts, Listing, Moved, Storage, subfolder};

/// What the line begins with that tells when a quarantined file was dropped.
const WRITTEN: &str = "It was dropped at ";

/// Objects that are handled at a time: a small one is mostly the wait for an answer.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not nought");

/// A prefix in an object store.
#[derive(Debug)]
pub(crate) struct ObjectFolder {
    store: Store,
    folder: Location,
    processed: Location,
    quarantine: Location,
}

impl ObjectFolder {
    /// `url` is the prefix. Sends nothing.
    pub(crate) fn open(
        url: &str,
        name: Option<&ConnectionName>,
        connection: Option<&ObjectStoreConnection>,
    ) -> Result<Self, SourceError> {
        let prefix = url.strip_suffix('/').unwrap_or(url);
        let location = |place: Place| match place {
            Place::Folder => Location::folder(prefix),
            _ => Location::folder(&format!("{prefix}/{}", subfolder(place))),
        };
        let folder = location(Place::Folder)?;
        let store = Store::open(&folder, name, connection)?;
        let (processed, quarantine) = (location(Place::Processed)?, location(Place::Quarantine)?);
        Ok(Self { store, folder, processed, quarantine })
    }

    fn location(&self, place: Place) -> &Location {
        match place {
            Place::Folder => &self.folder,
            Place::Processed => &self.processed,
            Place::Quarantine => &self.quarantine,
        }
    }

    fn key(&self, place: Place, name: &str) -> String {
        format!("{}{name}", self.location(place).root())
    }

    fn pin(&self, file: &DroppedFile) -> Pin {
        let Identity { size, version, modified_ns, .. } = &file.identity;
        let key = self.key(file.place, &file.name);
        // A store that gives no ETags tells objects by when they were written.
        let modified = version.is_none().then_some(Timestamp(modified_ns / 1_000_000));
        Pin { key, size: *size, e_tag: version.clone(), version: None, modified }
    }

    fn same_contents(&self, file: &DroppedFile, place: Place, name: &str) -> Result<bool, SourceError> {
        Ok(self.look(place, name)?.is_some_and(|found| is_copy(&found, file)))
    }
}

fn is_copy(found: &Identity, file: &DroppedFile) -> bool {
    let Identity { version, size, .. } = &file.identity;
    version.is_some() && found.version == *version && found.size == *size
}

/// Waits for a request, on a thread that may block.
fn wait<T>(request: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    Handle::current().block_on(request)
}

fn identity(object: &ListedObject) -> Identity {
    let modified_ns = object.modified.0.saturating_mul(1_000_000);
    let (size, version) = (object.pin.size, object.pin.e_tag.clone());
    Identity { device: 0, inode: 0, size, modified_ns, changed_ns: modified_ns, version }
}

impl Storage for ObjectFolder {
    fn list(&self, place: Place, counts: &mut Counts<'_>) -> Result<Listing, SourceError> {
        let mut listing = Listing::default();
        wait(self.store.list_each(self.location(place), None, |object| {
            if counts(&object.name) {
                listing.files.push(DroppedFile { place, identity: identity(&object), name: object.name });
            }
        }))?;
        Ok(listing)
    }

    fn look(&self, place: Place, name: &str) -> Result<Option<Identity>, SourceError> {
        Ok(wait(self.store.look(&self.key(place, name)))?.map(|object| identity(&object)))
    }

    fn open(&self, file: &DroppedFile) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(self.store.reader(self.pin(file))))
    }

    fn move_to_new(&self, file: &DroppedFile, place: Place, name: &str) -> Result<Moved, SourceError> {
        let pin = self.pin(file);
        if pin.size == 0 {
            // Nothing can be read of it, so nothing can change while it is moved.
            let is_new = wait(self.store.put_new(&self.key(place, name), Bytes::new()))?;
            if is_new {
                wait(self.store.delete_if(&pin))?;
            }
            return Ok(if is_new { Moved::Done } else { Moved::NameTaken });
        }
        match wait(self.store.move_unless_there(&pin, &self.key(place, name)))? {
            convoke_objects::Moved::Done => Ok(Moved::Done),
            convoke_objects::Moved::Changed => Ok(Moved::Gone),
            // Copied before a crash, or dropped again with the same contents: one copy is enough.
            convoke_objects::Moved::Taken if self.same_contents(file, place, name)? => {
                wait(self.store.delete_if(&pin))?;
                Ok(Moved::Done)
            }
            convoke_objects::Moved::Taken => Ok(Moved::NameTaken),
        }
    }

    fn is_there(&self, file: &DroppedFile, place: Place, name: &str) -> Result<bool, SourceError> {
        Ok(self.look(place, name)?.is_some_and(|found| !is_copy(&found, file)))
    }

    fn put_new(&self, place: Place, name: &str, text: &str) -> Result<bool, SourceError> {
        let key = self.key(place, name);
        if wait(self.store.put_new(&key, Bytes::copy_from_slice(text.as_bytes())))? {
            return Ok(true);
        }
        // The same one was written before a crash, or by a request whose answer was lost.
        let found = wait(self.store.read_small(&key))?;
        Ok(found.is_some_and(|(_, contents)| contents == text.as_bytes()))
    }

    /// A moved object is a new one, so when the original was written has to be kept elsewhere.
    fn reason_text(&self, file: &DroppedFile, reason: &str) -> String {
        let written = Timestamp(file.identity.modified_ns / 1_000_000);
        format!("{reason}\n{WRITTEN}{written} ({})\n", written.0)
    }

    fn written_ns(&self, file: &DroppedFile) -> Result<i64, SourceError> {
        let key = self.key(file.place, &format!("{}{REASON_ENDING}", file.name));
        let reason = wait(self.store.read_small(&key))?.map(|(_, text)| text).unwrap_or_default();
        let reason = String::from_utf8_lossy(&reason);
        let line = reason.lines().rev().find_map(|line| line.strip_prefix(WRITTEN));
        let written = line.and_then(|line| line.split_once('(')?.1.trim_end_matches(')').parse::<i64>().ok());
        Ok(written.map_or(file.identity.modified_ns, |written| written.saturating_mul(1_000_000)))
    }

    /// Of nothing no range can be asked for, so that an empty object is read without a request.
    fn is_pinned(&self, file: &DroppedFile) -> bool {
        file.identity.size > 0
    }

    fn at_once(&self) -> NonZeroUsize {
        AT_ONCE
    }

    fn can_move_processed(&self, files: &[DroppedFile]) -> Result<(), SourceError> {
        // Whether it is allowed, only trying would tell.
        files.iter().try_for_each(|file| self.store.can_move(&self.pin(file)))
    }

    fn claims(&self) -> Result<Option<ClaimsFile>, SourceError> {
        let found = wait(self.store.read_small(&self.key(Place::Folder, CLAIMS_FILE)))?;
        Ok(found.map(|(object, text)| ClaimsFile { text: text.to_vec(), version: object.pin.e_tag }))
    }

    fn replace_claims(&self, known: Option<&ClaimsFile>, text: &str) -> Result<bool, SourceError> {
        let (key, contents) = (self.key(Place::Folder, CLAIMS_FILE), Bytes::copy_from_slice(text.as_bytes()));
        let Some(ClaimsFile { text, version }) = known else { return wait(self.store.put_new(&key, contents)) };
        let size = text.len() as u64;
        let pin = Pin { key, size, e_tag: version.clone(), version: None, modified: None };
        wait(self.store.put_if(&pin, contents))
    }

    fn shown(&self, place: Place, name: &str) -> String {
        self.folder.url_of(&self.key(place, name))
    }

    fn shown_folder(&self) -> String {
        self.folder.root_url()
    }
}
