//! Enrichments: what is asked for, and how their jobs and cells are understood.

use convoke_core::enrichment::{CellState, EnrichmentAnswer, EnrichmentJob, EnrichmentScope};
use convoke_core::sink::{JobId, Sink};
use convoke_testkit::scripted_http::{End, HttpAnswer, Reply, Sent};
use serde_json::{Value, json};

use crate::fixture::{SEARCH, Service, audience, page, row_ids};

const ENRICH: &str = "/studio/audiences/aud/actions/enrich";

fn job(id: &str) -> Value {
    json!({"data": {"id": id, "type": "EnrichJob"}})
}

async fn asked(scope: &EnrichmentScope) -> Value {
    let service = Service::start().await;
    service.then(202, &job("j"));
    let started = service.sink.enrich(&audience(), scope).await.expect("an answer");
    assert_eq!(started, EnrichmentAnswer::Started(JobId("j".to_owned())));
    service.http.requests_to(ENRICH)[0].json()
}

#[tokio::test]
async fn rows_are_named_and_an_audience_is_not() {
    let rows = asked(&EnrichmentScope::Rows(row_ids())).await;
    assert_eq!(
        rows,
        json!({"data": {"type": "AudienceEnrichment", "attributes": {"scope": "ROW", "rows": ["r1", "r2"]}}})
    );
    let all = asked(&EnrichmentScope::Audience).await;
    assert_eq!(all, json!({"data": {"type": "AudienceEnrichment", "attributes": {"scope": "AUDIENCE"}}}));
}

#[tokio::test]
async fn without_rows_nothing_is_asked_for() {
    let service = Service::start().await;
    let told = service.sink.enrich(&audience(), &EnrichmentScope::Rows(Vec::new())).await;
    assert_eq!(told.expect("an answer"), EnrichmentAnswer::NothingToDo);
    assert_eq!(service.http.requests().len(), 0);
}

async fn told(reply: Reply) -> EnrichmentAnswer {
    let service = Service::start().await;
    service.http.then(reply);
    let told = service.sink.enrich(&audience(), &EnrichmentScope::Rows(row_ids())).await.expect("an answer");
    assert_eq!(service.http.requests_to(ENRICH).len(), 1, "one call is one request");
    told
}

#[tokio::test]
async fn credits_a_refusal_and_a_lost_answer_are_told_apart() {
    assert_eq!(told(HttpAnswer::new(204, "").into()).await, EnrichmentAnswer::NothingToDo);
    let code = json!({"errors": [{"id": "1", "code": "PFAPI0011", "status": "402"}]});
    let no_credits = told(Reply::json(402, &code)).await;
    assert!(
        matches!(&no_credits, EnrichmentAnswer::NoCredits { reason } if reason.contains("402: PFAPI0011")),
        "{no_credits:?}"
    );
    assert!(matches!(told(Reply::json(403, &code)).await, EnrichmentAnswer::Refused { .. }));
    assert!(matches!(told(Reply::json(400, &code)).await, EnrichmentAnswer::Refused { .. }));
    assert!(matches!(told(Reply::json(429, &code)).await, EnrichmentAnswer::NotStarted { .. }));
    assert!(matches!(told(Reply::json(503, &code)).await, EnrichmentAnswer::Unknown { .. }));
    let cut = Reply::Broken { answer: HttpAnswer::json(202, &job("j")), sent: Sent::HalfBody, end: End::Close };
    assert!(matches!(told(cut).await, EnrichmentAnswer::Unknown { .. }));
}

#[tokio::test]
async fn every_state_of_a_job_is_understood() {
    let states = [
        ("SCHEDULED", EnrichmentJob::Running),
        ("RUNNING", EnrichmentJob::Running),
        ("SUCCEEDED", EnrichmentJob::Succeeded),
        ("PARTIALLY_SUCCEEDED", EnrichmentJob::PartiallySucceeded),
        ("FAILED", EnrichmentJob::Failed),
        ("CANCELLED", EnrichmentJob::Cancelled),
        ("PAUSED", EnrichmentJob::Unknown),
    ];
    for (status, expected) in states {
        let service = Service::start().await;
        service.then(200, &json!({"data": {"id": "j", "type": "JobStatus", "attributes": {"status": status}}}));
        let told = service.sink.enrichment(&audience(), &JobId("j".to_owned())).await.expect("an answer");
        assert_eq!(told, expected, "{status}");
    }
    let service = Service::start().await;
    service.then(404, &json!({"errors": []}));
    let gone = service.sink.enrichment(&audience(), &JobId("j".to_owned())).await.expect("an answer");
    assert_eq!(gone, EnrichmentJob::Unknown);
}

/// A row with a name and a match cell.
fn row(id: &str, name: &str, state: &str, summary: Option<&str>) -> Value {
    let details = summary.map(|summary| json!({"summary": summary, "description": "d", "retryable": true}));
    json!({"id": id, "type": "Row", "attributes": {"values": [
        {"columnId": "c-name", "value": name, "state": "RESULT"},
        {"columnId": "c-match", "value": null, "state": state, "errorDetails": details},
    ]}})
}

async fn states(rows: &[Value], scope: &EnrichmentScope) -> Vec<(String, CellState)> {
    let service = Service::start().await;
    service.then(200, &page(rows, rows.len()));
    let read = service.sink.cell_states(&audience(), &["c-match".to_owned()], scope, 10).await.expect("rows");
    assert_eq!(service.http.requests_to(SEARCH).len(), 1);
    read.into_iter().map(|row| (row.row_id.as_str().to_owned(), row.cells[0].clone())).collect()
}

#[tokio::test]
async fn the_state_of_each_cell_is_read_and_no_value_is_shown() {
    let rows = [
        row("r1", "Zoë Canary", "RESULT", None),
        row("r2", "Zoë Canary", "ERROR", Some("Nobody called Canary is known")),
    ];
    let hidden = CellState::Error { summary: "the destination gives no reason that can be shown".to_owned() };
    let expected = [("r1".to_owned(), CellState::Result), ("r2".to_owned(), hidden)];
    assert_eq!(states(&rows, &EnrichmentScope::Rows(row_ids())).await, expected);

    let rows = [
        row("a", "x", "NO_RESULT", None),
        row("b", "x", "LOADING", None),
        row("c", "x", "BLANK", None),
        row("d", "x", "PAUSED", None),
        row("e", "y", "ERROR", Some("The company has no domain")),
    ];
    let told: Vec<CellState> = states(&rows, &EnrichmentScope::Audience).await.into_iter().map(|row| row.1).collect();
    let shown = CellState::Error { summary: "The company has no domain".to_owned() };
    assert_eq!(told, [CellState::NoResult, CellState::Loading, CellState::Blank, CellState::Other, shown]);
}

#[tokio::test]
async fn of_a_whole_audience_only_a_sample_is_read() {
    let service = Service::start().await;
    let rows: Vec<Value> = (0..4).map(|number| row(&format!("r{number}"), "x", "RESULT", None)).collect();
    service.then(200, &page(&rows, 9));
    let read = service.sink.cell_states(&audience(), &["c-match".to_owned()], &EnrichmentScope::Audience, 3).await;
    assert_eq!(read.expect("rows").len(), 3);
    assert_eq!(service.http.requests_to(SEARCH).len(), 1);
}
