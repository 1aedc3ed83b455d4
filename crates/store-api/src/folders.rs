//! `/folders`.

use axum::http::StatusCode;
use chrono::DateTime;
use convoke_core::Timestamp;
use convoke_store::folder::{Folder, FolderChange, FolderOrder, FolderQuery, NewFolder};
use convoke_store::{Caller, Sort};
use serde::{Deserialize, Serialize};

use crate::call::{Call, check_type, nullable, required};
use crate::document::{Document, Meta, Outcome, Resource, answer, created, no_content};
use crate::failure::Failure;
use crate::paging::{self, List};

/// The most folders or audiences on a page.
pub(crate) const MAX_PAGE_SIZE: u32 = 100;

/// What a change leaves out stays as it is, up to the whole of it.
#[derive(Default, Deserialize)]
struct FolderBody {
    data: Option<FolderData>,
}

#[derive(Default, Deserialize)]
struct FolderData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: Option<FolderAttributes>,
}

#[derive(Default, Deserialize)]
struct FolderAttributes {
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    notes: Option<Option<String>>,
    starred: Option<bool>,
}

#[derive(Serialize)]
struct FolderView<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    starred: bool,
    audiences: &'a [String],
}

fn view<'a>(folder: &'a Folder, caller: &'a Caller) -> Resource<'a, FolderView<'a>> {
    let attributes = FolderView {
        name: &folder.name,
        description: folder.description.as_deref(),
        notes: folder.notes.as_deref(),
        starred: folder.starred,
        audiences: &folder.audiences,
    };
    let meta = Some(Meta::new(caller, folder.created_at, folder.updated_at));
    Resource { id: &folder.id, kind: "Folder", attributes, meta }
}

pub(crate) async fn create(call: Call) -> Outcome {
    let body: FolderBody = call.document()?;
    let data = required(body.data, "/data")?;
    check_type(data.kind.as_deref(), "Folder", "/data/type")?;
    let attributes = required(data.attributes, "/data/attributes")?;
    let new = NewFolder {
        name: required(attributes.name, "/data/attributes/name")?,
        description: attributes.description.flatten(),
        notes: attributes.notes.flatten(),
        starred: attributes.starred.unwrap_or(false),
    };
    let folder = call.tenant.create_folder(&new).await?;
    created(&format!("{}/{}", call.url, folder.id), &Document { data: view(&folder, &call.caller) })
}

pub(crate) async fn list(call: Call) -> Outcome {
    let page = paging::page(&call, MAX_PAGE_SIZE)?;
    let query = FolderQuery {
        search_text: call.query("filter[searchText]").map(str::to_owned),
        created_after: time(&call, "filter[createdAfter]")?,
        created_before: time(&call, "filter[createdBefore]")?,
        updated_after: time(&call, "filter[updatedAfter]")?,
        updated_before: time(&call, "filter[updatedBefore]")?,
        created_by: users(&call, "filter[createdById]")?,
        updated_by: users(&call, "filter[updatedById]")?,
        sort: sort(&call)?,
        page,
    };
    let listing = call.tenant.folders(&query).await?;
    let data = listing.items.iter().map(|folder| view(folder, &call.caller)).collect();
    answer(StatusCode::OK, &List::new(&call, page, listing.total, data))
}

fn sort(call: &Call) -> Result<Sort<FolderOrder>, Failure> {
    let Sort { key, descending } = paging::sort(call, "-updatedAt");
    let key = match key {
        "name" => FolderOrder::Name,
        "createdAt" => FolderOrder::CreatedAt,
        "updatedAt" => FolderOrder::UpdatedAt,
        "audienceCount" => FolderOrder::AudienceCount,
        "recentlyViewed" => FolderOrder::RecentlyViewed,
        _ => {
            let detail = "`sort` must be `name`, `createdAt`, `updatedAt`, `audienceCount` or `recentlyViewed`";
            return Err(Failure::parameter("sort", detail));
        }
    };
    Ok(Sort { key, descending })
}

fn time(call: &Call, name: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = call.query(name) else { return Ok(None) };
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| Failure::parameter(name, format!("`{name}` must be a time as RFC 3339 writes it")))?;
    Ok(Some(Timestamp(time.timestamp_millis())))
}

fn users(call: &Call, name: &str) -> Result<Option<Vec<i64>>, Failure> {
    let Some(text) = call.query(name) else { return Ok(None) };
    let numbers = text.split(',').map(|number| number.trim().parse().map(|number: u32| i64::from(number)));
    let numbers: Result<Vec<i64>, _> = numbers.collect();
    numbers.map(Some).map_err(|_| Failure::parameter(name, format!("`{name}` must be numbers separated by commas")))
}

pub(crate) async fn show(call: Call) -> Outcome {
    let folder = call.tenant.folder(call.path("folderId")).await?;
    answer(StatusCode::OK, &Document { data: view(&folder, &call.caller) })
}

pub(crate) async fn change(call: Call) -> Outcome {
    let body: FolderBody = call.document_or_default()?;
    let data = body.data.unwrap_or_default();
    check_type(data.kind.as_deref().or(Some("Folder")), "Folder", "/data/type")?;
    let attributes = data.attributes.unwrap_or_default();
    let change = FolderChange {
        name: attributes.name,
        description: attributes.description,
        notes: attributes.notes,
        starred: attributes.starred,
    };
    let folder = call.tenant.change_folder(call.path("folderId"), &change).await?;
    answer(StatusCode::OK, &Document { data: view(&folder, &call.caller) })
}

pub(crate) async fn remove(call: Call) -> Outcome {
    call.tenant.delete_folder(call.path("folderId")).await?;
    no_content()
}
