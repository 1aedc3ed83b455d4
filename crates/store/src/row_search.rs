//! Searching rows: filter, ids, order and pages.
//!
//! A filter is compiled by the rule algebra to a predicate that decides alone. Where the filter looks for the text of an
//! indexed column, the index first narrows the rows down to those that can satisfy it.

use chrono::{DateTime, NaiveDate, Utc};
use convoke_core::rule::{Condition, Literal, Operator, Rule};
use convoke_core::{DataType, Timestamp};
use convoke_rules::compile::{self, ColumnAccess};
use convoke_rules::{RuleProblem, parse, validate};
use sqlx::FromRow;
use uuid::Uuid;

use crate::audience::{self, Audience};
use crate::column::{self, Column};
use crate::enrich;
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::page::{Page, Sort};
use crate::row::{self, RowSet, StoredRow};
use crate::statement::{Bind, Statement};
use crate::tenant::Tenant;

/// Which rows to return.
#[derive(Clone, Debug)]
pub struct RowSearch<'a> {
    /// A GTM Studio filter group; problems point to `/data/attributes/filter`.
    pub filter: Option<&'a serde_json::Value>,
    /// Only these rows; problems point to `/data/attributes/ids`.
    pub ids: Option<&'a [String]>,
    /// By a column id; without it in the order of creation.
    pub sort: Option<Sort<String>>,
    pub page: Page,
}

/// More ids than any page of rows holds.
const MAX_IDS: usize = 1000;

impl Tenant {
    /// Returns a page of rows, and how many satisfy the search.
    pub async fn search_rows(&self, audience_id: &str, search: &RowSearch<'_>) -> Result<(RowSet, u64)> {
        let mut reading = self.store.read().await?;
        let audience = audience::find(&mut reading, self, audience_id).await?;
        let columns = column::list(&mut reading, audience.number).await?;
        let condition = condition(&audience, &columns, search, today(self.store.now()))?;
        let order = order(&columns, search.sort.as_ref())?;
        let total = match &condition {
            Some(condition) => {
                let mut count = Statement::new("SELECT count(*) FROM audience_rows WHERE ");
                count.append(condition);
                count.count(&mut reading).await?
            }
            None => audience.record_count,
        };
        let mut select = Statement::new("SELECT number, id, cells FROM audience_rows WHERE ");
        select.append(&condition.unwrap_or_else(|| whole(&audience, "number")));
        select.push(&order).push(" LIMIT ").bind(Bind::Integer(search.page.limit()));
        select.push(" OFFSET ").bind(Bind::Integer(search.page.offset()));
        let found = select.rows(&mut reading).await?;
        let mut rows = Vec::with_capacity(found.len());
        for row in &found {
            rows.push(StoredRow::from_row(row)?);
        }
        let unmatched = enrich::unmatched(&mut reading, &columns, &rows).await?;
        let rows = rows.into_iter().map(|stored| stored.row).collect();
        Ok((RowSet { columns, rows, unmatched }, total))
    }
}

fn today(now: Timestamp) -> NaiveDate {
    DateTime::<Utc>::from_timestamp_millis(now.0).unwrap_or_default().date_naive()
}

/// The condition that a row belongs to the audience.
fn whole(audience: &Audience, number: &str) -> Statement {
    let span = row::span(audience.number);
    let mut condition = Statement::new(number);
    condition.push(" BETWEEN ").bind(Bind::Integer(*span.start()));
    condition.push(" AND ").bind(Bind::Integer(*span.end()));
    condition
}

/// The condition that a row satisfies the search; none if every row does.
fn condition(
    audience: &Audience,
    columns: &[Column],
    search: &RowSearch<'_>,
    today: NaiveDate,
) -> Result<Option<Statement>> {
    let rule = search.filter.map(|filter| parse_filter(filter, columns)).transpose()?;
    if rule.is_none() && search.ids.is_none() {
        return Ok(None);
    }
    let narrowed = rule.as_ref().and_then(|rule| narrow(rule, columns));
    // The unary plus keeps SQLite from walking the whole audience where ids or the index lead to the rows.
    let is_led = search.ids.is_some() || narrowed.is_some();
    let mut condition = whole(audience, if is_led { "+number" } else { "number" });
    if let Some(ids) = search.ids {
        condition.push(" AND id IN ").bind_tuple(parse_ids(ids)?);
    }
    if let Some(narrowed) = narrowed {
        condition.push(" AND number IN (").append(&narrowed).push(")");
    }
    if let Some(rule) = &rule {
        let (sql, binds) = compile_rule(rule, columns, today)?;
        condition.append_sql(&format!(" AND ({sql})"), binds);
    }
    Ok(Some(condition))
}

