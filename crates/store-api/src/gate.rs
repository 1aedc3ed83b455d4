//! What every request passes before it reaches its handler, as at the vendor's gateway: User-Agent, token, scope, rate
//! limit; and what every answer gets: a request id, its media type, the rate headers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::call::{Admitted, is_json_api_parameter};
use crate::document::JSON_API;
use crate::failure::Failure;
use crate::oauth::{MANAGE_SCOPE, READ_SCOPE, TOKEN_PATH};
use crate::quota::Standing;
use crate::server::Surface;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How libraries name themselves when nobody told them a name; the vendor's gateway refuses them.
const DEFAULT_AGENTS: &[&str] = &[
    "python-requests",
    "python-urllib",
    "python-httpx",
    "python/",
    "aiohttp",
    "go-http-client",
    "java/",
    "apache-httpclient",
    "okhttp",
    "axios",
    "node",
    "undici",
    "reqwest",
    "hyper",
    "ruby",
    "guzzlehttp",
];

/// Lets a request through to its handler, or answers in its place.
pub(crate) async fn guard(State(surface): State<Arc<Surface>>, mut request: Request, next: Next) -> Response {
    let wants_plain_json = wants_plain_json(request.headers());
    let mut standing = None;
    let mut response = match admit(&surface, &mut request, &mut standing).await {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    let headers = response.headers_mut();
    if let Some(standing) = standing {
        standing.announce(headers, surface.store.clock().now());
    }
    if wants_plain_json && headers.get(CONTENT_TYPE).is_some_and(|media_type| media_type == JSON_API) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

async fn admit(surface: &Surface, request: &mut Request, standing: &mut Option<Standing>) -> Result<(), Failure> {
    check_agent(request.headers())?;
    if request.uri().path() == TOKEN_PATH {
        return Ok(());
    }
    let token = bearer(request.headers()).ok_or_else(|| unauthorized("Bearer"))?;
    let caller = surface.store.caller(token).await?;
    let caller = caller.ok_or_else(|| unauthorized("Bearer error=\"invalid_token\""))?;
    if let Some(quota) = &surface.quota {
        let taken = standing.insert(quota.take(caller.number, surface.store.clock().now()));
        if let Some((bucket, _)) = taken.rejected {
            let detail = format!("the limit of requests per {bucket} is used up; wait as long as `Retry-After` says");
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "ZI0004", detail));
        }
    }
    check_scope(request, &caller.scope)?;
    check_accept(request.headers())?;
    let uri = request.uri().clone();
    request.extensions_mut().insert(Admitted { caller, uri });
    Ok(())
}

fn check_agent(headers: &HeaderMap) -> Result<(), Failure> {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let agent = agent.trim().to_ascii_lowercase();
    if !agent.is_empty() && !DEFAULT_AGENTS.iter().any(|default| agent.starts_with(default)) {
        return Ok(());
    }
    let detail = "set a `User-Agent` that names your program; those that libraries set by default are refused";
    Err(Failure::new(StatusCode::FORBIDDEN, "ZI0003", detail).for_header("User-Agent"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(challenge: &'static str) -> Failure {
    let detail = "the access token is missing, expired or revoked; ask for a new one";
    Failure::new(StatusCode::UNAUTHORIZED, "ZI0001", detail)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn check_scope(request: &Request, granted: &str) -> Result<(), Failure> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD)
        || request.uri().path().ends_with("/rows/actions/search");
    let needed = if reads { READ_SCOPE } else { MANAGE_SCOPE };
    if granted.split(' ').any(|scope| scope == needed) {
        return Ok(());
    }
    let failure = Failure::new(StatusCode::FORBIDDEN, "ZI0002", format!("the token lacks the scope `{needed}`"));
    Err(failure.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"insufficient_scope\"")))
}

/// JSON:API: not acceptable if its media type is named with parameters only.
fn check_accept(headers: &HeaderMap) -> Result<(), Failure> {
    let mut entries = accepted(headers).filter(|entry| media_type(entry) == JSON_API).peekable();
    if entries.peek().is_none() || entries.any(is_bare) {
        return Ok(());
    }
    let detail = "`Accept` must name `application/vnd.api+json` without parameters";
    Err(Failure::new(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", detail).for_header("Accept"))
}

fn is_bare(entry: &str) -> bool {
    entry
        .split(';')
        .skip(1)
        .map(str::trim)
        .all(|parameter| is_json_api_parameter(parameter) || parameter.starts_with("q="))
}

/// Whether the client names plain JSON and not the API's own media type.
fn wants_plain_json(headers: &HeaderMap) -> bool {
    let names = |wanted: &str| accepted(headers).any(|entry| media_type(entry) == wanted);
    names("application/json") && !names(JSON_API)
}

fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
}

fn media_type(entry: &str) -> String {
    entry.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
