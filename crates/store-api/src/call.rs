//! What a handler gets to see of a request: who calls, path and query parameters, and the body.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode, Uri};
use convoke_store::{Caller, ProblemKind, Tenant};
use serde::Deserialize;

use crate::document::JSON_API;
use crate::failure::Failure;
use crate::server::Surface;

/// Who was let through, and what was asked for: routes see only what is behind their prefix.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(crate) uri: Uri,
}

/// An admitted request.
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) tenant: Tenant,
    /// Scheme, host and path, without the query.
    pub(crate) url: String,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    /// Returns a parameter of the route's path.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns a query parameter; with brackets raw or percent-encoded.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query_pairs(&self) -> &[(String, String)] {
        &self.query
    }

    /// Returns a query parameter that is true or false; absent is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.query(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Failure::parameter(name, format!("`{name}` must be true or false"))),
        }
    }

    pub(crate) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// Reads a body that may be left out.
    pub(crate) fn document_or_default<'a, T: Deserialize<'a> + Default>(&'a self) -> Result<T, Failure> {
        if self.has_body() { self.document() } else { Ok(T::default()) }
    }

    /// Reads the body. The message tells the place and never what stands there.
    pub(crate) fn document<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let problem = match error.classify() {
                serde_json::error::Category::Data => "the body lacks a member or has one of the wrong JSON type",
                _ => "the body is not JSON",
            };
            let detail = format!("{problem}, at line {} column {}", error.line(), error.column());
            Failure::new(StatusCode::BAD_REQUEST, "PFAPI0003", detail)
        })
    }
}

impl FromRequest<Arc<Surface>> for Call {
    type Rejection = Failure;

    async fn from_request(request: Request, surface: &Arc<Surface>) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let admitted = parts.extensions.remove::<Admitted>();
        let Admitted { caller, uri } =
            admitted.ok_or_else(|| Failure::new(StatusCode::UNAUTHORIZED, "ZI0001", "no token was given"))?;
        let path = RawPathParams::from_request_parts(&mut parts, surface)
            .await
            .map(|parameters| parameters.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
            .map_err(|_| Failure::new(StatusCode::NOT_FOUND, "NOT_FOUND", "the path is not valid"))?;
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let body = read_body(&parts.headers, body, surface.settings.max_body_bytes).await?;
        if !body.is_empty() {
            check_content_type(&parts.headers)?;
        }
        let tenant = surface.store.tenant(&caller);
        let url = format!("{}{}", origin(surface, &parts.headers), uri.path());
        Ok(Self { caller, tenant, url, path, query, body })
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(headers: &HeaderMap, body: axum::body::Body, limit: usize) -> Result<Bytes, Failure> {
    let too_large = || {
        let detail = format!("the body is larger than {limit} bytes; send fewer rows at once");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", detail)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    match axum::body::to_bytes(body, limit).await {
        Ok(bytes) => Ok(bytes),
        // A body without an announced length is the only one that can break the limit here; others were cut off.
        Err(_) if announced.is_none() => Err(too_large()),
        Err(_) => Err(Failure::new(StatusCode::BAD_REQUEST, "PFAPI0003", "the body ended before its announced length")),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let fits = match media_type.as_str() {
        JSON_API => parts.all(is_json_api_parameter),
        "application/json" => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let detail = "the `Content-Type` must be `application/vnd.api+json` without parameters, or `application/json`";
    let failure = Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail);
    Err(failure.for_header("Content-Type"))
}

/// JSON:API allows two parameters on its media type.
pub(crate) fn is_json_api_parameter(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().trim();
    name.is_empty() || name == "ext" || name == "profile"
}

fn origin(surface: &Surface, headers: &HeaderMap) -> String {
    if let Some(url) = &surface.settings.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

/// Checks the `type` of a resource in the body.
pub(crate) fn check_type(given: Option<&str>, wanted: &str, pointer: &str) -> Result<(), Failure> {
    match given {
        Some(given) if given == wanted => Ok(()),
        Some(_) => Err(Failure::at(pointer, ProblemKind::Value, format!("`type` must be `{wanted}`"))),
        None => Err(Failure::at(pointer, ProblemKind::Missing, format!("`type` is missing; it must be `{wanted}`"))),
    }
}

/// Returns a member that must be there.
pub(crate) fn required<T>(value: Option<T>, pointer: &str) -> Result<T, Failure> {
    let name = pointer.rsplit('/').next().unwrap_or(pointer);
    value.ok_or_else(|| Failure::at(pointer, ProblemKind::Missing, format!("`{name}` is missing")))
}

/// Tells a member that is `null` (`Some(None)`) from one that is absent (`None`, by `#[serde(default)]`).
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
