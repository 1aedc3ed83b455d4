//! Creating and updating rows: a batch is applied as a whole or not at all.

use std::borrow::Cow;
use std::collections::HashMap;

use rand::RngCore;
use serde_json::value::RawValue;
use sqlx::SqliteConnection;
use uuid::Uuid;

use convoke_core::Timestamp;

use crate::audience::{self, Audience};
use crate::column::{self, Column};
use crate::enrich;
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::row::{self, IndexEntry, Row, RowSet, StoredRow};
use crate::statement::{Bind, Statement};
use crate::tenant::Tenant;
use crate::value::{self, Accepted};

/// A row to create or update.
#[derive(Clone, Debug)]
pub struct RowWrite<'a> {
    /// None: create.
    pub id: Option<Cow<'a, str>>,
    /// Cells that are not mentioned stay as they are.
    pub cells: Vec<CellWrite<'a>>,
}

/// A cell to write.
#[derive(Clone, Debug)]
pub struct CellWrite<'a> {
    pub column_id: Cow<'a, str>,
    /// JSON; `null` makes the cell blank. None: the request named no value.
    pub value: Option<&'a RawValue>,
}

impl Tenant {
    /// Creates and updates rows, all or none, and returns them whole in the order of the request.
    ///
    /// Problems point into a document whose `data` is `writes`.
    pub async fn upsert_rows(&self, audience_id: &str, writes: &[RowWrite<'_>]) -> Result<RowSet> {
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let columns = column::list(&mut writing, audience.number).await?;
        let ids: Vec<Uuid> = writes.iter().filter_map(|write| write.id.as_deref()?.parse().ok()).collect();
        let stored = row::load(&mut writing, audience.number, &ids).await?;
        let now = self.store.now();
        let batch = Batch::prepare(&audience, &columns, &stored, writes, now)?;
        batch.save(&mut writing, &audience, now).await?;
        // A row that is new was not enriched.
        let known: &[StoredRow] = if stored.is_empty() { &[] } else { &batch.rows };
        let unmatched = enrich::unmatched(&mut writing, &columns, known).await?;
        writing.commit().await?;
        Ok(RowSet { columns, rows: batch.rows.into_iter().map(|stored| stored.row).collect(), unmatched })
    }
}

/// What a batch writes.
struct Batch {
    /// In the order of the request.
    rows: Vec<StoredRow>,
    created: i64,
    stale_entries: Vec<IndexEntry>,
    new_entries: Vec<IndexEntry>,
}

impl Batch {
    /// Works the whole batch out, or finds everything that is wrong with it.
    fn prepare(
        audience: &Audience,
        columns: &[Column],
        stored: &[StoredRow],
        writes: &[RowWrite<'_>],
        now: Timestamp,
    ) -> Result<Self> {
        let mut preparation = Preparation {
            columns: columns.iter().map(|column| (column.id.as_str(), column)).collect(),
            indexed: columns.iter().filter(|column| column.is_indexed()).collect(),
            stored: stored.iter().map(|stored| (stored.row.id, stored)).collect(),
            next_number: row::span(audience.number).start() + audience.next_row,
            now,
            problems: Vec::new(),
            batch: Self {
                rows: Vec::with_capacity(writes.len()),
                created: 0,
                stale_entries: vec![],
                new_entries: vec![],
            },
        };
        for (index, write) in writes.iter().enumerate() {
            preparation.add(index, write)?;
        }
        Error::unless_none(preparation.problems)?;
        Ok(preparation.batch)
    }

    async fn save(&self, connection: &mut SqliteConnection, audience: &Audience, now: Timestamp) -> Result<()> {
        for chunk in self.rows.chunks(ROWS_PER_STATEMENT) {
            save_rows(connection, chunk).await?;
        }
        row::remove_entries(connection, &self.stale_entries).await?;
        row::add_entries(connection, &self.new_entries).await?;
        sqlx::query(
            "UPDATE audiences SET record_count = record_count + ?, next_row = next_row + ?, updated_at = ?
             WHERE number = ?",
        )
        .bind(self.created)
        .bind(self.created)
        .bind(now.0)
        .bind(audience.number)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// A full request in one statement, whose text is then the same each time and stays prepared.
const ROWS_PER_STATEMENT: usize = 500;

async fn save_rows(connection: &mut SqliteConnection, rows: &[StoredRow]) -> Result<()> {
    let mut insert = Statement::new("INSERT INTO audience_rows (number, id, cells) VALUES ");
    for (index, stored) in rows.iter().enumerate() {
        let id = stored.row.id.as_bytes().to_vec();
        let binds = [Bind::Integer(stored.number), Bind::Blob(id), Bind::Text(stored.row.cells.clone())];
        insert.push(if index > 0 { "," } else { "" }).bind_tuple(binds);
    }
    insert.push(" ON CONFLICT (number) DO UPDATE SET cells = excluded.cells");
    insert.execute(connection).await?;
    Ok(())
}

struct Preparation<'a> {
    columns: HashMap<&'a str, &'a Column>,
    indexed: Vec<&'a Column>,
    /// Rows that exist; those already in the batch are taken out.
    stored: HashMap<Uuid, &'a StoredRow>,
    next_number: i64,
    now: Timestamp,
    problems: Vec<Problem>,
    batch: Batch,
}

impl<'a> Preparation<'a> {
    fn add(&mut self, index: usize, write: &RowWrite<'_>) -> Result<()> {
        let before = match write.id.as_deref() {
            None => None,
            Some(id) => match self.take_stored(id) {
                Some(stored) => Some(stored),
                None => {
                    let place = Place::Pointer(format!("/data/{index}/id"));
                    let detail = "`id` names no row of this audience, or one that this request named before";
                    self.problems.push(Problem::new(place, ProblemKind::Value, detail));
                    None
                }
            },
        };
        let cells = before.map(|stored| stored.row.cells()).transpose()?;
        let mut slots: Vec<Option<Cow<'_, str>>> = Vec::with_capacity(self.columns.len());
        for value in cells.iter().flat_map(row::Cells::iter) {
            slots.push(value.map(|value| Cow::Borrowed(value.get())));
        }
        self.write_cells(index, &write.cells, &mut slots);
        let (number, id) = match before {
            Some(stored) => (stored.number, stored.row.id),
            None => self.next_row(),
        };
        for &column in &self.indexed {
            let old = cells.as_ref().and_then(|cells| cells.value(column)).map(RawValue::get);
            let new = slots.get(column.position).and_then(Option::as_deref);
            if old != new {
                self.batch.stale_entries.extend(IndexEntry::of(column, number, old));
                self.batch.new_entries.extend(IndexEntry::of(column, number, new));
            }
        }
        self.batch.rows.push(StoredRow { number, row: Row { id, cells: row::encode(&slots) } });
        Ok(())
    }

    fn take_stored(&mut self, id: &str) -> Option<&'a StoredRow> {
        self.stored.remove(&id.parse().ok()?)
    }

    fn next_row(&mut self) -> (i64, Uuid) {
        let number = self.next_number;
        self.next_number += 1;
        self.batch.created += 1;
        (number, new_row_id(self.now))
    }

    fn write_cells<'w>(&mut self, index: usize, cells: &[CellWrite<'w>], slots: &mut Vec<Option<Cow<'w, str>>>) {
        let mut written: Vec<usize> = Vec::with_capacity(cells.len());
        for (place, cell) in cells.iter().enumerate() {
            let result = self.check_cell(cell, &written);
            match result {
                Ok((position, value)) => {
                    written.push(position);
                    if slots.len() <= position {
                        slots.resize(position + 1, None);
                    }
                    slots[position] = value.map(Cow::Borrowed);
                }
                Err((member, kind, detail)) => {
                    let pointer = format!("/data/{index}/attributes/values/{place}/{member}");
                    self.problems.push(Problem::new(Place::Pointer(pointer), kind, detail));
                }
            }
        }
    }

