//! Error documents in the vendor's shape.
//!
//! Problems of storage are logged here, once, and shown to the client without their cause.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use convoke_store::{Error, Place, Problem, ProblemKind};
use serde::Serialize;

use crate::document::{JSON_API, to_json};

/// Why a request was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    errors: Vec<ErrorObject>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Serialize)]
struct ErrorObject {
    id: String,
    code: &'static str,
    status: String,
    title: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Pointer(String),
    Parameter(String),
    Header(&'static str),
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    title: &'a str,
    errors: &'a [ErrorObject],
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, errors: vec![error_object(status, code, detail.into(), None)], headers: Vec::new() }
    }

    /// A refusal of one member of the body.
    pub(crate) fn at(pointer: impl Into<String>, kind: ProblemKind, detail: impl Into<String>) -> Self {
        Error::invalid(Place::pointer(pointer), kind, detail).into()
    }

    /// A refusal of one query parameter.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        let source = Some(Source::Parameter(name.to_owned()));
        Self { status, errors: vec![error_object(status, "PFAPI0006", detail.into(), source)], headers: Vec::new() }
    }

    /// Gives another code than the usual one.
    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        for error in &mut self.errors {
            error.code = code;
        }
        self
    }

    /// Names the request header that is at fault.
    pub(crate) fn for_header(mut self, header: &'static str) -> Self {
        for error in &mut self.errors {
            error.source = Some(Source::Header(header));
        }
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

fn error_object(status: StatusCode, code: &'static str, detail: String, source: Option<Source>) -> ErrorObject {
    let title = status.canonical_reason().unwrap_or("Error").to_owned();
    ErrorObject {
        id: uuid::Uuid::new_v4().to_string(),
        code,
        status: status.as_u16().to_string(),
        title,
        detail,
        source,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(problems) => {
                let errors = problems.into_iter().map(problem_object).collect();
                Self { status: StatusCode::BAD_REQUEST, errors, headers: Vec::new() }
            }
            Error::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", error.to_string()),
            Error::Unusable { .. } | Error::Storage { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "the audience store could not do a request");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "PFAPI0007", "the audience store failed; see its log")
            }
        }
    }
}

fn problem_object(problem: Problem) -> ErrorObject {
    let (code, source) = match problem.place {
        Place::Pointer(pointer) => (code_of(problem.kind), Some(Source::Pointer(pointer))),
        Place::Parameter(name) => ("PFAPI0006", Some(Source::Parameter(name.to_owned()))),
        Place::Request => (code_of(problem.kind), None),
    };
    error_object(StatusCode::BAD_REQUEST, code, problem.detail, source)
}

fn code_of(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Disallowed => "PFAPI0001",
        ProblemKind::Missing => "PFAPI0002",
        ProblemKind::Nothing => "PFAPI0004",
        ProblemKind::Value => "PFAPI0005",
        ProblemKind::Shape => "PFAPI0008",
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document = ErrorDocument { title, errors: &self.errors };
        let body = to_json(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_API));
        response.headers_mut().extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}
