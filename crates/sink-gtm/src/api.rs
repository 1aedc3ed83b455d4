//! Requests to the API with a token, and their outcomes by certainty.
//!
//! A 401 is certainly not applied: the token is dropped and the same request is sent once more. Everything else is
//! sent once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoke_core::SinkError;
use convoke_core::gate::Gate;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde::de::DeserializeOwned;
use url::Url;

use crate::answers::{Came, Meaning, Purpose, meaning};
use crate::problem::{self, describe, describe_codes};
use crate::settings::authority;
use crate::token::{TokenFailure, TokenSource};
use crate::transport::{Miss, Reply, Transport, Trouble};

/// The media type of every body, sent and received.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.api+json");

/// The service.
pub(crate) struct Api {
    base: Url,
    transport: Transport,
    tokens: Arc<TokenSource>,
}

/// One request to the API.
#[derive(Clone)]
pub(crate) struct Call {
    purpose: Purpose,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<Bytes>,
}

/// How a request ended, where that does not stop the run.
pub(crate) enum Outcome {
    /// A 2xx with a whole body.
    Done {
        status: u16,
        body: Bytes,
    },
    Refused {
        status: u16,
        too_large: bool,
        body: Bytes,
    },
    NotApplied {
        reason: String,
        retry_after: Option<Duration>,
    },
    Unknown {
        trouble: Trouble,
    },
}

impl Api {
    pub(crate) fn new(base: Url, transport: Transport, tokens: TokenSource) -> Self {
        Self { base, transport, tokens: Arc::new(tokens) }
    }

    /// The same service with the same token, through another gate.
    pub(crate) fn through(&self, gate: Arc<dyn Gate>) -> Self {
        let Self { base, transport, tokens } = self;
        Self { base: base.clone(), transport: transport.through(gate), tokens: Arc::clone(tokens) }
    }

    /// A call without a body; `path` is relative to the base URL, one element per segment.
    pub(crate) fn call(&self, purpose: Purpose, method: Method, path: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Call { purpose, method, url, body: None }
    }

    /// Makes one attempt. `Err` stops the run. After `Unauthorized` and `Quota` the request was not applied; after the
    /// others it is not known whether a part of it was.
    pub(crate) async fn attempt(&self, call: &Call) -> Result<Outcome, SinkError> {
        let mut renewed = false;
        loop {
            let token = match self.tokens.token(&self.transport).await {
                Ok(token) => token,
                Err(TokenFailure::Unavailable { reason, retry_after }) => {
                    return call.unanswered(Came::NotSent, Trouble { summary: reason, cause: None }, retry_after);
                }
                Err(failure) => return Err(failure.into_error()),
            };
            let request = call.request(&token.header);
            let reply = match self.transport.exchange(request, call.purpose.answer_limit()).await {
                Ok(reply) => reply,
                Err(Miss::Quota(quota)) => return Err(SinkError::Quota(quota)),
                Err(Miss::NotSent(trouble)) => return call.unanswered(Came::NotSent, trouble, None),
                Err(Miss::Lost(trouble)) => return call.unanswered(Came::Lost, trouble, None),
            };
            if meaning(call.purpose, Came::of_status(reply.status)) != Meaning::RenewToken || renewed {
                return call.outcome(reply);
            }
            self.tokens.forget(&token).await;
            renewed = true;
        }
    }

    /// Makes one attempt at a read; whatever is not a whole 2xx is an error.
    pub(crate) async fn read(&self, call: &Call) -> Result<Bytes, SinkError> {
        match self.attempt(call).await? {
            Outcome::Done { body, .. } => Ok(body),
            Outcome::Refused { status, body, .. } => Err(call.refused(status, &body)),
            Outcome::NotApplied { reason, retry_after } => {
                Err(SinkError::Unavailable { message: reason, retry_after, cause: None })
            }
            Outcome::Unknown { trouble } => Err(trouble.into_unavailable(None)),
        }
    }

    /// Reads a document that owns its texts.
    pub(crate) async fn read_document<T: DeserializeOwned>(&self, call: &Call) -> Result<T, SinkError> {
        let body = self.read(call).await?;
        serde_json::from_slice(&body).map_err(|_| call.unreadable())
    }
}

impl Call {
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Adds a list of ids as the API declares lists: separated by commas that stand as they are.
    pub(crate) fn query_ids(mut self, name: &str, ids: &[&str]) -> Self {
        let encode = |id: &&str| url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>();
        let list = ids.iter().map(encode).collect::<Vec<_>>().join(",");
        let before = self.url.query().map_or_else(String::new, |query| format!("{query}&"));
        self.url.set_query(Some(&format!("{before}{name}={list}")));
        self
    }

