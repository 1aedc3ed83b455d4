//! Spool, mapping, validation, dedupe, diff, plan files and ledger segments, on DataFusion.
//!
//! The way of a run through this crate: [`SpoolWriter`] takes a source's splits into pinned Parquet; [`Engine::plan`]
//! maps, filters, validates and dedupes them, compares the outcome with the ledger's segments, and writes the plan's
//! files; [`PlanBatches`] reads these back as the batches that are delivered; [`Engine::fold`] turns the journal into
//! a new ledger segment. The crate knows no source, no destination and no clock.

mod audit;
mod batches;
mod cell;
mod check;
mod digest;
mod engine;
mod error;
mod excerpt;
mod expression;
mod files;
mod functions;
mod identity;
mod key_number;
mod key_text;
mod ledger;
mod mapping;
mod memory_pool;
mod nested;
mod order_value;
mod plan;
mod preview;
mod query_threads;
mod rank;
mod refusals;
mod sorting;
mod spool;
mod sql_words;
mod suppression;
mod text_column;
mod trace;
mod verdict;

pub use audit::{AuditRequest, Audited, FindRows, MissingRows};
pub use batches::{AbsentRows, ConfirmedRecords, InvalidRecord, InvalidRecords, PlanBatches, read_invalid};
pub use cell::CellProblem;
pub use check::ExpressionProblem;
pub use engine::{Engine, EngineSettings};
pub use error::{DamagedSplit, EngineError, QueryFailure};
pub use excerpt::Excerpt;
pub use identity::{key_of, ledger_identity};
pub use ledger::adopt::{AdoptRequest, Adopted};
pub use ledger::fold::{Confirmed, FoldRequest, Folded, NewOwner};
pub use plan::removal::RemovalRequest;
pub use plan::{PlanRequest, Planned};
pub use preview::{PreviewOutcome, PreviewRecord, PreviewRequest};
pub use refusals::{RefusalFates, Refusals};
pub use spool::{ColumnGap, SplitIntake, Spool, SpoolProgress, SpoolWriter, TakenSplit, broken_parquet};
pub use suppression::{SuppressionList, load_suppression};
pub use trace::{Places, Trace, TraceRequest, TracedKey};
pub use verdict::Fate;
