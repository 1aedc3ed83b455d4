//! A sink, the scripted service it talks to, and what it sends.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use convoke_core::gate::{Closed, Feedback, Gate};
use convoke_core::hash::KeyHash;
use convoke_core::sink::{AttemptTag, AudienceBinding, BoundColumn, KeyCell, KeyLookUp, Request};
use convoke_core::spec::HttpSettings;
use convoke_core::{AudienceKey, Clock, ConnectionName, DataType, RowId, Timestamp};
use convoke_sink_gtm::{GtmSettings, GtmSink};
use convoke_testkit::scripted_http::{HttpAnswer, Reply, ScriptedHttp};
use secrecy::SecretString;
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "s3cret-c4nary";
/// Why locks are not expected to be poisoned.
pub(crate) const UNPOISONED: &str = "no test panics while it holds a lock";

pub(crate) const UPSERT: &str = "/studio/audiences/aud/rows/actions/bulk/upsert";
pub(crate) const DELETE: &str = "/studio/audiences/aud/rows/actions/bulk/delete";
pub(crate) const SEARCH: &str = "/studio/audiences/aud/rows/actions/search";

/// A sink and its service.
pub(crate) struct Service {
    pub(crate) http: ScriptedHttp,
    pub(crate) sink: GtmSink,
    pub(crate) gate: Arc<CountingGate>,
    pub(crate) clock: Arc<HandClock>,
}

impl Service {
    /// A service that hands out tokens `token-1`, `token-2`, … good for an hour.
    pub(crate) async fn start() -> Self {
        let service = Self::without_tokens().await;
        let tokens = AtomicUsize::new(0);
        service.http.route("POST", "/token", move |_| {
            let number = tokens.fetch_add(1, Ordering::Relaxed) + 1;
            Reply::json(200, &json!({"access_token": format!("token-{number}"), "expires_in": 3600}))
        });
        service
    }

    pub(crate) async fn without_tokens() -> Self {
        let http = ScriptedHttp::start().await;
        let (gate, clock) = (Arc::new(CountingGate::default()), Arc::new(HandClock::default()));
        let sink = GtmSink::new(settings(&http.url()), Arc::clone(&gate) as _, Arc::clone(&clock) as _);
        let sink = sink.expect("settings that work");
        Self { http, sink, gate, clock }
    }

    pub(crate) fn then(&self, status: u16, body: &Value) -> &Self {
        self.http.then(Reply::json(status, body));
        self
    }
}

pub(crate) fn settings(url: &str) -> GtmSettings {
    GtmSettings {
        base_url: format!("{url}/studio/"),
        token_url: format!("{url}/token"),
        client_id: "client one".to_owned(),
        client_secret: SecretString::from(SECRET),
        http: HttpSettings {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            proxy: None,
            ca_file: None,
        },
        requests_in_flight: 4,
        max_commit_delay: Duration::from_secs(300),
        settle: Duration::from_secs(30),
        user_agent: "convoke/test".to_owned(),
    }
}

/// Counts what passes, and keeps what it is told.
#[derive(Default)]
pub(crate) struct CountingGate {
    pub(crate) admitted: AtomicUsize,
    pub(crate) reports: Mutex<Vec<Feedback>>,
    pub(crate) closed: Mutex<Option<Closed>>,
}

#[async_trait]
impl Gate for CountingGate {
    async fn admit(&self) -> Result<(), Closed> {
        if let Some(closed) = *self.closed.lock().expect(UNPOISONED) {
            return Err(closed);
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn report(&self, feedback: Feedback) {
        self.reports.lock().expect(UNPOISONED).push(feedback);
    }
}

/// A clock that moves when a test says so.
#[derive(Default)]
pub(crate) struct HandClock {
    millis: AtomicI64,
}

impl HandClock {
    pub(crate) fn move_on(&self, seconds: i64) {
        self.millis.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.millis.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed).unsigned_abs())
    }

    async fn sleep(&self, _duration: Duration) {}
}

pub(crate) fn audience() -> AudienceBinding {
    let column = |id: &str, name: &str, data_type| BoundColumn { id: id.into(), name: name.into(), data_type };
    AudienceBinding {
        key: AudienceKey { connection: ConnectionName::new("gtm"), audience_id: "aud".to_owned() },
        name: "Booth".to_owned(),
        columns: vec![column("c-name", "Name", DataType::Text), column("c-mail", "Email", DataType::Email)],
        key_column_id: "c-key".to_owned(),
        key_look_up: Some(KeyLookUp { values_per_request: 2, by_prefix: true }),
    }
}

pub(crate) fn key(number: u8) -> KeyCell {
    KeyCell { key: KeyHash([number; 16]), tag: AttemptTag(9) }
}

pub(crate) fn cells() -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Zoë \"Z\" Canary"), None]));
    let mails: ArrayRef = Arc::new(StringArray::from(vec!["canary-bird@corp.example", "bo@corp.example"]));
    RecordBatch::try_from_iter_with_nullable([("Name", names, true), ("Email", mails, true)])
        .expect("two columns of one length")
}

pub(crate) fn create() -> Request {
    Request::Create { cells: cells(), key_cells: vec![key(1), key(2)] }
}

pub(crate) fn update() -> Request {
    Request::Update { cells: cells(), row_ids: row_ids() }
}

pub(crate) fn delete() -> Request {
    Request::Delete { row_ids: row_ids() }
}

pub(crate) fn row_ids() -> Vec<RowId> {
    vec![RowId::new("r1"), RowId::new("r2")]
}

/// A row as the service gives it.
pub(crate) fn row(id: &str, key_cell: Option<KeyCell>) -> Value {
    let key_text = key_cell.map(|key_cell| key_cell.to_string());
    let state = if key_text.is_some() { "RESULT" } else { "BLANK" };
    json!({"id": id, "type": "Row", "attributes": {"values": [
        {"columnId": "c-name", "value": "canary", "state": "RESULT"},
        {"columnId": "c-key", "value": key_text, "state": state},
    ]}})
}

/// A page of rows, with the total told.
pub(crate) fn page(rows: &[Value], total: usize) -> Value {
    json!({"data": rows, "meta": {"page": {"size": 500, "number": 1}, "total": total}, "links": {}})
}

pub(crate) fn answer(status: u16, body: &Value) -> HttpAnswer {
    HttpAnswer::json(status, body)
}
