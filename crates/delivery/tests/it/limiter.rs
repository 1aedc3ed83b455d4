//! The limiter against an account of its own of what each window held.

use std::time::Duration;

use convoke_core::Clock;
use convoke_core::gate::{Feedback, Window};
use convoke_core::spec::RateLimits;
use tokio_util::sync::CancellationToken;

use crate::credential::{BUILDER, Bench, STANDARD, end_of, most_counted, most_within, seconds, sent_between};

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
    bench.clock.run(before.limiter.flush()).unwrap();
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
    assert!(end_of(exhausted) > bench.clock.now().after(Duration::from_secs(3_600)));
    assert_eq!(bench.clock.elapsed(), Duration::ZERO);
}

#[test]
fn a_cancelled_run_does_not_sit_out_a_wait_for_its_budget() {
    let bench = Bench::new();
    let limiter = bench.open(BUILDER);
    let cancel = CancellationToken::new();
    limiter.limiter.interrupt_on(cancel.clone());
    let pause = Duration::from_secs(60);
    bench.report(&limiter, Feedback { rejected: true, retry_after: Some(pause), ..Feedback::default() });
    let cancelled = async {
        bench.clock.sleep(Duration::from_secs(5)).await;
        cancel.cancel();
    };
    let (admitted, ()) = bench.clock.run(futures::future::join(limiter.admit(), cancelled));
    assert!(end_of(admitted.unwrap_err()) >= convoke_testkit::clock::START.after(pause));
    assert_eq!(bench.clock.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_cancelled_run_still_finishes_what_it_has_in_flight_at_the_usual_rate() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_hour: None, per_day: None, ..BUILDER });
    let cancel = CancellationToken::new();
    limiter.limiter.interrupt_on(cancel.clone());
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
    bench.report(
        &limiter,
        Feedback {
            failed: false,
            rejected: true,
            rejected_window: Some(Window::Second),
            retry_after: Some(Duration::from_secs(30)),
            ..Feedback::default()
        },
    );
    bench.clock.run(limiter.admit()).unwrap();
    let waited = bench.clock.elapsed();
    assert!((Duration::from_secs(30)..=Duration::from_secs(33)).contains(&waited), "{waited:?}");
}

#[test]
fn two_processes_stay_within_the_second_together_and_use_nearly_all_of_it() {
    let bench = Bench::new();
    let (one, two) = (bench.open(STANDARD), bench.open(STANDARD));
    let (start, end) = (Duration::ZERO, seconds(300));
    let sent = bench.spend_together(&[(&one, start, end), (&two, start, end), (&one, start, end), (&two, start, end)]);
    assert_eq!(most_within(&sent, seconds(1)), 25);
    assert!(sent.len() as f64 >= 0.97 * 7_500.0, "{}", sent.len());
    let of_one = sent.iter().filter(|(_, by)| by % 2 == 0).count();
    assert!((0.45..0.55).contains(&(of_one as f64 / sent.len() as f64)), "{of_one} of {}", sent.len());
    let updates = bench.store.budget_updates();
    // Each asks again after 0.7 s, as soon as it has to wait for the second.
    assert!(updates <= 2 * 430, "{updates} writes in 300 seconds of two processes");
}

#[test]
fn two_processes_stay_within_hour_and_day_together_and_use_nearly_all_of_them() {
    let bench = Bench::new();
    let (one, two) = (bench.open(BUILDER), bench.open(BUILDER));
    let day = seconds(86_400);
    let end = day + seconds(3 * 3_600);
    let sent = bench.spend_together(&[(&one, Duration::ZERO, end), (&two, Duration::ZERO, end)]);
    assert!(most_within(&sent, seconds(1)) <= 5);
    assert!(most_counted(&sent, seconds(3_600)) <= 10_800.5);
    assert!(most_counted(&sent, day) <= 129_600.5);
    let first_day = sent.iter().filter(|(at, _)| *at < day).count();
    assert!(first_day as f64 >= 0.97 * 129_600.0, "{first_day}");
}

