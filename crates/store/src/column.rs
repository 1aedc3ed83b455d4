//! Columns of an audience.
//!
//! A column has a position in its rows' cells that is never given again. Hidden TEXT columns are those by which programs
//! find rows again: their cells are kept in an index as well.

use std::collections::HashSet;

use convoke_core::{DataType, Timestamp};
use convoke_rules::{OperatorInfo, operators_for};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::audience::{self, Audience};
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::match_criteria::{MatchCriterion, check_criteria};
use crate::row;
use crate::statement::{Bind, Statement};
use crate::tenant::{Tenant, check_name, new_id};

/// A column of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub(crate) number: i64,
    /// Where the column's cell stands in a row.
    pub(crate) position: usize,
    pub id: String,
    pub name: String,
    pub data_type: DataType,
    pub column_type: ColumnType,
    pub is_frozen: bool,
    pub is_hidden: bool,
    /// False while match criteria name it.
    pub is_deletable: bool,
    /// Of match columns only.
    pub match_criteria: Option<Vec<MatchCriterion>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Where a column's cells come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// From clients.
    Custom,
    /// From matching rows against reference data.
    ZoomInfoMatch,
}

impl ColumnType {
    /// The name the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "CUSTOM",
            Self::ZoomInfoMatch => "ZOOMINFO_MATCH",
        }
    }

    /// Reads the name that `as_str` gives.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Custom, Self::ZoomInfoMatch].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Column {
    /// Whether clients may write its cells.
    pub fn is_editable(&self) -> bool {
        self.column_type == ColumnType::Custom
    }

    /// Whether a search may filter by it.
    pub fn is_filterable(&self) -> bool {
        !self.operators().is_empty()
    }

    /// Whether rows can be put in an order by it: all but lists and nested values.
    pub fn is_sortable(&self) -> bool {
        use convoke_core::data_type::JsonShape;
        self.data_type.json_shape() != JsonShape::Array && self.data_type != DataType::Object
    }

    /// The operators by which a search may use it: exactly what the filter metadata tells.
    pub fn operators(&self) -> &'static [OperatorInfo] {
        operators_for(self.data_type)
    }

    pub(crate) fn is_indexed(&self) -> bool {
        self.is_hidden && self.data_type == DataType::Text && self.column_type == ColumnType::Custom
    }

    /// SQL for the column's cell of a row: text, a number, 0 or 1, or a JSON array as text; NULL if blank.
    pub(crate) fn cell_sql(&self) -> String {
        format!("json_extract(audience_rows.cells, '$[{}]')", self.position)
    }
}

/// A column to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewColumn {
    pub name: String,
    pub data_type: DataType,
    pub column_type: ColumnType,
    pub is_frozen: bool,
    pub is_hidden: bool,
    /// Of match columns only.
    pub match_criteria: Option<Vec<MatchCriterion>>,
}

/// What to change; an absent member stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnChange {
    pub name: Option<String>,
    pub is_frozen: Option<bool>,
    pub is_hidden: Option<bool>,
}

impl FromRow<'_, SqliteRow> for Column {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let undecodable = |what: &'static str| move || sqlx::Error::Decode(what.into());
        let data_type: &str = row.try_get("data_type")?;
        let column_type: &str = row.try_get("column_type")?;
        let position: i64 = row.try_get("position")?;
        let criteria: Option<&str> = row.try_get("match_criteria")?;
        let match_criteria =
            criteria.map(serde_json::from_str).transpose().map_err(|cause| sqlx::Error::Decode(Box::new(cause)))?;
        Ok(Self {
            number: row.try_get("number")?,
            position: usize::try_from(position).map_err(|cause| sqlx::Error::Decode(Box::new(cause)))?,
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            data_type: data_type.parse().map_err(|()| sqlx::Error::Decode("unknown data type of a column".into()))?,
            column_type: ColumnType::parse(column_type).ok_or_else(undecodable("unknown type of a column"))?,
            is_frozen: row.try_get("frozen")?,
            is_hidden: row.try_get("hidden")?,
            // What other columns say of it is known where all of them are.
            is_deletable: true,
            match_criteria,
            created_at: Timestamp(row.try_get("created_at")?),
            updated_at: Timestamp(row.try_get("updated_at")?),
        })
    }
}

