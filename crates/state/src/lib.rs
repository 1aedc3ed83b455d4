//! The checkpoint store on SQLite and PostgreSQL; ledger segments and plan files in folders and on object stores.
//!
//! [`SqliteState`] and [`PostgresState`] implement every role of [`convoke_core::state`]; [`LocalSegments`] and
//! [`ObjectSegments`] implement [`convoke_core::ledger::SegmentStore`], [`ObjectPlans`]
//! [`convoke_core::ledger::PlanArchive`]. What a method reports as done survives a power cut. What this crate leaves
//! out: what the facts mean. It stores plans, entries and ledgers, and decides nothing about them.

mod opening;
mod postgres;
mod sqlite;

mod clock;
mod columns;
mod fault;
mod file;
mod lifecycle;
mod rejects;
mod stored;

mod objects;
mod segments;

pub use clock::DatabaseClock;
pub use objects::{ObjectPlans, ObjectSegments, open_object_store};
pub use opening::OpenMode;
pub use postgres::PostgresState;
pub use segments::LocalSegments;
pub use sqlite::SqliteState;
