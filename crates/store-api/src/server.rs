//! Serving: settings, the routes, and shutdown that lets running requests finish.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post};
use convoke_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::quota::{Quota, RateLimits};
use crate::{audiences, columns, folders, gate, oauth, rows};

/// How the store is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// Larger request bodies are answered with 413.
    pub max_body_bytes: usize,
    /// How long an access token is good for.
    pub token_lifetime: Duration,
    /// What each client may send; none: as much as it likes.
    pub rate_limits: Option<RateLimits>,
    /// Scheme and host under which clients reach the store, for paging links; none: `http://` and the `Host` header.
    pub public_url: Option<String>,
    /// How long running requests may take to finish once shutdown was asked for.
    pub drain_timeout: Duration,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            // 500 rows of 32 KiB.
            max_body_bytes: 16 * 1024 * 1024,
            token_lifetime: Duration::from_secs(3600),
            rate_limits: None,
            public_url: None,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What every request needs.
pub(crate) struct Surface {
    pub(crate) store: Store,
    pub(crate) settings: ServeSettings,
    pub(crate) quota: Option<Quota>,
}

/// Returns the HTTP surface over this store.
pub fn router(store: Store, settings: &ServeSettings) -> Router {
    let quota = settings.rate_limits.map(Quota::new);
    let surface = Arc::new(Surface { store, settings: settings.clone(), quota });
    Router::new()
        .route(oauth::TOKEN_PATH, post(oauth::issue_token))
        .nest("/gtm/studio/v1", studio())
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this path does not take this method")
        })
        .layer(from_fn_with_state(Arc::clone(&surface), gate::guard))
        .with_state(surface)
}

fn studio() -> Router<Arc<Surface>> {
    Router::new()
        .route("/folders", post(folders::create).get(folders::list))
        .route("/folders/{folderId}", get(folders::show).patch(folders::change).delete(folders::remove))
        .route("/audiences", post(audiences::create).get(audiences::list))
        .route("/audiences/{audienceId}", get(audiences::show).patch(audiences::change).delete(audiences::remove))
        .route("/audiences/{audienceId}/filter-metadata", get(columns::filter_metadata))
        .route("/audiences/{audienceId}/actions/match-criteria", post(columns::set_match_criteria))
        .route("/audiences/{audienceId}/actions/enrich", post(rows::enrich))
        .route("/audiences/{audienceId}/jobs/{jobId}", get(rows::job_status))
        .route("/audiences/{audienceId}/columns/actions/bulk/create", post(columns::create))
        .route("/audiences/{audienceId}/columns/{columnId}", patch(columns::change).delete(columns::remove))
        .route("/audiences/{audienceId}/rows/{rowId}", get(rows::show))
        .route("/audiences/{audienceId}/rows/actions/search", post(rows::search))
        .route("/audiences/{audienceId}/rows/actions/upsert", post(rows::upsert))
        .route("/audiences/{audienceId}/rows/actions/bulk/upsert", post(rows::bulk_upsert))
        .route("/audiences/{audienceId}/rows/actions/bulk/delete", delete(rows::bulk_delete))
}

/// Serves the store on the listener until `shutdown` is cancelled, then lets running requests finish.
///
/// # Errors
///
/// The listener failed, or requests were still running when the drain time-out ended; those were cut off.
pub async fn serve(
    store: Store,
    listener: TcpListener,
    settings: ServeSettings,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let clock = Arc::clone(store.clock());
    let serving =
        axum::serve(listener, router(store, &settings)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let deadline = async {
        shutdown.cancelled().await;
        clock.sleep(settings.drain_timeout).await;
    };
    tokio::select! {
        ended = serving.into_future() => ended,
        () = deadline => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "requests to the audience store were still running at the end of `drain_timeout` and were cut off",
        )),
    }
}
