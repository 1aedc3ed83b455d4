//! The rate budget of one credential, shared by everything that uses it.
//!
//! Second, hour and day count at once. The maths is pure: [`account`] divides the budget among the processes on one
//! checkpoint store, [`allowance`] keeps what one of them may send, [`window`] counts hour and day, `breaker` spares a
//! destination that fails. Here are the queues, the waiting and the asking of the store: about once a second while
//! requests leave, never while none does.
//!
//! Requests come in lanes. Within a process a backfill's request leaves only while no live one waits, and between
//! processes a backfill has what live requests leave of the second. So live requests that use all of it keep backfills
//! waiting; that is logged each minute. Of the hour and the day a backfill leaves a fifth to live requests.

pub mod account;
pub mod allowance;
mod breaker;
pub mod division;
pub mod forecast;
pub mod window;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::gate::{Closed, Feedback, Gate, Lane, QuotaExhausted};
use convoke_core::spec::RateLimits;
use convoke_core::state::Budgets;
use convoke_core::{Clock, StateError, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::account::{ASK_AGAIN, Account, Claim, Grant};
use self::allowance::{Allowance, Need};
use self::breaker::{Breaker, Health};
use self::window::Left;

/// The longest wait that is slept through. Beyond it a run gives up its slot and resumes by itself.
pub const LONGEST_WAIT: Duration = Duration::from_secs(120);

// Whoever waits for a destination that fails is not told that the quota is used up.
const _: () = assert!(breaker::LONGEST_PAUSE.as_secs() <= LONGEST_WAIT.as_secs());

/// The longest wait that a cancellation does not cut short: what is in flight is to be finished at the usual rate.
const UNCUT_WAIT: Duration = Duration::from_secs(2);

/// How often it is said that a backfill waits.
const WORD_INTERVAL: Duration = Duration::from_secs(60);

/// Admits requests of one credential: live before backfill, within a lane first come first served.
pub struct Limiter {
    credential: String,
    /// Tells this limiter from all others on the store.
    member: String,
    /// Spreads the ends of pauses.
    random: Mutex<StdRng>,
    kept: Mutex<Kept>,
    /// Each held by whoever is next in its lane; the locks are fair, so nobody overtakes.
    live_turn: tokio::sync::Mutex<()>,
    backfill_turn: tokio::sync::Mutex<()>,
    /// Held while the store is asked.
    renewing: tokio::sync::Mutex<()>,
    /// Tells those who wait that something else than time has moved.
    moved: watch::Sender<()>,
    store: Arc<dyn Budgets>,
    clock: Arc<dyn Clock>,
    cancel: OnceLock<CancellationToken>,
}

struct Kept {
    allowance: Allowance,
    breaker: Breaker,
    /// As it was seen last.
    account: Account,
    /// How often it was renewed.
    renewals: u64,
    /// Requests that wait in the live lane.
    live_waiting: usize,
}

/// What keeps a request in.
enum Hindrance {
    Need(Need),
    /// Live requests wait.
    Turn,
    Down(Duration),
}

impl Kept {
    fn take(&mut self, lane: Lane, now: Duration) -> Result<(), Hindrance> {
        if lane == Lane::Backfill && self.live_waiting > 0 {
            self.allowance.wants_more(lane);
            return Err(Hindrance::Turn);
        }
        match self.breaker.health(now) {
            Health::Good | Health::Probe => {}
            Health::Wait(wait) => return Err(Hindrance::Need(Need::Wait(wait))),
            Health::Down { since } => return Err(Hindrance::Down(since)),
        }
        self.allowance.take(lane, now).map_err(Hindrance::Need)?;
        self.breaker.admitted(now);
        Ok(())
    }
}

/// A live request that waits, for as long as this is kept.
struct LiveWait<'a>(&'a Limiter);

impl<'a> LiveWait<'a> {
    fn begin(limiter: &'a Limiter) -> Self {
        limiter.with(|kept| kept.live_waiting += 1);
        Self(limiter)
    }
}

impl Drop for LiveWait<'_> {
    fn drop(&mut self) {
        let left = self.0.with(|kept| {
            kept.live_waiting -= 1;
            kept.live_waiting
        });
        if left == 0 {
            self.0.moved.send_replace(());
        }
    }
}

