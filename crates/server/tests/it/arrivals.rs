//! Syncs that run as soon as something has come to their source.

use std::cell::RefCell;
use std::fmt::Debug;
use std::time::Duration;

use convoke_core::Clock;
use convoke_core::state::RunState;
use futures::future::join;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::scripted_jobs::End;
use crate::world::{HOUR, MINUTE, World, manual, sync};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_has_come_is_run_at_the_next_look_and_once() {
    let world = World::new();
    let started = world.daemon("a", vec![manual("people").on_arrival(MINUTE)]);
    world.meanwhile(&started, async || {
        world.clock.sleep(10 * MINUTE + SECOND).await;
        world.script.arrive("people", "1.csv");
        world.clock.sleep(HOUR).await;
    });
    assert_eq!(world.script.runs_of("people"), ["2026-01-05T00:11:00Z succeeded"]);
    let looks = world.script.looks();
    assert!((70..=80).contains(&looks), "{looks} looks in 70 minutes");
    assert_eq!(world.store.leases_held(), 0);
}

#[test]
fn what_comes_during_a_run_is_run_right_after_it() {
    let world = World::new();
    world.script.arrive("people", "1.csv");
    let started = world.daemon("a", vec![manual("people").on_arrival(HOUR)]);
    world.meanwhile(&started, async || {
        world.clock.sleep(30 * SECOND).await;
        for number in 2..500 {
            world.script.arrive("people", &format!("{number}.csv"));
        }
        world.clock.sleep(HOUR).await;
    });
    let runs = world.script.runs_of("people");
    assert_eq!(runs, ["2026-01-05T00:00:00Z succeeded", "2026-01-05T00:01:00Z succeeded"]);
}

thread_local! {
    /// The levels at which this thread, which is that of one test, was told of sources that cannot be seen.
    static HEARD: RefCell<Vec<Level>> = const { RefCell::new(Vec::new()) };
}

/// Listens to all threads: what no thread but one listens to, the others may switch off for all.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0.contains("whether something has come") {
            HEARD.with_borrow_mut(|heard| heard.push(*event.metadata().level()));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn that_a_source_cannot_be_seen_is_warned_of_once_and_its_end_is_told() {
    let world = World::new();
    world.script.arrive("people", "unreadable");
    let started = world.daemon("a", vec![manual("people").on_arrival(MINUTE)]);
    tracing::subscriber::set_global_default(Listener).unwrap();
    world.meanwhile(&started, async || {
        world.clock.sleep(HOUR).await;
        world.script.take_away("people");
        world.clock.sleep(HOUR).await;
    });
    assert_eq!(HEARD.take(), [Level::WARN, Level::INFO]);
}

#[test]
fn a_failed_run_does_not_loop_and_what_a_guard_stopped_waits_for_a_change() {
    let world = World::new();
    let failed = |_| (1, End::State(RunState::Failed));
    world.script.plan("failing", (0..100).map(failed));
    world.script.plan("stopped", [(1, End::State(RunState::Stopped))]);
    for name in ["failing", "stopped"] {
        world.script.arrive(name, "1.csv");
    }
    let syncs = ["failing", "stopped"].map(|name| manual(name).on_arrival(MINUTE)).to_vec();
    let started = world.daemon("a", syncs);
    world.meanwhile(&started, async || {
        world.clock.sleep(2 * HOUR).await;
        world.script.arrive("stopped", "2.csv");
        world.clock.sleep(HOUR).await;
    });
    let failing = world.script.runs_of("failing").len();
    assert!((6..=9).contains(&failing), "{failing} tries in three hours");
    let stopped = world.script.runs_of("stopped");
    assert_eq!(stopped.len(), 2, "{stopped:?}");
    assert!(stopped[1].starts_with("2026-01-05T02:0"), "{stopped:?}");
}

#[test]
fn of_several_daemons_one_runs_what_has_come() {
    let world = World::new();
    let daemons = ["a", "b", "c"].map(|name| world.daemon(name, vec![manual("people").on_arrival(MINUTE)]));
    let story = async {
        world.clock.sleep(5 * MINUTE + SECOND).await;
        world.script.arrive("people", "1.csv");
        world.clock.sleep(HOUR).await;
        daemons.iter().for_each(|started| started.drain.cancel());
    };
    let all = futures::future::join_all(daemons.iter().map(|started| started.daemon.run()));
    world.clock.run(join(all, story));
    assert_eq!(world.script.runs_of("people").len(), 1, "{:?}", world.script.made());
}

#[test]
fn times_of_a_schedule_are_kept_beside_what_comes() {
    let world = World::new();
    let started = world.daemon("a", vec![sync("people", "0 * * * *").on_arrival(MINUTE)]);
    world.meanwhile(&started, async || {
        world.clock.sleep(90 * MINUTE + SECOND).await;
        world.script.arrive("people", "1.csv");
        world.clock.sleep(HOUR).await;
    });
    let runs = world.script.runs_of("people");
    let expected =
        ["2026-01-05T01:00:00Z succeeded", "2026-01-05T01:31:00Z succeeded", "2026-01-05T02:00:00Z succeeded"];
    assert_eq!(runs, expected);
}

#[test]
fn a_run_that_was_kept_from_its_audience_is_taken_up_again() {
    let world = World::new();
    world.script.plan("people", [(0, End::Busy), (0, End::Quota(600))]);
    world.script.arrive("people", "1.csv");
    let started = world.daemon("a", vec![manual("people").on_arrival(MINUTE)]);
    world.serve(&started, HOUR);
    let runs = world.script.runs_of("people");
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert!(runs[2].ends_with("succeeded"), "{runs:?}");
}

#[test]
fn a_source_that_cannot_be_seen_starts_nothing_and_is_counted() {
    let world = World::new();
    world.script.arrive("people", "unreadable");
    let started = world.daemon("a", vec![manual("people").on_arrival(MINUTE)]);
    world.serve(&started, HOUR);
    assert!(world.script.made().is_empty());
    let looks = world.script.looks();
    assert!((58..=62).contains(&looks), "{looks}");
}
