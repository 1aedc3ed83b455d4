//! The database's clock, by which leases expire.
//!
//! All processes that share a database must agree on the time, so it is asked of the database in SQL and never of
//! the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The database's clock, which tests can move on instead of waiting.
///
/// Clones move together: handles that are opened with clones of one clock agree on the time, as processes on one
/// database do.
#[derive(Clone, Debug, Default)]
pub struct DatabaseClock {
    ahead_millis: Arc<AtomicI64>,
}

impl DatabaseClock {
    /// Moves the clock on for every handle that was opened with it.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.ahead_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// What SQL adds to the time that the database tells, in milliseconds.
    pub(crate) fn ahead(&self) -> i64 {
        self.ahead_millis.load(Ordering::SeqCst)
    }
}
