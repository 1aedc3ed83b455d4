//! Ledger segments as Parquet files sorted by key.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, BinaryBuilder, RecordBatch, StringBuilder, UInt8Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use convoke_core::ledger::{LedgerEntry, OrderValue, RowOrigin, RowState};
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionContext, col};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;

use crate::engine::table_of;
use crate::error::EngineError;
use crate::files::{self, Layout, ParquetWriter, WrittenFile};
use crate::key_number::key_number;

/// Rows per row group: a look-up reads at most one group of each segment per key.
const GROUP_ROWS: usize = 65_536;
/// Rows gathered before they are written, and read at once.
const BATCH_ROWS: usize = 8_192;

/// The stored form of [`RowState::Live`].
pub(crate) const LIVE: u8 = 0;
const REMOVED_AT_DESTINATION: u8 = 1;
/// The stored form of [`RowState::Deleted`].
pub(crate) const DELETED: u8 = 2;

const LAYOUT: Layout =
    Layout::Kept { sorted_by: "key", hashes: &["key", "content"], few_values: &["owner", "origin", "state"] };

/// The stored form of [`RowOrigin::Created`].
pub(crate) const CREATED: u8 = 0;
const ADOPTED: u8 = 1;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, false),
        Field::new("content", DataType::Binary, false),
        Field::new("order_value", DataType::Binary, false),
        Field::new("row_id", DataType::Utf8, false),
        Field::new("owner", DataType::Utf8, false),
        Field::new("origin", DataType::UInt8, false),
        Field::new("state", DataType::UInt8, false),
    ]))
});

/// Which entries a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entries {
    /// Those of rows that are live or were removed at the destination.
    Standing,
    /// Those of rows that were deleted as well, for whoever compares order values.
    WithDeleted,
}

/// Registers the table `ledger`: one row per key. `mine` tells rows of this owner.
pub(crate) async fn register_ledger(
    context: &SessionContext,
    segments: &[PathBuf],
    owner: &str,
    entries: Entries,
) -> Result<(), DataFusionError> {
    context.register_udf(key_number());
    // As a join wants it: a key is never NULL, but whoever plans does not know.
    let by_key = [col("key").sort(true, true)];
    let mut layers = Vec::with_capacity(segments.len());
    for (index, path) in segments.iter().enumerate() {
        context.register_table(format!("segment_{index}"), table_of(std::slice::from_ref(path), &SCHEMA, &by_key)?)?;
        layers.push(layer(index, segments.len()));
    }
    if layers.is_empty() {
        // A table of which the planner does not see that it is empty: what leans on the join's order would lose it.
        context.register_table("segment_0", Arc::new(MemTable::try_new(Arc::clone(&SCHEMA), vec![vec![]])?))?;
        layers.push(layer(0, 1));
    }
    let owner = owner.replace('\'', "''");
    // What a retired sync knew to be removed is everybody's.
    let mine = format!("(owner = '{owner}' OR (owner = '' AND state = {REMOVED_AT_DESTINATION}))");
    let wanted = match entries {
        Entries::Standing => format!(" WHERE state <> {DELETED}"),
        Entries::WithDeleted => String::new(),
    };
    let sql = format!(
        "SELECT key_number(key) AS key, content, order_value, row_id, {mine} AS mine, state, origin FROM ({}){wanted}",
        layers.join(" UNION ALL ")
    );
    let ledger = context.sql(&sql).await?;
    context.register_table("ledger", ledger.into_view())?;
    Ok(())
}

/// The entries of a segment that no later one overlays.
fn layer(index: usize, segments: usize) -> String {
    let newer: Vec<_> = (index + 1..segments).map(|newer| format!("SELECT key FROM segment_{newer}")).collect();
    if newer.is_empty() {
        return format!("SELECT * FROM segment_{index}");
    }
    format!(
        "SELECT older.* FROM segment_{index} AS older LEFT ANTI JOIN ({}) AS newer ON older.key = newer.key",
        newer.join(" UNION ALL ")
    )
}

