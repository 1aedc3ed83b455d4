//! What the daemon tells about itself over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use convoke_core::{Clock, StateError, SyncName};
use serde_json::json;
use tokio::sync::Mutex;

use crate::facts::Facts;
use crate::figures::Figures;
use crate::status::Status;
use crate::watched_store::chain;

/// The store is asked for facts at most this often, however many scrape.
const FACTS_FRESH: Duration = Duration::from_secs(10);

/// A scrape does not wait longer for the store; it tells the facts of the last one.
const FACTS_TIMEOUT: Duration = Duration::from_secs(5);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Health, readiness and metrics of one daemon.
pub struct Surface {
    status: Arc<Status>,
    figures: Arc<Figures>,
    facts: Arc<dyn Facts>,
    syncs: Vec<SyncName>,
    clock: Arc<dyn Clock>,
    /// When facts were asked for last.
    asked_at: Mutex<Option<Duration>>,
}

impl Surface {
    pub(crate) fn new(
        status: Arc<Status>,
        figures: Arc<Figures>,
        facts: Arc<dyn Facts>,
        syncs: Vec<SyncName>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { status, figures, facts, syncs, clock, asked_at: Mutex::default() }
    }

    /// `GET /healthz`, `/readyz`, `/metrics`, and nothing else.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .route("/metrics", get(metrics))
            .fallback(async || problem(StatusCode::NOT_FOUND, "there is nothing at this path"))
            .method_not_allowed_fallback(async || {
                problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET and HEAD only")
            })
            .with_state(self)
    }

    /// Asks for facts, unless that was done just now. Whoever scrapes meanwhile waits for the same answer.
    async fn refresh(&self) {
        let mut asked_at = self.asked_at.lock().await;
        let now = self.clock.elapsed();
        if asked_at.is_some_and(|asked_at| now.saturating_sub(asked_at) < FACTS_FRESH) {
            return;
        }
        *asked_at = Some(now);
        match tokio::time::timeout(FACTS_TIMEOUT, self.ask()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %chain(&error), "metrics tell old facts: the store failed"),
            Err(_) => tracing::warn!("metrics tell old facts: the store did not answer in time"),
        }
    }

    async fn ask(&self) -> Result<(), StateError> {
        for quota in self.facts.quotas().await {
            self.figures.show_quota(&quota);
        }
        for sync in &self.syncs {
            self.figures.show_facts(sync, &self.facts.of_sync(sync).await?);
        }
        Ok(())
    }
}

/// Whether the process is worth keeping. A store that is down is no reason to restart it.
async fn health(State(surface): State<Arc<Surface>>) -> Response {
    match surface.status.standstill() {
        None => Json(json!({"alive": true})).into_response(),
        Some(still) => {
            let reason = format!("the scheduler has not moved for {} s", still.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"alive": false, "reason": reason}))).into_response()
        }
    }
}

/// Whether the daemon can do its work.
async fn readiness(State(surface): State<Arc<Surface>>) -> Response {
    let not_ready = surface.status.not_ready();
    if not_ready.is_empty() {
        return Json(json!({"ready": true})).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "not_ready": not_ready}))).into_response()
}

async fn metrics(State(surface): State<Arc<Surface>>) -> Response {
    surface.refresh().await;
    match surface.figures.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written down"),
    }
}

fn problem(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({"error": reason}))).into_response()
}
