//! The days on which clocks are changed, from end to end.

use crate::world::{HOUR, World, cron, with};

fn begun(start: &str, expression: &str, zone: &str) -> Vec<String> {
    let world = World::at(start);
    world.serve(&world.daemon("a", vec![with("people", cron(expression, zone))]), 48 * HOUR);
    world.script.made().iter().map(|made| made.from.to_string()).collect()
}

#[test]
fn a_time_that_the_spring_skips_is_run_once_right_after_the_gap() {
    let berlin = begun("2026-03-28T12:00:00Z", "30 2 * * *", "Europe/Berlin");
    assert_eq!(berlin, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    let new_york = begun("2026-03-07T12:00:00Z", "15 2 * * *", "America/New_York");
    assert_eq!(new_york, ["2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"]);
}

#[test]
fn a_time_that_the_autumn_repeats_is_run_once() {
    let berlin = begun("2026-10-24T12:00:00Z", "30 2 * * *", "Europe/Berlin");
    assert_eq!(berlin, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let new_york = begun("2026-10-31T12:00:00Z", "30 1 * * *", "America/New_York");
    assert_eq!(new_york, ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
}

#[test]
fn a_daemon_that_starts_between_the_two_times_of_an_autumn_night_does_not_run_the_second() {
    let world = World::at("2026-10-24T12:00:00Z");
    let syncs = || vec![with("people", cron("30 2 * * *", "Europe/Berlin"))];
    world.serve(&world.daemon("a", syncs()), 13 * HOUR);
    // 02:00 local time, for the second time.
    world.serve(&world.daemon("b", syncs()), 3 * HOUR);
    assert_eq!(world.script.runs_of("people"), ["2026-10-25T00:30:00Z succeeded"]);
}
