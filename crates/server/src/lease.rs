//! Holds a lease for as long as something takes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use convoke_core::state::{Lease, Leases};
use convoke_core::{Clock, StateError};

/// A lease, and how to keep it.
pub struct Hold<'a> {
    pub leases: &'a dyn Leases,
    pub clock: &'a dyn Clock,
    pub lease: &'a Lease,
    pub ttl: Duration,
    /// Monotonic time from before the store was asked for the lease.
    pub asked_at: Duration,
}

impl Hold<'_> {
    /// Renews the lease while the work goes on, and calls `on_loss` if it is lost meanwhile; the work is waited for all
    /// the same.
    pub async fn during<T>(&self, work: impl Future<Output = T>, on_loss: impl FnOnce()) -> T {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = work.as_mut() => return done,
            () = self.renew_until_lost() => on_loss(),
        }
        work.await
    }

    /// Returns once somebody else has the lease, or could have it because the store did not renew it in time.
    async fn renew_until_lost(&self) {
        let mut valid_until = self.asked_at + self.ttl;
        loop {
            let left = valid_until.saturating_sub(self.clock.elapsed());
            self.clock.sleep(left.min(self.ttl / 3)).await;
            let asked_at = self.clock.elapsed();
            let left = valid_until.saturating_sub(asked_at);
            if left.is_zero() {
                return;
            }
            let renewed = tokio::select! {
                biased;
                renewed = self.leases.renew(self.lease, self.ttl) => renewed,
                () = self.clock.sleep(left) => return,
            };
            match renewed {
                Ok(_) => valid_until = asked_at + self.ttl,
                Err(StateError::LeaseLost { .. }) => return,
                // Another try may succeed in the time that is left.
                Err(_) => {}
            }
        }
    }
}
