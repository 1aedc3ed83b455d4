//! The calendar's corners, and what people write in crontabs.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Datelike, Timelike, Utc};
use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Timestamp {
    Timestamp(DateTime::parse_from_rfc3339(text).expect("a time of a test").timestamp_millis())
}

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::cron(expression, zone).expect("a schedule of a test")
}

fn times(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(expression, zone);
    schedule.after(time(after)).take(count).map(|occurrence| occurrence.at.to_string()).collect()
}

fn shifts(expression: &str, zone: &str, after: &str, count: usize) -> Vec<(String, Option<Shift>)> {
    let occurrences = schedule(expression, zone).after(time(after)).take(count).collect::<Vec<_>>();
    occurrences.into_iter().map(|occurrence| (occurrence.at.to_string(), occurrence.shift)).collect()
}

fn skipped(wanted: &str) -> Option<Shift> {
    Some(Shift::Skipped { wanted: wanted.parse().expect("a local time of a test") })
}

fn problem(expression: &str) -> String {
    Schedule::cron(expression, "UTC").expect_err("it is wrong").to_string()
}

#[test]
fn weekdays_are_those_of_unix() {
    // 2026-11-21 is a Saturday.
    for (weekday, day) in
        [("0", "22"), ("7", "22"), ("SUN", "22"), ("1", "23"), ("5", "27"), ("6", "28"), ("sat", "28"), ("5-6", "27")]
    {
        let first = times(&format!("0 12 * * {weekday}"), "UTC", "2026-11-21T12:00:00Z", 1);
        assert_eq!(first, [format!("2026-11-{day}T12:00:00Z")], "{weekday}");
    }
    let days: BTreeSet<_> = times("0 0 * * 5-7", "UTC", "2026-11-21T12:00:00Z", 4).into_iter().collect();
    let expected = ["2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"];
    assert_eq!(days, expected.map(str::to_owned).into());
    assert_eq!(times("0 0 * * FRI-SUN", "UTC", "2026-11-21T12:00:00Z", 4), expected);
}

#[test]
fn a_day_of_month_or_a_weekday_is_enough_if_both_are_named() {
    let expected = ["2026-11-23T09:00:00Z", "2026-11-30T09:00:00Z", "2026-12-01T09:00:00Z", "2026-12-07T09:00:00Z"];
    assert_eq!(times("0 9 1 * MON", "UTC", "2026-11-21T00:00:00Z", 4), expected);
    // The 1st of February 2027 is a Monday: it comes once.
    let february = ["2027-02-01T09:00:00Z", "2027-02-08T09:00:00Z"];
    assert_eq!(times("0 9 1 * MON", "UTC", "2027-01-31T00:00:00Z", 2), february);
    // A field that begins with `*` leaves the choice to the other.
    assert_eq!(
        times("0 9 */2 * MON", "UTC", "2026-11-21T00:00:00Z", 2),
        ["2026-11-23T09:00:00Z", "2026-12-07T09:00:00Z"]
    );
}

