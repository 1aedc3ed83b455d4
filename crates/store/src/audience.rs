//! Audiences: tables of typed columns and rows.

use convoke_core::Timestamp;
use convoke_core::spec::AudienceKind;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::column::{self, Column, NewColumn};
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::folder::{self, NewFolder};
use crate::match_criteria;
use crate::page::{Listing, Page, Sort};
use crate::row;
use crate::statement::{Bind, Statement};
use crate::tenant::{Tenant, check_name, check_texts, new_id};

/// An audience. Names are not unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    pub(crate) number: i64,
    pub(crate) next_row: i64,
    pub(crate) next_position: i64,
    pub id: String,
    pub name: String,
    pub kind: AudienceKind,
    pub folder_id: String,
    pub folder_name: String,
    pub description: Option<String>,
    pub notes: Option<String>,
    /// What it is meant to be filled by, as JSON; kept and not read.
    pub search_criteria: Option<String>,
    pub record_count: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An audience to be made.
#[derive(Clone, Debug)]
pub struct NewAudience {
    pub name: String,
    pub kind: AudienceKind,
    pub description: Option<String>,
    pub notes: Option<String>,
    /// A JSON object.
    pub search_criteria: Option<String>,
    /// None: a new folder with the audience's name.
    pub folder_id: Option<String>,
    /// `CUSTOM` columns only.
    pub columns: Vec<NewColumn>,
    pub matching: AutoMatch,
}

/// Whether a new audience gets match criteria by the names and types of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoMatch {
    Off,
    On,
}

/// What to change; an absent member stays as it is, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudienceChange {
    pub name: Option<String>,
    pub folder_id: Option<String>,
    pub description: Option<Option<String>>,
    pub notes: Option<Option<String>>,
}

/// By what audiences can be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudienceOrder {
    Name,
    CreatedAt,
    UpdatedAt,
    RecordCount,
}

/// Which audiences to list.
#[derive(Clone, Debug)]
pub struct AudienceQuery {
    pub kind: Option<AudienceKind>,
    /// Part of the name.
    pub search_text: Option<String>,
    pub sort: Sort<AudienceOrder>,
    pub page: Page,
}

const SELECT: &str = "SELECT audiences.*, folders.id AS folder_id, folders.name AS folder_name
     FROM audiences JOIN folders ON folders.number = audiences.folder";

impl FromRow<'_, SqliteRow> for Audience {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let kind: &str = row.try_get("kind")?;
        let record_count: i64 = row.try_get("record_count")?;
        Ok(Self {
            number: row.try_get("number")?,
            next_row: row.try_get("next_row")?,
            next_position: row.try_get("next_position")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            kind: AudienceKind::parse(kind).ok_or_else(|| sqlx::Error::Decode("unknown kind of audience".into()))?,
            folder_id: row.try_get("folder_id")?,
            folder_name: row.try_get("folder_name")?,
            description: row.try_get("description")?,
            notes: row.try_get("notes")?,
            search_criteria: row.try_get("search_criteria")?,
            record_count: u64::try_from(record_count).unwrap_or(0),
            created_at: Timestamp(row.try_get("created_at")?),
            updated_at: Timestamp(row.try_get("updated_at")?),
        })
    }
}

impl Tenant {
    /// Creates an audience with its columns, and its folder if none is named.
    pub async fn create_audience(&self, new: &NewAudience) -> Result<(Audience, Vec<Column>)> {
        Error::unless_none(problems_of(new))?;
        let mut writing = self.store.write().await?;
        let folder = match &new.folder_id {
            Some(id) => folder::find_named(&mut writing, self, id).await?,
            None => {
                let new_folder = NewFolder { name: new.name.clone(), ..NewFolder::default() };
                folder::insert(&mut writing, self, &new_folder).await?
            }
        };
        let id = insert(&mut writing, self, new, folder.number).await?;
        let audience = find(&mut writing, self, &id).await?;
        column::insert(&mut writing, self, &audience, &new.columns).await?;
        if new.matching == AutoMatch::On {
            match_criteria::apply_automatic(&mut writing, self, &audience).await?;
        }
        let columns = column::list(&mut writing, audience.number).await?;
        writing.commit().await?;
        Ok((audience, columns))
    }

    /// Returns a page of audiences.
    pub async fn audiences(&self, query: &AudienceQuery) -> Result<Listing<Audience>> {
        let mut condition = Statement::new(" WHERE audiences.client = ");
        condition.bind(Bind::Integer(self.number));
        if let Some(kind) = query.kind {
            condition.push(" AND kind = ").bind(Bind::Text(kind.to_string()));
        }
        if let Some(text) = &query.search_text {
            condition.push(" AND instr(lower(audiences.name), lower(").bind(Bind::Text(text.clone())).push(")) > 0");
        }
        let mut count = Statement::new("SELECT count(*) FROM audiences");
        count.append(&condition);
        let key = match query.sort.key {
            AudienceOrder::Name => "audiences.name COLLATE NOCASE",
            AudienceOrder::CreatedAt => "audiences.created_at",
            AudienceOrder::UpdatedAt => "audiences.updated_at",
            AudienceOrder::RecordCount => "record_count",
        };
        let direction = query.sort.direction();
        let mut select = Statement::new(SELECT);
        select.append(&condition).push(&format!(" ORDER BY {key} {direction}, audiences.number LIMIT "));
        select.bind(Bind::Integer(query.page.limit())).push(" OFFSET ").bind(Bind::Integer(query.page.offset()));
        let mut reading = self.store.read().await?;
        let total = count.count(&mut reading).await?;
        let rows = select.rows(&mut reading).await?;
        let items = rows.iter().map(Audience::from_row).collect::<sqlx::Result<_>>()?;
        Ok(Listing { items, total })
    }

