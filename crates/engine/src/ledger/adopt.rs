//! Takes rows that an audience already holds into its ledger.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Decimal128Array, RecordBatch, StringArray, StringBuilder,
    UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::sink::ScannedRow;
use convoke_core::spec::SyncSpec;
use convoke_core::{ContentHash, HashKey, KeyHash, RowId, SinkError};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::event::{Event, EventKind};
use super::fold::{Events, FoldRequest, Folded, merge_events, open_segments};
use super::scanned::{GatherRows, RowHasher, SCAN_ROWS, feed_scan};
use super::segment::{self, Entries, LIVE};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::key_number::key_of;
use crate::sorting::{self, SortInput};

const ACTION: &str = "take over the audience's rows";

static SCANNED: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        // Rows are taken in the order of the scan.
        Field::new("number", DataType::UInt64, false),
        Field::new("row_id", DataType::Utf8, false),
        Field::new("user_key", DataType::Binary, true),
        Field::new("content", DataType::Binary, false),
    ]))
});

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
    rows: BoxStream<'_, Result<ScannedRow, SinkError>>,
) -> Result<Adopted, EngineError> {
    let (mut scanned, mut unexplained) = (0, 0);
    let gather = async |events: &mut Events| {
        let segments = open_segments(&request.ledger).await?;
        let context = engine.session_of(SCAN_ROWS);
        let joined = join(&context, &segments, request.spec.name.as_str()).await;
        let (input, joined) = joined.map_err(|cause| engine.query_failed(ACTION, &cause))?;
        let hasher = RowHasher::new(request.spec, request.hash_key);
        let feed = feed_scan(rows, &hasher, ScannedBuilder::default(), input);
        let take = take_joined(engine, &request, joined, events);
        let (fed, taken) = tokio::join!(feed, take);
        // Whoever should have taken the rows says why it has not.
        unexplained = taken?;
        scanned = fed?;
        Ok(())
    };
    let (folded, merged) = merge_events(engine, request.ledger, gather).await?;
    let (known, taken_over) = (merged.known, merged.taken_over);
    let (duplicates, duplicate_count) = (merged.duplicates, merged.duplicate_count);
    Ok(Adopted { folded, scanned, known, taken_over, duplicates, duplicate_count, unexplained })
}

async fn join(
    context: &SessionContext,
    segments: &[PathBuf],
    owner: &str,
) -> Result<(SortInput, SendableRecordBatchStream), DataFusionError> {
    let (scanned, table) = sorting::fed_table(&SCANNED)?;
    context.register_table("audience", table)?;
    segment::register_ledger(context, segments, owner, Entries::Standing).await?;
    Ok((scanned, context.sql(&join_sql()).await?.execute_stream().await?))
}

/// A row that the ledger names keeps its key there, whatever its cells say by now: under two keys it would be two people's.
fn join_sql() -> String {
    format!(
        "SELECT audience.row_id AS row_id, audience.user_key AS user_key, audience.content AS content, named.key AS named_key
         FROM audience LEFT JOIN (SELECT row_id, key FROM ledger WHERE state = {LIVE}) AS named
         ON audience.row_id = named.row_id
         ORDER BY audience.number"
    )
}

/// Makes events of what comes out of the join; returns how many rows have no key.
async fn take_joined(
    engine: &Engine,
    request: &AdoptRequest<'_>,
    mut joined: SendableRecordBatchStream,
    events: &mut Events,
) -> Result<u64, EngineError> {
    let mut without_key = 0;
    while let Some(batch) = joined.next().await {
        let batch = batch.map_err(|cause| engine.query_failed(ACTION, &cause))?;
        let row_ids: &StringArray = batch.column(0).as_string();
        let user_keys: &BinaryArray = batch.column(1).as_binary();
        let contents: &BinaryArray = batch.column(2).as_binary();
        let named_keys: &Decimal128Array = batch.column(3).as_primitive();
        for row in 0..batch.num_rows() {
            let named = named_keys.is_valid(row).then(|| key_of(named_keys.value(row)));
            let key = named.or_else(|| user_keys.is_valid(row).then(|| KeyHash(hash_at(user_keys, row))));
            let Some(key) = key else {
                without_key += 1;
                continue;
            };
            let (content, row_id) = (ContentHash(hash_at(contents, row)), row_ids.value(row));
            let owner = &request.spec.name;
            events.push(Event { key, kind: EventKind::Adopted, content, order: &[], row_id, owner }).await?;
        }
    }
    Ok(without_key)
}

fn hash_at(column: &BinaryArray, row: usize) -> [u8; 16] {
    column.value(row).try_into().expect("this process made the hashes")
}

#[derive(Default)]
struct ScannedBuilder {
    /// Rows so far, in all batches.
    pushed: u64,
    numbers: UInt64Builder,
    row_ids: StringBuilder,
    user_keys: BinaryBuilder,
    contents: BinaryBuilder,
}

impl GatherRows for ScannedBuilder {
    fn push(&mut self, hasher: &RowHasher, row: &ScannedRow) {
        self.numbers.append_value(self.pushed);
        self.pushed += 1;
        self.row_ids.append_value(row.row_id.as_str());
        self.user_keys.append_option(hasher.key(row).map(|key| key.0));
        self.contents.append_value(hasher.content(row).0);
    }

    fn finish(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.numbers.finish()),
            Arc::new(self.row_ids.finish()),
            Arc::new(self.user_keys.finish()),
            Arc::new(self.contents.finish()),
        ];
        RecordBatch::try_new(Arc::clone(&SCANNED), columns).expect("the builders grow together")
    }
}
