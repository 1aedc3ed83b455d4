//! Leases under which a write was sent that the server has not confirmed.
//!
//! The server may still make such a write, at any time until it notices that nobody waits for it: it may be waiting for
//! a lock or for a standby. A fold shows how that would do harm. It reads the closed entries, writes a segment, and
//! marks everything up to the last of them as folded. If the closing of an earlier entry came to its end in between, it
//! would be marked and not folded; the ledger would not know its rows, and they would be created again.
//!
//! So nothing more is written under that lease. The run ends with an error; what it did is settled and folded by the
//! next one, which acquires the lease anew. That waits for the lock which a write under way has on the lease's row, and
//! moves the fence on, so that what comes later is refused.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use convoke_core::StateError;
use convoke_core::state::Lease;

/// The fence of the lease in doubt, by resource. A resource is forgotten once its lease is acquired anew.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    fences: Mutex<HashMap<String, u64>>,
}

impl Doubts {
    /// Refuses to write under a lease that is in doubt.
    pub(super) fn refuse(&self, lease: &Lease) -> Result<(), StateError> {
        if self.fences().get(&lease.resource) != Some(&lease.fence) {
            return Ok(());
        }
        let message = format!(
            "an earlier write to `{}` was not confirmed and may yet take effect, so this run writes nothing more; run \
             the same command again, which finds out what was done",
            lease.resource
        );
        Err(StateError::Storage { message, cause: None })
    }

    /// Watches over a write that is about to be sent. Unless it is settled, the lease is in doubt, also if the caller
    /// gives up waiting.
    pub(super) fn watch<'d>(&'d self, lease: &'d Lease) -> Pending<'d> {
        Pending { doubts: self, lease, is_settled: false }
    }

    /// Ends the doubt about a resource, whose lease was acquired anew.
    pub(super) fn end(&self, resource: &str) {
        self.fences().remove(resource);
    }

    fn fences(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write on its way.
#[derive(Debug)]
pub(super) struct Pending<'d> {
    doubts: &'d Doubts,
    lease: &'d Lease,
    is_settled: bool,
}

impl Pending<'_> {
    /// The server has answered: the write was made, or certainly was not.
    pub(super) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut fences = self.doubts.fences();
        let fence = fences.entry(self.lease.resource.clone()).or_default();
        *fence = self.lease.fence.max(*fence);
    }
}

#[cfg(test)]
mod tests {
    use convoke_core::Timestamp;

    use super::*;

    fn lease(fence: u64) -> Lease {
        let (resource, holder) = ("audience/a".to_owned(), "worker".to_owned());
        Lease { resource, fence, holder, expires_at: Timestamp(0), taken_over: false }
    }

    #[test]
    fn only_an_unsettled_write_casts_doubt_and_only_on_its_own_lease() {
        let doubts = Doubts::default();
        doubts.watch(&lease(1)).settle();
        assert!(doubts.refuse(&lease(1)).is_ok());
        drop(doubts.watch(&lease(1)));
        assert!(doubts.refuse(&lease(1)).unwrap_err().to_string().contains("audience/a"));
        assert!(doubts.refuse(&lease(2)).is_ok());
        assert!(doubts.refuse(&Lease { resource: "audience/b".to_owned(), ..lease(1) }).is_ok());
    }

    #[test]
    fn a_write_of_an_older_lease_takes_no_doubt_off_a_newer_one() {
        let doubts = Doubts::default();
        let (older, newer) = (lease(1), lease(2));
        let late = doubts.watch(&older);
        drop(doubts.watch(&newer));
        drop(late);
        assert!(doubts.refuse(&newer).is_err());
        doubts.end("audience/a");
        assert!(doubts.refuse(&newer).is_ok());
    }
}
