//! Audits an audience: what it holds, held against the ledger.
//!
//! The scan is joined with the ledger by row id, which no hand can edit. What comes of it is sorted by key, so that the
//! entry and the rows of a key follow one another and surplus rows show. Only hashes travel, and whatever does not fit
//! into memory spills. The outcome is figures, a few samples, a ledger that says what the audience holds, which nobody
//! is bound by until it is committed, the deletes of surplus rows of ours as a file of a plan, and the keys of the rows that
//! the plan is to make again.

mod absent;
mod describe;
mod doubles;
mod scan;
mod standing;
mod walk;

use std::path::{Path, PathBuf};

use convoke_core::audit::{AuditCounts, AuditSample};
use convoke_core::plan::PlanFile;
use convoke_core::sink::ScannedRow;
use convoke_core::spec::SyncSpec;
use convoke_core::{HashKey, RowId, SinkError};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub(crate) use describe::describe;
pub use standing::MissingRows;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::fold::{Events, FoldRequest, Folded, merge_events};
use describe::Probe;

/// Looks rows up by their ids; gives those that are there.
pub type FindRows<'a> = dyn Fn(Vec<RowId>) -> BoxFuture<'a, Result<Vec<RowId>, SinkError>> + Send + Sync + 'a;

/// What is audited, and how.
#[derive(Clone, Copy)]
pub struct AuditRequest<'a> {
    pub ledger: FoldRequest<'a>,
    /// The ledger's segments, oldest first.
    pub segments: &'a [PathBuf],
    /// The sync whose rows are held against the ledger; its columns are those of the scan, in order.
    pub spec: &'a SyncSpec,
    pub hash_key: &'a HashKey,
    /// How many rows of each finding are named.
    pub samples: usize,
    pub missing: MissingRows,
    /// Rows that the scan did not show are asked for by id: a list that moves while it is read can lack some.
    pub find: &'a FindRows<'a>,
    /// Rows per look-up.
    pub find_rows: usize,
    /// A folder that exists, for the files of deletes and of rows that are to be made again.
    pub folder: &'a Path,
}

/// What an audit found. The manifest is sealed but not committed.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Balanced.
    pub counts: AuditCounts,
    /// In the order of keys.
    pub samples: Vec<AuditSample>,
    /// The ledger as it should be, but for rows that are to be made again: it names them until they are.
    pub folded: Folded,
    /// How many things the ledger has to learn.
    pub corrections: u64,
    /// Deletes of surplus rows of ours, if there are any: a plan's file in the request's folder.
    pub doubles: Option<PlanFile>,
    /// Rows that are to be made again, if there are any: a plan's file in the request's folder.
    pub absent: Option<PlanFile>,
    /// By which samples are found among a plan's changes.
    probes: Vec<Probe>,
}

pub(crate) async fn audit(
    engine: &Engine,
    request: AuditRequest<'_>,
    rows: BoxStream<'_, Result<ScannedRow, SinkError>>,
) -> Result<Audited, EngineError> {
    let mut findings = walk::Findings::new(&request);
    let gather = async |events: &mut Events| {
        let sorted = scan::hold_against_ledger(engine, &request, rows, &mut findings).await?;
        walk::walk(engine, &request, sorted, &mut findings, events).await
    };
    let (folded, merged) = merge_events(engine, request.ledger, gather).await?;
    let walk::Findings { counts, samples, probes, doubles, absent, .. } = findings;
    let (doubles, absent) = (doubles.finish()?, absent.finish()?);
    debug_assert_eq!(counts.doubled, doubles.as_ref().map_or(0, |file| file.rows));
    Ok(Audited { counts, samples, folded, corrections: merged.events, doubles, absent, probes })
}
