//! The checkpoint store goes away and comes back.

use std::time::Duration;

use convoke_core::Clock;
use convoke_core::state::RunState;

use crate::scripted_jobs::End;
use crate::world::{HOUR, LEASE, MINUTE, World, sync, time};

#[test]
fn a_time_that_came_while_the_store_was_down_is_served_once_it_is_back() {
    let world = World::new();
    let started = world.daemon("a", vec![sync("people", "0 2 * * *")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR).await;
        world.store.set_down(true);
        world.clock.sleep(2 * HOUR).await;
        assert!(world.script.made().is_empty());
        world.store.set_down(false);
        world.clock.sleep(HOUR).await;
    });
    let made = world.script.made();
    assert_eq!(made.len(), 1);
    assert!(made[0].from.since(time("2026-01-05T03:00:00Z")) <= LEASE);
}

#[test]
fn a_daemon_that_starts_without_a_store_waits_for_it() {
    let world = World::new();
    world.store.set_down(true);
    let started = world.daemon("a", vec![sync("people", "0 2 * * *")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR).await;
        world.store.set_down(false);
        world.clock.sleep(2 * HOUR).await;
    });
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T02:00:00Z succeeded"]);
}

#[test]
fn a_short_failure_at_the_end_of_a_run_does_not_repeat_it() {
    let world = World::new();
    let started = world.daemon("a", vec![sync("people", "0 1 * * *")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR + Duration::from_secs(45)).await;
        world.store.set_down(true);
        world.clock.sleep(Duration::from_secs(30)).await;
        world.store.set_down(false);
        world.clock.sleep(HOUR).await;
    });
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T01:00:00Z succeeded"]);
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T01:00:00Z")));
}

#[test]
fn a_run_stops_when_its_lease_runs_out_because_the_store_is_down() {
    let world = World::new();
    world.script.plan("people", [(3_600, End::State(RunState::Succeeded))]);
    let started = world.daemon("a", vec![sync("people", "0 1 * * *")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR + 5 * MINUTE).await;
        world.store.set_down(true);
        world.clock.sleep(10 * MINUTE).await;
        let made = world.script.made();
        assert_eq!(made[0].how, "interrupted");
        let stopped_after = made[0].to.unwrap().since(time("2026-01-05T01:05:00Z"));
        assert!(stopped_after <= LEASE, "stopped after {stopped_after:?}");
        world.store.set_down(false);
        world.clock.sleep(2 * HOUR).await;
    });
    assert_eq!(world.script.made().len(), 2, "the time was still to be served");
}
