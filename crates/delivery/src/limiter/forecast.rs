//! How long requests will take on what is left of a budget: pure.
//!
//! Counted as the destination counts, for one sender that has the credential to itself and whose requests do not fail.
//! Whoever else sends meanwhile makes it later.

use std::time::Duration;

use convoke_core::gate::Window;
use convoke_core::plan::{CallCounts, Forecast, QuotaWait};
use convoke_core::spec::RateLimits;
use convoke_core::{StateError, Timestamp};

use super::account::Account;
use super::window::Counter;

/// The shortest wait for an hour or a day: what comes back of them bit by bit is counted in lumps.
const LUMP: Duration = Duration::from_secs(60);

/// What is counted step by step; beyond it the long-run rate tells well enough.
const HORIZON: Duration = Duration::from_secs(40 * 86_400);

/// The forecast for these calls, on the budget as it is stored.
pub fn forecast(
    credential: &str,
    stored: Option<serde_json::Value>,
    limits: &RateLimits,
    calls: CallCounts,
    now: Timestamp,
) -> Result<Forecast, StateError> {
    let account = super::read(credential, stored)?;
    let Outlook { takes, waits } = outlook(&account, limits, calls.sum(), now);
    Ok(Forecast { requests: calls.sum(), calls, seconds: takes.as_secs(), per_second: limits.per_second, waits })
}

/// How sending so many requests will go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Until the last one leaves.
    pub takes: Duration,
    /// When the hour or the day is used up for the first time, if either will be.
    pub waits: Option<QuotaWait>,
}

/// Sends requests in thought, as fast as they may leave.
pub fn outlook(account: &Account, limits: &RateLimits, requests: u64, now: Timestamp) -> Outlook {
    let mut counters = account.counters(limits);
    let (mut at, mut waits, mut left) = (now.after(account.pause_left(now)), None, requests);
    while left > 0 && at.since(now) < HORIZON {
        let Some(room) = counters.iter_mut().flatten().map(|counter| counter.left(at.0)).min() else {
            break;
        };
        if room == 0 {
            waits = waits.or_else(|| Some(QuotaWait { window: used_up(&mut counters, at)?, at }));
            let wait = counters.iter_mut().flatten().map(|counter| counter.wait(at.0)).max().unwrap_or_default();
            at = at.after(wait.max(LUMP));
            continue;
        }
        let sent = left.min(room).min(before_end(&counters, limits, at));
        counters.iter_mut().flatten().for_each(|counter| counter.spent.current += sent);
        at = at.after(at_rate(sent, limits.per_second, 1));
        left -= sent;
    }
    Outlook { takes: at.since(now).saturating_add(in_the_long_run(left, limits)), waits }
}

/// The window that is used up; the longer one if both are, since it holds requests back for longer.
fn used_up(counters: &mut [Option<Counter>; 2], at: Timestamp) -> Option<Window> {
    let [hour, day] = counters;
    let is_empty = |counter: &mut Option<Counter>| counter.as_mut().is_some_and(|counter| counter.left(at.0) == 0);
    if is_empty(day) {
        Some(Window::Day)
    } else if is_empty(hour) {
        Some(Window::Hour)
    } else {
        None
    }
}

/// How many requests may leave before the next window begins: they count for this one.
fn before_end(counters: &[Option<Counter>; 2], limits: &RateLimits, at: Timestamp) -> u64 {
    let ends_in = counters.iter().flatten().map(|counter| counter.ends_in(at.0)).min();
    let (Some(ends_in), Some(per_second)) = (ends_in, limits.per_second) else { return u64::MAX };
    let requests = ends_in.as_millis() * u128::from(per_second.max(1)) / 1_000;
    u64::try_from(requests).unwrap_or(u64::MAX).max(1)
}

