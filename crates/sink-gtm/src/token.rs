//! The access token: OAuth2 client credentials, cached, renewed by one caller at a time.
//!
//! Whoever finds no usable token fetches one while the others wait, and they share what it finds, a failure too:
//! a wrong secret is tried once for all callers that were waiting. The secret leaves this module only inside the
//! header of the request for a token.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use convoke_core::SinkError;
use convoke_core::gate::QuotaExhausted;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::answers::{Came, Meaning, Purpose, meaning};
use crate::settings::authority;
use crate::transport::{Miss, Reply, Transport};

/// Assumed where the answer does not tell; a token that ends earlier is noticed by a 401.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// A token is renewed at least this long before it ends, so that it outlives the request it is put into.
const SMALLEST_MARGIN: Duration = Duration::from_secs(60);

/// Hands out access tokens.
pub(crate) struct TokenSource {
    url: Url,
    client_id: String,
    client_secret: SecretString,
    /// How many fetches have ended.
    fetches: AtomicU64,
    cached: Mutex<Cached>,
}

/// A token as it stands in a header.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    /// Tells this token from those before and after it.
    serial: u64,
    renew_at: Duration,
}

/// Why there is no token.
#[derive(Clone, Debug)]
pub(crate) enum TokenFailure {
    /// Asking again as we are will not help.
    Refused {
        message: String,
    },
    /// The token service could not be reached or is overloaded.
    Unavailable {
        reason: String,
        retry_after: Option<Duration>,
    },
    Quota(QuotaExhausted),
}

#[derive(Default)]
struct Cached {
    token: Option<Token>,
    last_failure: Option<TokenFailure>,
}

/// Not `Debug`: it holds a secret.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Option<f64>,
}

#[derive(Default, Deserialize)]
struct TokenRefusal {
    #[serde(default)]
    error: Option<String>,
}

impl TokenSource {
    pub(crate) fn new(url: Url, client_id: String, client_secret: SecretString) -> Self {
        Self { url, client_id, client_secret, fetches: AtomicU64::new(0), cached: Mutex::default() }
    }

    /// Gives a token that is good for a while, fetching one if need be.
    pub(crate) async fn token(&self, transport: &Transport) -> Result<Token, TokenFailure> {
        let fetches_before = self.fetches.load(Ordering::Acquire);
        let mut cached = self.cached.lock().await;
        if let Some(token) = cached.token.as_ref().filter(|token| token.renew_at > transport.clock().elapsed()) {
            return Ok(token.clone());
        }
        let fetches_now = self.fetches.load(Ordering::Acquire);
        if let Some(failure) = cached.last_failure.as_ref().filter(|_| fetches_now > fetches_before) {
            // The fetch that this caller waited for has failed.
            return Err(failure.clone());
        }
        let fetched = self.fetch(transport, fetches_now).await;
        self.fetches.fetch_add(1, Ordering::Release);
        cached.token = fetched.as_ref().ok().cloned();
        cached.last_failure = fetched.as_ref().err().cloned();
        fetched
    }

    /// Forgets a token that the service refused, unless it was replaced meanwhile.
    pub(crate) async fn forget(&self, refused: &Token) {
        let mut cached = self.cached.lock().await;
        if cached.token.as_ref().is_some_and(|token| token.serial == refused.serial) {
            cached.token = None;
        }
    }

    async fn fetch(&self, transport: &Transport, serial: u64) -> Result<Token, TokenFailure> {
        let asked_at = transport.clock().elapsed();
        let reply = match transport.exchange(self.request(), Purpose::Token.answer_limit()).await {
            Ok(reply) => reply,
            Err(Miss::Quota(quota)) => return Err(TokenFailure::Quota(quota)),
            Err(Miss::NotSent(trouble) | Miss::Lost(trouble)) => {
                return Err(TokenFailure::Unavailable { reason: trouble.summary, retry_after: None });
            }
        };
        let answer = self.read(reply)?;
        let secret = format!("Bearer {}", answer.access_token);
        let mut header = HeaderValue::try_from(secret).map_err(|_| self.not_a_token())?;
        header.set_sensitive(true);
        Ok(Token { header, serial, renew_at: asked_at + usable_for(answer.expires_in) })
    }

    fn request(&self) -> Request {
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(AUTHORIZATION, self.client_authentication());
        *request.body_mut() = Some("grant_type=client_credentials".into());
        request
    }

    /// HTTP Basic, each part form-encoded first (RFC 6749, section 2.3.1).
    fn client_authentication(&self) -> HeaderValue {
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(&self.client_id), encode(self.client_secret.expose_secret()));
        let mut header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
            .expect("base64 holds only characters that a header may hold");
        header.set_sensitive(true);
        header
    }

    fn read(&self, reply: Reply) -> Result<TokenAnswer, TokenFailure> {
        let Reply { status, retry_after, body } = reply;
        let host = self.host();
        let came = Came::of_status(status);
        if came == Came::Success {
            let body = body.map_err(|trouble| TokenFailure::Unavailable { reason: trouble.summary, retry_after })?;
            return serde_json::from_slice(&body).map_err(|_| self.not_a_token());
        }
        Err(match (meaning(Purpose::Token, came), status) {
            (Meaning::SendAgain, _) => TokenFailure::Unavailable {
                reason: format!("the token service `{host}` answered {status}"),
                retry_after,
            },
            (_, 400 | 401) => {
                let refusal: TokenRefusal =
                    body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
                let code =
                    refusal.error.filter(|code| is_error_code(code)).map_or(String::new(), |code| format!(" {code}"));
                TokenFailure::Refused {
                    message: format!(
                        "the token service `{host}` refused the client credentials ({status}{code}); check \
                         `client_id` and `client_secret` of this connection, and that the client is still allowed"
                    ),
                }
            }
            _ => TokenFailure::Refused {
                message: format!(
                    "the token service `{host}` answered {status}; check `token_url` of this connection, and that \
                     the client may ask for tokens"
                ),
            },
        })
    }

    fn not_a_token(&self) -> TokenFailure {
        let host = self.host();
        TokenFailure::Refused {
            message: format!("`{host}` answered, but not with an access token; check `token_url` of this connection"),
        }
    }

    fn host(&self) -> &str {
        authority(&self.url)
    }
}

impl TokenFailure {
    /// This failure where it stops what was asked.
    pub(crate) fn into_error(self) -> SinkError {
        match self {
            Self::Refused { message } => SinkError::Unauthorized { message },
            Self::Unavailable { reason, retry_after } => {
                SinkError::Unavailable { message: reason, retry_after, cause: None }
            }
            Self::Quota(quota) => SinkError::Quota(quota),
        }
    }
}

/// How long after it was asked for a token is used: its lifetime less a minute or a tenth, and at least half of it,
/// so that very short-lived tokens are used at all.
fn usable_for(expires_in: Option<f64>) -> Duration {
    let lifetime = expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(DEFAULT_LIFETIME);
    let margin = SMALLEST_MARGIN.max(lifetime / 10).min(lifetime / 2);
    lifetime - margin
}

/// Whether this looks like one of OAuth2's error codes; other text could repeat anything.
fn is_error_code(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_a_minute_or_a_tenth_before_it_ends() {
        let cases =
            [(Some(3600.0), 3240), (Some(86_400.0), 77_760), (Some(300.0), 240), (Some(60.0), 30), (None, 3240)];
        for (expires_in, seconds) in cases {
            assert_eq!(usable_for(expires_in), Duration::from_secs(seconds), "{expires_in:?}");
        }
        assert_eq!(usable_for(Some(-1.0)), usable_for(None));
    }
}
