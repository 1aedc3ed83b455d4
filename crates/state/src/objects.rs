//! Ledger segments and plan files on an object store, where other machines find them.
//!
//! Names say what an object is and are never used again, so an object is written once and nothing has to be brought up
//! to date. A store has to list what it holds as it is at that moment, as S3 does, and should refuse to replace an
//! object where it is asked to (`If-None-Match`).

mod client;
mod plans;
mod segments;
mod transfer;

pub use client::open_object_store;
pub use plans::ObjectPlans;
pub use segments::ObjectSegments;
