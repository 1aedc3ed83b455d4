//! Paths and documents of the API.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::audience::Audience;

const PREFIX: &str = "/gtm/studio/v1/";
/// Values per filter, as filter metadata declares it.
const FILTER_VALUES: u32 = 100;

/// The service.
pub(crate) struct Api {
    echo: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    folders: BTreeMap<String, Value>,
    audiences: BTreeMap<String, Audience>,
    issued_ids: u64,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn error(status: u16, detail: &str) -> Self {
        let error = json!({ "id": "1", "code": "PFAPI0003", "status": status.to_string(), "detail": detail });
        Self::json(status, &json!({ "errors": [error] }))
    }

    fn json(status: u16, document: &Value) -> Self {
        Self { status, body: document.to_string().into_bytes() }
    }

    fn data(status: u16, data: Value) -> Self {
        Self::json(status, &json!({ "data": data }))
    }

    fn list(data: Vec<Value>) -> Self {
        let total = data.len();
        Self::json(200, &json!({ "data": data, "meta": { "page": { "size": total, "number": 1 }, "total": total } }))
    }
}

impl Api {
    pub(crate) fn new(echo: bool) -> Self {
        Self { echo, state: Mutex::default() }
    }

    pub(crate) fn answer(&self, method: &str, path: &str, authorized: bool, body: &[u8]) -> Answer {
        match (method, path) {
            ("GET", "/stats") => return self.stats(),
            ("POST", "/reset") => {
                *self.state() = State::default();
                return Answer::json(200, &json!({}));
            }
            ("POST", "/gtm/oauth/v1/token") => {
                let token = json!({ "access_token": "stand-in", "token_type": "Bearer", "expires_in": 86_400 });
                return Answer::json(200, &token);
            }
            _ => {}
        }
        if !authorized {
            return Answer::error(401, "the token is missing");
        }
        let segments: Vec<&str> = path.strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
        match segments[..] {
            ["folders"] => self.folders(method, body),
            ["folders", id] => found(self.state().folders.get(id).cloned()),
            ["audiences"] => self.audiences(method, body),
            ["audiences", id, ref rest @ ..] => self.audience(method, id, rest, body),
            _ => Answer::error(404, "no such path"),
        }
    }

    fn stats(&self) -> Answer {
        let state = self.state();
        let stats: serde_json::Map<String, Value> =
            state.audiences.values().map(|audience| (audience.name.clone(), audience.stats())).collect();
        Answer::json(200, &Value::Object(stats))
    }

    fn folders(&self, method: &str, body: &[u8]) -> Answer {
        let mut state = self.state();
        if method == "GET" {
            return Answer::list(state.folders.values().cloned().collect());
        }
        let Some(attributes) = attributes(body) else { return Answer::error(400, "the body is no folder") };
        let id = state.issue_id();
        let folder = json!({ "type": "Folder", "id": id, "attributes": attributes });
        state.folders.insert(id, folder.clone());
        Answer::data(201, folder)
    }

    fn audiences(&self, method: &str, body: &[u8]) -> Answer {
        let mut state = self.state();
        if method == "GET" {
            return Answer::list(state.audiences.iter().map(|(id, audience)| shown(id, audience, false)).collect());
        }
        let Some(mut attributes) = attributes(body) else { return Answer::error(400, "the body is no audience") };
        let columns = attributes["columns"].take();
        let mut audience = Audience::new(attributes);
        for column in columns.as_array().into_iter().flatten() {
            let column_id = state.issue_id();
            audience.add_column(column_id, column["attributes"].clone());
        }
        let id = state.issue_id();
        let document = shown(&id, &audience, true);
        state.audiences.insert(id, audience);
        Answer::data(201, document)
    }

    fn audience(&self, method: &str, id: &str, rest: &[&str], body: &[u8]) -> Answer {
        let mut state = self.state();
        let column_id = state.issue_id();
        let Some(audience) = state.audiences.get_mut(id) else { return Answer::error(404, "no such audience") };
        match (method, rest) {
            ("GET", []) => Answer::data(200, shown(id, audience, true)),
            ("GET", ["filter-metadata"]) => Answer::data(200, filter_metadata(id, audience)),
            ("GET", ["jobs", job]) => Answer::data(200, job_done(job)),
            ("PATCH", ["columns", column]) => {
                let changes = attributes(body).unwrap_or_default();
                found(audience.patch_column(column, &changes))
            }
            ("POST", ["columns", "actions", "bulk", "create"]) => add_columns(audience, &column_id, body),
            ("POST", ["actions", "match-criteria"]) => Answer::data(200, audience.columns().pop().unwrap_or_default()),
            ("POST", ["rows", "actions", "bulk", "upsert"]) => match audience.upsert(body, self.echo) {
                Ok(body) => Answer { status: 200, body },
                Err(detail) => Answer::error(400, detail),
            },
            ("DELETE", ["rows", "actions", "bulk", "delete"]) => match audience.delete(body) {
                Ok(()) => Answer::data(202, json!({ "type": "RowAsyncJob", "id": column_id })),
                Err(detail) => Answer::error(400, detail),
            },
            ("POST", ["rows", "actions", "search"]) => {
                Answer::list(audience.search(&attributes(body).unwrap_or_default()))
            }
            _ => Answer::error(404, "no such path"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn issue_id(&mut self) -> String {
        self.issued_ids += 1;
        format!("a0000000-0000-4000-8000-{:012x}", self.issued_ids)
    }
}

fn found(resource: Option<Value>) -> Answer {
    resource.map_or_else(|| Answer::error(404, "no such resource"), |resource| Answer::data(200, resource))
}

/// The attributes of the one resource in the body.
fn attributes(body: &[u8]) -> Option<Value> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    let attributes = document["data"]["attributes"].take();
    attributes.is_object().then_some(attributes)
}

fn shown(id: &str, audience: &Audience, with_columns: bool) -> Value {
    let mut attributes = audience.attributes.clone();
    attributes["recordCount"] = json!(audience.record_count());
    attributes["columns"] = if with_columns { json!(audience.columns()) } else { json!([]) };
    json!({ "type": "Audience", "id": id, "attributes": attributes })
}

/// Each new column's id is derived from one that was just issued, so that it is unique.
fn add_columns(audience: &mut Audience, issued_id: &str, body: &[u8]) -> Answer {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(columns) = document["data"].as_array() else { return Answer::error(400, "`data` is no list") };
    let added: Vec<Value> = columns
        .iter()
        .enumerate()
        .map(|(position, column)| {
            let id = format!("b{position:07x}{}", &issued_id[8..]);
            audience.add_column(id, column["attributes"].clone())
        })
        .collect();
    Answer::data(201, json!(added))
}

fn filter_metadata(id: &str, audience: &Audience) -> Value {
    let operator = json!({ "operator": "EQUALS", "isMultipleSupported": true, "valueCountLimit": FILTER_VALUES });
    let filters: Vec<Value> = audience
        .columns()
        .iter()
        .map(|column| json!({ "columnId": column["id"], "isFilterable": true, "filterOperators": [operator] }))
        .collect();
    json!({ "type": "AudienceFilterMetadata", "id": id, "attributes": { "filterMetadata": filters } })
}

fn job_done(job: &str) -> Value {
    json!({ "type": "JobStatus", "id": job, "attributes": { "status": "SUCCEEDED", "percentProgress": 100 } })
}
