//! From the spool to a plan's files: hash narrow, fetch wide.
//!
//! The narrow pass is one query that carries hashes only. What changes, hashes still, is sorted by its position in
//! the spool; the wide pass goes over the spool once in that order and fetches the values of these records alone.

mod groups;
mod narrow;
mod output;
pub(crate) mod removal;
pub(crate) mod schema;
mod wide;

use std::path::{Path, PathBuf};

use convoke_core::plan::{ChangeSample, PlanCounts, PlanFile, WithheldDeletes};
use convoke_core::source::Coverage;
use convoke_core::spec::{Expression, SyncSpec};
use convoke_core::{HashKey, Timestamp};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::files;
use crate::refusals::{RefusalFates, Refusals};
use crate::spool::Spool;
use crate::suppression::SuppressionList;

/// What a plan is computed from.
#[derive(Clone, Copy)]
pub struct PlanRequest<'a> {
    pub spec: &'a SyncSpec,
    pub spool: &'a Spool,
    /// Only a complete snapshot lets a mirror delete. In what only adds, a record does not win against a row that one of
    /// a later order made.
    pub coverage: Coverage,
    /// False if a part of the source could not be used.
    pub complete: bool,
    /// The ledger's segments, oldest first; empty for a first load.
    pub segments: &'a [PathBuf],
    pub hash_key: &'a HashKey,
    /// The lists of `spec.suppressions`, loaded, in their order.
    pub suppressions: &'a [SuppressionList],
    /// What the destination refused before, and what of it is not sent again.
    pub refusals: &'a Refusals,
    /// `--limit`: the first changes among creates, then updates; the rest is held back and nothing is deleted.
    pub limit: Option<u64>,
    /// The plan's folder; made with mode 0700. Files of the same names are replaced.
    pub folder: &'a Path,
    /// Whether a row whose order value is unknown stays as it is: a backfill overwrites nothing that may be newer.
    pub keeps_unknown: bool,
    /// What rules that speak of "today" count from.
    pub now: Timestamp,
}

/// What a plan holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Balanced, with `carried_over` 0.
    pub counts: PlanCounts,
    /// Durable; one per kind of change that occurs, and one for invalid records if there are any.
    pub files: Vec<PlanFile>,
    /// A few changes of each kind, with values.
    pub samples: Vec<ChangeSample>,
    /// Deletes that are not made because more records cannot be read than `guards.max_unreadable` allows.
    pub withheld: Option<WithheldDeletes>,
    /// What becomes of the records that were refused before.
    pub refusals: RefusalFates,
    /// What else there is to tell, a sentence each.
    pub notices: Vec<String>,
}

/// Computes a plan.
pub(crate) async fn plan(engine: &Engine, request: PlanRequest<'_>) -> Result<Planned, EngineError> {
    files::make_private_folder(request.folder)?;
    let without_columns;
    let request = if request.spool.schema().fields().is_empty() {
        without_columns = read_nothing(request.spec);
        PlanRequest { spec: &without_columns, ..request }
    } else {
        request
    };
    let prepared = engine.prepare(request.spec, request.spool.schema(), request.now)?;
    let changes = narrow::find_changes(engine, &request, &prepared).await?;
    let planned = wide::write_files(engine, &request, prepared, changes).await?;
    files::sync_folder(request.folder)?;
    Ok(planned)
}

/// The sync for a source without any record, and so perhaps without columns: its expressions read none. What the source
/// lacks is for the guards to judge, not for the mapping.
pub(crate) fn read_nothing(spec: &SyncSpec) -> SyncSpec {
    let nothing = || Expression::Sql("CAST(NULL AS VARCHAR)".to_owned());
    let mut spec = SyncSpec { filter: None, deleted: None, ..spec.clone() };
    spec.columns.iter_mut().for_each(|column| column.expression = nothing());
    spec.dedupe.by.iter_mut().for_each(|criterion| criterion.expression = nothing());
    spec
}

/// Runs what reads and writes files on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    joined(tokio::task::spawn_blocking(work)).await
}

/// Waits for such a thread.
pub(crate) async fn joined<T>(
    thread: impl Future<Output = Result<Result<T, EngineError>, tokio::task::JoinError>>,
) -> Result<T, EngineError> {
    match thread.await {
        Ok(result) => result,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(EngineError::Stopped),
        },
    }
}
