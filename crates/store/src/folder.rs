//! Folders: named groups of audiences.

use convoke_core::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::audience;
use crate::error::{Error, Place, Result};
use crate::page::{Listing, Page, Sort};
use crate::statement::{Bind, Statement};
use crate::tenant::{Tenant, check_name, check_texts, new_id};

/// A folder. Names are not unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub(crate) number: i64,
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub notes: Option<String>,
    pub starred: bool,
    /// Ids of its audiences, oldest first.
    pub audiences: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A folder to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewFolder {
    pub name: String,
    pub description: Option<String>,
    pub notes: Option<String>,
    pub starred: bool,
}

/// What to change; an absent member stays as it is, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub notes: Option<Option<String>>,
    pub starred: Option<bool>,
}

/// By what folders can be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderOrder {
    Name,
    CreatedAt,
    UpdatedAt,
    AudienceCount,
    RecentlyViewed,
}

/// Which folders to list; bounds of times are not included.
#[derive(Clone, Debug)]
pub struct FolderQuery {
    /// Part of the name.
    pub search_text: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    pub updated_after: Option<Timestamp>,
    pub updated_before: Option<Timestamp>,
    /// Numbers of users; a folder must have been made and last changed by one of them. A client is one user.
    pub created_by: Option<Vec<i64>>,
    pub updated_by: Option<Vec<i64>>,
    pub sort: Sort<FolderOrder>,
    pub page: Page,
}

/// All columns of [`Folder`]; the ids of its audiences as one JSON array.
const SELECT: &str = "SELECT number, id, name, description, notes, starred, created_at, updated_at,
     (SELECT json_group_array(audiences.id ORDER BY audiences.number) FROM audiences
      WHERE audiences.folder = folders.number) AS audience_ids FROM folders";

impl FromRow<'_, SqliteRow> for Folder {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let audience_ids: &str = row.try_get("audience_ids")?;
        let audiences = serde_json::from_str(audience_ids).map_err(|cause| sqlx::Error::Decode(Box::new(cause)))?;
        Ok(Self {
            number: row.try_get("number")?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            notes: row.try_get("notes")?,
            starred: row.try_get("starred")?,
            audiences,
            created_at: Timestamp(row.try_get("created_at")?),
            updated_at: Timestamp(row.try_get("updated_at")?),
        })
    }
}

impl Tenant {
    /// Creates a folder.
    pub async fn create_folder(&self, new: &NewFolder) -> Result<Folder> {
        let mut problems = Vec::new();
        check_name(&new.name, || "/data/attributes/name".to_owned(), &mut problems);
        check_texts(new.description.as_ref(), new.notes.as_ref(), &mut problems);
        Error::unless_none(problems)?;
        let mut writing = self.store.write().await?;
        let folder = insert(&mut writing, self, new).await?;
        writing.commit().await?;
        Ok(folder)
    }

    /// Returns a page of folders.
    pub async fn folders(&self, query: &FolderQuery) -> Result<Listing<Folder>> {
        let condition = self.folder_condition(query);
        let mut count = Statement::new("SELECT count(*) FROM folders");
        count.append(&condition);
        let key = match query.sort.key {
            FolderOrder::Name => "name COLLATE NOCASE",
            FolderOrder::CreatedAt => "created_at",
            FolderOrder::UpdatedAt => "updated_at",
            FolderOrder::AudienceCount => "json_array_length(audience_ids)",
            FolderOrder::RecentlyViewed => "viewed_at",
        };
        let mut select = Statement::new(SELECT);
        select.append(&condition).push(&format!(" ORDER BY {key} {}, number LIMIT ", query.sort.direction()));
        select.bind(Bind::Integer(query.page.limit())).push(" OFFSET ").bind(Bind::Integer(query.page.offset()));
        let mut reading = self.store.read().await?;
        let total = count.count(&mut reading).await?;
        let rows = select.rows(&mut reading).await?;
        let items = rows.iter().map(Folder::from_row).collect::<sqlx::Result<_>>()?;
        Ok(Listing { items, total })
    }

    fn folder_condition(&self, query: &FolderQuery) -> Statement {
        let mut condition = Statement::new(" WHERE client = ");
        condition.bind(Bind::Integer(self.number));
        if let Some(text) = &query.search_text {
            condition.push(" AND instr(lower(name), lower(").bind(Bind::Text(text.clone())).push(")) > 0");
        }
        let bounds = [
            ("created_at >", query.created_after),
            ("created_at <", query.created_before),
            ("updated_at >", query.updated_after),
            ("updated_at <", query.updated_before),
        ];
        for (comparison, bound) in bounds {
            if let Some(time) = bound {
                condition.push(" AND ").push(comparison).bind(Bind::Integer(time.0));
            }
        }
        for users in [&query.created_by, &query.updated_by].into_iter().flatten() {
            condition.push(" AND client IN ").bind_tuple(users.iter().copied().map(Bind::Integer));
        }
        condition
    }

