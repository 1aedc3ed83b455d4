//! JSON:API-shaped answers.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use convoke_store::{Caller, Error};
use serde::Serialize;

use convoke_core::Timestamp;

use crate::failure::Failure;

/// The media type of the API.
pub(crate) const JSON_API: &str = "application/vnd.api+json";

/// What a handler returns.
pub(crate) type Outcome = Result<Response, Failure>;

/// A document with one primary datum or an array of them.
#[derive(Serialize)]
pub(crate) struct Document<T> {
    pub(crate) data: T,
}

/// A resource of the API.
#[derive(Serialize)]
pub(crate) struct Resource<'a, A> {
    pub(crate) id: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) attributes: A,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<Meta<'a>>,
}

/// Who made a resource and changed it last. A client is one user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta<'a> {
    created_at: String,
    created_by_id: i64,
    created_by_name: &'a str,
    updated_at: String,
    updated_by_id: i64,
    updated_by_name: &'a str,
}

impl<'a> Meta<'a> {
    pub(crate) fn new(caller: &'a Caller, created_at: Timestamp, updated_at: Timestamp) -> Self {
        Self {
            created_at: created_at.to_string(),
            created_by_id: caller.number,
            created_by_name: &caller.name,
            updated_at: updated_at.to_string(),
            updated_by_id: caller.number,
            updated_by_name: &caller.name,
        }
    }
}

pub(crate) fn to_json(document: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(document)
}

/// Answers with a document.
pub(crate) fn answer(status: StatusCode, document: &impl Serialize) -> Outcome {
    let body = to_json(document).map_err(|cause| Error::Storage {
        message: "an answer could not be written as JSON".to_owned(),
        cause: Box::new(cause),
    })?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_API));
    Ok(response)
}

/// Answers 201 with a document and where the new resource is.
pub(crate) fn created(location: &str, document: &impl Serialize) -> Outcome {
    let mut response = answer(StatusCode::CREATED, document)?;
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    Ok(response)
}

/// Answers 204.
pub(crate) fn no_content() -> Outcome {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
