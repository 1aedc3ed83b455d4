//! Rate limits: a strict second, and an hour and a day in which what was spent in the window before fades out, as the
//! vendor counts.
//!
//! A refused request spends nothing. What was spent is not kept over a restart of the store.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use convoke_core::Timestamp;

/// Requests that one client may make per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    pub per_second: u32,
    pub per_hour: u32,
    pub per_day: u32,
}

/// What the clients have spent.
pub(crate) struct Quota {
    limits: [Limit; 3],
    spent: Mutex<HashMap<i64, [Window; 3]>>,
}

#[derive(Clone, Copy)]
struct Limit {
    bucket: &'static str,
    length_ms: i64,
    allowed: u32,
    fades: bool,
}

/// Requests in the current window and in the one before it.
#[derive(Clone, Copy, Default)]
struct Window {
    index: i64,
    current: u32,
    previous: u32,
}

/// How a request stands to the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Limit and what remains, per bucket: second, hour, day.
    pub(crate) buckets: [(u32, u32); 3],
    /// The bucket that refused the request, and when it will take one again.
    pub(crate) rejected: Option<(&'static str, Timestamp)>,
}

impl Quota {
    pub(crate) fn new(limits: RateLimits) -> Self {
        let limit = |bucket, seconds: i64, allowed, fades| Limit { bucket, length_ms: seconds * 1000, allowed, fades };
        let limits = [
            limit("second", 1, limits.per_second, false),
            limit("hour", 3600, limits.per_hour, true),
            limit("day", 86_400, limits.per_day, true),
        ];
        Self { limits, spent: Mutex::new(HashMap::new()) }
    }

    /// Counts one request of a client, unless a limit refuses it.
    pub(crate) fn take(&self, client: i64, now: Timestamp) -> Standing {
        let mut spent = self.spent.lock().expect("nothing panics while it holds this lock");
        let windows = spent.entry(client).or_default();
        for (window, limit) in windows.iter_mut().zip(&self.limits) {
            window.advance(now.0.div_euclid(limit.length_ms));
        }
        let rejecting =
            (0..3).rev().find(|&index| windows[index].used(&self.limits[index], now) + 1 > self.limits[index].allowed);
        if rejecting.is_none() {
            windows.iter_mut().for_each(|window| window.current += 1);
        }
        let bucket = |index: usize| {
            let limit = &self.limits[index];
            (limit.allowed, limit.allowed.saturating_sub(windows[index].used(limit, now)))
        };
        let rejected = rejecting.map(|index| {
            let limit = &self.limits[index];
            (limit.bucket, windows[index].free_at(limit, now))
        });
        Standing { buckets: [bucket(0), bucket(1), bucket(2)], rejected }
    }
}

impl Window {
    fn advance(&mut self, index: i64) {
        if index == self.index {
            return;
        }
        self.previous = if index == self.index + 1 { self.current } else { 0 };
        self.current = 0;
        self.index = index;
    }

    /// What counts against the limit now.
    fn used(&self, limit: &Limit, now: Timestamp) -> u32 {
        if !limit.fades {
            return self.current;
        }
        let left_ms = limit.length_ms - now.0.rem_euclid(limit.length_ms);
        let fading = i64::from(self.previous) * left_ms / limit.length_ms;
        self.current.saturating_add(u32::try_from(fading).unwrap_or(u32::MAX))
    }

    /// When one more request will be let through, if none is made until then.
    fn free_at(&self, limit: &Limit, now: Timestamp) -> Timestamp {
        let next_start = (now.0.div_euclid(limit.length_ms) + 1) * limit.length_ms;
        if !limit.fades {
            return Timestamp(next_start);
        }
        let this = fades_below(self.previous, limit.allowed.saturating_sub(self.current), limit.length_ms);
        let next = fades_below(self.current, limit.allowed, limit.length_ms);
        match this {
            Some(after_ms) => Timestamp((next_start - limit.length_ms + after_ms).max(now.0)),
            None => Timestamp(next_start + next.unwrap_or(limit.length_ms)),
        }
    }
}