/// The limiter as the requests of one lane pass it.
struct LaneGate {
    limiter: Arc<Limiter>,
    lane: Lane,
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
        let kept = Kept {
            allowance: Allowance::new(limits),
            breaker: Breaker::default(),
            account,
            renewals: 0,
            live_waiting: 0,
        };
        Ok(Arc::new(Self {
            credential,
            member: format!("{number:016x}"),
            random: Mutex::new(StdRng::seed_from_u64(number)),
            kept: Mutex::new(kept),
            live_turn: tokio::sync::Mutex::default(),
            backfill_turn: tokio::sync::Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            moved: watch::Sender::new(()),
            store,
            clock,
            cancel: OnceLock::new(),
        }))
    }

    /// The gate for the requests of a lane. All gates of a limiter share its budget.
    pub fn gate(self: &Arc<Self>, lane: Lane) -> Arc<dyn Gate> {
        Arc::new(LaneGate { limiter: Arc::clone(self), lane })
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
        let _renewing = self.renewing.lock().await;
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

    /// Renews what may be sent, unless somebody else does so meanwhile. While the store does not answer, nothing may
    /// leave: others may have it by now.
    async fn renew(&self) -> bool {
        let seen = self.with(|kept| kept.renewals);
        let _renewing = self.renewing.lock().await;
        self.with(|kept| kept.renewals) != seen || self.renew_now().await
    }

    /// Call it while holding `renewing`.
    async fn renew_now(&self) -> bool {
        let asked_at = self.clock.elapsed();
        let claim = self.with(|kept| kept.allowance.claim(&self.member, false, asked_at));
        match self.settle(claim.clone()).await {
            Ok(grant) => {
                let now = self.clock.elapsed();
                self.with(|kept| {
                    kept.allowance.accept(&grant, asked_at, now);
                    kept.renewals += 1;
                });
                true
            }
            Err(error) => {
                self.with(|kept| kept.allowance.untold(claim));
                tracing::warn!(credential = self.credential, error = %error, "the rate budget cannot be shared");
                false
            }
        }
    }

    /// Lets a request out when it may leave.
    async fn admit(&self, lane: Lane) -> Result<(), Closed> {
        let (turn, _wait) = match lane {
            Lane::Live => (&self.live_turn, Some(LiveWait::begin(self))),
            Lane::Backfill => (&self.backfill_turn, None),
        };
        let _turn = turn.lock().await;
        let began_at = self.clock.elapsed();
        let mut words = 0;
        // For how long the store has not answered.
        let mut without_store = Duration::ZERO;
        loop {
            let mut moved = self.moved.subscribe();
            let now = self.clock.elapsed();
            self.tell_of_waiting(lane, now.saturating_sub(began_at), &mut words);
            let (wait, is_store_gone) = match self.with(|kept| kept.take(lane, now)) {
                Ok(()) => return Ok(()),
                Err(Hindrance::Need(Need::Wait(wait))) => (wait, false),
                Err(Hindrance::Need(Need::Renewal)) if self.renew().await => continue,
                Err(Hindrance::Need(Need::Renewal)) => (ASK_AGAIN, true),
                Err(Hindrance::Turn) => (WORD_INTERVAL, false),
                Err(Hindrance::Down(since)) => {
                    return Err(Closed::Down { since: self.wall_time_of(since, now) });
                }
            };
            let until = self.clock.now().after(wait.max(self.with(|kept| kept.allowance.worth_a_run_in(now))));
            if is_store_gone {
                without_store += wait;
            }
            let is_too_long = wait > LONGEST_WAIT || without_store > LONGEST_WAIT;
            let is_over = async {
                tokio::select! {
                    biased;
                    is_over = self.wait(wait) => is_over,
                    // The sender lives in `self`.
                    _ = moved.changed(), if !is_store_gone => true,
                }
            };
            if is_too_long || !is_over.await {
                return Err(QuotaExhausted { until }.into());
            }
        }
    }

    fn wall_time_of(&self, then: Duration, now: Duration) -> Timestamp {
        let ago = i64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.clock.now().0.saturating_sub(ago))
    }

    /// Says once a minute that a backfill waits.
    fn tell_of_waiting(&self, lane: Lane, waited: Duration, words: &mut u32) {
        if lane == Lane::Backfill && waited >= WORD_INTERVAL * (*words + 1) {
            *words += 1;
            let waited_seconds = waited.as_secs();
            let credential = self.credential.as_str();
            tracing::info!(credential, waited_seconds, "a backfill waits for the rate budget; live requests go first");
        }
    }

    /// Any part of a range, 0 to 1.
    fn choose(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..1.0)
    }

    /// Takes note of how a request ended; a pause that was asked for is told to the other processes at once.
    async fn report(&self, feedback: &Feedback) {
        let now = self.clock.elapsed();
        let (for_pause, for_breaker) = (self.choose(), self.choose());
        let (before, after, is_untold, limits) = self.with(|kept| {
            let (before, limits) = (kept.breaker.health(now), kept.allowance.limits());
            kept.breaker.note(feedback.failed, for_breaker, now);
            kept.allowance.note(feedback, for_pause, now);
            let changed = Some(kept.allowance.limits()).filter(|now| *now != limits);
            (before, kept.breaker.health(now), kept.allowance.has_untold_pause(), changed)
        });
        let credential = self.credential.as_str();
        if let Some(RateLimits { per_second, per_hour, per_day }) = limits {
            tracing::warn!(credential, per_second, per_hour, per_day, "the destination tells other limits than `rate`");
        }
        match (before == Health::Good, after == Health::Good) {
            (true, false) => tracing::warn!(credential, "every request fails; they pause, and go on one at a time"),
            (false, true) => tracing::info!(credential, "requests are answered again"),
            _ => {}
        }
        if before != after {
            self.moved.send_replace(());
        }
        if is_untold {
            let _renewing = self.renewing.lock().await;
            if self.with(|kept| kept.allowance.has_untold_pause()) {
                self.renew_now().await;
            }
        }
    }

    /// Has the store change the account, and learns what came out.
    async fn settle(&self, claim: Claim) -> Result<Grant, StateError> {
        let (tell, told) = oneshot::channel();
        let (credential, limits) = (self.credential.clone(), self.with(|kept| kept.allowance.limits()));
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
impl Gate for LaneGate {
    async fn admit(&self) -> Result<(), Closed> {
        self.limiter.admit(self.lane).await
    }

    async fn report(&self, feedback: Feedback) {
        self.limiter.report(&feedback).await;
    }
}
