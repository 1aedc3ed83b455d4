//! Looks at folders, audiences and columns, and changes nothing.

use convoke_core::rule::Operator;
use convoke_core::sink::{
    AudienceBinding, AudienceTarget, KEY_COLUMN, KeyLookUp, RemoteAudience, RemoteColumn, RemoteFolder, Survey,
};
use convoke_core::{DataType, SinkError};
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::answers::Purpose;
use crate::api::Api;
use crate::search::{PAGE_LIMIT, changed_meanwhile};
use crate::wire::{
    AudienceAttributes, ColumnAttributes, ColumnFilters, Document, FilterMetadataAttributes, FilterOperator,
    FolderAttributes, List, Resource,
};

/// Largest page of folders and audiences that the API gives.
const LIST_PAGE_ROWS: &str = "100";

/// Characters of a key cell, and of the hash it begins with.
const KEY_CELL_CHARS: usize = 41;
const KEY_HASH_CHARS: usize = 32;

/// Values per condition where the service names no limit: one page of hits holds as many rows.
const UNLIMITED_VALUES: usize = crate::search::PAGE_ROWS;

/// See [`AudienceSetup::survey`](convoke_core::sink::AudienceSetup::survey).
pub(crate) async fn survey(api: &Api, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
    let mut survey = Survey::default();
    if let Some(id) = target.spec.id.as_deref().or(known_id) {
        survey_audience(api, id, &mut survey).await?;
        return Ok(survey);
    }
    let folder_name = target.spec.folder.as_deref().unwrap_or(&target.spec.name);
    let folders: Vec<Resource<FolderAttributes>> = list(api, "folders", folder_name).await?;
    survey.folders = folders
        .into_iter()
        .filter(|folder| folder.attributes.name == folder_name)
        .map(|folder| RemoteFolder { id: folder.id, name: folder.attributes.name })
        .collect();
    let audiences: Vec<Resource<AudienceAttributes>> = list(api, "audiences", &target.spec.name).await?;
    let mut named: Vec<_> =
        audiences.into_iter().filter(|audience| audience.attributes.name == target.spec.name).collect();
    match &mut named[..] {
        [only] => survey_audience(api, &only.id, &mut survey).await?,
        _ => survey.audiences = named.into_iter().map(|audience| remote_audience(audience).0).collect(),
    }
    Ok(survey)
}

/// Looks at one audience, its columns, and how its key column can be searched.
async fn survey_audience(api: &Api, id: &str, survey: &mut Survey) -> Result<(), SinkError> {
    let call = api.call(Purpose::Survey, Method::GET, &["audiences", id]);
    let document: Document<Resource<AudienceAttributes>> = api.read_document(&call).await?;
    // Taken for an audience without columns, it would get a second set of them.
    if document.data.attributes.columns.is_none() {
        return Err(call.unreadable());
    }
    let (audience, columns) = remote_audience(document.data);
    let mut key_columns = columns.iter().filter(|column| column.name == KEY_COLUMN);
    if let (Some(key_column), None) = (key_columns.next(), key_columns.next()) {
        survey.key_look_up = key_look_up(api, id, &key_column.id).await?;
    }
    survey.audiences = vec![audience];
    survey.columns = columns;
    Ok(())
}

async fn key_look_up(api: &Api, audience_id: &str, column_id: &str) -> Result<Option<KeyLookUp>, SinkError> {
    let filters = filter_metadata(api, audience_id).await?;
    Ok(filters.iter().find(|filters| filters.column_id == column_id).and_then(read_key_look_up))
}

async fn filter_metadata(api: &Api, audience_id: &str) -> Result<Vec<ColumnFilters>, SinkError> {
    let call = api.call(Purpose::Survey, Method::GET, &["audiences", audience_id, "filter-metadata"]);
    let document: Document<Resource<FilterMetadataAttributes>> = api.read_document(&call).await?;
    Ok(document.data.attributes.filter_metadata)
}

/// The id of a mapped column by whose first characters a list of rows can be parted; none if there is none. Addresses
/// are most evenly spread.
pub(crate) async fn column_to_cut_by(api: &Api, audience: &AudienceBinding) -> Result<Option<String>, SinkError> {
    let filters = filter_metadata(api, &audience.key.audience_id).await?;
    let parts_rows = |id: &str| filters.iter().any(|filters| filters.column_id == id && can_part_rows(filters));
    let mut columns: Vec<_> = audience.columns.iter().filter(|column| parts_rows(&column.id)).collect();
    columns.sort_by_key(|column| column.data_type != DataType::Email);
    Ok(columns.first().map(|column| column.id.clone()))
}

/// Whether a column can be asked for cells that begin with one character, that do not, and that are empty or not.
fn can_part_rows(filters: &ColumnFilters) -> bool {
    let config = |operator: Operator| filters.filter_operators.iter().find(|named| named.operator == operator.as_str());
    let takes_one_character = |operator| config(operator).is_some_and(|config| values_per_request(config, 1).is_some());
    filters.is_filterable
        && config(Operator::Empty).is_some()
        && config(Operator::NotEmpty).is_some()
        && takes_one_character(Operator::StartsWith)
        && takes_one_character(Operator::DoesNotStartWith)
}

