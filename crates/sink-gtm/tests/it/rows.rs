//! Requests that write rows, and their answers.

use convoke_core::RowId;
use convoke_core::SinkError;
use convoke_core::sink::{Answer, AppliedRow, JobId, JobState, Sink};
use convoke_testkit::scripted_http::HttpAnswer;
use serde_json::json;

use crate::fixture::{DELETE, Service, UPSERT, audience, create, delete, key, page, row, update};

fn applied(index: usize, id: &str) -> AppliedRow {
    AppliedRow { index, row_id: RowId::new(id), failed_cells: Vec::new() }
}

#[tokio::test]
async fn creates_go_out_as_one_bulk_upsert_and_come_back_by_key() {
    let service = Service::start().await;
    service.then(200, &page(&[row("b", Some(key(2))), row("a", Some(key(1)))], 2));
    let answer = service.sink.send(&audience(), &create()).await.unwrap();
    assert_eq!(answer, Answer::Applied(vec![applied(0, "a"), applied(1, "b")]));
    let sent = &service.http.requests_to("/studio")[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", UPSERT));
    assert_eq!(sent.header("content-type"), Some("application/vnd.api+json"));
    let expected = concat!(
        r#"{"data":[{"type":"Row","attributes":{"values":[{"columnId":"c-name","value":"Zoë \"Z\" Canary"},"#,
        r#"{"columnId":"c-mail","value":"canary-bird@corp.example"},"#,
        r#"{"columnId":"c-key","value":"01010101010101010101010101010101.00000009"}]}},"#,
        r#"{"type":"Row","attributes":{"values":[{"columnId":"c-name","value":null},"#,
        r#"{"columnId":"c-mail","value":"bo@corp.example"},"#,
        r#"{"columnId":"c-key","value":"02020202020202020202020202020202.00000009"}]}}]}"#,
    );
    assert_eq!(sent.text(), expected);
}

#[tokio::test]
async fn updates_go_out_with_row_ids_and_come_back_by_them() {
    let service = Service::start().await;
    service.then(200, &page(&[row("r2", None)], 1));
    let answer = service.sink.send(&audience(), &update()).await.unwrap();
    assert_eq!(answer, Answer::Applied(vec![applied(1, "r2")]), "a row that is missing is left out");
    let sent = &service.http.requests_to("/studio")[0];
    assert_eq!(sent.target, UPSERT);
    assert_eq!(sent.json()["data"][0]["id"], "r1");
    assert!(!sent.text().contains("c-key"));
}

#[tokio::test]
async fn deletes_go_out_with_a_body_and_are_accepted_as_a_job() {
    let service = Service::start().await;
    service.then(202, &json!({"data": {"id": "job-1", "type": "RowAsyncJob"}}));
    let answer = service.sink.send(&audience(), &delete()).await.unwrap();
    assert_eq!(answer, Answer::Accepted(JobId("job-1".to_owned())));
    let sent = &service.http.requests_to("/studio")[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("DELETE", DELETE));
    assert_eq!(sent.text(), r#"{"data":[{"id":"r1","type":"Row"},{"id":"r2","type":"Row"}]}"#);
}

#[tokio::test]
async fn a_delete_that_is_answered_without_a_job_confirms_no_row() {
    let service = Service::start().await;
    service.http.then(HttpAnswer::new(204, "").into());
    assert_eq!(service.sink.send(&audience(), &delete()).await.unwrap(), Answer::Applied(Vec::new()));
    service.then(202, &json!({"data": {}}));
    assert!(matches!(service.sink.send(&audience(), &delete()).await.unwrap(), Answer::Unknown { .. }));
}

#[tokio::test]
async fn a_refused_delete_names_the_row() {
    let service = Service::start().await;
    service.then(400, &json!({"errors": [{"code": "X", "title": "No such row", "source": {"pointer": "/data/1/id"}}]}));
    let Answer::Refused(refusal) = service.sink.send(&audience(), &delete()).await.unwrap() else { panic!() };
    assert_eq!((refusal.problems[0].index, refusal.problems[0].column.as_deref()), (Some(1), None));
}

#[tokio::test]
async fn jobs_are_polled_and_whatever_is_not_a_whole_success_asks_for_a_look() {
    let service = Service::start().await;
    let cases = [
        ("SCHEDULED", JobState::Running),
        ("RUNNING", JobState::Running),
        ("SUCCEEDED", JobState::Succeeded),
        ("PARTIALLY_SUCCEEDED", JobState::Incomplete),
        ("FAILED", JobState::Incomplete),
        ("CANCELLED", JobState::Incomplete),
        ("A_NEW_WORD", JobState::Incomplete),
    ];
    for (status, state) in cases {
        let attributes = json!({"status": status, "percentProgress": 5, "news": {}});
        service.then(200, &json!({"data": {"id": "j 1", "type": "JobStatus", "attributes": attributes}}));
        assert_eq!(service.sink.poll(&audience(), &JobId("j 1".to_owned())).await.unwrap(), state, "{status}");
    }
    assert_eq!(service.http.requests_to("/studio")[0].target, "/studio/audiences/aud/jobs/j%201");
    service.http.then(HttpAnswer::new(404, "").into()).then(HttpAnswer::new(500, "").into());
    assert_eq!(service.sink.poll(&audience(), &JobId("j".to_owned())).await.unwrap(), JobState::Incomplete);
    let error = service.sink.poll(&audience(), &JobId("j".to_owned())).await.unwrap_err();
    assert!(matches!(error, SinkError::Unavailable { .. }) && error.is_transient());
}
