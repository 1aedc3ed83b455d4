//! The token endpoint: OAuth 2.0 client credentials (RFC 6749, sections 4.4, 5.1 and 5.2).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use convoke_store::TokenGrant;
use serde::Serialize;

use crate::call::read_body;
use crate::document::to_json;
use crate::failure::Failure;
use crate::server::Surface;

pub(crate) const TOKEN_PATH: &str = "/gtm/oauth/v1/token";
pub(crate) const READ_SCOPE: &str = "api:audience:read";
pub(crate) const MANAGE_SCOPE: &str = "api:audience:manage";

#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    scope: &'a str,
}

/// A refusal in the shape of RFC 6749.
#[derive(Serialize)]
struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    error: &'static str,
    error_description: &'static str,
}

impl Refusal {
    fn new(error: &'static str, error_description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, error_description }
    }
}

pub(crate) async fn issue_token(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match read_body(&parts.headers, body, surface.settings.max_body_bytes).await {
        Ok(body) => body,
        Err(failure) => return failure.into_response(),
    };
    let asked = match read_request(&parts.headers, &body) {
        Ok(asked) => asked,
        Err(refusal) => return respond(refusal.status, &refusal),
    };
    let grant = TokenGrant { scope: asked.scope, lifetime: surface.settings.token_lifetime };
    match surface.store.issue_token(&asked.client_id, &asked.secret, &grant).await {
        Ok(Some(token)) => {
            let expires_in = grant.lifetime.as_secs();
            let answer = TokenAnswer { access_token: &token, token_type: "Bearer", expires_in, scope: &grant.scope };
            respond(StatusCode::OK, &answer)
        }
        Ok(None) => refuse_client(),
        Err(error) => Failure::from(error).into_response(),
    }
}

struct TokenRequest {
    client_id: String,
    secret: String,
    scope: String,
}

fn read_request(headers: &HeaderMap, body: &[u8]) -> Result<TokenRequest, Refusal> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refusal::new("invalid_request", "the body must be application/x-www-form-urlencoded"));
    }
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match field("grant_type").as_deref() {
        Some("client_credentials") => {}
        Some(_) => return Err(Refusal::new("unsupported_grant_type", "grant_type must be client_credentials")),
        None => return Err(Refusal::new("invalid_request", "grant_type is missing")),
    }
    let scope = read_scope(field("scope").as_deref())?;
    // With an Authorization header the credentials in the body are ignored.
    let credentials = match headers.get(AUTHORIZATION) {
        Some(header) => basic(header),
        None => field("client_id").zip(field("client_secret")),
    };
    let (client_id, secret) =
        credentials.ok_or_else(|| Refusal::new("invalid_request", "client_id and client_secret are missing"))?;
    Ok(TokenRequest { client_id, secret, scope })
}

fn read_scope(asked: Option<&str>) -> Result<String, Refusal> {
    let asked = asked.unwrap_or_default().trim();
    if asked.is_empty() {
        return Ok(format!("{READ_SCOPE} {MANAGE_SCOPE}"));
    }
    let known = asked.split_whitespace().all(|scope| scope == READ_SCOPE || scope == MANAGE_SCOPE);
    if !known {
        return Err(Refusal::new("invalid_scope", "the scopes are api:audience:read and api:audience:manage"));
    }
    Ok(asked.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Id and secret stand form-encoded in the Base64 of a Basic header (RFC 6749, section 2.3.1).
fn basic(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (client_id, secret) = decoded.split_once(':')?;
    Some((form_decoded(client_id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    // The text is the name of a field without a value; an `=` or `&` in it is encoded.
    url::form_urlencoded::parse(text.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
}

fn refuse_client() -> Response {
    let refusal = Refusal::new("invalid_client", "the client is unknown or revoked, or the secret is wrong");
    let mut response = respond(StatusCode::UNAUTHORIZED, &refusal);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"convoke\""));
    response
}

fn respond(status: StatusCode, answer: &impl Serialize) -> Response {
    let body = to_json(answer).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
