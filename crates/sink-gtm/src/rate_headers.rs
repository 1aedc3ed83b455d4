//! What the headers of an answer tell about the rate budget.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use convoke_core::Timestamp;
use convoke_core::gate::{Feedback, Window};
use reqwest::header::HeaderMap;

/// The forms of a date in HTTP (RFC 9110, section 5.6.7): the one to send, and two to understand.
const DATE_FORMS: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

const HOUR: i64 = 3_600_000;
const DAY: i64 = 86_400_000;

/// How long the answer asks to wait: `Retry-After` in seconds or as a date, else until the time of `X-RateLimit-Reset`,
/// else until the end of the hour or the day that is named as used up.
///
/// The first is believed on a 429 and a 503, the others on a 429: elsewhere they tell of no refusal. `now` is the time
/// at which the answer was made, by the clock of whoever made it.
fn retry_after(status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let told = text_of(headers, "retry-after").and_then(|text| parse_retry_after(text, now));
    match status {
        503 => told,
        429 => told.or_else(|| until_reset(headers, now)).or_else(|| until_end(rejected_window(headers)?, now)),
        _ => None,
    }
}

fn until_reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let reset_at: i64 = text_of(headers, "x-ratelimit-reset")?.parse().ok()?;
    Some(Timestamp(reset_at.checked_mul(1000)?).since(now))
}

/// How long a window lasts from here. A second is over before anybody could act on it.
fn until_end(window: Window, now: Timestamp) -> Option<Duration> {
    let length = match window {
        Window::Second => return None,
        Window::Hour => HOUR,
        Window::Day => DAY,
    };
    Some(Timestamp((now.0.div_euclid(length) + 1) * length).since(now))
}

/// Everything that the gate wants to know of one answer; `now` stands in for a missing `Date`.
pub(crate) fn feedback(status: u16, headers: &HeaderMap, now: Timestamp) -> Feedback {
    let rejected = status == 429;
    // Their dates and ours may come from clocks that disagree.
    let answered_at = text_of(headers, "date").and_then(parse_date).unwrap_or(now);
    let mut remaining = Vec::new();
    for (window, name) in [
        (Window::Second, "x-ratelimit-remaining-second"),
        (Window::Hour, "x-ratelimit-remaining-hour"),
        (Window::Day, "x-ratelimit-remaining-day"),
    ] {
        if let Some(count) = count_of(headers, name) {
            remaining.push((window, count));
        }
    }
    if !remaining.iter().any(|(window, _)| *window == Window::Second) {
        // The deprecated alias speaks of the second window.
        remaining.extend(count_of(headers, "x-ratelimit-remaining").map(|count| (Window::Second, count)));
    }
    let limits = [
        (Window::Second, "x-ratelimit-limit-second"),
        (Window::Hour, "x-ratelimit-limit-hour"),
        (Window::Day, "x-ratelimit-limit-day"),
    ];
    let limit_of = |name| u32::try_from(count_of(headers, name)?).ok();
    let mut limits: Vec<_> = limits.into_iter().filter_map(|(window, name)| Some((window, limit_of(name)?))).collect();
    if !limits.iter().any(|(window, _)| *window == Window::Second) {
        limits.extend(limit_of("x-ratelimit-limit").map(|limit| (Window::Second, limit)));
    }
    Feedback {
        failed: (500..=599).contains(&status),
        rejected,
        rejected_window: if rejected { rejected_window(headers) } else { None },
        retry_after: retry_after(status, headers, answered_at),
        remaining,
        limits,
    }
}

fn rejected_window(headers: &HeaderMap) -> Option<Window> {
    match text_of(headers, "x-ratelimit-rejected-bucket")?.to_ascii_lowercase().as_str() {
        "second" => Some(Window::Second),
        "hour" => Some(Window::Hour),
        "day" => Some(Window::Day),
        _ => None,
    }
}

