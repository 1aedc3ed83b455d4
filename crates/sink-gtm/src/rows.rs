//! Sends creates, updates and deletes, and asks how deletes stand.

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use convoke_core::sink::{Answer, AppliedRow, AudienceBinding, JobId, JobState, KEY_COLUMN, Request};
use convoke_core::{RowId, SinkError};
use reqwest::Method;

use crate::answers::Purpose;
use crate::api::{Api, Call, Outcome};
use crate::echo::Echo;
use crate::problem::{self, RowShape};
use crate::row_answer::{self, Sent};
use crate::row_body;
use crate::wire::{Document, Identified, JobAttributes, Resource};

/// See [`Sink::send`](convoke_core::sink::Sink::send).
pub(crate) async fn send(api: &Api, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
    if request.row_count() == 0 {
        return Ok(Answer::Applied(Vec::new()));
    }
    match request {
        Request::Create { cells, key_cells } => {
            let body = row_body::creates(audience, cells, key_cells)?;
            let sent = Sent { audience, cells };
            let call = upsert_call(api, audience, Purpose::Create, body);
            upsert(api, &sent, call, |answer| row_answer::created(&sent, key_cells, answer)).await
        }
        Request::Update { cells, row_ids } => {
            let body = row_body::updates(audience, cells, row_ids)?;
            let sent = Sent { audience, cells };
            let call = upsert_call(api, audience, Purpose::Update, body);
            upsert(api, &sent, call, |answer| row_answer::updated(&sent, row_ids, answer)).await
        }
        Request::Delete { row_ids } => delete(api, audience, row_ids).await,
    }
}

/// See [`Sink::poll`](convoke_core::sink::Sink::poll).
///
/// A job that the service no longer knows, or whose status is a new word, may or may not have done its work: the
/// rows must be looked up, which is what [`JobState::Incomplete`] asks for.
pub(crate) async fn poll(api: &Api, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
    let call = api.call(Purpose::Poll, Method::GET, &["audiences", &audience.key.audience_id, "jobs", &job.0]);
    let document: Document<Resource<JobAttributes>> = match api.read_document(&call).await {
        Err(SinkError::NotFound { .. }) => return Ok(JobState::Incomplete),
        document => document?,
    };
    Ok(match document.data.attributes.status.as_str() {
        "SCHEDULED" | "RUNNING" => JobState::Running,
        "SUCCEEDED" => JobState::Succeeded,
        _ => JobState::Incomplete,
    })
}

fn upsert_call(api: &Api, audience: &AudienceBinding, purpose: Purpose, body: Vec<u8>) -> Call {
    let path = ["audiences", &audience.key.audience_id, "rows", "actions", "bulk", "upsert"];
    api.call(purpose, Method::POST, &path).body(body)
}

async fn upsert(
    api: &Api,
    sent: &Sent<'_>,
    call: Call,
    applied_rows: impl Fn(&[u8]) -> Option<Vec<AppliedRow>>,
) -> Result<Answer, SinkError> {
    let outcome = api.attempt(&call).await?;
    Ok(match outcome {
        Outcome::Done { body, .. } => match applied_rows(&body) {
            Some(rows) => Answer::Applied(rows),
            None => uncertain(call.unconfirmed()?),
        },
        Outcome::Refused { too_large, body, .. } => refused_cells(sent.audience, sent.cells, too_large, &body),
        other => uncertain(other),
    })
}

async fn delete(api: &Api, audience: &AudienceBinding, row_ids: &[RowId]) -> Result<Answer, SinkError> {
    let path = ["audiences", &audience.key.audience_id, "rows", "actions", "bulk", "delete"];
    let call = api.call(Purpose::Delete, Method::DELETE, &path).body(row_body::deletes(row_ids));
    let outcome = api.attempt(&call).await?;
    Ok(match outcome {
        Outcome::Done { status: 202, body } => match serde_json::from_slice::<Document<Identified>>(&body) {
            Ok(document) => Answer::Accepted(JobId(document.data.id)),
            Err(_) => uncertain(call.unconfirmed()?),
        },
        // The API declares 202 alone. Another 2xx names no row, so every row stays in doubt and is looked up.
        Outcome::Done { .. } => Answer::Applied(Vec::new()),
        Outcome::Refused { too_large, body, .. } => {
            let shape = RowShape { row_count: row_ids.len(), columns: Vec::new() };
            Answer::Refused(problem::refusal(&body, too_large, &shape, &Echo::default()))
        }
        other => uncertain(other),
    })
}

fn refused_cells(audience: &AudienceBinding, cells: &RecordBatch, too_large: bool, body: &Bytes) -> Answer {
    let mut columns: Vec<&str> = audience.columns.iter().map(|column| column.name.as_str()).collect();
    // Creates carry the key cell after the others; in updates no pointer reaches it.
    columns.push(KEY_COLUMN);
    let shape = RowShape { row_count: cells.num_rows(), columns };
    Answer::Refused(problem::refusal(body, too_large, &shape, &Echo::of(cells)))
}

fn uncertain(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::NotApplied { reason, retry_after } => Answer::NotApplied { reason, retry_after },
        Outcome::Unknown { trouble, .. } => Answer::Unknown { reason: trouble.summary },
        Outcome::Done { .. } | Outcome::Refused { .. } => {
            Answer::Unknown { reason: "the answer was not understood".to_owned() }
        }
    }
}
