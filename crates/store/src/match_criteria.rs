//! Match criteria: which columns of an audience say who or what a row is.
//!
//! The automatic ones go by the columns' types and names; no rule here guesses from values.

use convoke_core::DataType;
use convoke_core::spec::AudienceKind;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::audience::{self, Audience};
use crate::column::{self, Column, ColumnType, NewColumn};
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::tenant::Tenant;

/// One column that rows are matched by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchCriterion {
    #[serde(rename = "columnId")]
    pub column_id: String,
    /// A name out of the vendor's `MatchFields`.
    #[serde(rename = "mappedTo")]
    pub mapped_to: String,
}

/// Names by which a column of a contact audience is recognised, without spaces, case and punctuation.
const CONTACT_NAMES: &[(&str, &[&str])] = &[
    ("CONTACT_EMAIL", &["email", "emailaddress", "workemail", "businessemail", "mail"]),
    ("CONTACT_FIRST_NAME", &["firstname", "givenname", "forename"]),
    ("CONTACT_LAST_NAME", &["lastname", "surname", "familyname"]),
    ("CONTACT_MIDDLE_NAME", &["middlename"]),
    ("COMPANY_NAME", &["company", "companyname", "account", "accountname", "organization", "organisation"]),
    ("COMPANY_WEBSITE", &["website", "domain", "companywebsite", "companydomain"]),
    ("JOB_TITLE", &["title", "jobtitle", "position"]),
    ("DIRECT_PHONE", &["phone", "phonenumber", "directphone", "telephone"]),
    ("MOBILE_PHONE", &["mobile", "mobilephone", "cell", "cellphone"]),
    ("CONTACT_LINKEDIN_URL", &["linkedin", "linkedinurl"]),
    ("CONTACT_COUNTRY", &["country"]),
    ("CONTACT_STATE", &["state", "region"]),
    ("CONTACT_CITY", &["city"]),
    ("CONTACT_ZIP_CODE", &["zip", "zipcode", "postalcode", "postcode"]),
];

/// Likewise for company audiences.
const COMPANY_NAMES: &[(&str, &[&str])] = &[
    ("COMPANY_WEBSITE", &["website", "domain", "url", "companywebsite", "companydomain"]),
    ("COMPANY_NAME", &["name", "company", "companyname", "account", "accountname", "organization", "organisation"]),
    ("COMPANY_PHONE", &["phone", "phonenumber", "telephone"]),
    ("COMPANY_TICKER", &["ticker", "tickersymbol"]),
    ("COMPANY_LINKEDIN_URL", &["linkedin", "linkedinurl"]),
    ("COMPANY_COUNTRY", &["country"]),
    ("COMPANY_STATE", &["state", "region"]),
    ("COMPANY_CITY", &["city"]),
    ("COMPANY_ZIP_CODE", &["zip", "zipcode", "postalcode", "postcode"]),
];

impl Tenant {
    /// Replaces all match criteria of an audience and returns its match column, which is made if it is missing.
    ///
    /// Without criteria they are found by the columns' types and names.
    pub async fn set_match_criteria(&self, audience_id: &str, criteria: Option<&[MatchCriterion]>) -> Result<Column> {
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let column = match criteria {
            Some(criteria) => apply_given(&mut writing, self, &audience, criteria).await?,
            None => apply_automatic(&mut writing, self, &audience).await?.ok_or_else(|| {
                let detail = "no column of the audience can be mapped by its type or name; name the criteria";
                Error::invalid(Place::Request, ProblemKind::Nothing, detail)
            })?,
        };
        column::touch(&mut writing, self, audience.number).await?;
        writing.commit().await?;
        Ok(column)
    }
}

async fn apply_given(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    audience: &Audience,
    criteria: &[MatchCriterion],
) -> Result<Column> {
    let pointer = "/data/attributes/matchCriteria";
    let columns = column::list(connection, audience.number).await?;
    let mut problems = Vec::new();
    if criteria.is_empty() {
        let detail = "`matchCriteria` must hold at least one criterion; leave it out to have them found";
        problems.push(Problem::new(Place::pointer(pointer), ProblemKind::Nothing, detail));
    }
    check_criteria(criteria, audience.kind, &columns, pointer, &mut problems);
    Error::unless_none(problems)?;
    store_criteria(connection, tenant, audience, criteria).await
}

