//! Joins the scan with the ledger by row id, and sorts what comes of it by key.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array, RecordBatch, StringArray, StringBuilder,
    UInt8Array, UInt32Array, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::sink::{AttemptTag, ScannedRow};
use convoke_core::{ContentHash, KeyHash, RowId, SinkError};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::AuditRequest;
use super::standing::{KnownEntry, SeenRow, Standing, standing_of};
use super::walk::{Findings, Seen};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::key_number::key_of;
use crate::ledger::scanned::{GatherRows, RowHasher, SCAN_ROWS, feed_scan};
use crate::ledger::segment::{self, Entries};
use crate::sorting::{self, SortInput};

pub(super) const ACTION: &str = "hold the audience against the ledger";

const PLACE: &str = "place";

const JOIN: &str = "
    SELECT audience.row_id AS row_id, audience.cell_key AS cell_key, audience.tag AS tag,
           audience.user_key AS user_key, audience.content AS content, audience.digests AS digests,
           ledger.row_id AS ledger_row, ledger.key AS key, ledger.content AS ledger_content,
           ledger.mine AS mine, ledger.state AS state, ledger.origin AS origin
    FROM audience FULL OUTER JOIN ledger ON audience.row_id = ledger.row_id";

static SCANNED: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("row_id", DataType::Utf8, false),
        Field::new("cell_key", DataType::Binary, true),
        Field::new("tag", DataType::UInt32, true),
        Field::new("user_key", DataType::Binary, true),
        Field::new("content", DataType::Binary, false),
        Field::new("digests", DataType::Binary, false),
    ]))
});

static PLACED: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        // The key, how the row stands, and its id: one column sorts faster than three.
        Field::new(PLACE, DataType::Binary, false),
        Field::new("content", DataType::Binary, false),
        Field::new("digests", DataType::Binary, false),
        Field::new("tag", DataType::UInt32, true),
    ]))
});

/// Rows and entries in the order of keys, those of one key in the order of [`Standing`], then by row id.
pub(super) struct Sorted {
    first: Option<RecordBatch>,
    rest: SendableRecordBatchStream,
}

impl Sorted {
    pub(super) async fn next(&mut self) -> Option<Result<RecordBatch, DataFusionError>> {
        match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => self.rest.next().await,
        }
    }
}

/// Reads the scan to its end. Rows without a key go to the findings at once.
pub(super) async fn hold_against_ledger(
    engine: &Engine,
    request: &AuditRequest<'_>,
    rows: BoxStream<'_, Result<ScannedRow, SinkError>>,
    findings: &mut Findings,
) -> Result<Sorted, EngineError> {
    let fail = |cause: DataFusionError| engine.query_failed(ACTION, &cause);
    let context = engine.session_of(SCAN_ROWS);
    let owner = request.spec.name.as_str();
    let (scanned, joined) = join(&context, request.segments, owner).await.map_err(fail)?;
    let (placed, mut rest) = sorting::sort(&context, &PLACED, PLACE).await.map_err(fail)?;
    let hasher = RowHasher::new(request.spec, request.hash_key);
    let feed = feed_scan(rows, &hasher, ScannedBuilder::default(), scanned);
    let place = place_all(engine, joined, placed, findings);
    // The sort gives its first batch once it has the last.
    let (fed, outcome, first) = tokio::join!(feed, place, rest.next());
    if matches!(fed, Err(EngineError::Stopped)) {
        // Whoever should have taken the rows has failed, and says why.
        outcome?;
        return Err(EngineError::Stopped);
    }
    findings.counts.rows = fed?;
    outcome?;
    Ok(Sorted { first: first.transpose().map_err(fail)?, rest })
}

