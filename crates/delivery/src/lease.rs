//! The audience's lease as delivery sees it: held by someone else, checked right before each write.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use convoke_core::state::Lease;
use convoke_core::{Clock, StateError};

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

/// Polls a future only while the lease holds, looking at the lease right before each poll: a process that was
/// suspended in between sends nothing after it wakes up.
pub(crate) async fn while_leased<T>(
    view: &dyn LeaseView,
    clock: &dyn Clock,
    work: impl Future<Output = T>,
) -> Result<T, StateError> {
    let left = || view.remaining().saturating_sub(LEASE_MARGIN);
    let mut work = pin!(work);
    let mut alarm = clock.sleep(left());
    std::future::poll_fn(|context| {
        loop {
            if left().is_zero() {
                return Poll::Ready(Err(StateError::LeaseLost { resource: view.current().resource }));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // The alarm was set for an older lease: it may have been renewed meanwhile.
            alarm = clock.sleep(left());
        }
    })
    .await
}