fn parse_ids(ids: &[String]) -> Result<Vec<Bind>> {
    let mut problems = Vec::new();
    if ids.len() > MAX_IDS {
        let detail = format!("`ids` may hold at most {MAX_IDS} ids");
        problems.push(Problem::new(Place::pointer("/data/attributes/ids"), ProblemKind::Missing, detail));
    }
    let mut binds = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        match id.parse::<Uuid>() {
            Ok(id) => binds.push(Bind::Blob(id.as_bytes().to_vec())),
            Err(_) => {
                let place = Place::Pointer(format!("/data/attributes/ids/{index}"));
                problems.push(Problem::new(place, ProblemKind::Value, "a row id must be a UUID"));
            }
        }
    }
    Error::unless_none(problems)?;
    Ok(binds)
}

fn parse_filter(filter: &serde_json::Value, columns: &[Column]) -> Result<Rule> {
    let kinds: Vec<(String, DataType)> = columns.iter().map(|column| (column.id.clone(), column.data_type)).collect();
    let rule = parse::gtm(filter).map_err(|problems| invalid_filter(&problems))?;
    validate(&rule, &kinds).map_err(|problems| invalid_filter(&problems))
}

fn compile_rule(rule: &Rule, columns: &[Column], today: NaiveDate) -> Result<(String, Vec<Bind>)> {
    let access = |id: &str| {
        let column = columns.iter().find(|column| column.id == id)?;
        Some(ColumnAccess { sql: column.cell_sql(), data_type: column.data_type })
    };
    let (sql, binds) = compile::sqlite(rule, &access, today).map_err(|error| invalid_filter(&error.problems))?;
    let binds = binds.into_iter().map(|bind| match bind {
        compile::Bind::Text(text) => Bind::Text(text),
        compile::Bind::Number(number) => Bind::Real(number),
    });
    Ok((sql, binds.collect()))
}

fn invalid_filter(problems: &[RuleProblem]) -> Error {
    let problem = |problem: &RuleProblem| {
        // A group stands in the request's `filters`, whatever its operator.
        let member =
            |part: &String| if part == "all" || part == "any" { "/filters".to_owned() } else { format!("/{part}") };
        let path: String = problem.path.iter().map(member).collect();
        let place = Place::Pointer(format!("/data/attributes/filter{path}"));
        Problem::new(place, ProblemKind::Value, problem.message.clone())
    };
    Error::Invalid(problems.iter().map(problem).collect())
}

/// A query for the numbers of all rows that can satisfy the rule, and perhaps more; none if the index does not help.
fn narrow(rule: &Rule, columns: &[Column]) -> Option<Statement> {
    match rule {
        Rule::All(parts) => parts.iter().find_map(|part| narrow(part, columns)),
        Rule::Any(parts) => match parts.as_slice() {
            [only] => narrow(only, columns),
            _ => None,
        },
        Rule::Condition(condition) => narrow_condition(condition, columns),
    }
}

fn narrow_condition(condition: &Condition, columns: &[Column]) -> Option<Statement> {
    let column = columns.iter().find(|column| column.id == condition.column && column.is_indexed())?;
    let by_prefix = match condition.operator {
        Operator::Equals => false,
        Operator::StartsWith => true,
        _ => return None,
    };
    let mut query = Statement::default();
    for (index, value) in condition.values.iter().enumerate() {
        let Literal::Text(text) = value else { return None };
        query.push(if index > 0 { " UNION ALL " } else { "" });
        query.push("SELECT row_number FROM cell_index WHERE column_number = ").bind(Bind::Integer(column.number));
        let folded = row::fold(text);
        if by_prefix {
            // No byte of UTF-8 is 0xff, so this is above everything that begins with the prefix.
            let above = [folded.as_slice(), &[0xff]].concat();
            query.push(" AND folded >= ").bind(Bind::Blob(folded)).push(" AND folded < ").bind(Bind::Blob(above));
        } else {
            query.push(" AND folded = ").bind(Bind::Blob(folded));
        }
    }
    (!condition.values.is_empty()).then_some(query)
}

/// Blank cells come last in both directions; ties keep the order of creation.
fn order(columns: &[Column], sort: Option<&Sort<String>>) -> Result<String> {
    let Some(sort) = sort else { return Ok(" ORDER BY number".to_owned()) };
    let refuse = |detail: &str| Error::invalid(Place::Parameter("sort"), ProblemKind::Value, detail);
    let column = columns.iter().find(|column| column.id == sort.key);
    let column = column.ok_or_else(|| refuse("`sort` names no column of this audience"))?;
    if !column.is_sortable() {
        return Err(refuse("rows cannot be sorted by a column of this data type"));
    }
    let cell = column.cell_sql();
    Ok(format!(" ORDER BY {cell} IS NULL, {cell} COLLATE NOCASE {}, number", sort.direction()))
}