/// Reads how a column can be searched by whole values and by their beginning; none if not by whole values.
///
/// `core` keeps one count for both, so the smaller one is given; searching by the beginning is not offered at the
/// price of fewer values than one.
fn read_key_look_up(filters: &ColumnFilters) -> Option<KeyLookUp> {
    if !filters.is_filterable {
        return None;
    }
    let values_of = |operator: Operator, chars: usize| {
        let named = filters.filter_operators.iter().find(|config| config.operator == operator.as_str())?;
        values_per_request(named, chars)
    };
    let whole = values_of(Operator::Equals, KEY_CELL_CHARS)?;
    let prefix = values_of(Operator::StartsWith, KEY_HASH_CHARS);
    Some(KeyLookUp { values_per_request: prefix.unwrap_or(whole).min(whole), by_prefix: prefix.is_some() })
}

/// How many values of this length an operator takes; none if not even one.
fn values_per_request(config: &FilterOperator, chars: usize) -> Option<usize> {
    if config.min_char_limit.is_some_and(|least| least > chars) {
        return None;
    }
    let limit = config.value_count_limit.unwrap_or(UNLIMITED_VALUES).min(UNLIMITED_VALUES);
    match limit {
        0 => None,
        _ if config.is_multiple_supported => Some(limit),
        _ => Some(1),
    }
}

/// Reads all pages of what contains `name`; the service compares without regard to case.
async fn list<A: DeserializeOwned>(api: &Api, resource: &str, name: &str) -> Result<Vec<Resource<A>>, SinkError> {
    let mut found = Vec::new();
    for number in 1..=PAGE_LIMIT {
        let call = api
            .call(Purpose::Survey, Method::GET, &[resource])
            .query("filter[searchText]", name)
            .query("sort", "createdAt")
            .query("page[size]", LIST_PAGE_ROWS)
            .query("page[number]", &number.to_string());
        let page: List<Resource<A>> = api.read_document(&call).await?;
        let is_empty = page.data.is_empty();
        found.extend(page.data);
        let total = page.meta.and_then(|meta| meta.total);
        let is_last = match (total, &page.links) {
            (Some(total), _) => u64::try_from(found.len()).is_ok_and(|count| count >= total),
            (None, Some(links)) => links.next.is_none(),
            (None, None) => is_empty,
        };
        if is_last {
            return Ok(found);
        }
        if is_empty && total.is_some() {
            return Err(changed_meanwhile(&call));
        }
    }
    Err(SinkError::Protocol {
        message: format!("more {resource} have names like the wanted one than can be paged; give the audience's `id`"),
    })
}

fn remote_audience(resource: Resource<AudienceAttributes>) -> (RemoteAudience, Vec<RemoteColumn>) {
    let attributes = resource.attributes;
    let columns = attributes.columns.unwrap_or_default().into_iter().map(remote_column).collect();
    let audience = RemoteAudience {
        id: resource.id,
        name: attributes.name,
        kind: attributes.kind,
        folder_id: attributes.folder_id,
        record_count: attributes.record_count,
    };
    (audience, columns)
}

fn remote_column(resource: Resource<ColumnAttributes>) -> RemoteColumn {
    let attributes = resource.attributes;
    let criteria = attributes.match_criteria.unwrap_or_default();
    RemoteColumn {
        id: resource.id,
        name: attributes.name,
        data_type: attributes.data_type.unwrap_or_default(),
        column_type: attributes.column_type.unwrap_or_default(),
        hidden: attributes.is_hidden.unwrap_or(false),
        match_criteria: criteria.into_iter().map(|criterion| (criterion.column_id, criterion.mapped_to)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look_up(filterable: bool, operators: serde_json::Value) -> Option<KeyLookUp> {
        let filters = json!({"columnId": "k", "isFilterable": filterable, "filterOperators": operators});
        read_key_look_up(&serde_json::from_value(filters).expect("filter metadata"))
    }

    #[test]
    fn the_key_column_can_be_searched_as_its_filter_metadata_says() {
        let equals =
            json!({"operator": "EQUALS", "isMultipleSupported": true, "valueCountLimit": 100, "minCharLimit": 1});
        let prefix = json!({"operator": "STARTS_WITH", "isMultipleSupported": true, "valueCountLimit": 30});
        let single = json!({"operator": "STARTS_WITH", "isMultipleSupported": false});
        let long = json!({"operator": "STARTS_WITH", "isMultipleSupported": true, "minCharLimit": 33});
        let unlimited = json!({"operator": "EQUALS", "isMultipleSupported": true});
        let valueless = json!({"operator": "EQUALS", "isMultipleSupported": true, "valueCountLimit": 0});
        let found = |values_per_request, by_prefix| Some(KeyLookUp { values_per_request, by_prefix });
        assert_eq!(look_up(true, json!([equals, prefix])), found(30, true));
        assert_eq!(look_up(true, json!([equals, single])), found(1, true));
        assert_eq!(look_up(true, json!([equals, long])), found(100, false));
        assert_eq!(look_up(true, json!([unlimited, {"operator": "NEW_ONE"}])), found(500, false));
        assert_eq!(look_up(true, json!([valueless])), None);
        assert_eq!(look_up(true, json!([prefix])), None);
        assert_eq!(look_up(false, json!([equals])), None);
    }
}