#[test]
fn months_end_where_they_end_and_leap_days_come_in_leap_years() {
    let ends = ["2026-12-31T06:00:00Z", "2027-01-31T06:00:00Z", "2027-03-31T06:00:00Z", "2027-05-31T06:00:00Z"];
    assert_eq!(times("0 6 31 * *", "UTC", "2026-11-21T00:00:00Z", 4), ends);
    let leap_days = ["2028-02-29T00:30:00Z", "2032-02-29T00:30:00Z"];
    assert_eq!(times("30 0 29 2 *", "UTC", "2026-11-21T00:00:00Z", 2), leap_days);
    // A century is no leap year unless 400 divides it.
    assert_eq!(times("30 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), Vec::<String>::new());
}

#[test]
fn steps_ranges_and_lists_mean_what_they_mean_in_crontabs() {
    let quarters = ["2026-11-21T08:15:00Z", "2026-11-21T08:30:00Z", "2026-11-21T08:45:00Z", "2026-11-21T09:00:00Z"];
    assert_eq!(times("*/15 * * * *", "UTC", "2026-11-21T08:00:00Z", 4), quarters);
    let listed = ["2026-11-21T08:05:00Z", "2026-11-21T08:10:00Z", "2026-11-21T08:20:00Z", "2026-11-21T08:30:00Z"];
    assert_eq!(times("5,10-30/10 8 * nov-dec *", "UTC", "2026-11-21T00:00:00Z", 4), listed);
}

/// Clocks go from 02:00 to 03:00 in Berlin, from 02:00 to 03:00 in New York, from 02:00 to 02:30 on Lord Howe Island,
/// from 00:00 to 01:00 in Santiago.
#[test]
fn a_time_that_a_day_skips_is_kept_once_right_after_the_gap() {
    let cases = [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            "2026-03-29T02:30",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
        ),
        (
            "America/New_York",
            "15 2 * * *",
            "2026-03-07T12:00:00Z",
            "2026-03-08T02:15",
            "2026-03-08T07:00:00Z",
            "2026-03-09T06:15:00Z",
        ),
        (
            "Australia/Lord_Howe",
            "10 2 * * *",
            "2026-10-03T00:00:00Z",
            "2026-10-04T02:10",
            "2026-10-03T15:30:00Z",
            "2026-10-04T15:10:00Z",
        ),
        (
            "America/Santiago",
            "0 0 * * *",
            "2026-09-05T12:00:00Z",
            "2026-09-06T00:00",
            "2026-09-06T04:00:00Z",
            "2026-09-07T03:00:00Z",
        ),
    ];
    for (zone, expression, after, wanted, kept, next) in cases {
        let wanted = skipped(&format!("{wanted}:00"));
        assert_eq!(shifts(expression, zone, after, 2), [(kept.to_owned(), wanted), (next.to_owned(), None)], "{zone}");
    }
    // All that a gap swallows is one occurrence, also with what stands right behind it.
    let around = ["2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"];
    assert_eq!(times("*/15 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 3), around);
}

#[test]
fn a_time_that_a_day_has_twice_is_kept_once_at_the_first() {
    let cases = [
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"),
        ("America/Santiago", "30 23 * * *", "2026-04-04T12:00:00Z", "2026-04-05T02:30:00Z", "2026-04-06T03:30:00Z"),
    ];
    for (zone, expression, after, kept, next) in cases {
        let expected = [(kept.to_owned(), Some(Shift::Repeated)), (next.to_owned(), None)];
        assert_eq!(shifts(expression, zone, after, 2), expected, "{zone}");
    }
    // Asked between the two, the time has been.
    assert_eq!(times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30:00Z"]);
}

#[test]
fn a_day_that_a_zone_skipped_is_kept_at_the_start_of_the_next() {
    let kept = shifts("0 9 30 12 *", "Pacific/Apia", "2011-12-29T20:00:00Z", 1);
    assert_eq!(kept, [("2011-12-30T10:00:00Z".to_owned(), skipped("2011-12-30T09:00:00"))]);
}

#[test]
fn presets_come_when_their_names_say() {
    let first =
        |schedule: Schedule| schedule.after(time("2026-11-21T18:00:00Z")).next().map(|next| next.at.to_string());
    assert_eq!(first(Schedule::daily()).as_deref(), Some("2026-11-22T09:00:00Z"));
    assert_eq!(first(Schedule::weekly()).as_deref(), Some("2026-11-28T18:00:00Z"));
}

#[test]
fn what_was_missed_is_due_once() {
    let nightly = schedule("0 2 * * *", "UTC");
    let on_time = Jitter::new("nightly", Duration::ZERO);
    let due = |since, now| {
        let due = nightly.due(time(since), time(now), &on_time)?;
        assert_eq!(due.starts_at, due.latest.at);
        Some((due.latest.at.to_string(), due.earlier))
    };
    assert_eq!(due("2026-11-20T02:00:00Z", "2026-11-21T01:59:59Z"), None);
    assert_eq!(due("2026-11-20T02:00:00Z", "2026-11-21T02:00:00Z"), Some(("2026-11-21T02:00:00Z".to_owned(), 0)));
    assert_eq!(due("2026-11-17T12:00:00Z", "2026-11-21T09:00:00Z"), Some(("2026-11-21T02:00:00Z".to_owned(), 3)));
}

#[test]
fn the_shortest_gap_leaves_daylight_saving_aside() {
    let gap = |expression, zone| schedule(expression, zone).shortest_gap(time("2026-03-28T00:00:00Z"));
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
    assert_eq!(gap("0 9,18 * * *", "UTC"), hours(9));
    assert_eq!(gap("0 18 * * 6", "UTC"), hours(7 * 24));
    assert_eq!(gap("0 1,2 * * *", "Europe/Berlin"), hours(1));
    assert_eq!(gap("0 2 * * *", "Europe/Berlin"), hours(24));
}

#[test]
fn a_run_is_due_once_its_delay_is_over() {
    let nightly = schedule("0 2 * * *", "UTC");
    let jitter = Jitter::new("nightly", Duration::from_secs(600));
    let (since, at) = (time("2026-11-20T02:00:00Z"), time("2026-11-21T02:00:00Z"));
    let starts_at = jitter.start_of(at);
    assert!(starts_at > at, "this name and time have a delay");
    assert_eq!(nightly.due(since, Timestamp(starts_at.0 - 1), &jitter), None);
    let due = nightly.due(since, starts_at, &jitter).expect("it is due");
    assert_eq!((due.latest.at, due.starts_at, due.earlier), (at, starts_at, 0));
}

#[test]
fn a_delay_is_the_same_for_the_same_name_and_time_and_spreads_over_others() {
    let up_to = Duration::from_secs(60);
    let at = |hour: i64| Timestamp(hour * 3_600_000);
    let delay = |name: &str, hour: i64| Jitter::new(name, up_to).start_of(at(hour)).since(at(hour));
    assert_eq!(delay("people", 7), delay("people", 7));
    assert_eq!(Jitter::new("people", Duration::ZERO).start_of(at(7)), at(7));
    let by_hour: Vec<_> = (0..1_000).map(|hour| delay("people", hour)).collect();
    let by_name: Vec<_> = (0..1_000).map(|number| delay(&format!("sync-{number}"), 7)).collect();
    for delays in [by_hour, by_name] {
        assert!(delays.iter().all(|delay| *delay <= up_to));
        for quarter in 0..4 {
            let bounds = up_to * quarter / 4..up_to * (quarter + 1) / 4;
            let within = delays.iter().filter(|delay| bounds.contains(delay)).count();
            assert!((150..350).contains(&within), "{within} of 1000 in the quarter {bounds:?}");
        }
    }
}

#[test]
fn the_next_runs_are_told_in_both_clocks_with_what_daylight_saving_does() {
    let told = |expression: &str, zone: &str, after: &str| -> Vec<_> {
        let runs = schedule(expression, zone).next_runs(time(after), 2);
        runs.into_iter().map(|run| (run.at.to_string(), run.local, run.note.unwrap_or_default())).collect()
    };
    let line = |at: &str, local: &str, note: &str| (at.to_owned(), local.to_owned(), note.to_owned());
    assert_eq!(
        told("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        [
            line(
                "2026-03-29T01:00:00Z",
                "Sun 2026-03-29 03:00 CEST",
                "clocks skip 02:30 on this day; it runs at the first moment after the gap"
            ),
            line("2026-03-30T00:30:00Z", "Mon 2026-03-30 02:30 CEST", ""),
        ]
    );
    assert_eq!(
        told("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z"),
        [
            line(
                "2026-11-01T05:30:00Z",
                "Sun 2026-11-01 01:30 EDT",
                "clocks show this time twice on this day; it runs at the first"
            ),
            line("2026-11-02T06:30:00Z", "Mon 2026-11-02 01:30 EST", ""),
        ]
    );
    let samoa = told("0 9 30 12 *", "Pacific/Apia", "2011-12-29T20:00:00Z");
    assert_eq!(samoa[0].2, "clocks skip 2011-12-30 09:00; it runs at the first moment after the gap");
    assert!(schedule("30 0 29 2 *", "UTC").next_runs(time("2096-03-01T00:00:00Z"), 5).is_empty());
}

#[test]
fn errors_name_the_field_and_what_to_write() {
    let cases = [
        (
            "0 2 * *",
            "`0 2 * *` has 4 fields where a cron expression has five: minute, hour, day of month, month, day of week",
        ),
        ("0 0 2 * * *", "`0 0 2 * * *` has 6 fields"),
        ("@daily", "without `@`"),
        ("60 2 * * *", "the minute of `60 2 * * *` is wrong: `60` is no number from 0 to 59"),
        ("0 24 * * *", "the hour of"),
        ("0 2 0 * *", "`0` is no number from 1 to 31"),
        ("0 2 * JANUARY *", "`JANUARY` is no number from 1 to 12 and no name such as FEB"),
        ("0 2 * * 8", "`8` is no number from 0 to 7 and no name such as MON"),
        ("0 5-3 * * *", "`5-3` runs backwards"),
        ("5/10 * * * *", "`5/…` has no range; write `5-59/…` or `*/…`"),
        ("*/0 * * * *", "`/0` is no step from 1 to 59"),
        ("+5 * * * *", "`+5` is no number from 0 to 59"),
        ("1,,2 * * * *", "`` is no number from 0 to 59"),
        ("0 0 30 2 *", "names a day that never comes"),
    ];
    for (expression, expected) in cases {
        let found = problem(expression);
        assert!(found.contains(expected), "{expression}: {found}");
    }
    let zone = Schedule::cron("0 2 * * *", "Berlin").expect_err("no such zone").to_string();
    assert_eq!(zone, "`Berlin` is no time zone of the IANA database; write one such as `Europe/Berlin` or `UTC`");
}

/// What a field means, told in another way than by the parser.
fn matches(values: &[u32], value: u32) -> bool {
    values.is_empty() || values.contains(&value)
}

fn field(values: &[u32]) -> String {
    match values {
        [] => "*".to_owned(),
        values => values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every minute of some days, held one by one against the fields.
    #[test]
    fn the_times_are_those_that_match_the_fields(
        minutes in proptest::collection::vec(0u32..60, 1..3),
        hours in proptest::collection::vec(0u32..24, 0..3),
        days in proptest::collection::vec(1u32..32, 0..3),
        weekdays in proptest::collection::vec(0u32..8, 0..3),
        start in 0i64..20_000,
    ) {
        let expression = format!("{} {} {} * {}", field(&minutes), field(&hours), field(&days), field(&weekdays));
        let start = Timestamp(start * 86_400_000);
        let end = Timestamp(start.0 + 9 * 86_400_000);
        let found: Vec<_> = schedule(&expression, "UTC").after(start).map(|next| next.at).take_while(|at| *at <= end).collect();
        let is_wanted = |at: &Timestamp| {
            let time = DateTime::<Utc>::from_timestamp_millis(at.0).expect("within the range of dates");
            let by_day = matches(&days, time.day());
            let weekday = time.weekday().num_days_from_sunday();
            let by_weekday = weekdays.is_empty() || weekdays.iter().any(|day| day % 7 == weekday);
            let is_day = if days.is_empty() || weekdays.is_empty() { by_day && by_weekday } else { by_day || by_weekday };
            is_day && matches(&hours, time.hour()) && matches(&minutes, time.minute())
        };
        let expected: Vec<_> =
            (1..=9 * 24 * 60).map(|minute| Timestamp(start.0 + minute * 60_000)).filter(is_wanted).collect();
        prop_assert_eq!(found, expected);
    }

    /// In any zone, over any change of clocks: in order, none twice, and none left out for long.
    #[test]
    fn a_daily_time_comes_once_on_every_day(
        zone in proptest::sample::select(&chrono_tz::TZ_VARIANTS[..]),
        minute in 0u32..60,
        hour in 0u32..24,
        start in 10_000i64..20_000,
    ) {
        let daily = schedule(&format!("{minute} {hour} * * *"), zone.name());
        let found: Vec<_> = daily.after(Timestamp(start * 86_400_000)).take(400).map(|next| next.at).collect();
        for pair in found.windows(2) {
            let apart = pair[1].since(pair[0]).as_secs();
            // A zone that moves over the date line skips or repeats a day.
            prop_assert!(pair[0] < pair[1] && apart <= 50 * 3_600, "{} then {}", pair[0], pair[1]);
        }
    }
}
