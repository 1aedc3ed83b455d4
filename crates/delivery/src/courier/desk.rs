//! What all batches of one delivery share: the sink behind its lease, reads that are repeated, waits, figures.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use convoke_core::journal::Entry;
use convoke_core::sink::{Answer, AudienceBinding, FoundRow, JobId, JobState, KeyCell, LookUp, Request};
use convoke_core::state::{Lease, Recreated};
use convoke_core::{KeyHash, RowId, SinkError, StateError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::Ports;
use crate::lease::{LeaseView, while_leased, writable};
use crate::patience::{Patience, asking_about_a_job, looking_rows_up};
use crate::report::DeliveryError;

/// Values per look-up where the destination names no limit: keeps requests and answers below a megabyte.
const MOST_VALUES: usize = 500;

pub(super) struct Desk<'a> {
    pub(super) ports: &'a Ports,
    pub(super) audience: &'a AudienceBinding,
    lease: &'a dyn LeaseView,
    /// Ends waits and new work: on the caller's wish, or because a batch stopped for all.
    pub(super) halt: CancellationToken,
    requests: AtomicU64,
    /// Spreads waits: apart for each process and each lease of it, and the same each time for the same lease.
    random: Mutex<StdRng>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(ports: &'a Ports, audience: &'a AudienceBinding, lease: &'a dyn LeaseView) -> Self {
        let (halt, requests) = (ports.cancel.child_token(), AtomicU64::new(0));
        Self { ports, audience, lease, halt, requests, random: Mutex::new(random_of(&lease.current())) }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The lease for a write to the checkpoint store.
    pub(super) fn lease(&self) -> Lease {
        self.lease.current()
    }

    pub(super) fn sink_error(&self, source: SinkError) -> DeliveryError {
        DeliveryError::Sink { audience: self.audience.name.clone(), source }
    }

    pub(super) fn state_error(&self, source: StateError) -> DeliveryError {
        DeliveryError::State { audience: self.audience.name.clone(), source }
    }

    /// Keys that are to be swept, with the tags they may exist under.
    pub(super) async fn recreated(&self) -> Result<Vec<Recreated>, DeliveryError> {
        self.ports.state.recreated(&self.audience.key).await.map_err(|error| self.state_error(error))
    }

    /// Entries of the audience that are open.
    pub(super) async fn open_entries(&self) -> Result<Vec<Entry>, DeliveryError> {
        self.ports.state.open_entries(&self.audience.key).await.map_err(|error| self.state_error(error))
    }

    /// Any part of a wait's range, 0 to 1.
    fn choose(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..=1.0)
    }

    /// Waits, but not past a halt.
    pub(super) async fn wait(&self, at_least: Duration, jitter: Duration) {
        let spread = jitter.mul_f64(self.choose());
        tokio::select! {
            biased;
            () = self.halt.cancelled() => {}
            () = self.ports.clock.sleep(at_least + spread) => {}
        }
    }

    /// Notes that a request sent up to now may still commit for so long: no new plan writes before.
    pub(super) async fn extend_quiet(&self, by: Duration) -> Result<(), DeliveryError> {
        // A timestamp is cut to the millisecond: one more makes up for it.
        let until = self.ports.clock.now().after(by + Duration::from_millis(1));
        let extended = self.ports.state.extend_quiet(&self.audience.key, until, &self.lease()).await;
        extended.map_err(|error| self.state_error(error))
    }

    /// Sends one write. The request is given up before the lease ends: then it is in doubt, and this an error.
    pub(super) async fn send(&self, request: &Request) -> Result<Result<Answer, SinkError>, DeliveryError> {
        writable(self.lease).map_err(|lost| self.state_error(lost))?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sending = self.ports.sink.send(self.audience, request);
        while_leased(self.lease, &*self.ports.clock, sending).await.map_err(|lost| self.state_error(lost))
    }

    pub(super) async fn poll_job(&self, job: &JobId) -> Result<JobState, DeliveryError> {
        let what = asking_about_a_job(self.audience);
        self.read(&what, || self.ports.sink.poll(self.audience, job)).await
    }

    pub(super) async fn find_cells(&self, cells: &[KeyCell]) -> Result<Vec<FoundRow>, DeliveryError> {
        let mut found = Vec::new();
        for part in cells.chunks(self.values_per_look_up()) {
            found.extend(self.look_up(&LookUp::KeyCells(part.to_vec())).await?);
        }
        Ok(found)
    }

    pub(super) async fn find_keys(&self, keys: &[KeyHash]) -> Result<Vec<FoundRow>, DeliveryError> {
        let mut found = Vec::new();
        for part in keys.chunks(self.values_per_look_up()) {
            found.extend(self.look_up(&LookUp::Keys(part.to_vec())).await?);
        }
        Ok(found)
    }

    pub(super) async fn find_ids(&self, row_ids: &[RowId]) -> Result<Vec<FoundRow>, DeliveryError> {
        let mut found = Vec::new();
        for part in row_ids.chunks(self.ids_per_look_up()) {
            found.extend(self.look_up(&LookUp::RowIds(part.to_vec())).await?);
        }
        Ok(found)
    }

    pub(super) fn ids_per_look_up(&self) -> usize {
        self.ports.sink.capabilities().look_up_ids.clamp(1, MOST_VALUES)
    }

    pub(super) fn values_per_look_up(&self) -> usize {
        self.audience.key_look_up.map_or(1, |look_up| look_up.values_per_request.clamp(1, MOST_VALUES))
    }

    async fn look_up(&self, query: &LookUp) -> Result<Vec<FoundRow>, DeliveryError> {
        let what = looking_rows_up(self.audience);
        self.read(&what, || self.ports.sink.look_up(self.audience, query)).await
    }

    /// Makes a read, repeated until this delivery halts.
    async fn read<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, DeliveryError>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let choose = || self.choose();
        let patience = Patience { clock: &*self.ports.clock, cancel: &self.halt, choose: &choose };
        let counted = || {
            self.requests.fetch_add(1, Ordering::Relaxed);
            attempt()
        };
        patience.read(what, counted).await.map_err(|error| self.sink_error(error))
    }
}

fn random_of(lease: &Lease) -> StdRng {
    let mut hasher = DefaultHasher::new();
    (&lease.resource, &lease.holder, lease.fence).hash(&mut hasher);
    StdRng::seed_from_u64(hasher.finish())
}
