//! An object store behind one door: list, pinned reads, conditional writes, errors that say what to do.
//!
//! A [`Location`] is a URL that was understood: a store, a folder, and which names in it count. A [`Store`] lists it, reads
//! objects under [`Pin`]s, and writes.
//!
//! Promises: what is read under a pin is of the object that was listed, or an error of kind
//! [`Changed`](convoke_core::error::SourceErrorKind::Changed), never a mixture; what is written only if nothing is there
//! replaces nothing; no message shows a key, a token or a request.
//!
//! Left out: what objects hold, and what has been read before. That is for who uses this.

mod backend;
mod fault;
mod listing;
mod location;
mod pin;
mod reader;
mod store;
mod writing;

pub use listing::{Entering, Enters, Listing, ListingDifference};
pub use location::{Location, Scheme, Standing, name_pattern};
pub use pin::{ListedObject, Pin};
pub use reader::{ObjectReader, source_error};
pub use store::Store;
pub use writing::Moved;
