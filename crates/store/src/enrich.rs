//! Enriching rows.
//!
//! The store has no reference data, so a match column's cell is looked for among nothing and ends without a result. That
//! is all there is to it: no value is made up.

use std::collections::HashSet;

use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use crate::audience;
use crate::column::{self, Column, ColumnType};
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::job::{self, Job, JobKind};
use crate::row::{self, StoredRow};
use crate::statement::{Bind, Statement};
use crate::tenant::Tenant;

/// What to enrich. Problems point into `/data/attributes`.
#[derive(Clone, Copy, Debug)]
pub struct Enrichment<'a> {
    /// None: all rows.
    pub row_ids: Option<&'a [String]>,
    /// None: all columns that can be enriched.
    pub column_ids: Option<&'a [String]>,
}

/// Match cells that were looked for and not found, by row and position.
pub(crate) type Unmatched = HashSet<(Uuid, usize)>;

impl Tenant {
    /// Enriches rows and returns the job that did it; none if no row or no column is to be enriched. Cells and job are
    /// written together: a job that can be polled has done its work.
    pub async fn enrich(&self, audience_id: &str, enrichment: Enrichment<'_>) -> Result<Option<Job>> {
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let columns = column::list(&mut writing, audience.number).await?;
        let columns = wanted_columns(&columns, enrichment.column_ids)?;
        let rows = match enrichment.row_ids {
            None => None,
            Some(ids) => Some(row::load(&mut writing, audience.number, &parse_ids(ids)?).await?),
        };
        let row_count = rows.as_ref().map_or(audience.record_count, |rows| rows.len() as u64);
        if row_count == 0 || columns.is_empty() {
            return Ok(None);
        }
        for column in columns {
            let mut insert =
                Statement::new("INSERT OR IGNORE INTO unmatched_cells (row_number, position) SELECT number, ");
            insert.bind(Bind::Integer(i64::try_from(column.position).unwrap_or(i64::MAX)));
            insert.push(" FROM audience_rows WHERE number ");
            match &rows {
                Some(rows) => insert.push("IN ").bind_tuple(rows.iter().map(|stored| Bind::Integer(stored.number))),
                None => {
                    let span = row::span(audience.number);
                    insert.push("BETWEEN ").bind(Bind::Integer(*span.start()));
                    insert.push(" AND ").bind(Bind::Integer(*span.end()))
                }
            };
            insert.execute(&mut writing).await?;
        }
        let job = job::add_finished(&mut writing, audience.number, JobKind::Enrich, self.store.now()).await?;
        writing.commit().await?;
        Ok(Some(job))
    }
}

fn wanted_columns<'a>(columns: &'a [Column], ids: Option<&[String]>) -> Result<Vec<&'a Column>> {
    let mut problems = Vec::new();
    for (index, id) in ids.unwrap_or_default().iter().enumerate() {
        if !columns.iter().any(|column| column.id == *id) {
            let place = Place::Pointer(format!("/data/attributes/columns/{index}"));
            problems.push(Problem::new(place, ProblemKind::Value, "names no column of this audience"));
        }
    }
    Error::unless_none(problems)?;
    let is_wanted = |column: &&Column| {
        column.column_type == ColumnType::ZoomInfoMatch && ids.is_none_or(|ids| ids.contains(&column.id))
    };
    Ok(columns.iter().filter(is_wanted).collect())
}

fn parse_ids(ids: &[String]) -> Result<Vec<Uuid>> {
    let mut problems = Vec::new();
    let mut parsed = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        match id.parse() {
            Ok(id) => parsed.push(id),
            Err(_) => {
                let place = Place::Pointer(format!("/data/attributes/rows/{index}"));
                problems.push(Problem::new(place, ProblemKind::Value, "a row id must be a UUID"));
            }
        }
    }
    Error::unless_none(problems)?;
    Ok(parsed)
}

/// Which match cells of these rows were looked for and not found.
pub(crate) async fn unmatched(
    connection: &mut SqliteConnection,
    columns: &[Column],
    rows: &[StoredRow],
) -> Result<Unmatched> {
    if rows.is_empty() || columns.iter().all(Column::is_editable) {
        return Ok(Unmatched::new());
    }
    let mut select = Statement::new("SELECT row_number, position FROM unmatched_cells WHERE row_number IN ");
    select.bind_tuple(rows.iter().map(|stored| Bind::Integer(stored.number)));
    let mut found = HashSet::new();
    for row in select.rows(connection).await? {
        let (number, position): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        found.insert((number, usize::try_from(position).unwrap_or(usize::MAX)));
    }
    let of_row = |stored: &StoredRow| {
        let (id, number) = (stored.row.id, stored.number);
        let positions = columns.iter().map(|column| column.position);
        positions.filter(|position| found.contains(&(number, *position))).map(|at| (id, at)).collect::<Vec<_>>()
    };
    Ok(rows.iter().flat_map(of_row).collect())
}
