//! A plan's forecast in words.

use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::gate::Window;
use convoke_core::plan::{CallCounts, Forecast, QuotaWait};

use crate::output::join_counts;

/// Calls by kind, and how long they take on the budget that was left when the plan was made.
pub(crate) fn describe(forecast: &Forecast, planned_at: Timestamp) -> String {
    let CallCounts { creates, updates, deletes } = forecast.calls;
    let kinds = join_counts(&[("create", creates), ("update", updates), ("delete", deletes)], "");
    let kinds = if kinds.is_empty() { kinds } else { format!(" ({kinds})") };
    let mut text = format!("{} requests{kinds}", forecast.requests);
    if forecast.seconds > 0 {
        let rate = forecast.per_second.map_or_else(String::new, |per_second| format!(" at {per_second}/s"));
        let end = planned_at.after(Duration::from_secs(forecast.seconds));
        text.push_str(&format!("; about {}{rate}, to {end}", describe_time(forecast.seconds)));
    }
    if let Some(QuotaWait { window, at }) = forecast.waits {
        let window = match window {
            Window::Second => "second",
            Window::Hour => "hour",
            Window::Day => "day",
        };
        text.push_str(&format!("; the {window}'s quota suffices until {at}"));
    }
    text
}

/// A time in its two greatest units.
fn describe_time(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let mut parts = Vec::new();
    for (length, name) in units.iter().skip(first).take(2) {
        if left >= *length || parts.is_empty() {
            parts.push(format!("{} {name}", left / length));
        }
        left %= length;
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_tells_calls_time_rate_and_what_the_quota_suffices_for() {
        let planned_at = Timestamp(1_767_571_200_000);
        let calls = CallCounts { creates: 3_000, updates: 40, deletes: 2 };
        let waits = Some(QuotaWait { window: Window::Day, at: planned_at.after(Duration::from_secs(7_200)) });
        let long = Forecast { requests: 3_042, calls, seconds: 90_061, per_second: Some(25), waits };
        assert_eq!(
            describe(&long, planned_at),
            "3042 requests (3000 create, 40 update, 2 delete); about 1 d 1 h at 25/s, to 2026-01-06T01:01:01Z; the day's quota suffices until 2026-01-05T02:00:00Z"
        );
        let short =
            Forecast { requests: 1, calls: CallCounts { creates: 1, ..CallCounts::default() }, ..Forecast::default() };
        assert_eq!(describe(&short, planned_at), "1 requests (1 create)");
        // As a plan of an earlier version has it.
        let old: Forecast = serde_json::from_str(r#"{ "requests": 7, "seconds": 61 }"#).unwrap();
        assert_eq!(describe(&old, planned_at), "7 requests; about 1 min 1 s, to 2026-01-05T00:01:01Z");
        assert_eq!((describe_time(0), describe_time(3_600)), ("0 s".to_owned(), "1 h".to_owned()));
    }
}
