//! An object as it was listed, and the pin under which it is read.

use convoke_core::source::Split;
use convoke_core::{Origin, SourceError, Timestamp};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

/// An object that a listing showed.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// Its key without what all keys of the source begin with.
    pub name: String,
    pub pin: Pin,
    pub modified: Timestamp,
}

/// What an object must still be when it is read. Stands in the split.
///
/// When an object was last written, and as which version, is part of it only where the store gives no ETag: contents that
/// were put again unchanged are the same contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub key: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
}

impl ListedObject {
    /// An object of this name, as a store tells of it.
    pub fn new(name: &str, meta: ObjectMeta) -> Self {
        let modified = Timestamp(meta.last_modified.timestamp_millis());
        let pin = Pin {
            key: meta.location.to_string(),
            size: meta.size,
            modified: meta.e_tag.is_none().then_some(modified),
            version: meta.version.filter(|_| meta.e_tag.is_none()),
            e_tag: meta.e_tag,
        };
        Self { name: name.to_owned(), pin, modified }
    }

    /// The order in which objects were written.
    pub fn age_order(&self) -> (Timestamp, &str) {
        (self.modified, &self.name)
    }

    /// What stands for it in a run.
    pub fn split(&self) -> Split {
        Split { name: self.name.clone(), detail: serde_json::json!(self.pin), bytes: Some(self.pin.size) }
    }
}

impl Pin {
    /// The pin in a split.
    ///
    /// # Errors
    ///
    /// A split of another source.
    pub fn of(split: &Split) -> Result<Self, SourceError> {
        serde_json::from_value(split.detail.clone()).map_err(|error| {
            let message = format!("split `{}` is not one of an object store", split.name);
            SourceError::new(Origin::Internal, message).caused_by(error)
        })
    }

    /// What tells these contents from others under the same key.
    pub fn fingerprint(&self) -> String {
        match (&self.e_tag, self.modified) {
            (Some(e_tag), _) => bare(e_tag).to_owned(),
            (None, Some(modified)) => format!("{}-{}", modified.0, self.size),
            (None, None) => self.size.to_string(),
        }
    }

    /// The ETag as it stands in a condition, if it can: a weak one never matches there.
    pub(crate) fn condition(&self) -> Option<String> {
        let e_tag = self.e_tag.as_deref().filter(|e_tag| !e_tag.starts_with("W/"))?;
        Some(format!("\"{}\"", bare(e_tag)))
    }

    /// Whether this is what a store says of the object now.
    pub(crate) fn fits(&self, meta: &ObjectMeta) -> bool {
        let is_same = match (&self.e_tag, &meta.e_tag) {
            (Some(pinned), Some(found)) => bare(pinned) == bare(found),
            // To the second: a header says no more.
            (None, _) => self.modified.is_none_or(|at| at.0 / 1_000 == meta.last_modified.timestamp()),
            (Some(_), None) => false,
        };
        is_same && self.size == meta.size
    }
}

/// An ETag without the quotes, which some stores leave out of their listings.
fn bare(e_tag: &str) -> &str {
    e_tag.trim_matches('"')
}
