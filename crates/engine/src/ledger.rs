//! The ledger: segments, folding, adopting.
//!
//! A ledger is a base segment and at most one delta that overlays it; each fold writes a new one of either. All are
//! sorted by key, so that a fold is one merge over sorted files whatever their size.

pub(crate) mod adopt;
pub(crate) mod event;
pub(crate) mod fold;
mod merge;
pub(crate) mod scanned;
pub(crate) mod segment;