    /// The error for an answer to a read that is not the document that the API declares.
    pub(crate) fn unreadable(&self) -> SinkError {
        self.unreadable_trouble().into_unavailable(None)
    }

    /// The outcome of a write whose answer is not the document that the API declares.
    pub(crate) fn unconfirmed(&self) -> Result<Outcome, SinkError> {
        self.unanswered(Came::Unreadable, self.unreadable_trouble(), None)
    }

    fn unreadable_trouble(&self) -> Trouble {
        let summary = format!("{self} gave an answer that is not the document the API declares; check `base_url`");
        Trouble { summary, cause: None }
    }

    /// The error for a refusal of something that is not about rows.
    pub(crate) fn refused(&self, status: u16, body: &[u8]) -> SinkError {
        SinkError::Protocol { message: self.refusal(status, body) }
    }

    /// Says what was refused and why, for a request that holds no records.
    pub(crate) fn refusal(&self, status: u16, body: &[u8]) -> String {
        let problems = describe(&problem::parse(body));
        format!("{self} was refused ({status}{problems})")
    }

    /// Says what was refused by status and codes alone.
    pub(crate) fn refusal_code(&self, status: u16, body: &[u8]) -> String {
        format!("{self} was refused ({status}{})", describe_codes(&problem::parse(body)))
    }

    fn request(&self, token: &HeaderValue) -> Request {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.clone());
        headers.insert(ACCEPT, MEDIA_TYPE);
        if let Some(body) = &self.body {
            headers.insert(CONTENT_TYPE, MEDIA_TYPE);
            *request.body_mut() = Some(body.clone().into());
        }
        request
    }

    /// What an answer means, going by its head, and by its body where that must be whole.
    fn outcome(&self, reply: Reply) -> Result<Outcome, SinkError> {
        let Reply { status, retry_after, body } = reply;
        let (came, body) = match (Came::of_status(status), body) {
            (Came::Success, Ok(body)) => return Ok(Outcome::Done { status, body }),
            (Came::Success, Err(trouble)) => return self.unanswered(Came::Lost, trouble, retry_after),
            (came, body) => (came, body.unwrap_or_default()),
        };
        match meaning(self.purpose, came) {
            Meaning::Bisect | Meaning::Refused => Ok(Outcome::Refused { status, too_large: false, body }),
            Meaning::Halve => Ok(Outcome::Refused { status, too_large: true, body }),
            Meaning::SendAgain | Meaning::ReadBack | Meaning::AskAgain | Meaning::Unclear => {
                let summary = format!("{self} was answered {status}{}", describe_codes(&problem::parse(&body)));
                self.unanswered(came, Trouble { summary, cause: None }, retry_after)
            }
            stopping => Err(self.stop(stopping, status, &body)),
        }
    }

    /// What it means that nothing came back, or nothing that tells what became of the request.
    fn unanswered(&self, came: Came, trouble: Trouble, retry_after: Option<Duration>) -> Result<Outcome, SinkError> {
        match meaning(self.purpose, came) {
            Meaning::SendAgain => Ok(Outcome::NotApplied { reason: trouble.summary, retry_after }),
            Meaning::AskAgain => Err(trouble.into_unavailable(retry_after)),
            _ => Ok(Outcome::Unknown { trouble }),
        }
    }

    /// The error for an answer that ends the run.
    fn stop(&self, meaning: Meaning, status: u16, body: &[u8]) -> SinkError {
        let problems = describe_codes(&problem::parse(body));
        match meaning {
            Meaning::RenewToken => SinkError::Unauthorized {
                message: format!(
                    "{self} was refused twice, with a new token too ({status}{problems}); check that `base_url` and \
                     `token_url` of this connection belong together and that the client is still allowed"
                ),
            },
            Meaning::Forbidden if status == 402 => SinkError::Forbidden {
                message: format!("{self} was refused because the account cannot be charged ({status}{problems})"),
            },
            Meaning::Forbidden => SinkError::Forbidden {
                message: format!(
                    "{self} was refused ({status}{problems}); check that the client has the scopes \
                     `api:audience:read` and `api:audience:manage`, and that the account is entitled"
                ),
            },
            Meaning::NotFound | Meaning::LookRowsUp => SinkError::NotFound {
                message: format!(
                    "{self} found nothing ({status}{problems}); check that the audience still exists and that \
                     `base_url` of this connection is right"
                ),
            },
            _ => SinkError::Protocol {
                message: format!(
                    "{self} was answered {status}{problems}, which the API does not declare; check `base_url` of this \
                     connection and what stands between"
                ),
            },
        }
    }
}

/// Method, path and host; the query may hold names and is left out.
impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = authority(&self.url);
        write!(f, "`{} {}` at `{host}`", self.method, self.url.path())
    }
}
