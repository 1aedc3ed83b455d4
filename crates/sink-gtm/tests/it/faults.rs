//! How sure each way of going wrong is told to be.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::SinkError;
use convoke_core::gate::{Closed, QuotaExhausted, Window};
use convoke_core::sink::{Answer, Sink};
use convoke_core::{RowId, Timestamp};
use convoke_sink_gtm::GtmSink;
use convoke_testkit::scripted_http::{HttpAnswer, Release, Reply};
use serde_json::json;

use crate::fixture::{Service, UPSERT, answer, audience, create, delete, page, row, settings, update};

async fn send(service: &Service) -> Result<Answer, SinkError> {
    service.sink.send(&audience(), &create()).await
}

async fn outcome_of(reply: Reply) -> Result<Answer, SinkError> {
    let service = Service::start().await;
    service.http.then(reply);
    send(&service).await
}

#[tokio::test]
async fn refusals_name_row_and_column_and_tell_too_large_apart() {
    let body = json!({"errors": [
        {"id": "1", "code": "PFAPI0008", "status": "400", "title": "Invalid value",
         "detail": "'canary-bird@corp.example' is not an e-mail address",
         "source": {"pointer": "/data/0/attributes/values/1/value"}},
        {"id": "2", "code": "PFAPI0003", "status": "400", "source": {"pointer": "/data/1/attributes/values/2/value"}},
    ]});
    for (status, is_too_large) in [(400, false), (422, false), (413, true)] {
        let Answer::Refused(refusal) = outcome_of(Reply::json(status, &body)).await.unwrap() else {
            panic!("{status}")
        };
        assert_eq!(refusal.too_large, is_too_large);
        let places: Vec<_> =
            refusal.problems.iter().map(|problem| (problem.index, problem.column.as_deref().unwrap())).collect();
        assert_eq!(places, [(Some(0), "Email"), (Some(1), "convoke_key")]);
        assert_eq!(refusal.problems[0].detail, "Invalid value: … is not an e-mail address");
    }
    let Answer::Refused(refusal) = outcome_of(HttpAnswer::new(400, "<html>").into()).await.unwrap() else { panic!() };
    assert!(refusal.problems.is_empty());
}

#[tokio::test]
async fn entitlement_and_absence_stop_the_run() {
    for status in [402, 403] {
        let error = outcome_of(Reply::json(status, &json!({"errors": [{"code": "ZI0002"}]}))).await.unwrap_err();
        assert!(matches!(error, SinkError::Forbidden { .. }) && error.to_string().contains("ZI0002"), "{error}");
    }
    let error = outcome_of(HttpAnswer::new(404, "").into()).await.unwrap_err();
    assert!(matches!(error, SinkError::NotFound { .. }) && error.to_string().contains(UPSERT), "{error}");
}

#[tokio::test]
async fn answers_outside_the_contract_stop_the_run_in_doubt() {
    for status in [302, 307, 405, 415] {
        let reply = HttpAnswer::new(status, "").header("Location", "http://elsewhere.example/");
        let error = outcome_of(reply.into()).await.unwrap_err();
        assert!(matches!(error, SinkError::Protocol { .. }), "{status}: {error}");
    }
}

#[tokio::test]
async fn time_outs_conflicts_and_server_errors_leave_the_request_in_doubt() {
    for status in [408, 409, 425, 500, 502, 503, 504] {
        let answer = outcome_of(Reply::json(status, &json!({"error": {"code": "PFAPI0007"}}))).await.unwrap();
        let Answer::Unknown { reason } = answer else { panic!("{status}: {answer:?}") };
        assert!(reason.contains(&status.to_string()) && reason.contains("PFAPI0007"), "{reason}");
    }
}

#[tokio::test]
async fn a_lost_or_broken_answer_leaves_the_request_in_doubt() {
    let whole = || answer(200, &page(&[row("a", None)], 1));
    let replies = [
        Reply::DropRead,
        Reply::Truncated { answer: whole(), body_bytes: 0 },
        Reply::Truncated { answer: whole(), body_bytes: 40 },
        HttpAnswer::new(200, "{\"data\": [").into(),
        HttpAnswer::new(200, "").into(),
        Reply::json(202, &json!({"data": {"id": "job", "type": "RowAsyncJob"}})),
    ];
    for (position, reply) in replies.into_iter().enumerate() {
        let answer = outcome_of(reply).await.unwrap();
        assert!(matches!(answer, Answer::Unknown { .. }), "{position}: {answer:?}");
    }
}

#[tokio::test]
async fn a_request_without_an_answer_in_time_is_in_doubt() {
    let service = Service::start().await;
    let release = Release::new();
    service.http.then(Reply::Held { release: Arc::clone(&release), then: Box::new(Reply::DropRead) });
    let mut hasty = settings(&service.http.url());
    hasty.http.request_timeout = Duration::from_millis(300);
    let sink = GtmSink::new(hasty, Arc::clone(&service.gate) as _, Arc::clone(&service.clock) as _).unwrap();
    let answer = sink.send(&audience(), &create()).await.unwrap();
    let Answer::Unknown { reason } = answer else { panic!("{answer:?}") };
    assert!(reason.contains("300ms"), "{reason}");
    release.let_go();
}

