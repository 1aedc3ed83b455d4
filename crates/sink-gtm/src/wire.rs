//! The documents of the API, as far as Convoke reads and writes them.
//!
//! Unknown members are ignored and enumerations stay text, since the vendor adds to both within a version. Rows
//! are written and read elsewhere, without owning their texts.

use serde::{Deserialize, Serialize};

/// `{"data": …}`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Document<T> {
    pub(crate) data: T,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct List<T> {
    pub(crate) data: Vec<T>,
    pub(crate) meta: Option<ListMeta>,
    pub(crate) links: Option<ListLinks>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct ListMeta {
    pub(crate) total: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ListLinks {
    pub(crate) next: Option<String>,
}

/// A resource as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Resource<A> {
    pub(crate) id: String,
    pub(crate) attributes: A,
}

/// A resource of which only the id matters.
#[derive(Debug, Deserialize)]
pub(crate) struct Identified {
    pub(crate) id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FolderAttributes {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AudienceAttributes {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) folder_id: Option<String>,
    pub(crate) record_count: Option<u64>,
    pub(crate) columns: Option<Vec<Resource<ColumnAttributes>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnAttributes {
    pub(crate) name: String,
    /// Absent on some AI columns.
    pub(crate) data_type: Option<String>,
    pub(crate) column_type: Option<String>,
    pub(crate) is_hidden: Option<bool>,
    pub(crate) match_criteria: Option<Vec<MatchCriterion>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MatchCriterion {
    pub(crate) column_id: String,
    pub(crate) mapped_to: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilterMetadataAttributes {
    pub(crate) filter_metadata: Vec<ColumnFilters>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnFilters {
    pub(crate) column_id: String,
    #[serde(default)]
    pub(crate) is_filterable: bool,
    #[serde(default)]
    pub(crate) filter_operators: Vec<FilterOperator>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilterOperator {
    pub(crate) operator: String,
    #[serde(default)]
    pub(crate) is_multiple_supported: bool,
    /// Absent: no limit.
    pub(crate) value_count_limit: Option<usize>,
    pub(crate) min_char_limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct JobAttributes {
    pub(crate) status: String,
}

/// A resource as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct NewResource<A> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) attributes: A,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewFolder<'a> {
    pub(crate) name: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewAudience<'a> {
    pub(crate) name: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    pub(crate) origin: &'static str,
    pub(crate) folder_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<&'a str>,
    pub(crate) columns: Vec<NewResource<NewColumnAttributes<'a>>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewColumnAttributes<'a> {
    pub(crate) name: &'a str,
    pub(crate) data_type: &'static str,
    pub(crate) column_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnPatch {
    pub(crate) is_hidden: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewMatchCriteria {
    pub(crate) match_criteria: Vec<MatchCriterion>,
}

/// What a row search asks for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RowSearch<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<FilterGroup<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<Vec<&'a str>>,
}

/// One flat group; the API has no nested ones.
#[derive(Debug, Serialize)]
pub(crate) struct FilterGroup<'a> {
    pub(crate) operator: &'static str,
    pub(crate) filters: Vec<Filter<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Filter<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) column_id: &'a str,
    pub(crate) filter_operator: &'static str,
    pub(crate) values: Vec<String>,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(column_id: &'a str, operator: convoke_core::rule::Operator, values: Vec<String>) -> Self {
        Self { kind: "Filter", column_id, filter_operator: operator.as_str(), values }
    }
}

/// Wraps a resource into a document and encodes it.
pub(crate) fn encode<A: Serialize>(kind: &'static str, attributes: A) -> Vec<u8> {
    encode_document(NewResource { kind, attributes })
}

/// Encodes `{"data": …}`.
pub(crate) fn encode_document<T: Serialize>(data: T) -> Vec<u8> {
    serde_json::to_vec(&Document { data }).expect("texts, numbers and lists always encode")
}
