//! Hashes of rows as a scan shows them, and their way into a query.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use convoke_core::hash::{ContentHasher, encode_part};
use convoke_core::sink::ScannedRow;
use convoke_core::spec::{ColumnSpec, SyncSpec};
use convoke_core::{ContentHash, HashKey, KeyHash, SinkError};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::cell::canonical_cell;
use crate::error::EngineError;
use crate::sorting::SortInput;

/// Rows that a query takes at once. Joins and sorts share the memory limit, and a row is as wide as its mapping.
pub(crate) const SCAN_ROWS: usize = 2_048;

/// Gathers rows of a scan for a query.
pub(crate) trait GatherRows {
    fn push(&mut self, hasher: &RowHasher, row: &ScannedRow);
    fn finish(&mut self) -> RecordBatch;
}

/// Hands the rows of a scan to a query; returns how many there were.
pub(crate) async fn feed_scan(
    mut rows: BoxStream<'_, Result<ScannedRow, SinkError>>,
    hasher: &RowHasher,
    mut gathered: impl GatherRows,
    input: SortInput,
) -> Result<u64, EngineError> {
    let mut scanned = 0;
    while let Some(row) = rows.next().await {
        let row = row.map_err(|cause| EngineError::Scan { cause })?;
        gathered.push(hasher, &row);
        scanned += 1;
        if scanned % SCAN_ROWS as u64 == 0 {
            input.push(gathered.finish()).await?;
        }
    }
    input.push(gathered.finish()).await?;
    Ok(scanned)
}

/// Hashes rows by the columns of a sync, which are those of the scan, in order.
pub(crate) struct RowHasher {
    columns: Vec<ColumnSpec>,
    key: Vec<usize>,
    hash_key: HashKey,
    contents: ContentHasher,
    /// For each column, what hashes its cells alone.
    cells: Vec<ContentHasher>,
}

/// Bytes of a digest of one cell: enough to tell two cells apart, though not enough to be sure that two are the same.
const DIGEST_BYTES: usize = 4;

/// What stands in one cell: NULL, a canonical text, or nothing that the column's type takes.
type Cell<'a> = Option<Option<Cow<'a, str>>>;

impl RowHasher {
    pub(crate) fn new(spec: &SyncSpec, hash_key: &HashKey) -> Self {
        let place = |name: &String| spec.columns.iter().position(|column| column.name == *name);
        Self {
            key: spec.key.iter().filter_map(place).collect(),
            contents: hash_key.contents_of(spec.columns.iter().map(|column| column.name.as_str())),
            cells: spec.columns.iter().map(|column| hash_key.contents_of([column.name.as_str()])).collect(),
            columns: spec.columns.clone(),
            hash_key: hash_key.clone(),
        }
    }

    /// The key that the row's cells spell; none if a part of it is missing or no value of its type.
    pub(crate) fn key(&self, row: &ScannedRow) -> Option<KeyHash> {
        let mut key = Vec::new();
        for index in &self.key {
            encode_part(&mut key, Some(&self.cell(row, *index)??));
        }
        Some(self.hash_key.hash_key(&key))
    }

    /// Contents that are not canonical count as unknown, so that the next plan updates the row.
    pub(crate) fn content(&self, row: &ScannedRow) -> ContentHash {
        let mut content = Vec::new();
        for index in self.contents.order() {
            let Some(cell) = self.cell(row, *index) else { return ContentHash::UNKNOWN };
            encode_part(&mut content, cell.as_deref());
        }
        self.contents.hash(&content)
    }

    /// Digests of a row's cells one by one, to tell later which of them differ.
    pub(crate) fn digests(&self, row: &ScannedRow) -> Vec<u8> {
        let cells = row.cells.iter().enumerate().map(|(index, text)| match self.cell(row, index) {
            Some(cell) => cell,
            // It differs from every canonical cell, and so it is told.
            None => text.as_deref().map(Cow::Borrowed),
        });
        self.digests_of(cells)
    }

    /// [`RowHasher::digests`] of canonical cells.
    pub(crate) fn digests_of<Text: AsRef<str>>(&self, cells: impl Iterator<Item = Option<Text>>) -> Vec<u8> {
        let mut digests = Vec::with_capacity(self.columns.len() * DIGEST_BYTES);
        let mut encoded = Vec::new();
        for (hasher, cell) in self.cells.iter().zip(cells) {
            encoded.clear();
            encode_part(&mut encoded, cell.as_ref().map(AsRef::as_ref));
            digests.extend_from_slice(&hasher.hash(&encoded).0[..DIGEST_BYTES]);
        }
        digests
    }

    /// Names of the columns whose digests differ.
    pub(crate) fn differing(&self, one: &[u8], other: &[u8]) -> Vec<String> {
        let pairs = one.chunks(DIGEST_BYTES).zip(other.chunks(DIGEST_BYTES));
        let differing = self.columns.iter().zip(pairs).filter(|(_, (one, other))| one != other);
        differing.map(|(column, _)| column.name.clone()).collect()
    }

    fn cell<'a>(&self, row: &'a ScannedRow, index: usize) -> Cell<'a> {
        let text = row.cells.get(index)?.as_deref();
        text.map_or(Some(None), |text| canonical_cell(self.columns[index].data_type, text).ok())
    }
}
