//! Plans that were interrupted go on whatever the schedule says.

use std::time::Duration;

use convoke_core::Clock;
use convoke_core::state::RunState;
use convoke_server::Task;

use crate::scripted_jobs::End;
use crate::world::{HOUR, MINUTE, World, manual, sync, time};

#[test]
fn an_interrupted_plan_goes_on_at_the_start_and_moves_no_mark() {
    let world = World::new();
    let syncs = || vec![sync("people", "0 12 * * *"), manual("by-hand")];
    world.serve(&world.daemon("a", syncs()), MINUTE);
    world.script.set_unfinished("people", true);
    world.script.set_unfinished("by-hand", true);
    world.script.set_unfinished("unknown", true);
    let started = world.daemon("b", syncs());
    world.meanwhile(&started, async || {
        world.clock.sleep(Duration::from_secs(30)).await;
        world.script.set_unfinished("people", false);
        world.script.set_unfinished("by-hand", false);
        world.clock.sleep(HOUR).await;
    });
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T00:01:00Z succeeded"]);
    assert_eq!(world.script.runs_of("by-hand"), ["2026-01-05T00:01:00Z succeeded"]);
    let made = world.script.made();
    assert_eq!(made.len(), 2, "what is not configured is not run");
    assert!(made.iter().all(|made| made.task == Task::Finish), "nobody has asked for more");
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T00:00:00Z")));
}

#[test]
fn a_plan_that_somebody_left_meanwhile_is_found_within_a_minute() {
    let world = World::new();
    let started = world.daemon("a", vec![manual("people")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR).await;
        world.script.set_unfinished("people", true);
        world.clock.sleep(Duration::from_secs(61)).await;
        world.script.set_unfinished("people", false);
        world.clock.sleep(HOUR).await;
    });
    let made = world.script.made();
    assert_eq!(made.len(), 1);
    assert!(made[0].from.since(time("2026-01-05T01:00:00Z")) <= MINUTE);
}

#[test]
fn a_plan_that_fails_again_waits_for_the_next_time() {
    let world = World::new();
    world.script.set_unfinished("people", true);
    world.script.plan("people", [(60, End::State(RunState::Failed))]);
    world.serve(&world.daemon("a", vec![sync("people", "0 1 * * *")]), HOUR + 30 * MINUTE);
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T00:00:00Z failed", "2026-01-05T01:00:00Z succeeded"]);
    let tasks: Vec<_> = world.script.made().iter().map(|made| made.task).collect();
    assert_eq!(tasks, [Task::Finish, Task::Run]);
}

#[test]
fn a_plan_that_somebody_is_at_work_on_is_left_to_them() {
    let world = World::new();
    world.script.set_unfinished("people", true);
    world.script.plan("people", [(0, End::Busy), (0, End::Busy)]);
    let started = world.daemon("a", vec![manual("people")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(Duration::from_secs(2)).await;
        // They are done.
        world.script.set_unfinished("people", false);
        world.clock.sleep(HOUR).await;
    });
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T00:00:00Z busy", "2026-01-05T00:00:01Z busy"]);
}
