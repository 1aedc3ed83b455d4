//! Canaries: a secret, a token and cell values that must turn up in no message and no log.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use convoke_core::sink::{Answer, Sink};
use convoke_testkit::scripted_http::{HttpAnswer, Reply};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::fixture::{SECRET, Service, UNPOISONED, audience, create, page, settings, update};

/// Collects everything that is logged.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    /// Listens to the whole process. A listener for one thread would miss the events that another thread meets first,
    /// because whether anybody listens is remembered per event and not per thread.
    fn listening() -> Self {
        let everything = Self::default();
        tracing::subscriber::set_global_default(everything.clone()).expect("nobody else listens");
        tracing::callsite::rebuild_interest_cache();
        everything
    }
}

impl tracing::Subscriber for Everything {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = self.0.lock().expect(UNPOISONED);
        writeln!(text, "{field}={value:?}").expect("a string takes every text");
    }
}

/// Parts of the fixture's cells, and what only we and the service know.
const CANARIES: [&str; 6] = [SECRET, "c2VjcmV0", "token-1", "canary-bird", "Zoë", "corp.example"];

fn assert_silent(text: &str) {
    let lower = text.to_lowercase();
    for canary in CANARIES {
        assert!(!lower.contains(&canary.to_lowercase()), "`{canary}` was told in: {text}");
    }
}

/// An error body that repeats values and secrets wherever it can.
fn talkative() -> serde_json::Value {
    let value = "canary-bird@corp.example";
    json!({"title": value, "detail": value, "errors": [
        {"id": value, "code": value, "status": "400", "title": format!("{value} is wrong"),
         "detail": format!("Zoë is wrong, {SECRET}, token-1"), "source": {"pointer": format!("/data/{value}")}},
        {"code": "X", "title": "Wrong", "detail": "Person Zoë is unknown", "source": {"pointer": "/data/0"}},
    ]})
}

#[tokio::test]
async fn no_message_and_no_log_line_repeats_a_secret_or_a_value() {
    let logged = Everything::listening();
    let service = Service::start().await;
    for status in [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503] {
        for request in [create(), update()] {
            service.http.then(Reply::json(status, &talkative()));
            if status == 401 {
                service.http.then(Reply::json(401, &talkative()));
            }
            match service.sink.send(&audience(), &request).await {
                Ok(answer) => assert_silent(&format!("{answer:?}")),
                Err(error) => assert_silent(&format!("{error} {error:?}")),
            }
        }
    }
    for reply in [Reply::DropRead, HttpAnswer::new(200, "canary-bird@corp.example").into()] {
        service.http.then(reply);
        assert_silent(&format!("{:?}", service.sink.send(&audience(), &create()).await));
    }
    assert_silent(&format!("{:?}", settings(&service.http.url())));
    let logged = logged.0.lock().unwrap();
    assert!(logged.contains("status=400"), "requests are logged: {logged}");
    assert_silent(&logged);
}

#[tokio::test]
async fn a_failed_cell_is_told_without_its_value() {
    let service = Service::start().await;
    let details = json!({"summary": "canary-bird@corp.example bounced", "description": "Zoë", "retryable": true});
    let failed = json!({"id": "r1", "attributes": {"values": [
        {"columnId": "c-mail", "value": "canary-bird@corp.example", "state": "ERROR", "errorDetails": details}]}});
    service.then(200, &page(&[failed], 1));
    let answer = service.sink.send(&audience(), &update()).await.unwrap();
    let Answer::Applied(rows) = &answer else { panic!("{answer:?}") };
    assert_eq!(rows[0].failed_cells[0].column, "Email");
    assert_silent(&format!("{answer:?}"));
}
