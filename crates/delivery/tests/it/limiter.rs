//! The limiter against an account of its own of what each window held.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoke_core::Clock;
use convoke_core::gate::{Feedback, Gate, Window};
use convoke_core::spec::RateLimits;
use convoke_delivery::Limiter;
use convoke_testkit::clock::TestClock;
use tokio_util::sync::CancellationToken;

use crate::memory_state::MemoryState;

/// The limits of the vendor's smallest contract.
const BUILDER: RateLimits = RateLimits { per_second: Some(5), per_hour: Some(10_800), per_day: Some(129_600) };

struct Bench {
    clock: Arc<TestClock>,
    store: Arc<MemoryState>,
}

impl Bench {
    fn new() -> Self {
        Self { clock: TestClock::stepping(), store: Arc::default() }
    }

    fn open(&self, limits: RateLimits) -> Arc<Limiter> {
        let opening = Limiter::open("zoominfo", limits, Arc::clone(&self.store) as _, Arc::clone(&self.clock) as _);
        self.clock.run(opening).expect("what a limiter stored, it can read")
    }

    /// Sends with several users at once until `until`; returns when each request left, and by whom.
    fn spend(&self, limiter: &Limiter, users: usize, until: Duration) -> Vec<(Duration, usize)> {
        let sent = Mutex::new(Vec::new());
        let user = |number| {
            let sent = &sent;
            async move {
                while self.clock.elapsed() < until {
                    match limiter.admit().await {
                        Ok(()) => sent.lock().expect("no user panics").push((self.clock.elapsed(), number)),
                        Err(exhausted) => self.clock.sleep(exhausted.until.since(self.clock.now())).await,
                    }
                }
            }
        };
        self.clock.run(futures::future::join_all((0..users).map(user)));
        sent.into_inner().expect("no user panics")
    }
}

/// The greatest number of requests within any stretch of this length.
fn most_within(sent: &[(Duration, usize)], length: Duration) -> usize {
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
fn most_counted(sent: &[(Duration, usize)], length: Duration) -> f64 {
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

#[test]
fn no_second_holds_more_than_its_limit_and_nearly_all_of_it_is_used() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_hour: None, per_day: None, ..BUILDER });
    let sent = bench.spend(&limiter, 4, Duration::from_secs(100));
    assert_eq!(most_within(&sent, Duration::from_secs(1)), 5);
    assert!(sent.len() as f64 >= 0.97 * 500.0, "{}", sent.len());
}

#[test]
fn no_hour_or_day_counts_more_than_its_limit_and_nearly_all_of_it_is_used() {
    let bench = Bench::new();
    let limiter = bench.open(BUILDER);
    let hours = 30;
    let sent = bench.spend(&limiter, 3, Duration::from_secs(3_600 * hours));
    assert!(most_within(&sent, Duration::from_secs(1)) <= 5);
    assert!(most_counted(&sent, Duration::from_secs(3_600)) <= 10_800.5);
    assert!(most_counted(&sent, Duration::from_secs(86_400)) <= 129_600.5);
    // The day allows less than its hours do, so it is the one that is used up.
    let first_day = sent.iter().filter(|(at, _)| *at < Duration::from_secs(86_400)).count();
    assert!(first_day as f64 >= 0.97 * 129_600.0, "{first_day}");
}

#[test]
fn users_of_one_credential_take_turns() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_hour: None, per_day: None, ..BUILDER });
    let sent = bench.spend(&limiter, 4, Duration::from_secs(60));
    let shares: Vec<usize> = (0..4).map(|user| sent.iter().filter(|(_, by)| *by == user).count()).collect();
    // Who comes first finds a whole second free; from then on they take turns.
    assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 5 + 1, "{shares:?}");
}

#[test]
fn a_restart_keeps_what_was_spent() {
    let limits = RateLimits { per_second: None, per_hour: Some(100), per_day: None };
    let bench = Bench::new();
    let before = bench.open(limits);
    for _ in 0..60 {
        bench.clock.run(before.admit()).unwrap();
    }
    bench.clock.run(before.flush()).unwrap();
    drop(before);
    let after = bench.open(limits);
    for _ in 0..40 {
        bench.clock.run(after.admit()).unwrap();
    }
    assert!(bench.clock.run(after.admit()).is_err());
}

#[test]
fn a_crash_never_makes_the_budget_larger() {
    let bench = Bench::new();
    let before = bench.open(BUILDER);
    let sent = bench.spend(&before, 1, Duration::from_secs(600)).len();
    drop(before);
    let spent = bench.clock.run(convoke_core::state::Budgets::budget(&*bench.store, "zoominfo")).unwrap().unwrap();
    let stored = spent["hour"]["current"].as_u64().unwrap() as usize;
    assert!((sent..=sent + 50).contains(&stored), "{stored} stored, {sent} sent");
}

#[test]
fn a_used_up_hour_is_told_instead_of_slept_through() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_second: None, per_hour: Some(3), per_day: None });
    for _ in 0..3 {
        bench.clock.run(limiter.admit()).unwrap();
    }
    let exhausted = bench.clock.run(limiter.admit()).unwrap_err();
    assert!(exhausted.until > bench.clock.now().after(Duration::from_secs(3_600)));
    assert_eq!(bench.clock.elapsed(), Duration::ZERO);
}

#[test]
fn a_cancelled_run_does_not_sit_out_a_wait_for_its_budget() {
    let bench = Bench::new();
    let limiter = bench.open(BUILDER);
    let cancel = CancellationToken::new();
    limiter.interrupt_on(cancel.clone());
    let pause = Duration::from_secs(60);
    limiter.report(Feedback { rejected: true, retry_after: Some(pause), ..Feedback::default() });
    let cancelled = async {
        bench.clock.sleep(Duration::from_secs(5)).await;
        cancel.cancel();
    };
    let (admitted, ()) = bench.clock.run(futures::future::join(limiter.admit(), cancelled));
    assert!(admitted.unwrap_err().until >= convoke_testkit::clock::START.after(pause));
    assert_eq!(bench.clock.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_cancelled_run_still_finishes_what_it_has_in_flight_at_the_usual_rate() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_hour: None, per_day: None, ..BUILDER });
    let cancel = CancellationToken::new();
    limiter.interrupt_on(cancel.clone());
    cancel.cancel();
    for _ in 0..12 {
        bench.clock.run(limiter.admit()).unwrap();
    }
    assert!(bench.clock.elapsed() > Duration::from_secs(2));
}

#[test]
fn a_retry_after_holds_everybody_back_at_least_that_long() {
    let bench = Bench::new();
    let limiter = bench.open(BUILDER);
    bench.clock.run(limiter.admit()).unwrap();
    limiter.report(Feedback {
        rejected: true,
        rejected_window: Some(Window::Second),
        retry_after: Some(Duration::from_secs(30)),
        remaining: Vec::new(),
    });
    bench.clock.run(limiter.admit()).unwrap();
    let waited = bench.clock.elapsed();
    assert!((Duration::from_secs(30)..=Duration::from_secs(33)).contains(&waited), "{waited:?}");
}