async fn join(
    context: &SessionContext,
    segments: &[PathBuf],
    owner: &str,
) -> Result<(SortInput, SendableRecordBatchStream), DataFusionError> {
    let (scanned, table) = sorting::fed_table(&SCANNED)?;
    context.register_table("audience", table)?;
    segment::register_ledger(context, segments, owner, Entries::Standing).await?;
    Ok((scanned, context.sql(JOIN).await?.execute_stream().await?))
}

#[derive(Default)]
struct ScannedBuilder {
    row_ids: StringBuilder,
    cell_keys: BinaryBuilder,
    tags: UInt32Builder,
    user_keys: BinaryBuilder,
    contents: BinaryBuilder,
    digests: BinaryBuilder,
}

impl GatherRows for ScannedBuilder {
    fn push(&mut self, hasher: &RowHasher, row: &ScannedRow) {
        self.row_ids.append_value(row.row_id.as_str());
        self.cell_keys.append_option(row.key_cell.map(|cell| cell.key.0));
        self.tags.append_option(row.key_cell.map(|cell| cell.tag.0));
        self.user_keys.append_option(hasher.key(row).map(|key| key.0));
        self.contents.append_value(hasher.content(row).0);
        self.digests.append_value(hasher.digests(row));
    }

    fn finish(&mut self) -> RecordBatch {
        let batch = RecordBatch::try_new(
            Arc::clone(&SCANNED),
            vec![
                Arc::new(self.row_ids.finish()),
                Arc::new(self.cell_keys.finish()),
                Arc::new(self.tags.finish()),
                Arc::new(self.user_keys.finish()),
                Arc::new(self.contents.finish()),
                Arc::new(self.digests.finish()),
            ],
        );
        batch.expect("the builders grow together")
    }
}

/// Tells how each row and entry stands, and hands it to the sort.
async fn place_all(
    engine: &Engine,
    mut joined: SendableRecordBatchStream,
    input: SortInput,
    findings: &mut Findings,
) -> Result<(), EngineError> {
    while let Some(batch) = joined.next().await {
        let batch = batch.map_err(|cause| engine.query_failed(ACTION, &cause))?;
        let columns = Joined::of(&batch);
        let mut placed = PlacedBuilder::default();
        for row in 0..batch.num_rows() {
            let Some((standing, key)) = standing_of(columns.seen(row), columns.entry(row)) else { continue };
            let seen = columns.described(row, standing);
            match key {
                Some(key) => placed.push(key, &seen),
                None => findings.note_without_key(seen),
            }
        }
        input.push(placed.finish()).await?;
    }
    Ok(())
}

/// A batch of the join, column by column.
struct Joined<'a> {
    row_ids: &'a StringArray,
    cell_keys: &'a BinaryArray,
    tags: &'a UInt32Array,
    user_keys: &'a BinaryArray,
    contents: &'a BinaryArray,
    digests: &'a BinaryArray,
    ledger_rows: &'a StringArray,
    keys: &'a Decimal128Array,
    ledger_contents: &'a BinaryArray,
    mine: &'a BooleanArray,
    states: &'a UInt8Array,
    origins: &'a UInt8Array,
}

impl<'a> Joined<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        Self {
            row_ids: batch.column(0).as_string(),
            cell_keys: batch.column(1).as_binary(),
            tags: batch.column(2).as_primitive(),
            user_keys: batch.column(3).as_binary(),
            contents: batch.column(4).as_binary(),
            digests: batch.column(5).as_binary(),
            ledger_rows: batch.column(6).as_string(),
            keys: batch.column(7).as_primitive(),
            ledger_contents: batch.column(8).as_binary(),
            mine: batch.column(9).as_boolean(),
            states: batch.column(10).as_primitive(),
            origins: batch.column(11).as_primitive(),
        }
    }

    fn seen(&self, row: usize) -> Option<SeenRow> {
        self.row_ids.is_valid(row).then(|| SeenRow {
            cell_key: key_at(self.cell_keys, row),
            user_key: key_at(self.user_keys, row),
            content: content_at(self.contents, row),
        })
    }

    fn entry(&self, row: usize) -> Option<KnownEntry> {
        self.ledger_rows.is_valid(row).then(|| KnownEntry {
            key: key_of(self.keys.value(row)),
            content: content_at(self.ledger_contents, row),
            is_mine: self.mine.value(row),
            is_live: self.states.value(row) == segment::LIVE,
            is_created: self.origins.value(row) == segment::CREATED,
        })
    }

    fn described(&self, row: usize, standing: Standing) -> Seen<'a> {
        let is_row = self.row_ids.is_valid(row);
        Seen {
            standing,
            row_id: if is_row { self.row_ids.value(row) } else { self.ledger_rows.value(row) },
            content: if is_row { content_at(self.contents, row) } else { ContentHash::UNKNOWN },
            digests: if is_row { self.digests.value(row) } else { &[] },
            tag: self.tags.is_valid(row).then(|| AttemptTag(self.tags.value(row))),
        }
    }
}

