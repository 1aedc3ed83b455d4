//! Who goes first: live requests before backfills, shares by demand, and one probe at a time while nothing works.

use std::time::Duration;

use convoke_core::Clock;
use convoke_core::gate::{Closed, Feedback, Gate};
use convoke_core::spec::RateLimits;
use tokio_util::sync::CancellationToken;

use crate::credential::{Bench, STANDARD, Sent, most_within, seconds, sent_between};

const NO_PACE: Option<Duration> = None;

/// A user that sends about five requests per second.
const SLOW: Option<Duration> = Some(Duration::from_millis(200));

fn count_of(sent: &Sent, user: usize) -> usize {
    sent.iter().filter(|(_, by)| *by == user).count()
}

fn failure() -> Feedback {
    Feedback { failed: true, ..Feedback::default() }
}

#[test]
fn within_a_process_a_backfill_has_what_live_requests_leave() {
    let bench = Bench::new();
    let process = bench.open(STANDARD);
    let (live, backfill) = (&*process.live, &*process.backfill);
    let end = seconds(60);
    let sent = bench.spend_by_lane(&[
        (backfill, Duration::ZERO, end, NO_PACE),
        (backfill, Duration::ZERO, end, NO_PACE),
        (live, Duration::ZERO, end, SLOW),
    ]);
    assert_eq!(most_within(&sent, seconds(1)), 25);
    // Backfills leave evenly, so a live request waits for the next slot and no longer: some 50 ms beside its 200.
    assert!(count_of(&sent, 2) >= 230, "{} live", count_of(&sent, 2));
    assert!(sent.len() as f64 >= 0.97 * 1_500.0, "{}", sent.len());
}

#[test]
fn live_requests_that_use_everything_keep_a_backfill_waiting_until_they_end() {
    let bench = Bench::new();
    let process = bench.open(STANDARD);
    let (live, backfill) = (&*process.live, &*process.backfill);
    let sent = bench.spend_by_lane(&[
        (live, Duration::ZERO, seconds(40), NO_PACE),
        (live, Duration::ZERO, seconds(40), NO_PACE),
        (backfill, seconds(5), seconds(60), NO_PACE),
    ]);
    let backfilled: Sent = sent.iter().filter(|(_, by)| *by == 2).copied().collect();
    assert_eq!(sent_between(&backfilled, 5, 40), 0);
    assert!(sent_between(&backfilled, 41, 60) as f64 >= 0.97 * 19.0 * 25.0 - 25.0, "{}", backfilled.len());
}

#[test]
fn a_backfill_leaves_a_fifth_of_the_hour_and_the_day_to_live_requests_of_every_process() {
    for limits in [
        RateLimits { per_second: Some(25), per_hour: Some(1_000), per_day: None },
        RateLimits { per_second: Some(25), per_hour: None, per_day: Some(1_000) },
    ] {
        let bench = Bench::new();
        let (one, other) = (bench.open(limits), bench.open(limits));
        let mut backfilled = 0;
        let closed = loop {
            match bench.clock.run(one.backfill.admit()) {
                Ok(()) => backfilled += 1,
                Err(closed) => break closed,
            }
        };
        assert!(matches!(closed, Closed::Quota(_)), "{closed}");
        // How much is left is heard of with each renewal: about once a second.
        assert!((750..=850).contains(&backfilled), "{backfilled}");
        bench.clock.run(one.limiter.flush()).unwrap();
        for _ in 0..100 {
            bench.clock.run(other.live.admit()).unwrap();
        }
    }
}

#[test]
fn a_backfill_that_waits_for_live_requests_can_be_cancelled() {
    let bench = Bench::new();
    let process = bench.open(STANDARD);
    let cancel = CancellationToken::new();
    process.limiter.interrupt_on(cancel.clone());
    let (live, backfill) = (&*process.live, &*process.backfill);
    let told = bench.clock.run(async {
        let busy = async {
            while bench.clock.elapsed() < seconds(10) {
                futures::future::join(live.admit(), live.admit()).await.0.unwrap();
            }
        };
        let cancelled = async {
            bench.clock.sleep(seconds(2)).await;
            let waiting = backfill.admit();
            let later = async {
                bench.clock.sleep(seconds(3)).await;
                cancel.cancel();
            };
            let (told, ()) = futures::future::join(waiting, later).await;
            (told, bench.clock.elapsed())
        };
        futures::future::join(busy, cancelled).await.1
    });
    assert!(matches!(told.0, Err(Closed::Quota(_))), "{told:?}");
    assert!(told.1 <= seconds(6), "{told:?}");
}

