//! The rate budget of one credential, shared by everything that uses it.
//!
//! Second, hour and day count at once. The window maths is pure and stands in [`window`]; here are the queue, the
//! waiting and the keeping of what was spent over restarts. One process counts for itself: two that use one credential
//! at the same time learn of each other by what the destination tells, see [`Feedback`].

pub mod window;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::gate::{Feedback, Gate, QuotaExhausted};
use convoke_core::spec::RateLimits;
use convoke_core::state::Budgets;
use convoke_core::{Clock, StateError};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use self::window::{Budget, Left, Moment, Spent};

/// The longest wait that is slept through. Beyond it a run gives up its slot and resumes by itself.
pub const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The longest wait that a cancellation does not cut short: what is in flight is to be finished at the usual rate.
const UNCUT_WAIT: Duration = Duration::from_secs(2);

/// How often what was spent is stored. What may be spent in between is stored ahead, so a crash never loses any.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Requests stored ahead where no limit per second says how many there may be.
const AHEAD_WITHOUT_LIMIT: u64 = 100;

/// Admits requests of one credential, first come first served.
pub struct Limiter {
    credential: String,
    /// Spent at most until the next save.
    ahead: u64,
    budget: Mutex<Budget>,
    /// Held by whoever is next; the lock is fair, so nobody overtakes. Holds when the spend was saved last.
    turn: tokio::sync::Mutex<Option<Duration>>,
    store: Arc<dyn Budgets>,
    clock: Arc<dyn Clock>,
    cancel: OnceLock<CancellationToken>,
}

impl Limiter {
    /// Opens the budget of a credential, with what it had spent before.
    ///
    /// `credential` names it in the checkpoint store: the connection's name, never a secret.
    pub async fn open(
        credential: impl Into<String>,
        limits: RateLimits,
        store: Arc<dyn Budgets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StateError> {
        let credential = credential.into();
        let spent = match store.budget(&credential).await? {
            None => Spent::default(),
            Some(stored) => serde_json::from_value(stored).map_err(|error| StateError::Unusable {
                message: format!("the stored budget of `{credential}` cannot be read ({error}); restore a backup"),
            })?,
        };
        let ahead = match limits.per_second {
            Some(per_second) => u64::from(per_second) * SAVE_INTERVAL.as_secs(),
            None => AHEAD_WITHOUT_LIMIT,
        };
        let budget = Mutex::new(Budget::new(&limits, &spent));
        let (turn, cancel) = (tokio::sync::Mutex::new(None), OnceLock::new());
        Ok(Arc::new(Self { credential, ahead, budget, turn, store, clock, cancel }))
    }

    /// Cuts waits short once this is cancelled: whoever waits is told until when the budget is used up, and has sent
    /// nothing. The first token given counts.
    pub fn interrupt_on(&self, cancel: CancellationToken) {
        let _ = self.cancel.set(cancel);
    }

    /// Waits; false if that was cut short.
    async fn wait(&self, wait: Duration) -> bool {
        let Some(cancel) = self.cancel.get().filter(|_| wait > UNCUT_WAIT) else {
            self.clock.sleep(wait).await;
            return true;
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => false,
            () = self.clock.sleep(wait) => true,
        }
    }

    /// Stores what was spent, to the request. Call it before the process ends.
    pub async fn flush(&self) -> Result<(), StateError> {
        let mut saved_at = self.turn.lock().await;
        self.save(0).await?;
        *saved_at = None;
        Ok(())
    }

    /// What is left of the hour and the day, as far as they have a limit.
    pub fn left(&self) -> Vec<Left> {
        let now = self.moment();
        self.with_budget(|budget| budget.left(now))
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.clock.now().0, monotonic: self.clock.elapsed() }
    }

    fn with_budget<T>(&self, work: impl FnOnce(&mut Budget) -> T) -> T {
        work(&mut self.budget.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn save(&self, ahead: u64) -> Result<(), StateError> {
        let spent = self.with_budget(|budget| budget.spent(ahead));
        let stored = serde_json::to_value(spent).expect("counts become JSON");
        self.store.save_budget(&self.credential, &stored).await
    }

    /// Saves before the first request and then now and then. A store that fails does not hold requests up: whatever
    /// else the run keeps there will say so.
    async fn save_if_due(&self, saved_at: &mut Option<Duration>) {
        let now = self.clock.elapsed();
        let is_due = saved_at.is_none_or(|at| now.saturating_sub(at) >= SAVE_INTERVAL);
        if !is_due {
            return;
        }
        match self.save(self.ahead).await {
            Ok(()) => *saved_at = Some(now),
            Err(error) => {
                tracing::warn!(credential = self.credential, error = %error, "the spent rate budget was not stored");
            }
        }
    }
}

#[async_trait]
impl Gate for Limiter {
    async fn admit(&self) -> Result<(), QuotaExhausted> {
        let mut saved_at = self.turn.lock().await;
        self.save_if_due(&mut saved_at).await;
        loop {
            let now = self.moment();
            let Err(wait) = self.with_budget(|budget| budget.take(now)) else { return Ok(()) };
            let until = self.clock.now().after(wait);
            if wait > LONGEST_WAIT || !self.wait(wait).await {
                return Err(QuotaExhausted { until });
            }
        }
    }

    fn report(&self, feedback: Feedback) {
        let now = self.moment();
        let jitter = rand::rng().random_range(0.0..1.0);
        self.with_budget(|budget| budget.note(&feedback, jitter, now));
    }
}