fn key_at(column: &BinaryArray, row: usize) -> Option<KeyHash> {
    if column.is_null(row) {
        return None;
    }
    column.value(row).try_into().ok().map(KeyHash)
}

/// A content of another length is damaged, and compares as unknown.
fn content_at(column: &BinaryArray, row: usize) -> ContentHash {
    column.value(row).try_into().map_or(ContentHash::UNKNOWN, ContentHash)
}

#[derive(Default)]
struct PlacedBuilder {
    places: BinaryBuilder,
    contents: BinaryBuilder,
    digests: BinaryBuilder,
    tags: UInt32Builder,
    place: Vec<u8>,
}

impl PlacedBuilder {
    fn push(&mut self, key: KeyHash, seen: &Seen<'_>) {
        self.place.clear();
        self.place.extend_from_slice(&key.0);
        self.place.push(seen.standing.code());
        self.place.extend_from_slice(seen.row_id.as_bytes());
        self.places.append_value(&self.place);
        self.contents.append_value(seen.content.0);
        // What is as it should be is not told of.
        self.digests.append_value(if seen.standing == Standing::InStep { &[] } else { seen.digests });
        self.tags.append_option(seen.tag.map(|tag| tag.0));
    }

    fn finish(mut self) -> RecordBatch {
        let batch = RecordBatch::try_new(
            Arc::clone(&PLACED),
            vec![
                Arc::new(self.places.finish()),
                Arc::new(self.contents.finish()),
                Arc::new(self.digests.finish()),
                Arc::new(self.tags.finish()),
            ],
        );
        batch.expect("the builders grow together")
    }
}

/// A batch of what was sorted, column by column.
pub(super) struct PlacedBatch {
    places: BinaryArray,
    contents: BinaryArray,
    digests: BinaryArray,
    tags: UInt32Array,
}

impl PlacedBatch {
    pub(super) fn of(batch: &RecordBatch) -> Self {
        Self {
            places: batch.column(0).as_binary().clone(),
            contents: batch.column(1).as_binary().clone(),
            digests: batch.column(2).as_binary().clone(),
            tags: batch.column(3).as_primitive().clone(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.places.len()
    }

    pub(super) fn at(&self, row: usize) -> (KeyHash, Seen<'_>) {
        const OURS: &str = "this process made the places";
        let (key, rest) = self.places.value(row).split_first_chunk().expect(OURS);
        let (standing, row_id) = rest.split_first().expect(OURS);
        let seen = Seen {
            standing: Standing::from_code(*standing).expect(OURS),
            row_id: std::str::from_utf8(row_id).expect(OURS),
            content: content_at(&self.contents, row),
            digests: self.digests.value(row),
            tag: self.tags.is_valid(row).then(|| AttemptTag(self.tags.value(row))),
        };
        (KeyHash(*key), seen)
    }
}

impl Seen<'_> {
    pub(super) fn owned_id(&self) -> RowId {
        RowId::new(self.row_id)
    }
}
