//! One token for all callers, renewed in time and once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use convoke_core::SinkError;
use convoke_core::sink::{Answer, JobId, JobState, Sink};
use convoke_testkit::scripted_http::{HttpAnswer, Release, Reply};
use futures::future::join_all;
use serde_json::json;

use crate::fixture::{SECRET, Service, audience, create, page, row};

fn job() -> serde_json::Value {
    json!({"data": {"id": "j", "type": "JobStatus", "attributes": {"status": "RUNNING"}}})
}

async fn poll(service: &Service) -> Result<JobState, SinkError> {
    service.sink.poll(&audience(), &JobId("j".to_owned())).await
}

#[tokio::test]
async fn a_token_is_asked_for_with_basic_authentication_and_put_into_every_request() {
    let service = Service::start().await;
    service.then(200, &job());
    poll(&service).await.unwrap();
    let requests = service.http.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("POST", "/token"));
    assert_eq!(requests[0].text(), "grant_type=client_credentials");
    // `client+one:s3cret-c4nary`, form-encoded before base64.
    assert_eq!(requests[0].header("authorization"), Some("Basic Y2xpZW50K29uZTpzM2NyZXQtYzRuYXJ5"));
    assert_eq!(requests[0].header("accept"), Some("application/json"));
    assert_eq!(requests[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(requests[1].header("authorization"), Some("Bearer token-1"));
    assert_eq!(requests[1].header("accept"), Some("application/vnd.api+json"));
    assert!(requests.iter().all(|request| request.header("user-agent") == Some("convoke/test")));
    assert_eq!(service.gate.admitted.load(Ordering::Relaxed), 2);
    assert_eq!(service.gate.reports.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn twenty_concurrent_calls_share_one_token_request() {
    let service = Service::without_tokens().await;
    let release = Release::new();
    let held = Arc::clone(&release);
    service.http.route("POST", "/token", move |_| {
        let answer = HttpAnswer::json(200, &json!({"access_token": "shared", "expires_in": 3600}));
        Reply::Held { release: Arc::clone(&held), then: Box::new(answer.into()) }
    });
    service.http.route("GET", "/studio", |_| Reply::json(200, &job()));
    let calls = join_all((0..20).map(|_| poll(&service)));
    let let_go = async {
        service.http.wait_for_requests("/token", 1).await;
        release.let_go();
    };
    let (states, ()) = tokio::join!(calls, let_go);
    assert!(states.into_iter().all(|state| state.unwrap() == JobState::Running));
    assert_eq!(service.http.requests_to("/token").len(), 1);
    assert_eq!(service.http.requests_to("/studio").len(), 20);
}

#[tokio::test]
async fn a_wrong_secret_is_tried_once_for_all_who_wait_and_named_without_being_shown() {
    let service = Service::without_tokens().await;
    let release = Release::new();
    let held = Arc::clone(&release);
    service.http.route("POST", "/token", move |_| {
        let answer = HttpAnswer::json(401, &json!({"error": "invalid_client", "error_description": SECRET}));
        Reply::Held { release: Arc::clone(&held), then: Box::new(answer.into()) }
    });
    let calls = join_all((0..20).map(|_| poll(&service)));
    let let_go = async {
        service.http.wait_for_requests("/token", 1).await;
        release.let_go();
    };
    let (states, ()) = tokio::join!(calls, let_go);
    for state in states {
        let Err(error @ SinkError::Unauthorized { .. }) = state else { panic!("expected a refusal") };
        let text = error.to_string();
        for part in ["`127.0.0.1:", "401 invalid_client", "`client_secret`"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!format!("{error:?}").contains(SECRET));
    }
    assert_eq!(service.http.requests_to("/token").len(), 1);
    assert!(poll(&service).await.is_err());
    assert_eq!(service.http.requests_to("/token").len(), 2, "a later call tries again");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let service = Service::start().await;
    service.http.route("GET", "/studio", |_| Reply::json(200, &job()));
    poll(&service).await.unwrap();
    service.clock.move_on(3239);
    poll(&service).await.unwrap();
    assert_eq!(service.http.requests_to("/token").len(), 1);
    service.clock.move_on(1);
    poll(&service).await.unwrap();
    assert_eq!(service.http.requests_to("/token").len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_same_request_sent_again() {
    let service = Service::start().await;
    let rows = [row("a", Some(crate::fixture::key(1))), row("b", Some(crate::fixture::key(2)))];
    service.then(401, &json!({"errors": [{"code": "ZI0001"}]})).then(200, &page(&rows, 2));
    let answer = service.sink.send(&audience(), &create()).await.unwrap();
    assert!(matches!(answer, Answer::Applied(rows) if rows.len() == 2));
    let sent = service.http.requests_to("/studio");
    let tokens: Vec<_> = sent.iter().map(|request| request.header("authorization").unwrap()).collect();
    assert_eq!(tokens, ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(sent[0].body, sent[1].body);
}

#[tokio::test]
async fn a_second_refusal_of_the_token_stops_the_run() {
    let service = Service::start().await;
    service.then(401, &json!({})).then(401, &json!({"error": {"code": "ZI0001", "message": "expired"}}));
    let error = service.sink.send(&audience(), &create()).await.unwrap_err();
    assert!(matches!(error, SinkError::Unauthorized { .. }));
    assert!(error.to_string().contains("ZI0001") && error.to_string().contains("`token_url`"), "{error}");
    assert_eq!(service.http.requests_to("/studio").len(), 2);
}

#[tokio::test]
async fn without_a_token_service_nothing_was_applied() {
    let service = Service::without_tokens().await;
    service.http.then(HttpAnswer::new(503, "").header("Retry-After", "9").into()).then(Reply::DropRead);
    for seconds in [Some(9), None] {
        let answer = service.sink.send(&audience(), &create()).await.unwrap();
        let Answer::NotApplied { retry_after, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(retry_after.map(|wait| wait.as_secs()), seconds);
    }
    assert!(service.http.requests_to("/studio").is_empty());
}

#[tokio::test]
async fn an_answer_that_is_no_token_names_the_token_url() {
    let service = Service::without_tokens().await;
    for reply in [HttpAnswer::new(200, "<html>"), HttpAnswer::new(404, ""), HttpAnswer::new(302, "")] {
        service.http.then(reply.into());
        let error = service.sink.send(&audience(), &create()).await.unwrap_err();
        assert!(
            matches!(error, SinkError::Unauthorized { .. }) && error.to_string().contains("`token_url`"),
            "{error}"
        );
    }
}
