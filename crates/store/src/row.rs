//! Rows and how their cells are stored.
//!
//! A row's cells are one JSON array of the values as they were sent; a column's value stands at the column's position,
//! NULL where it is blank, trailing NULLs left out. A cell's state is `RESULT` if it has a value; if not, `NO_RESULT` where one
//! was looked for, else `BLANK`.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row as _, SqliteConnection};
use uuid::Uuid;

use crate::audience;
use crate::column::{self, Column};
use crate::enrich::{self, Unmatched};
use crate::error::{Error, Result};
use crate::statement::{Bind, Statement};
use crate::tenant::Tenant;
use crate::value::json_text;

/// Rows of one audience, with the columns their cells belong to.
#[derive(Clone, Debug)]
pub struct RowSet {
    /// All columns of the audience, in the order of their creation.
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    pub(crate) unmatched: Unmatched,
}

impl RowSet {
    /// Whether a value was looked for, for this cell, and not found.
    pub fn is_unmatched(&self, row: &Row, column: &Column) -> bool {
        self.unmatched.contains(&(row.id, column.position))
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: Uuid,
    pub(crate) cells: String,
}

impl Row {
    /// Reads the row's cells.
    pub fn cells(&self) -> Result<Cells<'_>> {
        let values = serde_json::from_str(&self.cells)
            .map_err(|cause| Error::storage(format!("the cells of row {} are damaged", self.id), cause))?;
        Ok(Cells { values })
    }
}

/// The cells of a row.
pub struct Cells<'a> {
    values: Vec<&'a RawValue>,
}

impl<'a> Cells<'a> {
    /// The value of a column's cell as JSON; none if it is blank.
    pub fn value(&self, column: &Column) -> Option<&'a RawValue> {
        self.values.get(column.position).copied().filter(|value| value.get() != "null")
    }

    /// All places in order, also those of deleted columns.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&'a RawValue>> {
        self.values.iter().map(|value| Some(*value).filter(|value| value.get() != "null"))
    }
}

/// A row as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredRow {
    pub(crate) number: i64,
    pub(crate) row: Row,
}

impl FromRow<'_, SqliteRow> for StoredRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let id: &[u8] = row.try_get("id")?;
        let id = Uuid::from_slice(id).map_err(|cause| sqlx::Error::Decode(Box::new(cause)))?;
        Ok(Self { number: row.try_get("number")?, row: Row { id, cells: row.try_get("cells")? } })
    }
}

impl Tenant {
    /// Returns one row.
    pub async fn row(&self, audience_id: &str, row_id: &str) -> Result<RowSet> {
        let mut reading = self.store.read().await?;
        let audience = audience::find(&mut reading, self, audience_id).await?;
        let columns = column::list(&mut reading, audience.number).await?;
        let ids: Vec<Uuid> = row_id.parse().into_iter().collect();
        let rows = load(&mut reading, audience.number, &ids).await?;
        if rows.is_empty() {
            return Err(Error::not_found("row", row_id));
        }
        let unmatched = enrich::unmatched(&mut reading, &columns, &rows).await?;
        Ok(RowSet { columns, rows: rows.into_iter().map(|stored| stored.row).collect(), unmatched })
    }
}

/// Bits of a row number that count rows of one audience: 68 billion, which leaves room for 134 million audiences.
const ROW_BITS: u32 = 36;

/// The row numbers that belong to an audience.
pub(crate) fn span(audience: i64) -> RangeInclusive<i64> {
    let first = audience << ROW_BITS;
    first..=first + ((1 << ROW_BITS) - 1)
}

/// Loads those of these rows that the audience has.
pub(crate) async fn load(connection: &mut SqliteConnection, audience: i64, ids: &[Uuid]) -> Result<Vec<StoredRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = Statement::new("SELECT number, id, cells FROM audience_rows WHERE id IN ");
    select.bind_tuple(ids.iter().map(|id| Bind::Blob(id.as_bytes().to_vec())));
    let rows = select.rows(connection).await?;
    let mut found: Vec<StoredRow> = rows.iter().map(StoredRow::from_row).collect::<sqlx::Result<_>>()?;
    let span = span(audience);
    found.retain(|stored| span.contains(&stored.number));
    Ok(found)
}

/// One entry of the index of hidden TEXT columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) column: i64,
    pub(crate) folded: Vec<u8>,
    pub(crate) row: i64,
}

impl IndexEntry {
    fn binds(&self) -> [Bind; 3] {
        [Bind::Integer(self.column), Bind::Blob(self.folded.clone()), Bind::Integer(self.row)]
    }

