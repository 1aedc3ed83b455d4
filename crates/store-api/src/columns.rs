//! `/audiences/{audienceId}/columns`, match criteria and filter metadata.

use axum::http::StatusCode;
use convoke_core::DataType;
use convoke_store::column::{Column, ColumnChange, ColumnType, NewColumn};
use convoke_store::match_criteria::MatchCriterion;
use convoke_store::{Caller, ProblemKind};
use serde::{Deserialize, Serialize};

use crate::call::{Call, check_type, required};
use crate::document::{Document, Meta, Outcome, Resource, answer, no_content};
use crate::failure::Failure;

#[derive(Deserialize)]
struct ColumnsBody {
    data: Vec<ColumnData>,
}

/// What a change leaves out stays as it is, up to the whole of it.
#[derive(Default, Deserialize)]
struct ColumnBody {
    data: Option<ColumnChangeData>,
}

#[derive(Default, Deserialize)]
struct ColumnChangeData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: Option<ColumnAttributes>,
}

/// A column in a request.
#[derive(Deserialize)]
pub(crate) struct ColumnData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: ColumnAttributes,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ColumnAttributes {
    name: Option<String>,
    data_type: Option<String>,
    column_type: Option<String>,
    is_frozen: Option<bool>,
    is_hidden: Option<bool>,
    match_criteria: Option<Vec<MatchCriterion>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnView<'a> {
    name: &'a str,
    data_type: &'static str,
    column_type: &'static str,
    is_deletable: bool,
    is_editable: bool,
    is_exportable: bool,
    is_filterable: bool,
    is_sortable: bool,
    is_frozen: bool,
    is_hidden: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    match_criteria: Option<&'a [MatchCriterion]>,
}

pub(crate) fn view<'a>(column: &'a Column, caller: &'a Caller) -> Resource<'a, ColumnView<'a>> {
    let attributes = ColumnView {
        name: &column.name,
        data_type: column.data_type.as_str(),
        column_type: column.column_type.as_str(),
        is_deletable: column.is_deletable,
        is_editable: column.is_editable(),
        is_exportable: true,
        is_filterable: column.is_filterable(),
        is_sortable: column.is_sortable(),
        is_frozen: column.is_frozen,
        is_hidden: column.is_hidden,
        match_criteria: column.match_criteria.as_deref(),
    };
    let meta = Some(Meta::new(caller, column.created_at, column.updated_at));
    Resource { id: &column.id, kind: "Column", attributes, meta }
}

/// Reads new columns that stand in an array at `pointer`.
pub(crate) fn read_new(columns: Vec<ColumnData>, pointer: &str) -> Result<Vec<NewColumn>, Failure> {
    let read = |(index, column): (usize, ColumnData)| {
        check_type(column.kind.as_deref(), "Column", &format!("{pointer}/{index}/type"))?;
        read_attributes(column.attributes, &format!("{pointer}/{index}/attributes"))
    };
    columns.into_iter().enumerate().map(read).collect()
}

fn read_attributes(attributes: ColumnAttributes, pointer: &str) -> Result<NewColumn, Failure> {
    let at = |member: &str| format!("{pointer}/{member}");
    let column_type = required(attributes.column_type, &at("columnType"))?;
    let column_type = ColumnType::parse(&column_type).ok_or_else(|| {
        let detail = "`columnType` must be `CUSTOM` or `ZOOMINFO_MATCH`; the store fills no other columns";
        Failure::at(at("columnType"), ProblemKind::Value, detail)
    })?;
    let data_type = required(attributes.data_type, &at("dataType"))?;
    let data_type: DataType = data_type
        .parse()
        .map_err(|()| Failure::at(at("dataType"), ProblemKind::Value, "`dataType` is no data type of the API"))?;
    Ok(NewColumn {
        name: required(attributes.name, &at("name"))?,
        data_type,
        column_type,
        is_frozen: attributes.is_frozen.unwrap_or(false),
        is_hidden: attributes.is_hidden.unwrap_or(false),
        match_criteria: attributes.match_criteria,
    })
}