impl Tenant {
    /// Adds columns to an audience, all or none.
    pub async fn create_columns(&self, audience_id: &str, new: &[NewColumn]) -> Result<Vec<Column>> {
        let mut problems = Vec::new();
        if new.is_empty() {
            let place = Place::pointer("/data");
            problems.push(Problem::new(place, ProblemKind::Nothing, "`data` must hold at least one column"));
        }
        check(new, "/data", &mut problems);
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let before = list(&mut writing, audience.number).await?;
        for (index, column) in new.iter().enumerate() {
            if let Some(criteria) = &column.match_criteria {
                let pointer = format!("/data/{index}/attributes/matchCriteria");
                check_criteria(criteria, audience.kind, &before, &pointer, &mut problems);
            }
        }
        Error::unless_none(problems)?;
        insert(&mut writing, self, &audience, new).await?;
        let created = list(&mut writing, audience.number).await?.split_off(before.len());
        touch(&mut writing, self, audience.number).await?;
        writing.commit().await?;
        Ok(created)
    }

    /// Changes a column and returns it.
    pub async fn change_column(&self, audience_id: &str, column_id: &str, change: &ColumnChange) -> Result<Column> {
        let mut problems = Vec::new();
        if let Some(name) = &change.name {
            check_name(name, || "/data/attributes/name".to_owned(), &mut problems);
        }
        Error::unless_none(problems)?;
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let before = find(&mut writing, audience.number, column_id).await?;
        sqlx::query("UPDATE audience_columns SET name = ?, frozen = ?, hidden = ?, updated_at = ? WHERE number = ?")
            .bind(change.name.as_ref().unwrap_or(&before.name))
            .bind(change.is_frozen.unwrap_or(before.is_frozen))
            .bind(change.is_hidden.unwrap_or(before.is_hidden))
            .bind(self.store.now().0)
            .bind(before.number)
            .execute(&mut *writing)
            .await?;
        let after = find(&mut writing, audience.number, column_id).await?;
        match (before.is_indexed(), after.is_indexed()) {
            (false, true) => row::index_column(&mut writing, audience.number, &after).await?,
            (true, false) => row::drop_index(&mut writing, &before).await?,
            _ => {}
        }
        touch(&mut writing, self, audience.number).await?;
        writing.commit().await?;
        Ok(after)
    }

    /// Deletes a column with all its cells.
    pub async fn delete_column(&self, audience_id: &str, column_id: &str) -> Result<()> {
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let columns = list(&mut writing, audience.number).await?;
        let column = columns.iter().find(|column| column.id == column_id);
        let column = column.ok_or_else(|| Error::not_found("column", column_id))?;
        if let Some(user) = columns.iter().find(|other| other.matches_by(column_id)) {
            let detail =
                format!("column `{column_id}` is used by the match criteria of `{}`; replace those first", user.id);
            return Err(Error::invalid(Place::Request, ProblemKind::Disallowed, detail));
        }
        row::drop_index(&mut writing, column).await?;
        row::drop_cells(&mut writing, audience.number, column).await?;
        sqlx::query("DELETE FROM audience_columns WHERE number = ?").bind(column.number).execute(&mut *writing).await?;
        touch(&mut writing, self, audience.number).await?;
        writing.commit().await?;
        Ok(())
    }
}

impl Column {
    fn criteria(&self) -> impl Iterator<Item = &MatchCriterion> {
        self.match_criteria.iter().flatten()
    }

