//! Two daemons on one store.

use std::collections::BTreeSet;
use std::time::Duration;

use convoke_core::Clock;
use convoke_core::state::RunState;
use futures::future::join3;

use crate::scripted_jobs::End;
use crate::world::{HOUR, LEASE, MINUTE, World, sync, time};

#[test]
fn each_time_is_served_by_exactly_one_of_two_daemons() {
    let world = World::new();
    let syncs = || vec![sync("people", "*/10 * * * *"), sync("leads", "5 * * * *")];
    let (one, two) = (world.daemon("one", syncs()), world.daemon("two", syncs()));
    let story = async {
        world.clock.sleep(12 * HOUR - MINUTE).await;
        one.drain.cancel();
        two.drain.cancel();
    };
    world.clock.run(join3(one.daemon.run(), two.daemon.run(), story));
    let people = world.script.runs_of("people");
    assert_eq!(people.len(), 12 * 6 - 1);
    assert_eq!(people.iter().collect::<BTreeSet<_>>().len(), people.len(), "none twice");
    assert_eq!(world.script.runs_of("leads").len(), 12);
}

#[test]
fn another_daemon_takes_the_turn_of_one_that_died() {
    let world = World::new();
    world.script.plan("people", [(1_800, End::State(RunState::Succeeded))]);
    let syncs = || vec![sync("people", "0 1 * * *")];
    let (one, two) = (world.daemon("one", syncs()), world.daemon("two", syncs()));
    let story = async {
        world.clock.sleep(2 * HOUR).await;
        two.drain.cancel();
    };
    // The second begins a little later, so that the first has the turn.
    let second = async {
        world.clock.sleep(MINUTE).await;
        two.daemon.run().await
    };
    let died_after = HOUR + 10 * MINUTE;
    world.clock.run(join3(world.until_killed(&one, died_after), second, story));
    let made = world.script.made();
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!((made[0].daemon.as_str(), made[0].how.as_str()), ("one", "dropped"));
    assert_eq!((made[1].daemon.as_str(), made[1].how.as_str()), ("two", "succeeded"));
    let took = made[1].from.since(time("2026-01-05T01:10:00Z"));
    assert!(took <= LEASE + Duration::from_secs(1), "the turn was taken after {took:?}");
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T01:00:00Z")));
}

#[test]
fn a_daemon_that_loses_its_turn_stops_the_run_and_leaves_the_mark() {
    let world = World::new();
    world.script.plan("people", [(1_800, End::State(RunState::Succeeded))]);
    let started = world.daemon("one", vec![sync("people", "0 1 * * *")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR + 5 * MINUTE).await;
        world.store.take_away("schedule/people", 3 * MINUTE).await;
        world.clock.sleep(2 * MINUTE).await;
        assert_eq!(world.script.made()[0].how, "interrupted");
        assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T00:00:00Z")));
        world.clock.sleep(10 * MINUTE).await;
    });
    // The stranger never served the time.
    let made = world.script.made();
    assert!(made[0].to.unwrap().since(time("2026-01-05T01:05:00Z")) <= LEASE / 3);
    assert_eq!(world.script.runs_of("people")[1], "2026-01-05T01:08:00Z succeeded");
    assert_eq!(made.len(), 2);
}

#[test]
fn a_long_run_keeps_its_turn() {
    let world = World::new();
    world.script.plan("people", [(3 * 3_600, End::State(RunState::Succeeded))]);
    let syncs = || vec![sync("people", "0 1 * * *")];
    let (one, two) = (world.daemon("one", syncs()), world.daemon("two", syncs()));
    let story = async {
        world.clock.sleep(6 * HOUR).await;
        one.drain.cancel();
        two.drain.cancel();
    };
    world.clock.run(join3(one.daemon.run(), two.daemon.run(), story));
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T01:00:00Z succeeded"]);
}
