//! A run from start to end.
//!
//! [`Pipeline`] brings one sync's source, engine and destination together. Its story is told in `run.rs`: take the lease,
//! settle and fold what an earlier run left, plan, hold the plan against the guards, apply it, fold, check that
//! everything balances, commit. It knows traits only; which source and which destination they are is decided by
//! whoever builds it.

mod adopting;
mod applying;
mod archive;
mod asking;
mod audience;
mod backfill;
mod enriching;
mod error;
mod events;
mod excerpt;
mod explaining;
mod folders;
mod folding;
mod guards;
mod inspecting;
mod lease;
mod planning;
mod reading;
mod recovery;
mod rejects;
mod renaming;
mod resuming;
mod retention;
mod retiring;
mod run;
mod scanning;
mod verifying;

use std::sync::Arc;
use std::time::Duration;

use convoke_core::boundary::{Boundary, BoundaryObserver};
use convoke_core::ledger::{PlanArchive, SegmentStore};
use convoke_core::plan::PlanManifest;
use convoke_core::sink::{AudienceTarget, Destination};
use convoke_core::source::Source;
use convoke_core::spec::{RateLimits, SyncSpec};
use convoke_core::state::StateStore;
use convoke_core::{Clock, HashKey};
use convoke_delivery::provision::SetupPorts;
use convoke_delivery::{Courier, LeaseView, PatientReads, Ports};
use convoke_engine::Engine;
use tokio_util::sync::CancellationToken;

pub use adopting::Adoption;
pub use asking::SOURCE_ATTEMPTS;
pub use backfill::{BackfillRequest, Backfilled};
pub use error::{Error, chain};
pub use events::{Event, Reporter, Silent};
pub use explaining::{Explanation, SourceUse};
pub use folders::Folders;
pub use inspecting::CheckReport;
pub use rejects::{RejectChoice, Resent};
pub use renaming::Renamed;
pub use retention::Retention;
pub use retiring::{Retired, RetiredSource, retired_spec};
pub use run::{Ended, Extent, Finished, SHORTEST_APPROVAL, approves};
pub use verifying::{Repair, Verification};

/// What all syncs of a process share.
#[derive(Clone)]
pub struct Services {
    pub state: Arc<dyn StateStore>,
    pub segments: Arc<dyn SegmentStore>,
    /// Where plans are kept for other machines; none: this one alone goes on with its plans.
    pub archive: Option<Arc<dyn PlanArchive>>,
    pub engine: Arc<Engine>,
    pub clock: Arc<dyn Clock>,
    pub boundaries: Arc<dyn BoundaryObserver>,
    pub reporter: Arc<dyn Reporter>,
    pub folders: Folders,
    pub hash_key: HashKey,
    /// Names this process in leases: host and process id.
    pub holder: String,
    pub lease_ttl: Duration,
    pub retention: Retention,
}

/// One sync with its ends.
#[derive(Clone)]
pub struct Sync {
    pub spec: SyncSpec,
    /// Hashes the specification together with the digests of its suppression lists.
    pub config_hash: fn(&SyncSpec, &[String]) -> String,
    pub source: Arc<dyn Source>,
    pub destination: Arc<dyn Destination>,
    /// The same, for requests that let live ones go first.
    pub backfill_destination: Arc<dyn Destination>,
    /// For the forecast.
    pub rate: RateLimits,
    /// Consent to creating rows where they cannot be looked up.
    pub allow_blind_creates: bool,
}

/// Runs one sync.
pub struct Pipeline {
    services: Services,
    /// Its destination repeats reads.
    sync: Sync,
    /// The same, as it was given: delivery repeats its reads itself, until its own halt.
    destination: Arc<dyn Destination>,
    cancel: CancellationToken,
}

impl Pipeline {
    /// `cancel` drains: requests in flight are finished, nothing new is begun.
    pub fn new(services: Services, sync: Sync, cancel: CancellationToken) -> Self {
        let destination = Arc::clone(&sync.destination);
        let patient = PatientReads::new(Arc::clone(&destination), Arc::clone(&services.clock), cancel.clone());
        let sync = Sync { destination: Arc::new(patient), ..sync };
        Self { services, sync, destination, cancel }
    }

    fn target(&self) -> AudienceTarget {
        let columns = self.sync.spec.columns.iter().map(|column| (column.name.clone(), column.data_type)).collect();
        AudienceTarget { spec: self.sync.spec.audience.clone(), columns }
    }

    fn courier(&self, audience: convoke_core::sink::AudienceBinding, lease: Arc<dyn LeaseView>) -> Courier {
        self.courier_to(&self.destination, audience, lease)
    }

    /// The courier for the changes of a plan: those of a backfill, and of what is sent again on request, wait for live ones,
    /// whoever finishes it.
    fn courier_of(
        &self,
        plan: &PlanManifest,
        audience: convoke_core::sink::AudienceBinding,
        lease: Arc<dyn LeaseView>,
    ) -> Courier {
        let waits = plan.backfill.is_some() || plan.resent.is_some();
        let sink = if waits { &self.sync.backfill_destination } else { &self.destination };
        self.courier_to(sink, audience, lease)
    }

    fn courier_to(
        &self,
        sink: &Arc<dyn Destination>,
        audience: convoke_core::sink::AudienceBinding,
        lease: Arc<dyn LeaseView>,
    ) -> Courier {
        let ports = Ports {
            sink: Arc::clone(sink),
            state: Arc::clone(&self.services.state),
            clock: Arc::clone(&self.services.clock),
            boundaries: Arc::clone(&self.services.boundaries),
            cancel: self.cancel.clone(),
        };
        Courier::new(ports, audience, lease)
    }

    fn setup_ports(&self, lease: Arc<dyn LeaseView>) -> SetupPorts {
        SetupPorts {
            sink: Arc::clone(&self.destination),
            state: Arc::clone(&self.services.state),
            clock: Arc::clone(&self.services.clock),
            lease,
            cancel: self.cancel.clone(),
        }
    }

    fn report(&self, event: Event) {
        self.services.reporter.report(event);
    }

    fn notice(&self, text: impl Into<String>) {
        self.report(Event::Notice { text: text.into() });
    }

    fn reached(&self, boundary: Boundary) {
        self.services.boundaries.reached(boundary);
    }

    /// Waits for something unless the run is cancelled meanwhile; then the work is dropped where it stands.
    async fn unless_cancelled<Work: Future>(&self, work: Work) -> Result<Work::Output, Error> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::Interrupted),
            output = work => Ok(output),
        }
    }

    fn stop_if_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