#[test]
fn across_processes_a_backfill_leaves_live_requests_their_room() {
    let bench = Bench::new();
    let (daemon, backfill) = (bench.open(STANDARD), bench.open(STANDARD));
    let sent = bench.spend_by_lane(&[
        (&*backfill.backfill, Duration::ZERO, seconds(120), NO_PACE),
        (&*daemon.live, seconds(30), seconds(60), NO_PACE),
        (&*daemon.live, seconds(30), seconds(60), NO_PACE),
    ]);
    assert!(most_within(&sent, seconds(1)) <= 25);
    let live: Sent = sent.iter().filter(|(_, by)| *by > 0).copied().collect();
    assert!(sent_between(&live, 33, 60) as f64 >= 0.97 * 27.0 * 25.0 - 25.0, "{}", sent_between(&live, 33, 60));
    assert!(sent_between(&sent, 0, 30) as f64 >= 0.97 * 30.0 * 25.0, "alone it has all of it");
    assert!(sent_between(&sent, 65, 120) as f64 >= 0.97 * 55.0 * 25.0, "and again afterwards");
}

#[test]
fn a_process_that_needs_little_leaves_the_rest_to_one_that_needs_much() {
    let bench = Bench::new();
    let (busy, slow) = (bench.open(STANDARD), bench.open(STANDARD));
    let end = seconds(120);
    let sent = bench.spend_by_lane(&[
        (&*busy.live, Duration::ZERO, end, NO_PACE),
        (&*busy.live, Duration::ZERO, end, NO_PACE),
        (&*slow.live, Duration::ZERO, end, SLOW),
    ]);
    assert!(most_within(&sent, seconds(1)) <= 25);
    assert!(sent.len() as f64 >= 0.9 * 120.0 * 25.0, "{}", sent.len());
    assert!(count_of(&sent, 2) >= 560, "{} of a possible 600", count_of(&sent, 2));
}

#[test]
fn a_process_that_sends_nothing_any_more_holds_nothing_after_four_seconds() {
    let bench = Bench::new();
    let (ends, stays) = (bench.open(STANDARD), bench.open(STANDARD));
    let sent = bench.spend_by_lane(&[
        (&*ends.live, Duration::ZERO, seconds(20), NO_PACE),
        (&*stays.live, Duration::ZERO, seconds(60), NO_PACE),
    ]);
    let after = sent_between(&sent, 24, 60);
    assert!(after as f64 >= 0.97 * 36.0 * 25.0, "{after}");
}

#[test]
fn a_newcomer_sends_within_about_two_seconds_and_has_its_share_then() {
    for delay in [0, 137, 400, 650, 911] {
        let bench = Bench::new();
        let (first, newcomer) = (bench.open(STANDARD), bench.open(STANDARD));
        let comes = seconds(20) + Duration::from_millis(delay);
        let sent = bench.spend_by_lane(&[
            (&*first.live, Duration::ZERO, seconds(60), NO_PACE),
            (&*first.live, Duration::ZERO, seconds(60), NO_PACE),
            (&*newcomer.live, comes, seconds(60), NO_PACE),
            (&*newcomer.live, comes, seconds(60), NO_PACE),
        ]);
        assert!(most_within(&sent, seconds(1)) <= 25);
        let of_newcomer: Sent = sent.iter().filter(|(_, by)| *by > 1).copied().collect();
        let waited = of_newcomer[0].0 - comes;
        assert!(waited <= Duration::from_millis(2_100), "{waited:?} after {delay} ms");
        assert!(sent_between(&of_newcomer, 24, 60) as f64 >= 0.97 * 36.0 * 12.0, "{}", of_newcomer.len());
    }
}

#[test]
fn what_a_process_that_died_held_is_free_after_about_three_seconds() {
    let bench = Bench::new();
    let dies = bench.open(STANDARD);
    let mut sent = bench.spend(&dies, 2, seconds(10));
    drop(dies);
    let died = bench.clock.elapsed();
    let next = bench.open(STANDARD);
    sent.extend(bench.spend(&next, 2, seconds(30)));
    assert!(most_within(&sent, seconds(1)) <= 25);
    let first = sent.iter().find(|(at, _)| *at > died).unwrap().0;
    assert!(first <= died + Duration::from_millis(3_300), "{first:?} after {died:?}");
}

#[test]
fn a_pause_is_told_to_the_others_though_the_one_that_was_told_sends_nothing_more() {
    let bench = Bench::new();
    let (told, other) = (bench.open(STANDARD), bench.open(STANDARD));
    bench.clock.run(told.admit()).unwrap();
    bench.report(&told, Feedback { rejected: true, retry_after: Some(seconds(30)), ..Feedback::default() });
    bench.clock.run(other.admit()).unwrap();
    assert!(bench.clock.elapsed() >= seconds(30), "{:?}", bench.clock.elapsed());
}

