//! One HTTP exchange, and how sure it is that the request arrived.
//!
//! Every request passes the gate first, and the gate learns of every answer. A request that certainly did not
//! leave is told apart from one whose answer was lost.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use convoke_core::gate::{Closed, Feedback, Gate, QuotaExhausted};
use convoke_core::{Clock, SinkError};
use reqwest::{Client, Request, Response};

use crate::rate_headers;
use crate::settings::authority;

/// Longest body of a refusal that is read, far above a problem for each row: of a longer one the status alone counts.
const REFUSAL_LIMIT: usize = 4 * 1024 * 1024;

/// The way to the service.
pub(crate) struct Transport {
    client: Client,
    gate: Arc<dyn Gate>,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
}

/// An answer: its head, and its body if that arrived whole.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Result<Bytes, Trouble>,
}

/// Why there is no answer.
pub(crate) enum Miss {
    Quota(QuotaExhausted),
    /// The request certainly did not reach the service.
    NotSent(Trouble),
    /// The request may have reached the service.
    Lost(Trouble),
}

/// What went wrong on the way.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Names the host, never an address with its query, never a body.
    pub(crate) summary: String,
    pub(crate) cause: Option<reqwest::Error>,
}

impl Transport {
    pub(crate) fn new(client: Client, gate: Arc<dyn Gate>, clock: Arc<dyn Clock>, request_timeout: Duration) -> Self {
        Self { client, gate, clock, request_timeout }
    }

    /// The same way through another gate.
    pub(crate) fn through(&self, gate: Arc<dyn Gate>) -> Self {
        let Self { client, clock, request_timeout, .. } = self;
        Self { client: client.clone(), gate, clock: Arc::clone(clock), request_timeout: *request_timeout }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Sends one request, once, when the gate lets it; `limit` is the longest body that is read.
    pub(crate) async fn exchange(&self, request: Request, limit: usize) -> Result<Reply, Miss> {
        let host = authority(request.url()).to_owned();
        self.gate.admit().await.map_err(|closed| not_let_out(&host, closed))?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let started_at = self.clock.elapsed();
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let failed = !error.is_builder();
                let miss = self.miss(&host, error);
                tracing::debug!(%method, path, host, "no answer");
                self.gate.report(Feedback { failed, ..Feedback::default() }).await;
                return Err(miss);
            }
        };
        let status = response.status().as_u16();
        let feedback = rate_headers::feedback(status, response.headers(), self.clock.now());
        let retry_after = feedback.retry_after;
        let limit = if response.status().is_success() { limit } else { limit.min(REFUSAL_LIMIT) };
        let body = read_body(response, limit).await.map_err(|error| self.broken_body(&host, error));
        self.gate.report(Feedback { failed: feedback.failed || body.is_err(), ..feedback }).await;
        let elapsed_ms = (self.clock.elapsed().saturating_sub(started_at)).as_millis();
        tracing::debug!(%method, path, host, status, elapsed_ms, whole = body.is_ok(), "answered");
        Ok(Reply { status, retry_after, body })
    }

    fn miss(&self, host: &str, error: reqwest::Error) -> Miss {
        let error = error.without_url();
        if error.is_connect() {
            let summary = format!("`{host}` could not be reached{}", innermost(&error));
            return Miss::NotSent(Trouble { summary, cause: Some(error) });
        }
        if error.is_builder() {
            let summary = format!("a request to `{host}` could not be put together{}", innermost(&error));
            return Miss::NotSent(Trouble { summary, cause: Some(error) });
        }
        Miss::Lost(self.lost(host, error))
    }

    fn broken_body(&self, host: &str, error: BodyError) -> Trouble {
        match error {
            BodyError::TooLong { limit } => {
                let summary = format!("the answer of `{host}` is longer than {limit} bytes");
                Trouble { summary, cause: None }
            }
            BodyError::Broken(error) => self.lost(host, error.without_url()),
        }
    }

    fn lost(&self, host: &str, error: reqwest::Error) -> Trouble {
        let summary = if error.is_timeout() {
            format!("`{host}` gave no whole answer within {:?}", self.request_timeout)
        } else {
            format!("the connection to `{host}` broke before the answer was whole{}", innermost(&error))
        };
        Trouble { summary, cause: Some(error) }
    }
}

impl Trouble {
    pub(crate) fn into_unavailable(self, retry_after: Option<Duration>) -> SinkError {
        SinkError::Unavailable { message: self.summary, retry_after, cause: self.cause.map(Into::into) }
    }
}

fn not_let_out(host: &str, closed: Closed) -> Miss {
    match closed {
        Closed::Quota(exhausted) => Miss::Quota(exhausted),
        Closed::Down { since } => {
            let summary = format!("every request to `{host}` has failed since {since}, and no other is sent for now");
            Miss::NotSent(Trouble { summary, cause: None })
        }
    }
}

enum BodyError {
    TooLong { limit: usize },
    Broken(reqwest::Error),
}

async fn read_body(mut response: Response, limit: usize) -> Result<Bytes, BodyError> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLong { limit });
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLong { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The root of an error chain in brackets, where it is the operating system's word and so cannot hold a value.
fn innermost(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut found = None;
    while let Some(error) = source {
        found = error.downcast_ref::<std::io::Error>().or(found);
        source = error.source();
    }
    match found {
        Some(error) => format!(" ({})", error.kind()),
        None => String::new(),
    }
}
