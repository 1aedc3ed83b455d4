//! The rate budget of one credential, shared by everything that uses it.
//!
//! Second, hour and day count at once. The maths is pure: [`account`] divides the budget among the processes on one
//! checkpoint store, [`allowance`] keeps what one of them may send, [`window`] counts hour and day. Here are the
//! queue, the waiting and the asking of the store: about once a second while requests leave, never while none does.

pub mod account;
pub mod allowance;
pub mod window;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::gate::{Feedback, Gate, QuotaExhausted};
use convoke_core::spec::RateLimits;
use convoke_core::state::Budgets;
use convoke_core::{Clock, StateError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::account::{ASK_AGAIN, Account, Claim, Grant};
use self::allowance::{Allowance, Need};
use self::window::Left;

/// The longest wait that is slept through. Beyond it a run gives up its slot and resumes by itself.
pub const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The longest wait that a cancellation does not cut short: what is in flight is to be finished at the usual rate.
const UNCUT_WAIT: Duration = Duration::from_secs(2);

/// Admits requests of one credential, first come first served.
pub struct Limiter {
    credential: String,
    limits: RateLimits,
    /// Tells this limiter from all others on the store.
    member: String,
    /// Spreads the ends of pauses.
    random: Mutex<StdRng>,
    kept: Mutex<Kept>,
    /// Held by whoever is next; the lock is fair, so nobody overtakes.
    turn: tokio::sync::Mutex<()>,
    store: Arc<dyn Budgets>,
    clock: Arc<dyn Clock>,
    cancel: OnceLock<CancellationToken>,
}

struct Kept {
    allowance: Allowance,
    /// As it was seen last.
    account: Account,
}

impl Limiter {
    /// Opens the budget of a credential, with what was spent of it before.
    ///
    /// `credential` names it in the checkpoint store: the connection's name, never a secret.
    pub async fn open(
        credential: impl Into<String>,
        limits: RateLimits,
        store: Arc<dyn Budgets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StateError> {
        let number = rand::rng().random();
        Self::open_as(number, credential, limits, store, clock).await
    }

    /// [`Limiter::open`] under a number of its own, which leaves nothing to chance. No two limiters on one store may
    /// share a number.
    pub async fn open_as(
        number: u64,
        credential: impl Into<String>,
        limits: RateLimits,
        store: Arc<dyn Budgets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StateError> {
        let credential = credential.into();
        let account = read(&credential, store.budget(&credential).await?)?;
        let (member, random) = (format!("{number:016x}"), Mutex::new(StdRng::seed_from_u64(number)));
        let kept = Mutex::new(Kept { allowance: Allowance::new(limits), account });
        let (turn, cancel) = (tokio::sync::Mutex::new(()), OnceLock::new());
        Ok(Arc::new(Self { credential, limits, member, random, kept, turn, store, clock, cancel }))
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

    /// Gives back what was drawn and not sent, and leaves the share to others. Call it before the process ends.
    pub async fn flush(&self) -> Result<(), StateError> {
        let _turn = self.turn.lock().await;
        let claim = self.with(|kept| kept.allowance.claim(&self.member, true, self.clock.elapsed()));
        if claim.is_of_use() { self.settle(claim).await.map(drop) } else { Ok(()) }
    }

    /// What is left of the hour and the day, as far as they have a limit.
    pub fn left(&self) -> Vec<Left> {
        let now = self.clock.now();
        self.with(|kept| kept.allowance.left(&kept.account, now))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Renews what may be sent. While the store does not answer, nothing may: others may have it by now.
    async fn renew(&self) -> bool {
        let asked_at = self.clock.elapsed();
        let claim = self.with(|kept| kept.allowance.claim(&self.member, false, asked_at));
        match self.settle(claim).await {
            Ok(grant) => {
                let now = self.clock.elapsed();
                self.with(|kept| kept.allowance.accept(&grant, asked_at, now));
                true
            }
            Err(error) => {
                tracing::warn!(credential = self.credential, error = %error, "the rate budget cannot be shared");
                false
            }
        }
    }

    /// Has the store change the account, and learns what came out.
    async fn settle(&self, claim: Claim) -> Result<Grant, StateError> {
        let (tell, told) = oneshot::channel();
        let (credential, limits) = (self.credential.clone(), self.limits);
        let change = Box::new(move |stored, now| {
            let mut account = read(&credential, stored)?;
            let grant = account.renew(&limits, &claim, now);
            let changed = serde_json::to_value(&account).expect("counts become JSON");
            // Whoever asked may have gone.
            let _ = tell.send((grant, account));
            Ok(changed)
        });
        self.store.update_budget(&self.credential, change).await?;
        let (grant, account) = told.await.expect("a store that updated the budget has made the change");
        self.with(|kept| kept.account = account);
        Ok(grant)
    }
}

/// Reads an account; nothing stored is an account that spent nothing.
fn read(credential: &str, stored: Option<serde_json::Value>) -> Result<Account, StateError> {
    let Some(stored) = stored else { return Ok(Account::default()) };
    serde_json::from_value(stored).map_err(|error| StateError::Unusable {
        message: format!("the stored budget of `{credential}` cannot be read ({error}); restore a backup"),
    })
}

#[async_trait]
impl Gate for Limiter {
    async fn admit(&self) -> Result<(), QuotaExhausted> {
        let _turn = self.turn.lock().await;
        // For how long the store has not answered.
        let mut without_store = Duration::ZERO;
        loop {
            let now = self.clock.elapsed();
            let wait = match self.with(|kept| kept.allowance.take(now)) {
                Ok(()) => return Ok(()),
                Err(Need::Wait(wait)) => wait,
                Err(Need::Renewal) if self.renew().await => continue,
                Err(Need::Renewal) => {
                    without_store += ASK_AGAIN;
                    ASK_AGAIN
                }
            };
            let until = self.clock.now().after(wait);
            let is_too_long = wait > LONGEST_WAIT || without_store > LONGEST_WAIT;
            if is_too_long || !self.wait(wait).await {
                return Err(QuotaExhausted { until });
            }
        }
    }

    fn report(&self, feedback: Feedback) {
        let now = self.clock.elapsed();
        let jitter = self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..1.0);
        self.with(|kept| kept.allowance.note(&feedback, jitter, now));
    }
}
