//! Runs that cannot be made now keep their turn.

use std::num::NonZeroUsize;

use convoke_core::{Clock, Timestamp};

use crate::scripted_jobs::End;
use crate::world::{HOUR, MINUTE, World, sync, time};

#[test]
fn a_held_audience_is_asked_for_again_at_growing_distances_up_to_a_lease() {
    let world = World::new();
    world.script.plan("people", std::iter::repeat_n((0, End::Busy), 9));
    let started = world.daemon("a", vec![sync("people", "0 1 * * *")]);
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR + 2 * MINUTE).await;
        assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T00:00:00Z")), "not served yet");
        world.clock.sleep(10 * MINUTE).await;
    });
    let begun: Vec<Timestamp> = world.script.made().iter().map(|made| made.from).collect();
    let distances: Vec<_> = begun.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(distances, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(world.script.runs_of("people").last().unwrap(), "2026-01-05T01:04:03Z succeeded");
    assert_eq!(world.store.served_to("people"), Some(time("2026-01-05T01:00:00Z")));
}

#[test]
fn a_run_that_waits_for_quota_gives_up_its_slot_and_goes_on_when_there_is_some() {
    let mut world = World::new();
    world.settings.concurrency = NonZeroUsize::MIN;
    world.script.plan("people", [(60, End::Quota(5 * 3_600))]);
    let syncs = vec![sync("people", "0 * * * *"), sync("leads", "0 2 * * *")];
    world.serve(&world.daemon("a", syncs), 8 * HOUR - MINUTE);
    let people = world.script.runs_of("people");
    let expected = [
        "2026-01-05T01:00:00Z waiting_for_quota",
        // Stands in for the times that came while it waited.
        "2026-01-05T06:01:00Z succeeded",
        "2026-01-05T07:00:00Z succeeded",
    ];
    assert_eq!(people, expected);
    assert_eq!(world.script.runs_of("leads"), ["2026-01-05T02:00:00Z succeeded"]);
}

#[test]
fn a_run_that_waited_for_quota_when_its_daemon_ended_goes_on_with_the_next() {
    let world = World::new();
    world.script.plan("people", [(60, End::Quota(5 * 3_600))]);
    world.serve(&world.daemon("a", vec![sync("people", "0 1 * * *")]), 2 * HOUR);
    world.serve(&world.daemon("b", vec![sync("people", "0 1 * * *")]), HOUR);
    let expected = ["2026-01-05T01:00:00Z waiting_for_quota", "2026-01-05T02:00:00Z succeeded"];
    assert_eq!(world.script.runs_of("people"), expected);
}
