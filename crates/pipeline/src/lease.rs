//! Keeps a lease for the length of a run.
//!
//! A task renews it at a third of its life. Its remaining time is counted on the monotonic clock from before the store
//! was asked, so it is never thought longer than it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoke_core::state::{Lease, StateStore};
use convoke_core::{Clock, StateError};
use convoke_delivery::LeaseView;
use tokio::task::JoinHandle;

use crate::Services;
use crate::error::Error;

/// A lease that is renewed until it is released.
pub(crate) struct LeaseKeeper {
    held: Arc<Held>,
    state: Arc<dyn StateStore>,
    ttl: Duration,
    renewal: JoinHandle<()>,
}

/// The lease as delivery looks at it.
struct Held {
    clock: Arc<dyn Clock>,
    current: Mutex<(Lease, Duration)>,
}

impl Held {
    fn replace(&self, lease: Lease, valid_until: Duration) {
        *self.current.lock().expect("nobody panics while holding it") = (lease, valid_until);
    }
}

impl LeaseView for Held {
    fn current(&self) -> Lease {
        self.current.lock().expect("nobody panics while holding it").0.clone()
    }

    fn remaining(&self) -> Duration {
        let valid_until = self.current.lock().expect("nobody panics while holding it").1;
        valid_until.saturating_sub(self.clock.elapsed())
    }
}

impl LeaseKeeper {
    pub(crate) async fn acquire(services: &Services, resource: &str) -> Result<Self, Error> {
        let ttl = services.lease_ttl;
        let asked_at = services.clock.elapsed();
        let lease = services.state.acquire(resource, &services.holder, ttl).await?;
        let clock = Arc::clone(&services.clock);
        let held = Arc::new(Held { clock, current: Mutex::new((lease, asked_at + ttl)) });
        let renewal = tokio::spawn(renew(Arc::clone(&held), Arc::clone(&services.state), ttl));
        Ok(Self { held, state: Arc::clone(&services.state), ttl, renewal })
    }

    pub(crate) fn lease(&self) -> Lease {
        self.held.current()
    }

    pub(crate) fn view(&self) -> Arc<dyn LeaseView> {
        Arc::clone(&self.held) as Arc<dyn LeaseView>
    }

    /// Asks the store whether this lease is still the newest; an error if it is not.
    pub(crate) async fn confirm(&self) -> Result<(), Error> {
        let asked_at = self.held.clock.elapsed();
        let lease = self.state.renew(&self.lease(), self.ttl).await?;
        self.held.replace(lease, asked_at + self.ttl);
        Ok(())
    }

    /// Gives the lease back. Failing to is no harm: it expires.
    pub(crate) async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.state.release(&self.lease()).await {
            tracing::debug!(error = %crate::chain(&error), "the lease could not be released and will expire");
        }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(held: Arc<Held>, state: Arc<dyn StateStore>, ttl: Duration) {
    loop {
        held.clock.sleep(ttl / 3).await;
        let asked_at = held.clock.elapsed();
        match state.renew(&held.current(), ttl).await {
            Ok(lease) => held.replace(lease, asked_at + ttl),
            Err(StateError::LeaseLost { resource }) => {
                tracing::error!(resource, "the lease was lost; writing stops");
                held.replace(held.current(), Duration::ZERO);
                return;
            }
            // Writing stops by itself when the time runs out; until then another try may succeed.
            Err(error) => tracing::warn!(error = %crate::chain(&error), "the lease could not be renewed"),
        }
    }
}
