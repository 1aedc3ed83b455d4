//! The checkpoint store on SQLite, and ledger segments in a local folder.
//!
//! [`SqliteState`] implements every role of [`convoke_core::state`], [`LocalSegments`] implements
//! [`convoke_core::ledger::SegmentStore`]. What a method reports as done survives a power cut. What this crate
//! leaves out: what the facts mean. It stores plans, entries and ledgers, and decides nothing about them.

mod sqlite;

mod connection;
mod file;
mod file_system;
mod migrations;
mod writer;

mod clock;
mod fault;
mod liveness;
mod stored;

mod audiences;
mod audit;
mod budgets;
mod checkpoints;
mod hash_key;
mod journal;
mod leases;
mod ledgers;
mod plans;
mod provisions;
mod recreated;
mod rejects;
mod runs;

mod segments;

pub use audit::AuditRecord;
pub use clock::DatabaseClock;
pub use segments::LocalSegments;
pub use sqlite::{OpenMode, SqliteState};