    /// The entry for a cell; none if the cell is blank.
    pub(crate) fn of(column: &Column, row: i64, json: Option<&str>) -> Option<Self> {
        let text = json_text(json?)?;
        Some(Self { column: column.number, folded: fold(&text), row })
    }
}

/// Folds text as the rule algebra compares it: ASCII letters without case.
pub(crate) fn fold(text: &str) -> Vec<u8> {
    let mut folded = text.as_bytes().to_vec();
    folded.make_ascii_lowercase();
    folded
}

/// Entries per statement: three parameters each, far below SQLite's 32,766.
const ENTRIES_PER_STATEMENT: usize = 1000;

pub(crate) async fn add_entries(connection: &mut SqliteConnection, entries: &[IndexEntry]) -> Result<()> {
    for part in entries.chunks(ENTRIES_PER_STATEMENT) {
        let mut insert = Statement::new("INSERT OR IGNORE INTO cell_index (column_number, folded, row_number) VALUES ");
        for (index, entry) in part.iter().enumerate() {
            insert.push(if index > 0 { "," } else { "" }).bind_tuple(entry.binds());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(crate) async fn remove_entries(connection: &mut SqliteConnection, entries: &[IndexEntry]) -> Result<()> {
    for part in entries.chunks(ENTRIES_PER_STATEMENT) {
        let mut delete = Statement::new("DELETE FROM cell_index WHERE (column_number, folded, row_number) IN (VALUES ");
        for (index, entry) in part.iter().enumerate() {
            delete.push(if index > 0 { "," } else { "" }).bind_tuple(entry.binds());
        }
        delete.push(")");
        delete.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Rows per step when a column of existing rows is indexed.
const INDEX_STEP: i64 = 5000;

/// Indexes the cells of a column that became hidden.
pub(crate) async fn index_column(connection: &mut SqliteConnection, audience: i64, column: &Column) -> Result<()> {
    let span = span(audience);
    let mut after = span.start() - 1;
    loop {
        let rows = sqlx::query(
            "SELECT number, id, cells FROM audience_rows WHERE number > ? AND number <= ? ORDER BY number LIMIT ?",
        )
        .bind(after)
        .bind(*span.end())
        .bind(INDEX_STEP)
        .fetch_all(&mut *connection)
        .await?;
        let stored: Vec<StoredRow> = rows.iter().map(StoredRow::from_row).collect::<sqlx::Result<_>>()?;
        let Some(last) = stored.last() else { return Ok(()) };
        after = last.number;
        let entries = entries_of(&stored, &[column])?;
        add_entries(connection, &entries).await?;
    }
}

/// The index entries of these rows for these columns.
pub(crate) fn entries_of(rows: &[StoredRow], columns: &[&Column]) -> Result<Vec<IndexEntry>> {
    let mut entries = Vec::new();
    for stored in rows {
        let cells = stored.row.cells()?;
        for column in columns {
            entries.extend(IndexEntry::of(column, stored.number, cells.value(column).map(RawValue::get)));
        }
    }
    Ok(entries)
}

/// Removes a column from the index.
pub(crate) async fn drop_index(connection: &mut SqliteConnection, column: &Column) -> Result<()> {
    sqlx::query("DELETE FROM cell_index WHERE column_number = ?").bind(column.number).execute(connection).await?;
    Ok(())
}

/// Blanks a column's cells in all rows of the audience.
pub(crate) async fn drop_cells(connection: &mut SqliteConnection, audience: i64, column: &Column) -> Result<()> {
    let span = span(audience);
    let mut update = Statement::new("UPDATE audience_rows SET cells = ");
    update.push(&format!("json_replace(cells, '$[{}]', NULL) WHERE number BETWEEN ", column.position));
    update.bind(Bind::Integer(*span.start())).push(" AND ").bind(Bind::Integer(*span.end()));
    update.push(&format!(" AND {} IS NOT NULL", column.cell_sql()));
    update.execute(connection).await?;
    Ok(())
}

/// Writes cells as they are stored.
pub(crate) fn encode(slots: &[Option<Cow<'_, str>>]) -> String {
    let length = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let mut json = String::with_capacity(2 + slots.iter().flatten().map(|value| value.len() + 1).sum::<usize>());
    json.push('[');
    for (index, slot) in slots[..length].iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(slot.as_deref().unwrap_or("null"));
    }
    json.push(']');
    json
}
