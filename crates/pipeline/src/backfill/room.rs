//! Who waits for an audience that a backfill writes, comes first.
//!
//! A live run that finds the audience taken says so by a lease of its own, for as long as its process asks again. A backfill
//! looks for it between two windows, and leaves the audience alone until it is gone: the live run lets go of it once it has
//! the audience.

use std::time::Duration;

use convoke_core::StateError;
use convoke_core::state::{Lease, waiting_resource};

use crate::error::Error;
use crate::{Pipeline, Services};

/// How often a backfill looks whether somebody still waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long somebody is believed to wait, in lives of a lease: the daemon asks again within one.
const WAITS_FOR: u32 = 2;

impl Pipeline {
    /// Leaves the audience to who waits for it; not for ever, since they may have changed their mind.
    pub(super) async fn make_room(&self) -> Result<(), Error> {
        let waiting = waiting_resource(&self.lease_resource(&self.sync.spec.name).await?);
        let until = self.services.clock.elapsed() + self.services.lease_ttl * WAITS_FOR;
        while self.services.clock.elapsed() < until && !self.nobody_waits(&waiting).await? {
            self.unless_cancelled(self.services.clock.sleep(LOOK_EVERY)).await?;
        }
        Ok(())
    }

    /// Takes the lease of who waits, for a moment: that tells a process which waits from one that died waiting.
    async fn nobody_waits(&self, waiting: &str) -> Result<bool, Error> {
        let Services { state, holder, lease_ttl, .. } = &self.services;
        match state.acquire(waiting, holder, *lease_ttl).await {
            Ok(lease) => state.release(&lease).await.map(|()| true).map_err(Error::State),
            Err(StateError::Busy { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that this process waits for the audience. Nothing depends on it but how soon it gets it.
    pub(crate) async fn ask_for_room(&self, busy: &Error) {
        let Error::State(StateError::Busy { resource, .. }) = busy else { return };
        let (state, ttl) = (&self.services.state, self.services.lease_ttl * WAITS_FOR);
        let resource = waiting_resource(resource);
        let asked = match self.own_lease(&resource).await {
            Some(lease) => state.renew(&lease, ttl).await,
            None => state.acquire(&resource, &self.services.holder, ttl).await,
        };
        if let Err(error) = asked {
            tracing::debug!(resource, error = %error, "nobody is told that this run waits");
        }
    }

    /// The audience is this process's now: it waits no more.
    pub(crate) async fn stop_asking_for_room(&self, resource: &str) {
        if let Some(lease) = self.own_lease(&waiting_resource(resource)).await
            && let Err(error) = self.services.state.release(&lease).await
        {
            tracing::debug!(resource, error = %error, "that this run waits no more is not told");
        }
    }

    async fn own_lease(&self, resource: &str) -> Option<Lease> {
        let lease = self.services.state.holder(resource).await.ok().flatten()?;
        (lease.holder == self.services.holder).then_some(lease)
    }
}
