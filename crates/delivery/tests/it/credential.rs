//! A credential under a clock in the hand: processes on one store, and an account of what each window held.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoke_core::gate::{Closed, Feedback, Gate, Lane};
use convoke_core::spec::RateLimits;
use convoke_core::{Clock, Timestamp};
use convoke_delivery::Limiter;
use convoke_testkit::clock::TestClock;

use crate::memory_state::MemoryState;

/// The limits of the vendor's smallest contract.
pub(crate) const BUILDER: RateLimits =
    RateLimits { per_second: Some(5), per_hour: Some(10_800), per_day: Some(129_600) };

/// The limit per second of the vendor's standard contract.
pub(crate) const STANDARD: RateLimits = RateLimits { per_second: Some(25), per_hour: None, per_day: None };

/// A process that uses the credential, with its two lanes.
pub(crate) struct Process {
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) live: Arc<dyn Gate>,
    pub(crate) backfill: Arc<dyn Gate>,
}

impl Process {
    pub(crate) async fn admit(&self) -> Result<(), Closed> {
        self.live.admit().await
    }
}

pub(crate) struct Bench {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Arc<MemoryState>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let clock = TestClock::stepping();
        let store = Arc::new(MemoryState::timed_by(Arc::clone(&clock)));
        Self { clock, store }
    }

    pub(crate) fn open(&self, limits: RateLimits) -> Process {
        let opening = Limiter::open("zoominfo", limits, Arc::clone(&self.store) as _, Arc::clone(&self.clock) as _);
        let limiter = self.clock.run(opening).expect("what a limiter stored, it can read");
        Process { live: limiter.gate(Lane::Live), backfill: limiter.gate(Lane::Backfill), limiter }
    }

    pub(crate) fn report(&self, process: &Process, feedback: Feedback) {
        self.clock.run(process.live.report(feedback));
    }

    /// Sends with several users at once until `until`; returns when each request left, and by whom.
    pub(crate) fn spend(&self, process: &Process, users: usize, until: Duration) -> Sent {
        self.spend_together(&vec![(process, Duration::ZERO, until); users])
    }

    /// Sends with users that each begin and end at a time of their own.
    pub(crate) fn spend_together(&self, users: &[(&Process, Duration, Duration)]) -> Sent {
        let users: Vec<_> = users.iter().map(|(process, from, until)| (&*process.live, *from, *until, None)).collect();
        self.spend_by_lane(&users)
    }

    /// The same through gates, each user at a pace of its own: one that has a pace sends a request each so often.
    pub(crate) fn spend_by_lane(&self, users: &[(&dyn Gate, Duration, Duration, Option<Duration>)]) -> Sent {
        let sent = Mutex::new(Vec::new());
        let users = users.iter().enumerate().map(|(number, (gate, from, until, pace))| {
            let sent = &sent;
            async move {
                self.clock.sleep(from.saturating_sub(self.clock.elapsed())).await;
                self.use_up(*gate, *until, (number, *pace), sent).await;
            }
        });
        self.clock.run(futures::future::join_all(users));
        sent.into_inner().expect("no user panics")
    }

    async fn use_up(&self, gate: &dyn Gate, until: Duration, user: (usize, Option<Duration>), sent: &Mutex<Sent>) {
        let (number, pace) = user;
        while self.clock.elapsed() < until {
            match gate.admit().await {
                Ok(()) => sent.lock().expect("no user panics").push((self.clock.elapsed(), number)),
                Err(closed) => self.clock.sleep(end_of(closed).since(self.clock.now())).await,
            }
            if let Some(pace) = pace {
                self.clock.sleep(pace).await;
            }
        }
    }
}

/// Until when the budget is used up.
pub(crate) fn end_of(closed: Closed) -> Timestamp {
    let Closed::Quota(exhausted) = closed else { panic!("{closed}") };
    exhausted.until
}

/// When each request left, and the number of the user that sent it.
pub(crate) type Sent = Vec<(Duration, usize)>;

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many requests left in this stretch of seconds.
pub(crate) fn sent_between(sent: &[(Duration, usize)], from: u64, until: u64) -> usize {
    sent.iter().filter(|(at, _)| (seconds(from)..seconds(until)).contains(at)).count()
}

/// The greatest number of requests within any stretch of this length.
pub(crate) fn most_within(sent: &[(Duration, usize)], length: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (index, (at, _)) in sent.iter().enumerate() {
        while sent[first].0 + length <= *at {
            first += 1;
        }
        most = most.max(index - first + 1);
    }
    most
}

/// The greatest count the destination would see, with its decaying share of the window before.
pub(crate) fn most_counted(sent: &[(Duration, usize)], length: Duration) -> f64 {
    let start = Duration::from_millis(convoke_testkit::clock::START.0.unsigned_abs());
    let (mut index, mut current, mut previous, mut most) = (0, 0.0, 0.0, 0.0_f64);
    for (at, _) in sent {
        let at = (start + *at).as_secs_f64();
        let window = (at / length.as_secs_f64()).floor() as u64;
        if window != index {
            previous = if window == index + 1 { current } else { 0.0 };
            (index, current) = (window, 0.0);
        }
        current += 1.0;
        most = most.max(current + previous * (1.0 - (at / length.as_secs_f64()).fract()));
    }
    most
}
