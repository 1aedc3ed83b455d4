//! The vocabulary that Convoke's crates share.
//!
//! Here live the ids, the validated specs, the outcomes with their certainty, and the traits by which
//! sources, sinks and stores are known to the rest. Nothing in this crate performs I/O or reads a clock:
//! what it holds can be compared, stored, and explored by tests.

mod audience_kind;
pub mod audit;
pub mod backfill;
pub mod boundary;
pub mod data_type;
pub mod enrichment;
pub mod error;
pub mod gate;
pub mod hash;
pub mod ids;
pub mod journal;
pub mod ledger;
pub mod lifecycle;
pub mod plan;
pub mod quotes;
pub mod reject;
pub mod rule;
pub mod sink;
pub mod source;
pub mod spec;
pub mod state;
pub mod time;

pub use data_type::DataType;
pub use error::{Origin, SinkError, SourceError, StateError};
pub use hash::{ContentHash, HashKey, KeyHash};
pub use ids::{AudienceKey, ConnectionName, PlanId, RowId, RunId, SyncName};
pub use time::{Clock, Timestamp};
