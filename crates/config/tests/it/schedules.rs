//! When a sync runs by itself.

use std::time::Duration;

use convoke_config::config_hash;
use convoke_core::SyncName;
use convoke_core::spec::{ArrivalSpec, CronSpec, ScheduleSpec, SyncSpec};

use crate::directory::{Directory, SYNC};

fn spec_with(line: &str) -> SyncSpec {
    let mut config = Directory::new().sync("people", &format!("{SYNC}{line}\n")).loaded();
    config.syncs.remove(&SyncName::new("people")).expect("the sync").spec
}

fn cron(expression: &str, timezone: &str) -> CronSpec {
    CronSpec {
        expression: expression.to_owned(),
        timezone: timezone.to_owned(),
        jitter: Duration::ZERO,
        catch_up: true,
    }
}

#[test]
fn presets_and_cron_expressions_say_when_a_sync_runs() {
    let cases = [
        ("", ScheduleSpec::Manual),
        ("schedule: manual", ScheduleSpec::Manual),
        ("schedule: daily", ScheduleSpec::Cron(cron("0 9 * * *", "UTC"))),
        ("schedule: weekly", ScheduleSpec::Cron(cron("0 18 * * 6", "UTC"))),
        ("schedule: { cron: 0 2 * * MON-FRI }", ScheduleSpec::Cron(cron("0 2 * * MON-FRI", "UTC"))),
        (
            "schedule: { cron: \"*/5 * * * *\", timezone: Europe/Berlin, jitter: 5m, overlap: skip, catch_up: none }",
            ScheduleSpec::Cron(CronSpec {
                jitter: Duration::from_secs(300),
                catch_up: false,
                ..cron("*/5 * * * *", "Europe/Berlin")
            }),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(spec_with(line).schedule, expected, "{line}");
    }
}

#[test]
fn a_sync_can_run_as_soon_as_something_has_come_beside_its_times_or_without_any() {
    let minute = ArrivalSpec { scan: Duration::from_secs(60) };
    let cases = [
        ("schedule: arrival", ScheduleSpec::Manual, Some(minute)),
        (
            "schedule: { arrival: true, scan: 5s }",
            ScheduleSpec::Manual,
            Some(ArrivalSpec { scan: Duration::from_secs(5) }),
        ),
        ("schedule: { arrival: true, cron: 0 2 * * * }", ScheduleSpec::Cron(cron("0 2 * * *", "UTC")), Some(minute)),
        ("schedule: { arrival: false, cron: 0 2 * * * }", ScheduleSpec::Cron(cron("0 2 * * *", "UTC")), None),
        ("schedule: daily", ScheduleSpec::Cron(cron("0 9 * * *", "UTC")), None),
    ];
    for (line, schedule, arrival) in cases {
        let spec = spec_with(line);
        assert_eq!((spec.schedule, spec.arrival), (schedule, arrival), "{line}");
    }
    let hash = |line| config_hash(&spec_with(line), &[]);
    assert_eq!(hash("schedule: arrival"), hash(""), "when it runs changes no plan");
    let table =
        SYNC.replace("csv_drop: { path: drop, mode: snapshot }", "s3_parquet: { url: lake/*.parquet, mode: snapshot }");
    assert_ne!(table, SYNC);
    let problems = Directory::new().sync("people", &format!("{table}schedule: arrival\n")).refused();
    assert!(problems.len() == 1 && problems[0].contains("only `source.csv_drop` can tell"), "{problems:#?}");
}

#[test]
fn the_schedule_does_not_change_the_hash() {
    let base = config_hash(&spec_with(""), &[]);
    for line in ["schedule: daily", "schedule: { cron: 0 2 * * *, jitter: 5m }"] {
        assert_eq!(config_hash(&spec_with(line), &[]), base, "{line}");
    }
}

#[test]
fn a_schedule_that_never_comes_or_means_nothing_is_refused_at_its_place() {
    let cases = [
        (
            "schedule: 0 2 * * *",
            "`schedule`: expected one of `daily`, `weekly`, `arrival`, `manual`, or a block with `cron`, `arrival`, `scan`, \
             `timezone`, `jitter`, `overlap`, `catch_up`, not `0 2 * * *`",
        ),
        (
            "schedule: \"@daily\"",
            "`schedule`: expected one of `daily`, `weekly`, `arrival`, `manual`, or a block with `cron`, `arrival`, `scan`, \
             `timezone`, `jitter`, `overlap`, `catch_up`, not `@daily`; did you mean `daily`?",
        ),
        ("schedule: { timezone: UTC }", "`schedule.cron`: is missing; give a cron expression, or set `arrival: true`"),
        (
            "schedule: { cron: 0 2 * * *, scan: 5m }",
            "`schedule.scan`: means nothing without `arrival: true`; leave it out",
        ),
        ("schedule: { arrival: true, scan: 100ms }", "`schedule.scan`: "),
        ("schedule: { arrival: sometimes }", "`schedule.arrival`: expected `true` or `false`"),
        (
            "schedule: { cron: 0 0 2 * * * }",
            "`schedule.cron`: `0 0 2 * * *` has 6 fields where a cron expression has five: minute, hour, day of month, \
             month, day of week",
        ),
        (
            "schedule: { cron: 0 24 * * * }",
            "`schedule.cron`: the hour of `0 24 * * *` is wrong: `24` is no number from 0 to 23",
        ),
        ("schedule: { cron: 0 0 30 2 * }", "`schedule.cron`: `0 0 30 2 *` names a day that never comes"),
        (
            "schedule: { cron: 0 2 * * *, timezone: Berlin }",
            "`schedule.timezone`: `Berlin` is no time zone of the IANA database; write one such as `Europe/Berlin` or `UTC`",
        ),
        ("schedule: { cron: 0 2 * * *, overlap: allow }", "`schedule.overlap`: expected one of `skip`, not `allow`"),
        ("schedule: { cron: 0 2 * * *, jitter: 5 }", "`schedule.jitter`: expected a duration"),
        (
            "schedule: { cron: \"0 9,18 * * *\", jitter: 10h }",
            "`schedule.jitter`: is longer than the time between two runs, 540m; make it shorter",
        ),
        (
            "schedule: { cron: \"${env:WHEN}\" }",
            "`schedule.cron`: `${env:WHEN}` is not a cron expression of five fields",
        ),
        (
            "schedule: { cron: 0 2 * * *, timezone: \"${env:WHEN}\" }",
            "`schedule.timezone`: `${env:WHEN}` is not a time zone of the IANA database",
        ),
    ];
    for (line, expected) in cases {
        let directory = Directory::new().variable("WHEN", "canary");
        let problems = directory.sync("people", &format!("{SYNC}{line}\n")).refused();
        let expected = format!("config/syncs/people.yaml:10: {expected}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{expected}\n{problems:#?}");
    }
}

#[test]
fn expression_and_time_zone_are_refused_at_once() {
    let text = format!("{SYNC}schedule:\n  cron: 61 * * * *\n  timezone: Mars/Base\n");
    let problems = Directory::new().sync("people", &text).refused();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("config/syncs/people.yaml:11: `schedule.cron`"), "{problems:#?}");
    assert!(problems[1].starts_with("config/syncs/people.yaml:12: `schedule.timezone`"), "{problems:#?}");
}