/// Sets the criteria that the columns' types and names suggest; none if there are none.
pub(crate) async fn apply_automatic(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    audience: &Audience,
) -> Result<Option<Column>> {
    let columns = column::list(connection, audience.number).await?;
    let criteria = suggest(audience.kind, &columns);
    if criteria.is_empty() {
        return Ok(None);
    }
    store_criteria(connection, tenant, audience, &criteria).await.map(Some)
}

/// Checks criteria that stand in an array at `pointer`.
pub(crate) fn check_criteria(
    criteria: &[MatchCriterion],
    kind: AudienceKind,
    columns: &[Column],
    pointer: &str,
    problems: &mut Vec<Problem>,
) {
    for (index, criterion) in criteria.iter().enumerate() {
        let column = columns.iter().find(|column| column.id == criterion.column_id);
        let mut refuse = |member: &str, detail: String| {
            problems.push(Problem::new(
                Place::Pointer(format!("{pointer}/{index}/{member}")),
                ProblemKind::Value,
                detail,
            ));
        };
        if !column.is_some_and(Column::is_editable) {
            refuse("columnId", "`columnId` names no `CUSTOM` column of this audience".to_owned());
        }
        if !kind.match_fields().contains(&criterion.mapped_to.as_str()) {
            refuse("mappedTo", format!("`mappedTo` is no match field of a `{kind}` audience"));
        }
    }
}

/// Maps each field to the first column that is recognised as it.
fn suggest(kind: AudienceKind, columns: &[Column]) -> Vec<MatchCriterion> {
    let mut criteria: Vec<MatchCriterion> = Vec::new();
    for column in columns.iter().filter(|column| column.is_editable() && !column.is_hidden) {
        let Some(field) = recognise(kind, column) else { continue };
        if criteria.iter().all(|criterion| criterion.mapped_to != field) {
            criteria.push(MatchCriterion { column_id: column.id.clone(), mapped_to: field.to_owned() });
        }
    }
    criteria
}

fn recognise(kind: AudienceKind, column: &Column) -> Option<&'static str> {
    let names = match kind {
        AudienceKind::Contact => CONTACT_NAMES,
        AudienceKind::Company => COMPANY_NAMES,
    };
    let name: String = column.name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let by_name = names.iter().find(|(_, known)| known.contains(&name.as_str())).map(|(field, _)| *field);
    match (kind, column.data_type) {
        (AudienceKind::Contact, DataType::Email) => Some("CONTACT_EMAIL"),
        (AudienceKind::Contact, DataType::Phone) => by_name.or(Some("DIRECT_PHONE")),
        (AudienceKind::Company, DataType::Phone) => Some("COMPANY_PHONE"),
        (_, DataType::Text | DataType::Url) => by_name,
        _ => None,
    }
}

/// Writes the criteria to the audience's match column, which is made if it is missing.
async fn store_criteria(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    audience: &Audience,
    criteria: &[MatchCriterion],
) -> Result<Column> {
    let (data_type, name) = match audience.kind {
        AudienceKind::Contact => (DataType::ZiContactId, "ZoomInfo Contact"),
        AudienceKind::Company => (DataType::ZiCompanyId, "ZoomInfo Company"),
    };
    let columns = column::list(connection, audience.number).await?;
    let is_match = |column: &Column| column.column_type == ColumnType::ZoomInfoMatch && column.data_type == data_type;
    if let Some(existing) = columns.into_iter().find(|column| is_match(column)) {
        let now = tenant.store.now();
        sqlx::query("UPDATE audience_columns SET match_criteria = ?, updated_at = ? WHERE number = ?")
            .bind(column::stored_criteria(criteria))
            .bind(now.0)
            .bind(existing.number)
            .execute(connection)
            .await?;
        return Ok(Column { match_criteria: Some(criteria.to_vec()), updated_at: now, ..existing });
    }
    let new = NewColumn {
        name: name.to_owned(),
        data_type,
        column_type: ColumnType::ZoomInfoMatch,
        is_frozen: false,
        is_hidden: false,
        match_criteria: Some(criteria.to_vec()),
    };
    // Read again: columns may have been added since `audience` was read.
    let audience = audience::find(connection, tenant, &audience.id).await?;
    column::insert(connection, tenant, &audience, &[new]).await?;
    let mut columns = column::list(connection, audience.number).await?;
    columns.pop().ok_or_else(|| Error::not_found("column", name))
}
