//! `/audiences/{audienceId}/rows` and the jobs that work on rows.
//!
//! Cell values pass through as the JSON text they came in: they are neither parsed into values here nor written anew.

use std::borrow::Cow;

use axum::http::StatusCode;
use convoke_store::column::Column;
use convoke_store::row::{Row, RowSet};
use convoke_store::{CellWrite, Enrichment, ProblemKind, RowSearch, RowWrite, Sort};
use serde::ser::{Error as _, SerializeSeq, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::call::{Call, check_type, required};
use crate::document::{Document, Outcome, Resource, answer, no_content};
use crate::failure::Failure;
use crate::paging::{self, List};

/// Rows per synchronous upsert.
const MAX_UPSERT: usize = 50;
/// Rows per bulk upsert.
const MAX_BULK_UPSERT: usize = 500;
/// Rows per bulk delete.
const MAX_BULK_DELETE: usize = 1000;
/// Rows per enrichment.
const MAX_ENRICH: usize = 1000;
/// Rows per page of a search.
const MAX_PAGE_SIZE: u32 = 500;

#[derive(Deserialize)]
struct UpsertBody<'a> {
    #[serde(borrow)]
    data: Vec<UpsertRow<'a>>,
}

#[derive(Deserialize)]
struct UpsertRow<'a> {
    id: Option<Cow<'a, str>>,
    #[serde(rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    attributes: UpsertAttributes<'a>,
}

#[derive(Deserialize)]
struct UpsertAttributes<'a> {
    #[serde(borrow)]
    values: Vec<UpsertCell<'a>>,
}

#[derive(Deserialize)]
struct UpsertCell<'a> {
    #[serde(rename = "columnId", borrow)]
    column_id: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
}

/// Keeps a `null` as a value; only an absent member is none.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A row as the API shows it: all cells of the given columns.
struct RowView<'a> {
    set: &'a RowSet,
    row: &'a Row,
    columns: &'a [&'a Column],
}

impl Serialize for RowView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut resource = serializer.serialize_struct("Row", 3)?;
        resource.serialize_field("id", &self.row.id)?;
        resource.serialize_field("type", "Row")?;
        resource.serialize_field("attributes", &CellsView(self))?;
        resource.end()
    }
}

struct CellsView<'a>(&'a RowView<'a>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CellView<'a> {
    column_id: &'a str,
    value: Option<&'a RawValue>,
    state: &'static str,
}

impl Serialize for CellsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut attributes = serializer.serialize_struct("attributes", 1)?;
        attributes.serialize_field("values", &ValuesView(self.0))?;
        attributes.end()
    }
}

struct ValuesView<'a>(&'a RowView<'a>);

impl Serialize for ValuesView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells = self.0.row.cells().map_err(S::Error::custom)?;
        let mut values = serializer.serialize_seq(Some(self.0.columns.len()))?;
        for column in self.0.columns {
            let value = cells.value(column);
            let state = match value {
                Some(_) => "RESULT",
                None if self.0.set.is_unmatched(self.0.row, column) => "NO_RESULT",
                None => "BLANK",
            };
            values.serialize_element(&CellView { column_id: &column.id, value, state })?;
        }
        values.end()
    }
}

fn views<'a>(set: &'a RowSet, columns: &'a [&'a Column]) -> Vec<RowView<'a>> {
    set.rows.iter().map(|row| RowView { set, row, columns }).collect()
}

pub(crate) async fn upsert(call: Call) -> Outcome {
    write(&call, MAX_UPSERT).await
}

pub(crate) async fn bulk_upsert(call: Call) -> Outcome {
    if call.flag("runEnrichment")? {
        let detail = "the store does not enrich; leave `runEnrichment` out";
        return Err(Failure::parameter("runEnrichment", detail));
    }
    write(&call, MAX_BULK_UPSERT).await
}

async fn write(call: &Call, max_rows: usize) -> Outcome {
    let body: UpsertBody<'_> = call.document()?;
    check_count(body.data.len(), max_rows)?;
    let mut writes = Vec::with_capacity(body.data.len());
    for (index, row) in body.data.into_iter().enumerate() {
        check_type(row.kind.as_deref(), "Row", &format!("/data/{index}/type"))?;
        let cells = row.attributes.values.into_iter();
        let cells = cells.map(|cell| CellWrite { column_id: cell.column_id, value: cell.value }).collect();
        writes.push(RowWrite { id: row.id, cells });
    }
    let set = call.tenant.upsert_rows(call.path("audienceId"), &writes).await?;
    let columns: Vec<&Column> = set.columns.iter().collect();
    answer(StatusCode::OK, &Document { data: views(&set, &columns) })
}

fn check_count(count: usize, max: usize) -> Result<(), Failure> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(Failure::at("/data", ProblemKind::Missing, format!("`data` must hold from 1 to {max} rows")))
}

