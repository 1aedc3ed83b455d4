//! SIGTERM in the middle of things.

use std::time::Duration;

use convoke_core::state::RunState;
use convoke_core::{Clock, SyncName};
use convoke_server::Drained;

use crate::scripted_jobs::End;
use crate::world::{HOUR, MINUTE, World, sync, time};

#[test]
fn a_drained_run_keeps_its_turn_and_the_next_daemon_goes_on_at_once() {
    let world = World::new();
    world.script.plan("people", [(1_800, End::State(RunState::Succeeded))]);
    let syncs = || vec![sync("people", "0 1 * * *"), sync("leads", "6 1 * * *")];
    let drained = world.serve(&world.daemon("a", syncs()), HOUR + 5 * MINUTE);
    assert_eq!(drained, Drained { cut_off: Vec::new() });
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T00:00:00Z")));
    assert_eq!(world.store.leases_held(), 0, "the next one need not wait");
    world.serve(&world.daemon("b", syncs()), HOUR);
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T01:00:00Z interrupted", "2026-01-05T01:05:00Z succeeded"]);
    assert_eq!(world.script.runs_of("leads"), ["2026-01-05T01:06:00Z succeeded"]);
}

#[test]
fn a_run_that_ends_by_itself_while_draining_is_served() {
    let world = World::new();
    world.script.plan("people", [(310, End::Deaf)]);
    let drained = world.serve(&world.daemon("a", vec![sync("people", "0 1 * * *")]), HOUR + 5 * MINUTE);
    assert_eq!(drained, Drained { cut_off: Vec::new() });
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T01:00:00Z")));
    assert_eq!(world.clock.now(), time("2026-01-05T01:05:10Z"));
}

#[test]
fn draining_ends_in_time_and_tells_whom_it_cut_off() {
    let world = World::new();
    world.script.plan("people", [(3_600, End::Deaf)]);
    let drained = world.serve(&world.daemon("a", vec![sync("people", "0 1 * * *")]), HOUR + 5 * MINUTE);
    assert_eq!(drained, Drained { cut_off: vec![SyncName::new("people")] });
    assert_eq!(world.clock.now(), time("2026-01-05T01:05:30Z"));
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T00:00:00Z")));
}

#[test]
fn nothing_is_begun_while_draining() {
    let world = World::new();
    world.script.plan("people", [(3_600, End::Deaf)]);
    let syncs = vec![sync("people", "0 1 * * *"), sync("leads", "0 1 * * *"), sync("late", "5 1 * * *")];
    world.serve(&world.daemon("a", syncs), HOUR + 5 * MINUTE - Duration::from_secs(10));
    assert_eq!(world.script.made().len(), 2);
}