#[tokio::test]
async fn a_refused_connection_is_certainly_not_applied() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Service::start().await;
    let mut closed = settings(&service.http.url());
    closed.base_url = format!("http://127.0.0.1:{port}/studio");
    let sink = GtmSink::new(closed, Arc::clone(&service.gate) as _, Arc::clone(&service.clock) as _).unwrap();
    for request in [create(), update(), delete()] {
        let answer = sink.send(&audience(), &request).await.unwrap();
        let Answer::NotApplied { reason, .. } = answer else { panic!("{answer:?}") };
        assert!(reason.contains("refused"), "{reason}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_while_the_request_leaves_is_in_doubt() {
    let service = Service::start().await;
    service.then(200, &page(&[], 0));
    send(&service).await.unwrap();
    service.http.then(Reply::DropUnread);
    let answer = send(&service).await.unwrap();
    assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    assert_eq!(service.http.requests_to("/studio").len(), 1, "one call is one attempt");
}

#[tokio::test]
async fn a_429_is_not_applied_and_the_gate_learns_the_window_and_the_wait() {
    let service = Service::start().await;
    let reply = HttpAnswer::new(429, "")
        .header("Retry-After", "1200")
        .header("X-RateLimit-Rejected-Bucket", "hour")
        .header("X-RateLimit-Remaining-Hour", "0")
        .header("X-RateLimit-Remaining-Day", "77");
    service.http.then(reply.into());
    let answer = send(&service).await.unwrap();
    let wait = Some(Duration::from_secs(1200));
    assert!(matches!(&answer, Answer::NotApplied { retry_after, .. } if *retry_after == wait), "{answer:?}");
    let reports = service.gate.reports.lock().unwrap();
    let told = reports.last().unwrap();
    assert!(told.rejected);
    assert_eq!((told.rejected_window, told.retry_after), (Some(Window::Hour), wait));
    assert_eq!(told.remaining, [(Window::Hour, 0), (Window::Day, 77)]);
}

#[tokio::test]
async fn a_closed_gate_lets_nothing_out() {
    let service = Service::start().await;
    *service.gate.closed.lock().unwrap() = Some(Closed::Quota(QuotaExhausted { until: Timestamp(5) }));
    assert!(matches!(send(&service).await.unwrap_err(), SinkError::Quota(quota) if quota.until == Timestamp(5)));
    assert!(service.http.requests().is_empty());
}

#[tokio::test]
async fn what_a_gate_keeps_in_because_nothing_works_was_not_applied() {
    let service = Service::start().await;
    *service.gate.closed.lock().unwrap() = Some(Closed::Down { since: Timestamp(0) });
    let answer = send(&service).await.unwrap();
    let Answer::NotApplied { reason, .. } = &answer else { panic!("{answer:?}") };
    assert!(reason.contains("has failed since 1970-01-01"), "{reason}");
    assert!(service.http.requests().is_empty());
}

#[tokio::test]
async fn the_gate_learns_of_each_request_whether_it_failed() {
    let service = Service::start().await;
    service.then(200, &page(&[], 0));
    send(&service).await.unwrap();
    service.then(503, &serde_json::json!({}));
    send(&service).await.unwrap();
    service.then(400, &serde_json::json!({}));
    send(&service).await.unwrap();
    service.http.then(Reply::DropUnread);
    send(&service).await.unwrap();
    let failed: Vec<bool> = service.gate.reports.lock().unwrap().iter().map(|told| told.failed).collect();
    // The first is the token's.
    assert_eq!(failed, [false, false, true, false, true]);
}

#[tokio::test]
async fn requests_through_another_gate_share_the_token() {
    let service = Service::start().await;
    let other = std::sync::Arc::new(crate::fixture::CountingGate::default());
    let through = service.sink.through(std::sync::Arc::clone(&other) as _);
    service.then(200, &page(&[], 0)).then(200, &page(&[], 0));
    send(&service).await.unwrap();
    through.send(&audience(), &create()).await.unwrap();
    assert_eq!(service.http.requests_to("/token").len(), 1);
    let admitted = |gate: &crate::fixture::CountingGate| gate.admitted.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((admitted(&service.gate), admitted(&other)), (2, 1));
}

#[tokio::test]
async fn an_empty_request_is_not_sent() {
    let service = Service::start().await;
    let nothing = convoke_core::sink::Request::Delete { row_ids: Vec::<RowId>::new() };
    assert_eq!(service.sink.send(&audience(), &nothing).await.unwrap(), Answer::Applied(Vec::new()));
    assert!(service.http.requests().is_empty());
}
