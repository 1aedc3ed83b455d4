//! The audience's lease as delivery sees it: held by someone else, checked right before each write.

use std::time::Duration;

use convoke_core::StateError;
use convoke_core::state::Lease;

/// A lease that somebody else keeps renewed while delivery goes on.
///
/// The contract: [`LeaseView::remaining`] is taken from a monotonic clock that counts suspension, counted from before
/// the store was asked for the lease or its renewal, so that it never says more than the store would.
pub trait LeaseView: Send + Sync {
    /// The lease as last renewed.
    fn current(&self) -> Lease;

    /// For how much longer it is certainly ours; zero once it has run out or was lost.
    fn remaining(&self) -> Duration;
}

/// How long before its end a lease counts as lost, so that a request under way ends before the lease does.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// The lease, if a write may begin under it now.
pub(crate) fn writable(view: &dyn LeaseView) -> Result<Lease, StateError> {
    let lease = view.current();
    if view.remaining() <= LEASE_MARGIN {
        return Err(StateError::LeaseLost { resource: lease.resource });
    }
    Ok(lease)
}