pub(crate) async fn create(call: Call) -> Outcome {
    let body: ColumnsBody = call.document()?;
    let new = read_new(body.data, "/data")?;
    let columns = call.tenant.create_columns(call.path("audienceId"), &new).await?;
    let data: Vec<_> = columns.iter().map(|column| view(column, &call.caller)).collect();
    answer(StatusCode::CREATED, &Document { data })
}

pub(crate) async fn change(call: Call) -> Outcome {
    let body: ColumnBody = call.document_or_default()?;
    let data = body.data.unwrap_or_default();
    check_type(data.kind.as_deref().or(Some("Column")), "Column", "/data/type")?;
    let attributes = data.attributes.unwrap_or_default();
    let fixed = [
        ("dataType", attributes.data_type.is_some()),
        ("columnType", attributes.column_type.is_some()),
        ("matchCriteria", attributes.match_criteria.is_some()),
    ];
    if let Some((name, _)) = fixed.into_iter().find(|(_, given)| *given) {
        let detail = format!("`{name}` cannot be changed here");
        return Err(Failure::at(format!("/data/attributes/{name}"), ProblemKind::Disallowed, detail));
    }
    let change =
        ColumnChange { name: attributes.name, is_frozen: attributes.is_frozen, is_hidden: attributes.is_hidden };
    let column = call.tenant.change_column(call.path("audienceId"), call.path("columnId"), &change).await?;
    answer(StatusCode::OK, &Document { data: view(&column, &call.caller) })
}

pub(crate) async fn remove(call: Call) -> Outcome {
    call.tenant.delete_column(call.path("audienceId"), call.path("columnId")).await?;
    no_content()
}

#[derive(Deserialize)]
struct CriteriaBody {
    data: CriteriaData,
}

#[derive(Deserialize)]
struct CriteriaData {
    #[serde(rename = "type")]
    kind: Option<String>,
    attributes: Option<CriteriaAttributes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CriteriaAttributes {
    match_criteria: Option<Vec<MatchCriterion>>,
}

pub(crate) async fn set_match_criteria(call: Call) -> Outcome {
    let mut criteria = None;
    if call.has_body() {
        let body: CriteriaBody = call.document()?;
        check_type(body.data.kind.as_deref(), "UpsertMatchCriteria", "/data/type")?;
        criteria = body.data.attributes.and_then(|attributes| attributes.match_criteria);
    }
    let column = call.tenant.set_match_criteria(call.path("audienceId"), criteria.as_deref()).await?;
    answer(StatusCode::OK, &Document { data: view(&column, &call.caller) })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FilterMetadata<'a> {
    filter_metadata: Vec<ColumnFilter<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ColumnFilter<'a> {
    column_id: &'a str,
    is_filterable: bool,
    filter_operators: Vec<FilterOperator>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FilterOperator {
    operator: &'static str,
    is_multiple_supported: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_count_limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_char_limit: Option<usize>,
}

/// Tells exactly what a search accepts: both come from the same table.
pub(crate) async fn filter_metadata(call: Call) -> Outcome {
    let (audience, columns) = call.tenant.audience(call.path("audienceId")).await?;
    let filter_metadata = columns.iter().map(column_filter).collect();
    let attributes = FilterMetadata { filter_metadata };
    let data = Resource { id: &audience.id, kind: "AudienceFilterMetadata", attributes, meta: None };
    answer(StatusCode::OK, &Document { data })
}

fn column_filter(column: &Column) -> ColumnFilter<'_> {
    let operators = column.operators().iter().map(|info| FilterOperator {
        operator: info.operator.as_str(),
        is_multiple_supported: info.multiple,
        value_count_limit: info.value_count_limit,
        min_char_limit: info.min_char_limit,
    });
    ColumnFilter { column_id: &column.id, is_filterable: column.is_filterable(), filter_operators: operators.collect() }
}