/// Finds the newest entry of each key.
pub(crate) fn look_up(
    segments: &[PathBuf],
    keys: &[KeyHash],
    entries: Entries,
) -> Result<Vec<LedgerEntry>, EngineError> {
    let is_wanted = |entry: &LedgerEntry| entries == Entries::WithDeleted || entry.state != RowState::Deleted;
    let mut wanted: HashSet<KeyHash> = keys.iter().copied().collect();
    let mut found = Vec::new();
    for path in segments.iter().rev() {
        if wanted.is_empty() {
            break;
        }
        for entry in SegmentReader::open_for(path, &wanted)? {
            let entry = entry?;
            if wanted.remove(&entry.key) && is_wanted(&entry) {
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// Reads a segment's entries in the order of keys.
pub(crate) struct SegmentReader {
    path: PathBuf,
    reader: Option<ParquetRecordBatchReader>,
    current: std::vec::IntoIter<LedgerEntry>,
}

impl SegmentReader {
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        Self::build(path, Self::builder(path)?)
    }

    /// Reads only the row groups that may hold one of the keys.
    fn open_for(path: &Path, keys: &HashSet<KeyHash>) -> Result<Self, EngineError> {
        let builder = Self::builder(path)?;
        let groups = builder.metadata().row_groups().iter().enumerate();
        let wanted: Vec<_> = groups.filter(|(_, group)| may_hold(group, keys)).map(|(index, _)| index).collect();
        Self::build(path, builder.with_row_groups(wanted))
    }

    fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>, EngineError> {
        ParquetRecordBatchReaderBuilder::try_new(files::open(path)?)
            .map_err(|cause| EngineError::parquet("read", path, cause))
    }

    fn build(path: &Path, builder: ParquetRecordBatchReaderBuilder<std::fs::File>) -> Result<Self, EngineError> {
        let reader = builder.with_batch_size(BATCH_ROWS).build();
        let reader = reader.map_err(|cause| EngineError::parquet("read", path, cause))?;
        Ok(Self { path: path.to_owned(), reader: Some(reader), current: Vec::new().into_iter() })
    }
}

impl Iterator for SegmentReader {
    type Item = Result<LedgerEntry, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.current.next() {
                return Some(Ok(entry));
            }
            match self.reader.as_mut()?.next()?.ok().and_then(|batch| decode(&batch)) {
                Some(entries) => self.current = entries.into_iter(),
                None => {
                    self.reader = None;
                    return Some(Err(EngineError::damaged(&self.path, "it does not hold what a ledger segment holds")));
                }
            }
        }
    }
}

fn may_hold(group: &RowGroupMetaData, keys: &HashSet<KeyHash>) -> bool {
    let statistics = group.column(0).statistics();
    let bounds = statistics.and_then(|known| known.min_bytes_opt().zip(known.max_bytes_opt()));
    let Some((least, greatest)) = bounds else { return true };
    keys.iter().any(|key| least <= key.0.as_slice() && key.0.as_slice() <= greatest)
}

fn decode(batch: &RecordBatch) -> Option<Vec<LedgerEntry>> {
    if batch.num_columns() != SCHEMA.fields().len() {
        return None;
    }
    let binary = |index: usize| batch.column(index).as_binary_opt::<i32>();
    let text = |index: usize| batch.column(index).as_string_opt::<i32>();
    let number = |index: usize| batch.column(index).as_primitive_opt::<UInt8Type>();
    let (keys, contents, orders) = (binary(0)?, binary(1)?, binary(2)?);
    let (row_ids, owners) = (text(3)?, text(4)?);
    let (origins, states) = (number(5)?, number(6)?);
    let mut entries = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        entries.push(LedgerEntry {
            key: KeyHash(keys.value(row).try_into().ok()?),
            content: ContentHash(contents.value(row).try_into().ok()?),
            order: OrderValue::from_slice(orders.value(row)),
            row_id: RowId::new(row_ids.value(row)),
            owner: SyncName::new(owners.value(row)),
            origin: if origins.value(row) == ADOPTED { RowOrigin::Adopted } else { RowOrigin::Created },
            state: match states.value(row) {
                LIVE => RowState::Live,
                REMOVED_AT_DESTINATION => RowState::RemovedAtDestination,
                DELETED => RowState::Deleted,
                _ => return None,
            },
        });
    }
    Some(entries)
}

/// Writes a segment, key after key.
pub(crate) struct SegmentWriter {
    writer: ParquetWriter,
    keys: BinaryBuilder,
    contents: BinaryBuilder,
    orders: BinaryBuilder,
    row_ids: StringBuilder,
    owners: StringBuilder,
    origins: UInt8Builder,
    states: UInt8Builder,
    gathered: usize,
}

impl SegmentWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, EngineError> {
        Ok(Self {
            writer: ParquetWriter::create(path, Arc::clone(&SCHEMA), GROUP_ROWS, LAYOUT)?,
            keys: BinaryBuilder::new(),
            contents: BinaryBuilder::new(),
            orders: BinaryBuilder::new(),
            row_ids: StringBuilder::new(),
            owners: StringBuilder::new(),
            origins: UInt8Builder::new(),
            states: UInt8Builder::new(),
            gathered: 0,
        })
    }

    pub(crate) fn push(&mut self, entry: &LedgerEntry) -> Result<(), EngineError> {
        self.keys.append_value(entry.key.0);
        self.contents.append_value(entry.content.0);
        self.orders.append_value(&entry.order);
        self.row_ids.append_value(entry.row_id.as_str());
        self.owners.append_value(entry.owner.as_str());
        self.origins.append_value(if entry.origin == RowOrigin::Adopted { ADOPTED } else { CREATED });
        self.states.append_value(match entry.state {
            RowState::Live => LIVE,
            RowState::RemovedAtDestination => REMOVED_AT_DESTINATION,
            RowState::Deleted => DELETED,
        });
        self.gathered += 1;
        if self.gathered == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> Result<WrittenFile, EngineError> {
        self.flush()?;
        self.writer.finish()
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.gathered = 0;
        let batch = RecordBatch::try_new(
            Arc::clone(&SCHEMA),
            vec![
                Arc::new(self.keys.finish()),
                Arc::new(self.contents.finish()),
                Arc::new(self.orders.finish()),
                Arc::new(self.row_ids.finish()),
                Arc::new(self.owners.finish()),
                Arc::new(self.origins.finish()),
                Arc::new(self.states.finish()),
            ],
        );
        self.writer.write(&batch.expect("the builders grow together"))
    }
}