    /// Returns a folder and notes that it was viewed.
    pub async fn folder(&self, id: &str) -> Result<Folder> {
        let mut writing = self.store.write().await?;
        let folder = find(&mut writing, self, id).await?;
        sqlx::query("UPDATE folders SET viewed_at = ? WHERE number = ?")
            .bind(self.store.now().0)
            .bind(folder.number)
            .execute(&mut *writing)
            .await?;
        writing.commit().await?;
        Ok(folder)
    }

    /// Changes a folder and returns it.
    pub async fn change_folder(&self, id: &str, change: &FolderChange) -> Result<Folder> {
        let mut problems = Vec::new();
        if let Some(name) = &change.name {
            check_name(name, || "/data/attributes/name".to_owned(), &mut problems);
        }
        let texts = [&change.description, &change.notes].map(|text| text.as_ref().and_then(Option::as_ref));
        check_texts(texts[0], texts[1], &mut problems);
        Error::unless_none(problems)?;
        let mut writing = self.store.write().await?;
        let mut folder = find(&mut writing, self, id).await?;
        folder.apply(change);
        folder.updated_at = self.store.now();
        sqlx::query(
            "UPDATE folders SET name = ?, description = ?, notes = ?, starred = ?, updated_at = ? WHERE number = ?",
        )
        .bind(&folder.name)
        .bind(&folder.description)
        .bind(&folder.notes)
        .bind(folder.starred)
        .bind(folder.updated_at.0)
        .bind(folder.number)
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        Ok(folder)
    }

    /// Deletes a folder with the audiences inside it.
    pub async fn delete_folder(&self, id: &str) -> Result<()> {
        let mut writing = self.store.write().await?;
        let folder = find(&mut writing, self, id).await?;
        let audiences: Vec<i64> = sqlx::query_scalar("SELECT number FROM audiences WHERE folder = ?")
            .bind(folder.number)
            .fetch_all(&mut *writing)
            .await?;
        for number in audiences {
            audience::remove(&mut writing, number).await?;
        }
        sqlx::query("DELETE FROM folders WHERE number = ?").bind(folder.number).execute(&mut *writing).await?;
        writing.commit().await?;
        Ok(())
    }
}

impl Folder {
    fn apply(&mut self, change: &FolderChange) {
        if let Some(name) = &change.name {
            self.name.clone_from(name);
        }
        if let Some(description) = &change.description {
            self.description.clone_from(description);
        }
        if let Some(notes) = &change.notes {
            self.notes.clone_from(notes);
        }
        if let Some(starred) = change.starred {
            self.starred = starred;
        }
    }
}

pub(crate) async fn insert(connection: &mut SqliteConnection, tenant: &Tenant, new: &NewFolder) -> Result<Folder> {
    let id = new_id();
    let now = tenant.store.now().0;
    sqlx::query(
        "INSERT INTO folders (id, client, name, description, notes, starred, created_at, updated_at, viewed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&id)
    .bind(tenant.number)
    .bind(&new.name)
    .bind(&new.description)
    .bind(&new.notes)
    .bind(new.starred)
    .bind(now)
    .bind(now)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    find(connection, tenant, &id).await
}

/// Finds a folder of this tenant by its id.
pub(crate) async fn find(connection: &mut SqliteConnection, tenant: &Tenant, id: &str) -> Result<Folder> {
    let mut select = Statement::new(SELECT);
    select.push(" WHERE id = ").bind(Bind::Text(id.to_owned()));
    select.push(" AND client = ").bind(Bind::Integer(tenant.number));
    let rows = select.rows(connection).await?;
    let row = rows.first().ok_or_else(|| Error::not_found("folder", id))?;
    Ok(Folder::from_row(row)?)
}

/// Finds a folder that a request names in its body.
pub(crate) async fn find_named(connection: &mut SqliteConnection, tenant: &Tenant, id: &str) -> Result<Folder> {
    find(connection, tenant, id).await.map_err(|error| match error {
        Error::NotFound { .. } => Error::invalid(
            Place::pointer("/data/attributes/folderId"),
            crate::error::ProblemKind::Value,
            "`folderId` names no folder",
        ),
        other => other,
    })
}
