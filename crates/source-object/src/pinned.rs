//! An object that is read as it was listed, or not at all.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use convoke_core::SourceError;
use convoke_core::source::PinnedFile;
use convoke_objects::{Pin, Store};
use object_store::{OBJECT_STORE_COALESCE_DEFAULT, coalesce_ranges};

use crate::footer::Tail;

/// An object under its pin.
pub(crate) struct PinnedObject {
    store: Store,
    pin: Pin,
    fingerprint: String,
    /// What was read of it already: asking for the footer costs no second request.
    tail: Option<Tail>,
}

impl PinnedObject {
    pub(crate) fn new(store: Store, pin: Pin, tail: Option<Tail>) -> Self {
        Self { store, fingerprint: pin.fingerprint(), pin, tail }
    }

    /// The bytes of a range that need no request.
    fn held(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        self.tail.as_ref().and_then(|tail| tail.slice(range))
    }
}

impl fmt::Debug for PinnedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedObject").field("pin", &self.pin).finish_non_exhaustive()
    }
}

#[async_trait]
impl PinnedFile for PinnedObject {
    fn size(&self) -> u64 {
        self.pin.size
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
        let missing: Vec<Range<u64>> = ranges.iter().filter(|range| self.held(range).is_none()).cloned().collect();
        let fetch = |range| self.store.get(&self.pin, range);
        let mut fetched = coalesce_ranges(&missing, fetch, OBJECT_STORE_COALESCE_DEFAULT).await?.into_iter();
        Ok(ranges.iter().filter_map(|range| self.held(range).or_else(|| fetched.next())).collect())
    }
}
