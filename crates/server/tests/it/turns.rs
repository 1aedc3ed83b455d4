//! One daemon: what is due, and what is made of it.

use std::num::NonZeroUsize;
use std::time::Duration;

use convoke_core::Clock;
use convoke_core::spec::CronSpec;
use convoke_core::state::RunState;
use convoke_schedule::Jitter;

use crate::scripted_jobs::End;
use crate::world::{HOUR, MINUTE, World, cron, manual, sync, time, with};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn a_sync_runs_once_at_each_of_its_times() {
    let world = World::new();
    world.serve(&world.daemon("a", vec![sync("people", "0 2 * * *"), manual("by-hand")]), 27 * HOUR);
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T02:00:00Z succeeded", "2026-01-06T02:00:00Z succeeded"]);
    assert!(world.script.runs_of("by-hand").is_empty());
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-06T02:00:00Z")));
    assert_eq!(world.store.leases_held(), 0);
}

#[test]
fn a_new_sync_makes_up_for_nothing() {
    let world = World::at("2026-01-05T02:00:01Z");
    world.serve(&world.daemon("a", vec![sync("people", "0 2 * * *")]), 23 * HOUR);
    assert!(world.script.made().is_empty());
}

#[test]
fn times_missed_while_nobody_served_are_made_up_for_once() {
    let world = World::new();
    world.serve(&world.daemon("a", vec![sync("people", "0 2 * * *")]), 3 * HOUR);
    world.clock.advance(3 * DAY);
    world.serve(&world.daemon("b", vec![sync("people", "0 2 * * *")]), 24 * HOUR);
    let runs = world.script.runs_of("people");
    let expected =
        ["2026-01-05T02:00:00Z succeeded", "2026-01-08T03:00:00Z succeeded", "2026-01-09T02:00:00Z succeeded"];
    assert_eq!(runs, expected);
}

#[test]
fn a_sync_that_does_not_catch_up_lets_go_of_what_was_missed_by_more_than_the_grace() {
    let syncs = || vec![with("people", CronSpec { catch_up: false, ..cron("0 2 * * *", "UTC") })];
    let world = World::new();
    world.serve(&world.daemon("a", syncs()), HOUR);
    world.clock.advance(HOUR + 2 * MINUTE);
    world.serve(&world.daemon("b", syncs()), HOUR);
    assert!(world.script.made().is_empty());
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T02:00:00Z")), "let go, not put off");
    world.serve(&world.daemon("c", syncs()), 22 * HOUR);
    world.clock.advance(57 * MINUTE + Duration::from_secs(90));
    assert_eq!(world.clock.now().to_string(), "2026-01-06T02:00:30Z");
    world.serve(&world.daemon("d", syncs()), HOUR);
    assert_eq!(world.script.runs_of("people"), ["2026-01-06T02:00:30Z succeeded"], "late by less than the grace");
}

#[test]
fn a_sync_that_does_not_catch_up_still_runs_what_came_while_it_was_busy() {
    let world = World::new();
    world.script.plan("people", [(90 * 60, End::State(RunState::Succeeded))]);
    let hourly = with("people", CronSpec { catch_up: false, ..cron("0 * * * *", "UTC") });
    world.serve(&world.daemon("a", vec![hourly]), 3 * HOUR - MINUTE);
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T01:00:00Z succeeded", "2026-01-05T02:30:00Z succeeded"]);
}

#[test]
fn a_changed_schedule_begins_when_it_is_first_seen() {
    let world = World::new();
    world.serve(&world.daemon("a", vec![sync("people", "0 2 * * *")]), HOUR);
    world.clock.advance(3 * HOUR);
    world.serve(&world.daemon("b", vec![sync("people", "0 3 * * *")]), 22 * HOUR);
    assert!(world.script.made().is_empty(), "neither the old 02:00 nor the new 03:00 was missed");
    world.serve(&world.daemon("c", vec![sync("people", "0 3 * * *")]), 2 * HOUR);
    assert_eq!(world.script.runs_of("people"), ["2026-01-06T03:00:00Z succeeded"]);
}

#[test]
fn runs_of_a_sync_never_overlap_and_what_came_meanwhile_is_due_once() {
    let world = World::new();
    world.script.plan("people", [(40 * 60, End::State(RunState::Partial)), (40 * 60, End::State(RunState::Succeeded))]);
    world.serve(&world.daemon("a", vec![sync("people", "*/15 * * * *")]), 2 * HOUR - 10 * MINUTE);
    let expected = [
        "2026-01-05T00:15:00Z partial",
        "2026-01-05T00:55:00Z succeeded",
        "2026-01-05T01:35:00Z succeeded",
        "2026-01-05T01:45:00Z succeeded",
    ];
    assert_eq!(world.script.runs_of("people"), expected);
}

#[test]
fn what_is_due_longest_runs_first_and_no_more_at_a_time_than_allowed() {
    let mut world = World::new();
    world.settings.concurrency = NonZeroUsize::new(2).unwrap();
    let names = ["d", "c", "b", "a"];
    let syncs = names.iter().zip(0..).map(|(name, minute)| sync(name, &format!("{minute} 1 * * *"))).collect();
    names.iter().for_each(|name| world.script.plan(name, [(600, End::State(RunState::Succeeded))]));
    world.serve(&world.daemon("one", syncs), 3 * HOUR);
    let begun: Vec<_> = world.script.made().iter().map(|made| format!("{} {}", made.sync, made.from)).collect();
    let expected =
        ["d 2026-01-05T01:00:00Z", "c 2026-01-05T01:01:00Z", "b 2026-01-05T01:10:00Z", "a 2026-01-05T01:11:00Z"];
    assert_eq!(begun, expected);
}

#[test]
fn a_run_that_failed_is_not_repeated_before_its_next_time() {
    let world = World::new();
    let ends = [RunState::Failed, RunState::Stopped, RunState::Unbalanced];
    world.script.plan("people", ends.map(|state| (60, End::State(state))));
    world.serve(&world.daemon("a", vec![sync("people", "0 * * * *")]), 4 * HOUR - MINUTE);
    let expected = ["2026-01-05T01:00:00Z failed", "2026-01-05T02:00:00Z stopped", "2026-01-05T03:00:00Z unbalanced"];
    assert_eq!(world.script.runs_of("people"), expected);
}

#[test]
fn a_run_that_panics_ends_itself_alone() {
    let world = World::new();
    world.script.plan("people", [(60, End::Panic)]);
    let syncs = vec![sync("people", "0 * * * *"), sync("leads", "0 * * * *")];
    world.serve(&world.daemon("a", syncs), 3 * HOUR - MINUTE);
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T01:00:00Z dropped", "2026-01-05T02:00:00Z succeeded"]);
    assert_eq!(world.script.runs_of("leads"), ["2026-01-05T01:00:00Z succeeded", "2026-01-05T02:00:00Z succeeded"]);
}

#[test]
fn a_run_starts_when_its_jitter_is_over() {
    let world = World::new();
    let up_to = 10 * MINUTE;
    let jittered = with("people", CronSpec { jitter: up_to, ..cron("0 1 * * *", "UTC") });
    world.serve(&world.daemon("a", vec![jittered]), 2 * HOUR);
    let starts_at = Jitter::new("people", up_to).start_of(time("2026-01-05T01:00:00Z"));
    assert_eq!(world.script.made().iter().map(|made| made.from).collect::<Vec<_>>(), [starts_at]);
    assert!(starts_at > time("2026-01-05T01:00:00Z"));
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T01:00:00Z")));
}