pub(crate) async fn show(call: Call) -> Outcome {
    let set = call.tenant.row(call.path("audienceId"), call.path("rowId")).await?;
    let columns = wanted_columns(&call, &set.columns)?;
    answer(StatusCode::OK, &Document { data: views(&set, &columns).pop() })
}

fn wanted_columns<'a>(call: &Call, columns: &'a [Column]) -> Result<Vec<&'a Column>, Failure> {
    let Some(wanted) = call.query("columns") else { return Ok(columns.iter().collect()) };
    let find = |id: &str| {
        let unknown = || Failure::parameter("columns", "`columns` names no column of this audience");
        columns.iter().find(|column| column.id == id.trim()).ok_or_else(unknown)
    };
    wanted.split(',').map(find).collect()
}

/// Without a body every row is found.
#[derive(Default, Deserialize)]
struct SearchBody {
    data: Option<SearchData>,
}

#[derive(Deserialize)]
struct SearchData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: Option<SearchAttributes>,
}

#[derive(Default, Deserialize)]
struct SearchAttributes {
    filter: Option<serde_json::Value>,
    ids: Option<Vec<String>>,
}

pub(crate) async fn search(call: Call) -> Outcome {
    let body: SearchBody = call.document_or_default()?;
    let attributes = match body.data {
        Some(data) => {
            check_type(data.kind.as_deref(), "RowSearch", "/data/type")?;
            data.attributes.unwrap_or_default()
        }
        None => SearchAttributes::default(),
    };
    let page = paging::page(&call, MAX_PAGE_SIZE)?;
    let sort = call.query("sort").map(|_| paging::sort(&call, ""));
    let search = RowSearch {
        filter: attributes.filter.as_ref(),
        ids: attributes.ids.as_deref(),
        sort: sort.map(|Sort { key, descending }| Sort { key: key.to_owned(), descending }),
        page,
    };
    let (set, total) = call.tenant.search_rows(call.path("audienceId"), &search).await?;
    let columns = wanted_columns(&call, &set.columns)?;
    answer(StatusCode::OK, &List::new(&call, page, total, views(&set, &columns)))
}

#[derive(Deserialize)]
struct DeleteBody {
    data: Vec<DeleteRow>,
}

#[derive(Deserialize)]
struct DeleteRow {
    id: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Serialize)]
struct AsyncJob<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

pub(crate) async fn bulk_delete(call: Call) -> Outcome {
    let body: DeleteBody = call.document()?;
    check_count(body.data.len(), MAX_BULK_DELETE)?;
    for (index, row) in body.data.iter().enumerate() {
        check_type(row.kind.as_deref(), "Row", &format!("/data/{index}/type"))?;
    }
    let ids: Vec<&str> = body.data.iter().map(|row| row.id.as_str()).collect();
    let job = call.tenant.delete_rows(call.path("audienceId"), &ids).await?;
    answer(StatusCode::ACCEPTED, &Document { data: AsyncJob { id: &job.id, kind: "RowAsyncJob" } })
}

#[derive(Deserialize)]
struct EnrichBody {
    data: EnrichData,
}

#[derive(Deserialize)]
struct EnrichData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: EnrichAttributes,
}

#[derive(Deserialize)]
struct EnrichAttributes {
    scope: Option<String>,
    rows: Option<Vec<String>>,
    columns: Option<Vec<String>>,
}

pub(crate) async fn enrich(call: Call) -> Outcome {
    let body: EnrichBody = call.document()?;
    check_type(body.data.kind.as_deref(), "AudienceEnrichment", "/data/type")?;
    let EnrichAttributes { scope, rows, columns } = body.data.attributes;
    let scope = required(scope, "/data/attributes/scope")?;
    let row_ids = match scope.as_str() {
        "AUDIENCE" => None,
        "ROW" => Some(required(rows, "/data/attributes/rows")?),
        _ => {
            let detail = "`scope` must be `AUDIENCE` or `ROW`";
            return Err(Failure::at("/data/attributes/scope", ProblemKind::Value, detail));
        }
    };
    if row_ids.as_ref().is_some_and(|rows| !(1..=MAX_ENRICH).contains(&rows.len())) {
        let detail = format!("`rows` must hold from 1 to {MAX_ENRICH} rows");
        return Err(Failure::at("/data/attributes/rows", ProblemKind::Missing, detail));
    }
    let enrichment = Enrichment { row_ids: row_ids.as_deref(), column_ids: columns.as_deref() };
    match call.tenant.enrich(call.path("audienceId"), enrichment).await? {
        Some(job) => answer(StatusCode::ACCEPTED, &Document { data: AsyncJob { id: &job.id, kind: "EnrichJob" } }),
        None => no_content(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobAttributes {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_progress: Option<u8>,
}

pub(crate) async fn job_status(call: Call) -> Outcome {
    let job = call.tenant.job(call.path("audienceId"), call.path("jobId")).await?;
    let attributes = JobAttributes { status: job.status.as_str(), percent_progress: job.percent };
    let data = Resource { id: &job.id, kind: "JobStatus", attributes, meta: None };
    answer(StatusCode::OK, &Document { data })
}