#[test]
fn processes_that_come_and_go_never_exceed_the_second_together() {
    let bench = Bench::new();
    let limiters: Vec<_> = (0..6).map(|_| bench.open(STANDARD)).collect();
    let stays = [(0, 40), (3, 11), (5, 33), (6, 9), (20, 22), (21, 60)];
    let users: Vec<_> = limiters
        .iter()
        .zip(stays)
        .map(|(limiter, (from, until))| (limiter, Duration::from_millis(from * 1_000 + 37 * until), seconds(until)))
        .collect();
    let sent = bench.spend_together(&users);
    assert!(most_within(&sent, seconds(1)) <= 25);
    assert!(sent_between(&sent, 45, 60) as f64 >= 0.97 * 15.0 * 25.0 - 25.0, "the last one has all of it");
}

#[test]
fn more_processes_than_requests_in_a_second_take_turns() {
    let bench = Bench::new();
    let limits = RateLimits { per_second: Some(2), per_hour: None, per_day: None };
    let limiters: Vec<_> = (0..5).map(|_| bench.open(limits)).collect();
    let users: Vec<_> = limiters.iter().map(|limiter| (limiter, Duration::ZERO, seconds(120))).collect();
    let sent = bench.spend_together(&users);
    assert!(most_within(&sent, seconds(1)) <= 2);
    for user in 0..5 {
        assert!(sent.iter().any(|(_, by)| *by == user), "process {user} never had a turn");
    }
}

#[test]
fn the_share_of_a_process_that_died_returns() {
    let bench = Bench::new();
    let (dies, stays) = (bench.open(STANDARD), bench.open(STANDARD));
    let sent = bench.spend_together(&[(&dies, Duration::ZERO, seconds(20)), (&stays, Duration::ZERO, seconds(60))]);
    assert!(most_within(&sent, seconds(1)) <= 25);
    let after = sent_between(&sent, 26, 60);
    assert!(after as f64 >= 0.97 * 34.0 * 25.0, "{after}");
}

#[test]
fn a_process_that_ends_in_order_leaves_its_share_to_the_next_within_two_seconds() {
    let bench = Bench::new();
    let before = bench.open(STANDARD);
    let mut sent = bench.spend(&before, 2, seconds(10));
    bench.clock.run(before.limiter.flush()).unwrap();
    let ended = bench.clock.elapsed();
    let after = bench.open(STANDARD);
    sent.extend(bench.spend(&after, 2, seconds(20)));
    assert!(most_within(&sent, seconds(1)) <= 25);
    let first = sent.iter().find(|(at, _)| *at > ended).unwrap().0;
    assert!(first <= ended + seconds(2), "{first:?} after {ended:?}");
}

#[test]
fn the_slice_of_a_process_that_died_stays_spent() {
    let limits = RateLimits { per_second: None, per_hour: Some(150), per_day: None };
    let bench = Bench::new();
    let dies = bench.open(limits);
    bench.clock.run(dies.admit()).unwrap();
    drop(dies);
    bench.clock.run(bench.clock.sleep(seconds(10)));
    let stays = bench.open(limits);
    for _ in 0..50 {
        bench.clock.run(stays.admit()).unwrap();
    }
    assert!(bench.clock.run(stays.admit()).is_err(), "the one that died had drawn a hundred");
}

#[test]
fn a_process_waits_for_what_another_one_has_drawn_and_may_give_back() {
    let limits = RateLimits { per_second: None, per_hour: Some(100), per_day: None };
    let bench = Bench::new();
    let (one, two) = (bench.open(limits), bench.open(limits));
    bench.clock.run(one.admit()).unwrap();
    let given_back = async {
        bench.clock.sleep(seconds(1)).await;
        one.limiter.flush().await.unwrap();
    };
    let (admitted, ()) = bench.clock.run(futures::future::join(two.admit(), given_back));
    admitted.expect("ninety-nine are given back");
    assert!(bench.clock.elapsed() <= seconds(3), "{:?}", bench.clock.elapsed());
}