    /// Returns an audience with its columns.
    pub async fn audience(&self, id: &str) -> Result<(Audience, Vec<Column>)> {
        let mut reading = self.store.read().await?;
        let audience = find(&mut reading, self, id).await?;
        let columns = column::list(&mut reading, audience.number).await?;
        Ok((audience, columns))
    }

    /// Changes an audience and returns it.
    pub async fn change_audience(&self, id: &str, change: &AudienceChange) -> Result<Audience> {
        let mut problems = Vec::new();
        if let Some(name) = &change.name {
            check_name(name, || "/data/attributes/name".to_owned(), &mut problems);
        }
        let texts = [&change.description, &change.notes].map(|text| text.as_ref().and_then(Option::as_ref));
        check_texts(texts[0], texts[1], &mut problems);
        Error::unless_none(problems)?;
        let mut writing = self.store.write().await?;
        let audience = find(&mut writing, self, id).await?;
        let folder_id = change.folder_id.as_ref().unwrap_or(&audience.folder_id);
        let folder = folder::find_named(&mut writing, self, folder_id).await?;
        sqlx::query(
            "UPDATE audiences SET name = ?, folder = ?, description = ?, notes = ?, updated_at = ? WHERE number = ?",
        )
        .bind(change.name.as_ref().unwrap_or(&audience.name))
        .bind(folder.number)
        .bind(change.description.as_ref().unwrap_or(&audience.description))
        .bind(change.notes.as_ref().unwrap_or(&audience.notes))
        .bind(self.store.now().0)
        .bind(audience.number)
        .execute(&mut *writing)
        .await?;
        let changed = find(&mut writing, self, id).await?;
        writing.commit().await?;
        Ok(changed)
    }

    /// Deletes an audience with its columns, rows and jobs.
    pub async fn delete_audience(&self, id: &str) -> Result<()> {
        let mut writing = self.store.write().await?;
        let audience = find(&mut writing, self, id).await?;
        remove(&mut writing, audience.number).await?;
        writing.commit().await?;
        Ok(())
    }
}

fn problems_of(new: &NewAudience) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_name(&new.name, || "/data/attributes/name".to_owned(), &mut problems);
    check_texts(new.description.as_ref(), new.notes.as_ref(), &mut problems);
    column::check(&new.columns, "/data/attributes/columns", &mut problems);
    for (index, column) in new.columns.iter().enumerate() {
        if column.column_type != column::ColumnType::Custom {
            let place = Place::Pointer(format!("/data/attributes/columns/{index}/attributes/columnType"));
            let detail = "only `CUSTOM` columns can be created with an audience; add others afterwards";
            problems.push(Problem::new(place, ProblemKind::Value, detail));
        }
    }
    problems
}

async fn insert(connection: &mut SqliteConnection, tenant: &Tenant, new: &NewAudience, folder: i64) -> Result<String> {
    let id = new_id();
    let now = tenant.store.now().0;
    sqlx::query(
        "INSERT INTO audiences (id, client, folder, name, kind, description, notes, search_criteria, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&id)
    .bind(tenant.number)
    .bind(folder)
    .bind(&new.name)
    .bind(new.kind.as_str())
    .bind(&new.description)
    .bind(&new.notes)
    .bind(&new.search_criteria)
    .bind(now)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(id)
}

/// Finds an audience of this tenant by its id.
pub(crate) async fn find(connection: &mut SqliteConnection, tenant: &Tenant, id: &str) -> Result<Audience> {
    let mut select = Statement::new(SELECT);
    select.push(" WHERE audiences.id = ").bind(Bind::Text(id.to_owned()));
    select.push(" AND audiences.client = ").bind(Bind::Integer(tenant.number));
    let rows = select.rows(connection).await?;
    let row = rows.first().ok_or_else(|| Error::not_found("audience", id))?;
    Ok(Audience::from_row(row)?)
}

/// Removes an audience and everything in it.
pub(crate) async fn remove(connection: &mut SqliteConnection, number: i64) -> Result<()> {
    sqlx::query(
        "DELETE FROM cell_index WHERE column_number IN (SELECT number FROM audience_columns WHERE audience = ?)",
    )
    .bind(number)
    .execute(&mut *connection)
    .await?;
    let span = row::span(number);
    sqlx::query("DELETE FROM audience_rows WHERE number BETWEEN ? AND ?")
        .bind(*span.start())
        .bind(*span.end())
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM audiences WHERE number = ?").bind(number).execute(connection).await?;
    Ok(())
}
