//! The checkpoint store as the loop uses it: each answer also tells whether the store is up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::state::{Lease, Leases, ScheduleMark, Schedules};
use convoke_core::{StateError, SyncName};

use crate::figures::Figures;
use crate::status::{Status, StoreChange};

/// Passes calls on, and notes what became of them.
pub(crate) struct WatchedStore {
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) schedules: Arc<dyn Schedules>,
    pub(crate) status: Arc<Status>,
    pub(crate) figures: Arc<Figures>,
}

impl WatchedStore {
    /// Takes note of an answer. What goes on is logged when it begins and when it ends.
    pub(crate) fn note<T>(&self, answer: Result<T, StateError>) -> Result<T, StateError> {
        let failure = answer.as_ref().err().filter(|error| !is_answer(error));
        if failure.is_some() {
            self.figures.store_failed();
        }
        match (self.status.note_store(failure.is_none()), failure) {
            (StoreChange::WentDown, Some(error)) => {
                tracing::error!(error = %chain(error), "the checkpoint store fails; no run is begun until it is back");
            }
            (StoreChange::Same, Some(error)) => {
                tracing::debug!(error = %chain(error), "the checkpoint store still fails");
            }
            (StoreChange::CameBack, _) => tracing::info!("the checkpoint store is back"),
            _ => {}
        }
        answer
    }
}

/// Whether the store did its work, and this is what it found.
fn is_answer(error: &StateError) -> bool {
    matches!(error, StateError::Busy { .. } | StateError::LeaseLost { .. } | StateError::Conflict { .. })
}

#[async_trait]
impl Leases for WatchedStore {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease, StateError> {
        self.note(self.leases.acquire(resource, holder, ttl).await)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StateError> {
        self.note(self.leases.renew(lease, ttl).await)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StateError> {
        self.note(self.leases.release(lease).await)
    }

    async fn holder(&self, resource: &str) -> Result<Option<Lease>, StateError> {
        self.note(self.leases.holder(resource).await)
    }
}

#[async_trait]
impl Schedules for WatchedStore {
    async fn schedule_mark(&self, sync: &SyncName) -> Result<Option<ScheduleMark>, StateError> {
        self.note(self.schedules.schedule_mark(sync).await)
    }

    async fn set_schedule_mark(&self, sync: &SyncName, mark: &ScheduleMark, lease: &Lease) -> Result<(), StateError> {
        self.note(self.schedules.set_schedule_mark(sync, mark, lease).await)
    }
}

/// Prints an error and everything below it on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}
