//! What the headers of an answer tell about the rate budget.

use std::time::Duration;

use chrono::DateTime;
use convoke_core::Timestamp;
use convoke_core::gate::{Feedback, Window};
use reqwest::header::HeaderMap;

/// How long the answer asks to wait: `Retry-After` in seconds or as a date, else the time of `X-RateLimit-Reset`.
///
/// The first is believed on a 429 and a 503, the second on a 429: elsewhere they tell of no refusal.
pub(crate) fn retry_after(status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    if let Some(text) = text_of(headers, "retry-after") {
        return parse_retry_after(text, now);
    }
    if status != 429 {
        return None;
    }
    let reset_at: i64 = text_of(headers, "x-ratelimit-reset")?.parse().ok()?;
    Some(Timestamp(reset_at.checked_mul(1000)?).since(now))
}

/// Everything that the gate wants to know of one answer.
pub(crate) fn feedback(status: u16, headers: &HeaderMap, now: Timestamp) -> Feedback {
    let rejected = status == 429;
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
    Feedback {
        rejected,
        rejected_window: if rejected { rejected_window(headers) } else { None },
        retry_after: retry_after(status, headers, now),
        remaining,
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
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some(Timestamp(date.timestamp_millis()).since(now))
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
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
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
                ("x-ratelimit-remaining-second", "4"),
                ("x-ratelimit-remaining-hour", "0"),
                ("x-ratelimit-remaining-day", "-1"),
            ]),
            NOW,
        );
        let expected = Feedback {
            rejected: true,
            rejected_window: Some(Window::Hour),
            retry_after: Some(Duration::from_secs(3600)),
            remaining: vec![(Window::Second, 4), (Window::Hour, 0)],
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn the_deprecated_header_counts_for_the_second_window() {
        let told = feedback(200, &headers(&[("x-ratelimit-remaining", "9")]), NOW);
        assert_eq!(told.remaining, [(Window::Second, 9)]);
        assert!(!told.rejected);
    }
}