/// `-1` says that the quota service is not known to be right; it does not parse and is left out.
fn count_of(headers: &HeaderMap, name: &str) -> Option<u64> {
    text_of(headers, name)?.parse().ok()
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(parse_date(text)?.since(now))
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let in_form = |form| NaiveDateTime::parse_from_str(text, form).ok();
    let date = DATE_FORMS.into_iter().find_map(in_form).map(|date| date.and_utc());
    let date = date.or_else(|| DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc()))?;
    Some(Timestamp(date.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    /// 1994-11-06 08:49:00 UTC.
    const NOW: Timestamp = Timestamp(784_111_740_000);

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let cases = [
            ("17", Some(17)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 10:49:37 +0200", Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
        ];
        for (text, seconds) in cases {
            for status in [429, 503] {
                let given = retry_after(status, &headers(&[("retry-after", text)]), NOW);
                assert_eq!(given, seconds.map(Duration::from_secs), "{text}");
            }
        }
    }

    #[test]
    fn dates_count_from_when_the_answer_was_made_whatever_our_clock_says() {
        let wait = |name, text| {
            let dated = headers(&[("date", "Mon, 07 Nov 1994 12:00:00 GMT"), (name, text)]);
            feedback(429, &dated, NOW).retry_after
        };
        assert_eq!(wait("retry-after", "Mon, 07 Nov 1994 12:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(wait("retry-after", "9"), Some(Duration::from_secs(9)));
        assert_eq!(wait("x-ratelimit-reset", "784209609"), Some(Duration::from_secs(9)));
        assert_eq!(wait("x-ratelimit-rejected-bucket", "hour"), Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn a_used_up_hour_or_day_is_waited_for_to_its_end_unless_told_otherwise() {
        let wait =
            |pairs: &[(&'static str, &'static str)]| retry_after(429, &headers(pairs), NOW).map(|wait| wait.as_secs());
        let bucket = |name| ("x-ratelimit-rejected-bucket", name);
        // It is 08:49.
        assert_eq!(wait(&[bucket("hour")]), Some(11 * 60));
        assert_eq!(wait(&[bucket("Day")]), Some((15 * 60 + 11) * 60));
        assert_eq!(wait(&[bucket("second")]), None);
        assert_eq!(wait(&[bucket("hour"), ("retry-after", "5")]), Some(5));
        assert_eq!(wait(&[bucket("hour"), ("retry-after", "soon")]), Some(11 * 60));
        assert_eq!(wait(&[bucket("day"), ("x-ratelimit-reset", "784111800")]), Some(60));
    }

    #[test]
    fn five_hundreds_are_failures_and_refusals_are_none() {
        for (status, failed) in
            [(200, false), (400, false), (401, false), (408, false), (429, false), (500, true), (503, true)]
        {
            assert_eq!(feedback(status, &HeaderMap::new(), NOW).failed, failed, "{status}");
        }
    }

    #[test]
    fn the_reset_time_stands_in_for_a_missing_retry_after() {
        let reset = headers(&[("x-ratelimit-reset", "784111800")]);
        assert_eq!(retry_after(429, &reset, NOW), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(503, &reset, NOW), None);
    }

    #[test]
    fn an_answer_that_refuses_nothing_asks_for_no_wait() {
        let both = headers(&[("retry-after", "17"), ("x-ratelimit-reset", "784111800")]);
        for status in [200, 202, 400, 404, 500] {
            assert_eq!(feedback(status, &both, NOW).retry_after, None, "{status}");
        }
    }

    #[test]
    fn feedback_tells_the_rejected_window_and_what_is_left_where_it_is_known() {
        let told = feedback(
            429,
            &headers(&[
                ("retry-after", "3600"),
                ("x-ratelimit-rejected-bucket", "hour"),
                ("x-ratelimit-limit-second", "25"),
                ("x-ratelimit-limit-hour", "54000"),
                ("x-ratelimit-limit", "99"),
                ("x-ratelimit-remaining-second", "4"),
                ("x-ratelimit-remaining-hour", "0"),
                ("x-ratelimit-remaining-day", "-1"),
            ]),
            NOW,
        );
        let expected = Feedback {
            failed: false,
            rejected: true,
            rejected_window: Some(Window::Hour),
            retry_after: Some(Duration::from_secs(3600)),
            remaining: vec![(Window::Second, 4), (Window::Hour, 0)],
            limits: vec![(Window::Second, 25), (Window::Hour, 54_000)],
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn the_deprecated_header_counts_for_the_second_window() {
        let told = feedback(200, &headers(&[("x-ratelimit-remaining", "9"), ("x-ratelimit-limit", "25")]), NOW);
        assert_eq!(told.remaining, [(Window::Second, 9)]);
        assert_eq!(told.limits, [(Window::Second, 25)]);
        assert!(!told.rejected);
    }
}