    fn matches_by(&self, column_id: &str) -> bool {
        self.criteria().any(|criterion| criterion.column_id == column_id)
    }
}

/// Checks new columns that stand in an array at `pointer`.
pub(crate) fn check(new: &[NewColumn], pointer: &str, problems: &mut Vec<Problem>) {
    for (index, column) in new.iter().enumerate() {
        let attribute = |name: &str| format!("{pointer}/{index}/attributes/{name}");
        check_name(&column.name, || attribute("name"), problems);
        let fits = match column.column_type {
            ColumnType::Custom => column.data_type.is_custom(),
            ColumnType::ZoomInfoMatch => matches!(column.data_type, DataType::ZiContactId | DataType::ZiCompanyId),
        };
        if !fits {
            let column_type = column.column_type.as_str();
            let detail = format!("a `{column_type}` column cannot have the data type `{}`", column.data_type);
            problems.push(Problem::new(Place::Pointer(attribute("dataType")), ProblemKind::Value, detail));
        }
        if column.column_type == ColumnType::Custom && column.match_criteria.is_some() {
            let place = Place::Pointer(attribute("matchCriteria"));
            let detail = "only a `ZOOMINFO_MATCH` column has match criteria";
            problems.push(Problem::new(place, ProblemKind::Disallowed, detail));
        }
    }
}

/// Adds columns behind those the audience has; they were checked.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    audience: &Audience,
    new: &[NewColumn],
) -> Result<()> {
    let now = tenant.store.now().0;
    for (position, column) in (audience.next_position..).zip(new) {
        let criteria = column.match_criteria.as_deref().map(stored_criteria);
        sqlx::query(
            "INSERT INTO audience_columns (id, audience, position, name, data_type, column_type, frozen, hidden,
                 match_criteria, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new_id())
        .bind(audience.number)
        .bind(position)
        .bind(&column.name)
        .bind(column.data_type.as_str())
        .bind(column.column_type.as_str())
        .bind(column.is_frozen)
        .bind(column.is_hidden)
        .bind(criteria)
        .bind(now)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    let added = i64::try_from(new.len()).expect("a request holds fewer columns than an i64 counts");
    sqlx::query("UPDATE audiences SET next_position = next_position + ? WHERE number = ?")
        .bind(added)
        .bind(audience.number)
        .execute(connection)
        .await?;
    Ok(())
}

/// The text in which criteria are stored.
pub(crate) fn stored_criteria(criteria: &[MatchCriterion]) -> String {
    serde_json::to_string(criteria).expect("criteria hold text only")
}

/// All columns of an audience, in the order of their creation.
pub(crate) async fn list(connection: &mut SqliteConnection, audience: i64) -> Result<Vec<Column>> {
    let mut select = Statement::new("SELECT * FROM audience_columns WHERE audience = ");
    select.bind(Bind::Integer(audience)).push(" ORDER BY position");
    let rows = select.rows(connection).await?;
    let mut columns = rows.iter().map(Column::from_row).collect::<sqlx::Result<Vec<_>>>()?;
    let matched_by: HashSet<String> =
        columns.iter().flat_map(Column::criteria).map(|criterion| criterion.column_id.clone()).collect();
    for column in &mut columns {
        column.is_deletable = !matched_by.contains(&column.id);
    }
    Ok(columns)
}

async fn find(connection: &mut SqliteConnection, audience: i64, id: &str) -> Result<Column> {
    let columns = list(connection, audience).await?;
    columns.into_iter().find(|column| column.id == id).ok_or_else(|| Error::not_found("column", id))
}

/// Notes that an audience was changed.
pub(crate) async fn touch(connection: &mut SqliteConnection, tenant: &Tenant, audience: i64) -> Result<()> {
    sqlx::query("UPDATE audiences SET updated_at = ? WHERE number = ?")
        .bind(tenant.store.now().0)
        .bind(audience)
        .execute(connection)
        .await?;
    Ok(())
}
