//! A store that is served on a free port, and a client that speaks to it as to the vendor.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use convoke_store::Store;
use convoke_store_api::{ServeSettings, serve};
use convoke_testkit::clock::TestClock;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "a secret with spaces & signs";

pub(crate) struct Served {
    pub(crate) base: String,
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: Option<tempfile::TempDir>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::with(ServeSettings::default()).await
    }

    pub(crate) async fn with(settings: ServeSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut served = Self::on(&folder.path().join("store.db"), settings).await;
        served._folder = Some(folder);
        served
    }

    /// Serves a file of the caller's.
    pub(crate) async fn on(path: &Path, settings: ServeSettings) -> Self {
        // Another test of this process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = TestClock::stepping();
        let store = Store::open(path, Arc::<TestClock>::clone(&clock)).await.unwrap();
        store.ensure_client("tester", SECRET).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/gtm", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(store.clone(), listener, settings, shutdown.clone()));
        let http = reqwest::Client::builder().user_agent("store-tests/1").no_proxy().build().unwrap();
        let mut served = Self { base, store, clock, http, token: String::new(), shutdown, serving, _folder: None };
        served.token = served.new_token("tester", SECRET).await;
        served
    }

    /// Stops serving and closes the file.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.http);
        self.serving.await.unwrap().unwrap();
        self.store.close().await;
    }

    pub(crate) async fn new_token(&self, client_id: &str, secret: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", secret)];
        let answer = self.http.post(format!("{}/oauth/v1/token", self.base)).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/studio/v1{path}", self.base))
            .bearer_auth(&self.token)
            .header("accept", "application/vnd.api+json")
            .timeout(Duration::from_secs(60))
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.api+json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        let document = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (status, document)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Creates a contact audience and returns its id and the ids of its columns.
    pub(crate) async fn audience(&self, name: &str, columns: &[(&str, &str)]) -> (String, Vec<String>) {
        let columns: Vec<Value> = columns.iter().map(|(name, data_type)| column(name, data_type)).collect();
        let attributes = json!({"name": name, "type": "CONTACT", "origin": "CUSTOM", "columns": columns});
        let body = json!({"data": {"type": "Audience", "attributes": attributes}});
        let (status, document) = self.post("/audiences", body).await;
        assert_eq!(status, StatusCode::CREATED, "{document}");
        let data = &document["data"];
        let columns =
            data["attributes"]["columns"].as_array().unwrap().iter().map(|column| text(&column["id"])).collect();
        (text(&data["id"]), columns)
    }

    pub(crate) async fn record_count(&self, audience: &str) -> u64 {
        let (_, document) = self.get(&format!("/audiences/{audience}")).await;
        document["data"]["attributes"]["recordCount"].as_u64().unwrap()
    }

    pub(crate) async fn bulk_upsert(&self, audience: &str, rows: Vec<Value>) -> (StatusCode, Value) {
        self.post(&format!("/audiences/{audience}/rows/actions/bulk/upsert"), json!({"data": rows})).await
    }

    pub(crate) async fn search(&self, audience: &str, query: &str, attributes: Value) -> (StatusCode, Value) {
        let body = json!({"data": {"type": "RowSearch", "attributes": attributes}});
        self.post(&format!("/audiences/{audience}/rows/actions/search{query}"), body).await
    }
}

pub(crate) fn column(name: &str, data_type: &str) -> Value {
    json!({"type": "Column", "attributes": {"name": name, "dataType": data_type, "columnType": "CUSTOM"}})
}

/// A row for an upsert.
pub(crate) fn row(id: Option<&str>, cells: &[(&str, Value)]) -> Value {
    let values: Vec<Value> = cells.iter().map(|(id, value)| json!({"columnId": id, "value": value})).collect();
    let mut row = json!({"type": "Row", "attributes": {"values": values}});
    if let Some(id) = id {
        row["id"] = json!(id);
    }
    row
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The value of a row's cell.
pub(crate) fn cell<'a>(row: &'a Value, column: &str) -> &'a Value {
    let values = row["attributes"]["values"].as_array().unwrap();
    &values.iter().find(|cell| cell["columnId"] == column).unwrap()["value"]
}

/// Pointers and codes of an error document, after a look at what the vendor requires of it.
pub(crate) fn errors(status: StatusCode, document: &Value) -> Vec<(String, String)> {
    let errors = document["errors"].as_array().unwrap_or_else(|| panic!("no error document: {document}"));
    let read = |error: &Value| {
        assert!(error["id"].is_string() && error["code"].is_string(), "{error}");
        assert_eq!(error["status"], status.as_u16().to_string(), "{error}");
        let source = &error["source"];
        let place = source["pointer"].as_str().or(source["parameter"].as_str()).unwrap_or_default();
        (place.to_owned(), text(&error["code"]))
    };
    errors.iter().map(read).collect()
}