#[test]
fn a_pause_that_one_process_was_told_holds_the_others_back_too() {
    let bench = Bench::new();
    let (told, other) = (bench.open(BUILDER), bench.open(BUILDER));
    bench.clock.run(told.admit()).unwrap();
    bench.report(&told, Feedback { rejected: true, retry_after: Some(seconds(30)), ..Feedback::default() });
    // It learns of it from the store, so the one that was told has to ask for its next request.
    let admitted = async {
        other.admit().await.unwrap();
        bench.clock.elapsed()
    };
    let (_, admitted_at) = bench.clock.run(futures::future::join(told.admit(), admitted));
    assert!(admitted_at >= seconds(30), "{admitted_at:?}");
}

#[test]
fn what_the_destination_says_is_left_counts_for_every_process() {
    let bench = Bench::new();
    let (told, other) = (bench.open(BUILDER), bench.open(BUILDER));
    bench.clock.run(told.admit()).unwrap();
    bench.report(&told, Feedback { remaining: vec![(Window::Hour, 0)], ..Feedback::default() });
    assert!(bench.clock.run(told.admit()).is_err());
    assert!(bench.clock.run(other.admit()).is_err());
}

#[test]
fn a_refusal_gives_its_request_back() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_second: None, per_hour: Some(2), per_day: None });
    bench.clock.run(limiter.admit()).unwrap();
    bench.report(&limiter, Feedback { rejected: true, ..Feedback::default() });
    bench.clock.run(limiter.admit()).unwrap();
    bench.clock.run(limiter.admit()).unwrap();
    assert!(bench.clock.run(limiter.admit()).is_err());
}

#[test]
fn a_pause_beyond_all_measure_is_cut_to_the_longest_window() {
    let bench = Bench::new();
    let limiter = bench.open(BUILDER);
    bench.report(&limiter, Feedback { rejected: true, retry_after: Some(Duration::MAX), ..Feedback::default() });
    let exhausted = bench.clock.run(limiter.admit()).unwrap_err();
    assert_eq!(end_of(exhausted), bench.clock.now().after(seconds(86_400)));
}

#[test]
fn a_credential_without_limits_asks_nothing_of_the_store() {
    let bench = Bench::new();
    let limiter = bench.open(RateLimits { per_second: None, per_hour: None, per_day: None });
    for _ in 0..100 {
        bench.clock.run(limiter.admit()).unwrap();
    }
    bench.clock.run(limiter.limiter.flush()).unwrap();
    assert_eq!(bench.store.budget_updates(), 0);
}

#[test]
fn a_store_that_takes_its_time_costs_little_and_lets_nothing_slip() {
    for (delay, least) in [(10, 0.96), (400, 0.5)] {
        let bench = Bench::new();
        bench.store.delay(Duration::from_millis(delay));
        let (one, two) = (bench.open(STANDARD), bench.open(STANDARD));
        let end = seconds(300);
        let sent = bench.spend_together(&[(&one, Duration::ZERO, end), (&two, seconds(7), end)]);
        assert!(most_within(&sent, seconds(1)) <= 25);
        assert!(sent.len() as f64 >= least * 7_500.0, "{} with a delay of {delay} ms", sent.len());
    }
}

#[test]
fn while_the_store_is_gone_nothing_leaves_and_then_it_goes_on() {
    let bench = Bench::new();
    let limiter = bench.open(BUILDER);
    bench.clock.run(limiter.admit()).unwrap();
    bench.store.fail_budgets(true);
    bench.clock.run(bench.clock.sleep(seconds(5)));
    let back = async {
        bench.clock.sleep(seconds(10)).await;
        bench.store.fail_budgets(false);
    };
    bench.clock.run(futures::future::join(limiter.admit(), back)).0.unwrap();
    assert!((seconds(15)..=seconds(17)).contains(&bench.clock.elapsed()), "{:?}", bench.clock.elapsed());
    bench.store.fail_budgets(true);
    bench.clock.run(bench.clock.sleep(seconds(5)));
    assert!(bench.clock.run(limiter.admit()).is_err(), "a run does not wait for ever");
}
