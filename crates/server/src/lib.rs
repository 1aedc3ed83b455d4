//! The daemon: runs syncs when they are due, and tells how it is doing.
//!
//! [`Daemon`] is the loop; what a run *is* stands behind [`Jobs`]. [`Endpoint`] answers `/healthz`, `/readyz` and
//! `/metrics`; [`serve`] is both together.
//!
//! Promises:
//! - Each time of a schedule is served by exactly one of all daemons on a store: whoever holds the sync's turn (a lease)
//!   looks at the stored mark, runs, and moves the mark. A run of which that cannot be said (its process died, its lease
//!   was lost, the mark could not be written) leaves the mark, so the turn is taken once more.
//! - Runs of one sync never overlap. A time that comes during a run is due after it; of several, the newest.
//! - Times that nobody served are made up for once, by the newest of them, or let go if the sync says so.
//! - A run that failed is not repeated before its next time: what failed at night is looked at by a person, or by the next
//!   time of the schedule, and not tried until the quota is gone. A run that was drained, that waits for quota, or that
//!   found its audience held by somebody else is no failure, and is taken up again as soon as it can be.
//! - A sync that runs on arrival runs soon after something has come to its source, as often as its looks see something
//!   new: once for a burst, and no second time for what a run has left. What failed is tried again with growing pauses.
//!   Of several daemons whoever has the turn runs; the others look again. What watches a folder only brings a look forward.
//! - A plan that was interrupted half applied goes on at once, whatever the schedule says.
//! - A run that panics ends itself alone. A store that is down ends nothing: the loop waits, and says so.
//!
//! Left out: triggers over HTTP, and anything about what a run does.

mod agenda;
mod daemon;
mod endpoint;
mod facts;
mod figures;
mod jobs;
mod lease;
mod scheduled;
mod status;
mod surface;
mod turn;
mod watch;
mod watched_store;

use tokio_util::sync::CancellationToken;

pub use daemon::{Daemon, Drained, Ports, Settings};
pub use endpoint::Endpoint;
pub use facts::{CellCounts, EnrichmentFacts, Facts, Quota, SyncFacts, unfinished};
pub use jobs::{JobEnd, Jobs, Ran, Task};
pub use lease::Hold;
pub use scheduled::Scheduled;
pub use surface::Surface;

/// Runs the daemon until it is drained, and answers on the endpoint all the while.
///
/// Needs a tokio runtime. The endpoint has a task of its own, so that probes are answered while a run is busy.
pub async fn serve(daemon: Daemon, endpoint: Endpoint) -> Drained {
    let shutdown = CancellationToken::new();
    let answering = tokio::spawn(endpoint.serve(daemon.surface(), shutdown.clone()));
    let drained = daemon.run().await;
    shutdown.cancel();
    if let Err(error) = answering.await {
        tracing::error!(%error, "the endpoint for health and metrics ended early");
    }
    drained
}