#[test]
fn a_pause_that_could_not_be_told_is_told_once_the_store_is_back() {
    let bench = Bench::new();
    let (told, other) = (bench.open(STANDARD), bench.open(STANDARD));
    bench.clock.run(told.admit()).unwrap();
    bench.store.fail_budgets(true);
    bench.report(&told, Feedback { rejected: true, retry_after: Some(seconds(60)), ..Feedback::default() });
    bench.store.fail_budgets(false);
    let admitted = async {
        bench.clock.sleep(seconds(1)).await;
        other.admit().await.unwrap();
        bench.clock.elapsed()
    };
    let (_, admitted_at) = bench.clock.run(futures::future::join(told.admit(), admitted));
    assert!(admitted_at >= seconds(60), "{admitted_at:?}");
}

/// Sends through a gate to a destination that fails until a time; returns when each request left.
async fn send_to_failing(bench: &Bench, gate: &dyn Gate, fails_until: Duration, until: Duration) -> Vec<Duration> {
    let mut left_at = Vec::new();
    while bench.clock.elapsed() < until && gate.admit().await.is_ok() {
        left_at.push(bench.clock.elapsed());
        bench.clock.sleep(Duration::from_millis(50)).await;
        let failed = bench.clock.elapsed() < fails_until;
        gate.report(Feedback { failed, ..Feedback::default() }).await;
    }
    left_at
}

#[test]
fn while_every_request_fails_all_senders_pause_and_one_at_a_time_tries_until_one_succeeds() {
    for limits in [STANDARD, RateLimits { per_second: None, ..STANDARD }] {
        let bench = Bench::new();
        let process = bench.open(limits);
        let (live, backfill) = (&*process.live, &*process.backfill);
        let outage = seconds(120);
        let gates = [live, live, live, backfill];
        let senders = gates.map(|gate| send_to_failing(&bench, gate, outage, seconds(180)));
        let sent: Vec<Duration> = bench.clock.run(futures::future::join_all(senders)).concat();
        let tries = sent.iter().filter(|at| (seconds(1)..outage).contains(*at)).count();
        assert!((3..=40).contains(&tries), "{tries} tries in two minutes");
        let back = sent.iter().filter(|at| **at >= outage).min().unwrap();
        assert!(*back <= outage + seconds(31), "{back:?}");
        let after = sent.iter().filter(|at| **at >= seconds(155)).count();
        assert!(after >= 500, "then all of them send again: {after}");
    }
}

#[test]
fn a_destination_that_stays_down_is_told_to_be_after_five_minutes_instead_of_waited_for() {
    let bench = Bench::new();
    let process = bench.open(STANDARD);
    let live = &*process.live;
    let began_at = bench.clock.now();
    bench.clock.run(send_to_failing(&bench, live, seconds(86_400), seconds(86_400)));
    let ended_at = bench.clock.elapsed();
    assert!((seconds(300)..=seconds(332)).contains(&ended_at), "{ended_at:?}");
    let Err(Closed::Down { since }) = bench.clock.run(live.admit()) else { panic!("it is not down") };
    assert!(since.since(began_at) <= seconds(1), "{since}");
    // What comes later is a probe again.
    bench.clock.run(bench.clock.sleep(seconds(31)));
    bench.clock.run(live.admit()).unwrap();
    bench.report(&process, Feedback::default());
    bench.clock.run(live.admit()).unwrap();
}

#[test]
fn whoever_waits_for_a_slow_probe_goes_on_once_it_is_answered() {
    let bench = Bench::new();
    let process = bench.open(STANDARD);
    for _ in 0..5 {
        bench.report(&process, failure());
    }
    bench.clock.run(process.admit()).unwrap();
    let probe = async {
        bench.clock.sleep(seconds(40)).await;
        process.live.report(Feedback::default()).await;
    };
    bench.clock.run(futures::future::join(process.admit(), probe)).0.unwrap();
    let waited = bench.clock.elapsed();
    assert!((seconds(40)..=seconds(43)).contains(&waited), "{waited:?}");
}

#[test]
fn refusals_are_no_failures() {
    let bench = Bench::new();
    let process = bench.open(RateLimits { per_second: None, per_hour: None, per_day: None });
    for _ in 0..4 {
        bench.report(&process, failure());
    }
    bench.report(&process, Feedback { rejected: true, retry_after: Some(Duration::ZERO), ..Feedback::default() });
    bench.report(&process, failure());
    bench.clock.run(process.admit()).unwrap();
    assert_eq!(bench.clock.elapsed(), Duration::ZERO);
    for _ in 0..4 {
        bench.report(&process, failure());
    }
    bench.clock.run(process.admit()).unwrap();
    assert!(bench.clock.elapsed() > Duration::ZERO, "five in a row");
}