/// How long so many requests take at so many per so many seconds; no limit, no time.
fn at_rate(requests: u64, limit: Option<u32>, seconds: u64) -> Duration {
    let Some(limit) = limit else { return Duration::ZERO };
    let millis = u128::from(requests) * u128::from(seconds) * 1_000 / u128::from(limit.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn in_the_long_run(requests: u64, limits: &RateLimits) -> Duration {
    let windows = [(limits.per_second, 1), (limits.per_hour, 3_600), (limits.per_day, 86_400)];
    windows.into_iter().map(|(limit, seconds)| at_rate(requests, limit, seconds)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::window::{DAY, HOUR, WindowSpent};
    use super::*;

    const BUILDER: RateLimits = RateLimits { per_second: Some(5), per_hour: Some(10_800), per_day: Some(129_600) };
    const NONE: RateLimits = RateLimits { per_second: None, per_hour: None, per_day: None };
    /// Midnight.
    const NOW: Timestamp = Timestamp(20_000 * DAY);

    /// An account that has spent so much of the hour and of the day.
    fn spent(hour: u64, day: u64) -> Account {
        let of = |length: i64, current| Some(WindowSpent { index: NOW.0 / length, current, previous: 0 });
        let mut account = Account::default();
        (account.hour, account.day) = (of(HOUR, hour), of(DAY, day));
        account
    }

    fn seconds(account: &Account, limits: &RateLimits, requests: u64) -> u64 {
        outlook(account, limits, requests, NOW).takes.as_secs()
    }

    #[test]
    fn requests_take_what_the_second_the_hour_and_the_day_let_them() {
        let second = RateLimits { per_second: Some(25), ..NONE };
        let hour = RateLimits { per_hour: Some(60), ..NONE };
        let unspent = Account::default();
        let cases = [
            ("none at all", &unspent, BUILDER, 0, 0..=0),
            ("no limit", &unspent, NONE, 1_000_000, 0..=0),
            ("the second alone", &unspent, second, 2_500, 100..=100),
            ("within the hour", &unspent, BUILDER, 5_000, 1_000..=1_000),
            // 10,800 in 2,160 s; the next hour begins full, and each third of a second one request is counted off.
            ("past the hour", &unspent, BUILDER, 10_801, 3_600..=3_661),
            ("half past the next", &unspent, BUILDER, 16_200, 5_400..=5_520),
            ("a spent hour", &spent(10_800, 10_800), BUILDER, 1, 3_600..=3_661),
            ("an hour, nearly spent", &spent(10_000, 10_000), BUILDER, 800, 160..=160),
            ("a spent day", &spent(0, 129_600), BUILDER, 1, 86_400..=86_461),
            ("two hours at one a minute", &unspent, hour, 120, 7_100..=7_320),
        ];
        for (name, account, limits, requests, expected) in cases {
            let takes = seconds(account, &limits, requests);
            assert!(expected.contains(&takes), "{name}: {takes}");
        }
    }

    #[test]
    fn what_is_waited_for_is_told_with_the_time_it_suffices_until() {
        let at = |seconds: u64| NOW.after(Duration::from_secs(seconds));
        let hour = |seconds| Some(QuotaWait { window: Window::Hour, at: at(seconds) });
        let day = |seconds| Some(QuotaWait { window: Window::Day, at: at(seconds) });
        let cases = [
            (spent(0, 0), 10_800, None),
            (spent(0, 0), 10_801, hour(2_160)),
            (spent(10_800, 10_800), 1, hour(0)),
            (spent(0, 129_000), 601, day(120)),
            (spent(10_800, 129_600), 1, day(0)),
        ];
        for (account, requests, waits) in cases {
            assert_eq!(outlook(&account, &BUILDER, requests, NOW).waits, waits, "{requests}");
        }
    }

    #[test]
    fn what_takes_longer_than_anybody_counts_is_told_by_the_long_run_rate() {
        let days = seconds(&Account::default(), &BUILDER, 129_600 * 1_000) / 86_400;
        assert!((995..=1_005).contains(&days), "{days}");
    }

    #[test]
    fn a_pause_that_was_asked_for_comes_first() {
        let mut account = Account::default();
        let claim = super::super::account::Claim { pause: Duration::from_secs(90), ..Default::default() };
        account.renew(&NONE, &claim, NOW);
        assert_eq!(seconds(&account, &BUILDER, 50), 100);
    }

    #[test]
    fn a_forecast_tells_calls_by_kind_and_a_budget_that_cannot_be_read_is_an_error() {
        let calls = CallCounts { creates: 4, updates: 1, deletes: 5 };
        let told = forecast("zoominfo", None, &BUILDER, calls, NOW).unwrap();
        let expected = Forecast { requests: 10, calls, seconds: 2, per_second: Some(5), waits: None };
        assert_eq!(told, expected);
        assert!(forecast("zoominfo", Some("?".into()), &BUILDER, calls, NOW).is_err());
    }
}
