//! Starts enrichments, asks how they stand, and reads what became of the cells.

use std::collections::HashSet;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use convoke_core::enrichment::{CellState, EnrichmentAnswer, EnrichmentJob, EnrichmentScope, RowStates};
use convoke_core::sink::{AudienceBinding, JobId};
use convoke_core::{RowId, SinkError};
use reqwest::Method;
use serde::Serialize;

use crate::answers::Purpose;
use crate::api::{Api, Outcome};
use crate::echo::Echo;
use crate::row_document::{Cell, Row, RowList};
use crate::search::{PAGE_LIMIT, PAGE_ROWS, changed_meanwhile, read_page, search_call};
use crate::wire::{Document, Identified, JobAttributes, Resource, RowSearch, encode};

/// Rows per enrichment. The API names no bound; this is what one page of a search shows.
pub(crate) const ENRICH_ROWS: usize = PAGE_ROWS;

/// Shown for a failed cell whose summary is missing or could repeat a value.
const NO_SUMMARY: &str = "the destination gives no reason that can be shown";

#[derive(Serialize)]
struct Enrichment<'a> {
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<&'a str>>,
}

/// See [`Sink::enrich`](convoke_core::sink::Sink::enrich).
pub(crate) async fn enrich(
    api: &Api,
    audience: &AudienceBinding,
    scope: &EnrichmentScope,
) -> Result<EnrichmentAnswer, SinkError> {
    let attributes = match scope.rows() {
        None => Enrichment { scope: "AUDIENCE", rows: None },
        Some([]) => return Ok(EnrichmentAnswer::NothingToDo),
        Some(rows) => Enrichment { scope: "ROW", rows: Some(rows.iter().map(RowId::as_str).collect()) },
    };
    let path = ["audiences", &audience.key.audience_id, "actions", "enrich"];
    let call = api.call(Purpose::Enrich, Method::POST, &path).body(encode("AudienceEnrichment", attributes));
    let outcome = match api.attempt(&call).await? {
        Outcome::Done { status: 204, .. } => return Ok(EnrichmentAnswer::NothingToDo),
        Outcome::Done { body, .. } => match serde_json::from_slice::<Document<Identified>>(&body) {
            Ok(document) => return Ok(EnrichmentAnswer::Started(JobId(document.data.id))),
            Err(_) => call.unconfirmed()?,
        },
        outcome => outcome,
    };
    Ok(match outcome {
        Outcome::Refused { status: 402, body, .. } => {
            EnrichmentAnswer::NoCredits { reason: call.refusal_code(402, &body) }
        }
        Outcome::Refused { status, body, .. } => EnrichmentAnswer::Refused { reason: call.refusal_code(status, &body) },
        Outcome::NotApplied { reason, retry_after } => EnrichmentAnswer::NotStarted { reason, retry_after },
        Outcome::Unknown { trouble } => EnrichmentAnswer::Unknown { reason: trouble.summary },
        Outcome::Done { .. } => EnrichmentAnswer::Unknown { reason: "the answer was not understood".to_owned() },
    })
}

/// See [`Sink::enrichment`](convoke_core::sink::Sink::enrichment).
pub(crate) async fn enrichment(api: &Api, audience: &AudienceBinding, job: &JobId) -> Result<EnrichmentJob, SinkError> {
    let call = api.call(Purpose::Poll, Method::GET, &["audiences", &audience.key.audience_id, "jobs", &job.0]);
    let document: Document<Resource<JobAttributes>> = match api.read_document(&call).await {
        Err(SinkError::NotFound { .. }) => return Ok(EnrichmentJob::Unknown),
        document => document?,
    };
    Ok(match document.data.attributes.status.as_str() {
        "SCHEDULED" | "RUNNING" => EnrichmentJob::Running,
        "SUCCEEDED" => EnrichmentJob::Succeeded,
        "PARTIALLY_SUCCEEDED" => EnrichmentJob::PartiallySucceeded,
        "FAILED" => EnrichmentJob::Failed,
        "CANCELLED" => EnrichmentJob::Cancelled,
        _ => EnrichmentJob::Unknown,
    })
}

/// See [`Sink::cell_states`](convoke_core::sink::Sink::cell_states).
///
/// The other cells of a row come with it: what an error says is held against them before it is shown.
pub(crate) async fn cell_states(
    api: &Api,
    audience: &AudienceBinding,
    column_ids: &[String],
    scope: &EnrichmentScope,
    limit: usize,
) -> Result<Vec<RowStates>, SinkError> {
    let mut states = Vec::new();
    match scope.rows() {
        Some(rows) => {
            for part in rows.chunks(PAGE_ROWS) {
                let ids: Vec<&str> = part.iter().map(RowId::as_str).collect();
                let wanted: HashSet<&str> = ids.iter().copied().collect();
                let search = RowSearch { filter: None, ids: Some(ids) };
                let mut read = read_states(api, audience, column_ids, search, part.len()).await?;
                read.retain(|row| wanted.contains(row.row_id.as_str()));
                states.append(&mut read);
            }
        }
        None => states = read_states(api, audience, column_ids, RowSearch::default(), limit).await?,
    }
    Ok(states)
}

async fn read_states(
    api: &Api,
    audience: &AudienceBinding,
    column_ids: &[String],
    search: RowSearch<'_>,
    limit: usize,
) -> Result<Vec<RowStates>, SinkError> {
    let call = search_call(api, Purpose::LookUp, audience, &[], search);
    let mut states = Vec::new();
    let mut seen = 0;
    for number in 1..=PAGE_LIMIT {
        let body = read_page(api, &call, number).await?;
        let page = RowList::parse(&body).ok_or_else(|| call.unreadable())?;
        seen += page.data.len() as u64;
        for row in &page.data {
            let id = row.id().ok_or_else(|| call.unreadable())?;
            let cells = column_ids.iter().map(|id| cell_state(row, id)).collect();
            states.push(RowStates { row_id: RowId::new(id), cells });
        }
        if states.len() >= limit {
            states.truncate(limit);
            return Ok(states);
        }
        if page.is_last(seen) {
            let is_short = page.total().is_some_and(|total| seen < total);
            return if is_short { Err(changed_meanwhile(&call)) } else { Ok(states) };
        }
    }
    Ok(states)
}

fn cell_state(row: &Row<'_>, column_id: &str) -> CellState {
    let Some(cell) = row.cell(column_id) else { return CellState::Other };
    match cell.state() {
        Some("RESULT") => CellState::Result,
        Some("NO_RESULT") => CellState::NoResult,
        Some("LOADING") => CellState::Loading,
        Some("BLANK") => CellState::Blank,
        Some("ERROR") => CellState::Error { summary: summary(row, cell) },
        _ => CellState::Other,
    }
}

fn summary(row: &Row<'_>, cell: &Cell<'_>) -> String {
    let texts = row.cells().iter().map(Cell::canonical_text);
    let values = StringArray::from_iter(texts);
    let cells = RecordBatch::try_from_iter_with_nullable([("cells", std::sync::Arc::new(values) as ArrayRef, true)]);
    let echo = Echo::of(&cells.expect("one column has one length"));
    let summary = cell.summary().and_then(|summary| echo.clean_detail(summary));
    summary.unwrap_or_else(|| NO_SUMMARY.to_owned())
}
