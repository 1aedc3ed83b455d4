//! Takes rows that an audience already holds into its ledger.

use convoke_core::sink::ScannedRow;
use convoke_core::spec::SyncSpec;
use convoke_core::{HashKey, RowId, SinkError};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::event::{Event, EventKind};
use super::fold::{Events, FoldRequest, Folded, merge_events};
use super::scanned::RowHasher;
use crate::engine::Engine;
use crate::error::EngineError;

/// What is adopted into what.
#[derive(Clone, Copy)]
pub struct AdoptRequest<'a> {
    pub ledger: FoldRequest<'a>,
    /// The sync that will own the rows; its columns are those of the scan, in order.
    pub spec: &'a SyncSpec,
    pub hash_key: &'a HashKey,
}

/// What was adopted. The manifest is sealed but not yet committed.
#[derive(Clone, Debug)]
pub struct Adopted {
    pub folded: Folded,
    /// Rows scanned.
    pub scanned: u64,
    /// Rows the ledger knew already.
    pub known: u64,
    /// Rows the ledger knew that a retired sync had left; no part of the fold's counts.
    pub taken_over: u64,
    /// Rows whose key another row has; the first seen was kept. At most 1,000 are named.
    pub duplicates: Vec<RowId>,
    pub duplicate_count: u64,
    /// Rows without a usable key.
    pub unexplained: u64,
}

pub(crate) async fn adopt(
    engine: &Engine,
    request: AdoptRequest<'_>,
    mut rows: BoxStream<'_, Result<ScannedRow, SinkError>>,
) -> Result<Adopted, EngineError> {
    let (mut scanned, mut unexplained) = (0, 0);
    let hasher = RowHasher::new(request.spec, request.hash_key);
    let gather = async |events: &mut Events| {
        while let Some(row) = rows.next().await {
            let row = row.map_err(|cause| EngineError::Scan { cause })?;
            scanned += 1;
            let Some(key) = hasher.key(&row) else {
                unexplained += 1;
                continue;
            };
            let content = hasher.content(&row);
            let (row_id, owner) = (row.row_id.as_str(), &request.spec.name);
            events.push(Event { key, kind: EventKind::Adopted, content, order: &[], row_id, owner }).await?;
        }
        Ok(())
    };
    let (folded, merged) = merge_events(engine, request.ledger, gather).await?;
    let (known, taken_over) = (merged.known, merged.taken_over);
    let (duplicates, duplicate_count) = (merged.duplicates, merged.duplicate_count);
    Ok(Adopted { folded, scanned, known, taken_over, duplicates, duplicate_count, unexplained })
}