    /// Returns where the cell stands and its value, or the member that is wrong and why.
    fn check_cell<'w>(
        &self,
        cell: &CellWrite<'w>,
        written: &[usize],
    ) -> std::result::Result<(usize, Option<&'w str>), (&'static str, ProblemKind, String)> {
        let unknown = || ("columnId", ProblemKind::Value, "`columnId` names no column of this audience".to_owned());
        let column = self.columns.get(&*cell.column_id).ok_or_else(unknown)?;
        if !column.is_editable() {
            let detail = format!("cells of a `{}` column cannot be written", column.column_type.as_str());
            return Err(("columnId", ProblemKind::Disallowed, detail));
        }
        if written.contains(&column.position) {
            return Err(("columnId", ProblemKind::Value, "`columnId` stands twice in this row".to_owned()));
        }
        let value = cell.value.ok_or_else(|| ("value", ProblemKind::Missing, "`value` is missing".to_owned()))?;
        match value::check(column.data_type, value.get()) {
            Ok(Accepted::Value) => Ok((column.position, Some(value.get()))),
            Ok(Accepted::Blank) => Ok((column.position, None)),
            Err((kind, detail)) => Err(("value", kind, format!("a `{}` value {detail}", column.data_type))),
        }
    }
}

/// Makes a row id: random, so that a restored backup never names two rows alike, and beginning with the time, so that
/// the index on ids grows at its end.
fn new_row_id(now: Timestamp) -> Uuid {
    let mut random = [0; 10];
    rand::rng().fill_bytes(&mut random);
    let millis = u64::try_from(now.0).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
