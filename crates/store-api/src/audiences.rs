//! `/audiences`.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use convoke_core::spec::AudienceKind;
use convoke_store::audience::{Audience, AudienceChange, AudienceOrder, AudienceQuery, AutoMatch, NewAudience};
use convoke_store::column::Column;
use convoke_store::{Caller, ProblemKind, Sort};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::call::{Call, check_type, nullable, required};
use crate::columns::{self, ColumnData, ColumnView};
use crate::document::{Document, Meta, Outcome, Resource, answer, created, no_content};
use crate::failure::Failure;
use crate::folders::MAX_PAGE_SIZE;
use crate::paging::{self, List};

#[derive(Deserialize)]
struct AudienceBody {
    data: AudienceData,
}

#[derive(Deserialize)]
struct AudienceData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: AudienceAttributes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AudienceAttributes {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    origin: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    notes: Option<Option<String>>,
    folder_id: Option<String>,
    zoom_info_search_criteria: Option<Map<String, Value>>,
    #[serde(default)]
    columns: Vec<ColumnData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AudienceView<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    origin: &'static str,
    record_count: u64,
    folder_id: &'a str,
    folder_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zoom_info_search_criteria: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<Resource<'a, ColumnView<'a>>>>,
}

fn view<'a>(
    audience: &'a Audience,
    columns: Option<&'a [Column]>,
    caller: &'a Caller,
) -> Resource<'a, AudienceView<'a>> {
    let attributes = AudienceView {
        name: &audience.name,
        kind: audience.kind.as_str(),
        origin: "CUSTOM",
        record_count: audience.record_count,
        folder_id: &audience.folder_id,
        folder_name: &audience.folder_name,
        description: audience.description.as_deref(),
        notes: audience.notes.as_deref(),
        // Lists show neither.
        zoom_info_search_criteria: columns
            .and(audience.search_criteria.as_deref())
            .and_then(|json| serde_json::from_str(json).ok()),
        columns: columns.map(|columns| columns.iter().map(|column| columns::view(column, caller)).collect()),
    };
    let meta = Some(Meta::new(caller, audience.created_at, audience.updated_at));
    Resource { id: &audience.id, kind: "Audience", attributes, meta }
}

pub(crate) async fn create(call: Call) -> Outcome {
    let body: AudienceBody = call.document()?;
    check_type(body.data.kind.as_deref(), "Audience", "/data/type")?;
    let matching = if call.flag("autoMatchCriteria")? { AutoMatch::On } else { AutoMatch::Off };
    let new = read_new(body.data.attributes, matching)?;
    let (audience, columns) = call.tenant.create_audience(&new).await?;
    let location = format!("{}/{}", call.url, audience.id);
    created(&location, &Document { data: view(&audience, Some(&columns), &call.caller) })
}

fn read_new(attributes: AudienceAttributes, matching: AutoMatch) -> Result<NewAudience, Failure> {
    let origin = required(attributes.origin, "/data/attributes/origin")?;
    if origin != "CUSTOM" {
        let detail = "`origin` must be `CUSTOM`; the store has no other source of rows";
        return Err(Failure::at("/data/attributes/origin", ProblemKind::Value, detail));
    }
    let kind = required(attributes.kind, "/data/attributes/type")?;
    let kind = AudienceKind::parse(&kind).ok_or_else(|| {
        Failure::at("/data/attributes/type", ProblemKind::Value, "`type` must be `CONTACT` or `COMPANY`")
    })?;
    Ok(NewAudience {
        name: required(attributes.name, "/data/attributes/name")?,
        kind,
        description: attributes.description.flatten(),
        notes: attributes.notes.flatten(),
        search_criteria: attributes.zoom_info_search_criteria.map(|criteria| Value::Object(criteria).to_string()),
        folder_id: attributes.folder_id,
        columns: columns::read_new(attributes.columns, "/data/attributes/columns")?,
        matching,
    })
}

pub(crate) async fn list(call: Call) -> Outcome {
    let page = paging::page(&call, MAX_PAGE_SIZE)?;
    let query = AudienceQuery {
        kind: kind_filter(&call)?,
        search_text: call.query("filter[searchText]").map(str::to_owned),
        sort: sort(&call)?,
        page,
    };
    let listing = call.tenant.audiences(&query).await?;
    let data = listing.items.iter().map(|audience| view(audience, None, &call.caller)).collect();
    answer(StatusCode::OK, &List::new(&call, page, listing.total, data))
}

fn kind_filter(call: &Call) -> Result<Option<AudienceKind>, Failure> {
    let Some(text) = call.query("filter[type]") else { return Ok(None) };
    let refusal = || Failure::parameter("filter[type]", "`filter[type]` must be `CONTACT` or `COMPANY`");
    AudienceKind::parse(text).map(Some).ok_or_else(refusal)
}

fn sort(call: &Call) -> Result<Sort<AudienceOrder>, Failure> {
    let Sort { key, descending } = paging::sort(call, "-updatedAt");
    let key = match key {
        "name" => AudienceOrder::Name,
        "createdAt" => AudienceOrder::CreatedAt,
        "updatedAt" => AudienceOrder::UpdatedAt,
        "recordCount" => AudienceOrder::RecordCount,
        _ => {
            let detail = "`sort` must be `name`, `createdAt`, `updatedAt` or `recordCount`";
            return Err(Failure::parameter("sort", detail));
        }
    };
    Ok(Sort { key, descending })
}

pub(crate) async fn show(call: Call) -> Outcome {
    let (audience, columns) = call.tenant.audience(call.path("audienceId")).await?;
    answer(StatusCode::OK, &Document { data: view(&audience, Some(&columns), &call.caller) })
}

#[derive(Deserialize)]
struct ChangeBody {
    data: ChangeData,
}

#[derive(Deserialize)]
struct ChangeData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: ChangeAttributes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeAttributes {
    name: Option<String>,
    folder_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    notes: Option<Option<String>>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

pub(crate) async fn change(call: Call) -> Outcome {
    let body: ChangeBody = call.document()?;
    check_type(body.data.kind.as_deref(), "Audience", "/data/type")?;
    let attributes = body.data.attributes;
    if let Some(name) = attributes.others.keys().next() {
        let detail = "only `name`, `folderId`, `description` and `notes` can be changed";
        return Err(Failure::at(format!("/data/attributes/{}", escaped(name)), ProblemKind::Disallowed, detail));
    }
    let change = AudienceChange {
        name: attributes.name,
        folder_id: attributes.folder_id,
        description: attributes.description,
        notes: attributes.notes,
    };
    let audience = call.tenant.change_audience(call.path("audienceId"), &change).await?;
    answer(StatusCode::OK, &Document { data: view(&audience, None, &call.caller) })
}

/// A member's name as a part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

pub(crate) async fn remove(call: Call) -> Outcome {
    call.tenant.delete_audience(call.path("audienceId")).await?;
    no_content()
}