/// After how many milliseconds of a window what is left of `previous` is below `room`; none if not within the window.
fn fades_below(previous: u32, room: u32, length_ms: i64) -> Option<i64> {
    if room == 0 {
        return None;
    }
    if previous < room {
        return Some(0);
    }
    // previous * left / length < room, solved for the time that has passed.
    let left_ms = (i64::from(room) * length_ms - 1) / i64::from(previous);
    Some(length_ms - left_ms)
}

const LIMIT_HEADERS: [(HeaderName, HeaderName); 3] = [
    (HeaderName::from_static("x-ratelimit-limit-second"), HeaderName::from_static("x-ratelimit-remaining-second")),
    (HeaderName::from_static("x-ratelimit-limit-hour"), HeaderName::from_static("x-ratelimit-remaining-hour")),
    (HeaderName::from_static("x-ratelimit-limit-day"), HeaderName::from_static("x-ratelimit-remaining-day")),
];

impl Standing {
    /// Adds the vendor's headers to an answer.
    pub(crate) fn announce(&self, headers: &mut HeaderMap, now: Timestamp) {
        for ((limit_header, remaining_header), (limit, remaining)) in LIMIT_HEADERS.into_iter().zip(self.buckets) {
            headers.insert(limit_header, HeaderValue::from(limit));
            headers.insert(remaining_header, HeaderValue::from(remaining));
        }
        // Older names for the second.
        headers.insert(HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(self.buckets[0].0));
        headers.insert(HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(self.buckets[0].1));
        if let Some((bucket, free_at)) = self.rejected {
            let wait = free_at.since(now).as_millis().div_ceil(1000).max(1);
            let wait = u64::try_from(wait).unwrap_or(u64::MAX);
            let reset = (free_at.0 + 999).div_euclid(1000);
            headers.insert(HeaderName::from_static("retry-after"), HeaderValue::from(wait));
            headers.insert(HeaderName::from_static("x-ratelimit-rejected-bucket"), HeaderValue::from_static(bucket));
            headers.insert(HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(reset));
        }
    }
}

#[cfg(test)]
mod tests {
    use convoke_core::Timestamp;

    use super::{Quota, RateLimits};

    const LIMITS: RateLimits = RateLimits { per_second: 2, per_hour: 10, per_day: 100 };
    const HOUR_MS: i64 = 3_600_000;

    fn rejected_bucket(quota: &Quota, at_ms: i64) -> Option<&'static str> {
        quota.take(1, Timestamp(at_ms)).rejected.map(|(bucket, _)| bucket)
    }

    #[test]
    fn a_second_takes_its_limit_and_no_more_and_the_next_one_takes_it_again() {
        let quota = Quota::new(LIMITS);
        assert_eq!(rejected_bucket(&quota, 0), None);
        assert_eq!(rejected_bucket(&quota, 999), None);
        let standing = quota.take(1, Timestamp(999));
        assert_eq!(standing.rejected, Some(("second", Timestamp(1000))));
        assert_eq!(standing.buckets[1], (10, 8), "a refused request spends nothing");
        assert_eq!(rejected_bucket(&quota, 1000), None);
    }

    #[test]
    fn clients_do_not_spend_for_one_another() {
        let quota = Quota::new(LIMITS);
        quota.take(1, Timestamp(0));
        quota.take(1, Timestamp(0));
        assert_eq!(quota.take(2, Timestamp(0)).rejected, None);
    }

    #[test]
    fn an_hour_takes_one_again_at_the_time_it_tells_and_not_before() {
        let quota = Quota::new(LIMITS);
        for second in 0..10 {
            assert_eq!(rejected_bucket(&quota, second * 1000), None);
        }
        let (bucket, free_at) = quota.take(1, Timestamp(10_000)).rejected.expect("the hour is used up");
        assert_eq!(bucket, "hour");
        assert!(free_at.0 > HOUR_MS && free_at.0 < 2 * HOUR_MS);
        assert_eq!(rejected_bucket(&quota, free_at.0 - 1), Some("hour"));
        assert_eq!(rejected_bucket(&quota, free_at.0), None);
    }
}
