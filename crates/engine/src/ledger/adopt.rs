//! Takes rows that an audience already holds into its ledger.

use std::borrow::Cow;

use convoke_core::hash::{ContentHasher, encode_part};
use convoke_core::sink::ScannedRow;
use convoke_core::spec::SyncSpec;
use convoke_core::{ContentHash, HashKey, KeyHash, RowId, SinkError};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::event::{Event, EventKind};
use super::fold::{Events, FoldRequest, Folded, merge_events};
use crate::cell::canonical_cell;
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
    let contents = request.hash_key.contents_of(request.spec.columns.iter().map(|column| column.name.as_str()));
    let gather = async |events: &mut Events| {
        while let Some(row) = rows.next().await {
            let row = row.map_err(|cause| EngineError::Scan { cause })?;
            scanned += 1;
            let Some((key, content)) = hash_row(&request, &contents, &row) else {
                unexplained += 1;
                continue;
            };
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

/// Hashes a row's cells; none if it has no complete key. Contents that are not canonical count as unknown, so that
/// the next plan updates the row.
fn hash_row(request: &AdoptRequest<'_>, contents: &ContentHasher, row: &ScannedRow) -> Option<(KeyHash, ContentHash)> {
    let columns = &request.spec.columns;
    let cell = |index: usize| -> Option<Option<Cow<'_, str>>> {
        let text = row.cells.get(index)?.as_deref();
        text.map_or(Some(None), |text| canonical_cell(columns[index].data_type, text).ok())
    };
    let mut key = Vec::new();
    for name in &request.spec.key {
        let index = columns.iter().position(|column| column.name == *name)?;
        encode_part(&mut key, Some(&cell(index)??));
    }
    let mut content = Vec::new();
    for index in contents.order() {
        let Some(cell) = cell(*index) else {
            return Some((request.hash_key.hash_key(&key), ContentHash::UNKNOWN));
        };
        encode_part(&mut content, cell.as_deref());
    }
    Some((request.hash_key.hash_key(&key), contents.hash(&content)))
}
