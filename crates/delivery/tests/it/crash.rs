//! Random faults and random crashes: whatever happens, once settled and swept the audience is as planned.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::boundary::{Boundary, BoundaryObserver};
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, Destination, FoundRow, JobId, JobState,
    LookUp, Provision, ProvisionAnswer, Request, ScanPage, Sink, Survey,
};
use convoke_core::{Clock, SinkError};
use convoke_delivery::{Courier, DeliveryEnd, DeliveryError, DeliveryReport, courier::tally};
use convoke_testkit::fake_sink::{FakeSink, Faults};
use futures::FutureExt;
use proptest::prelude::*;

use crate::memory_state::MemoryState;
use crate::world::{Outline, World};

/// After so many lives nothing fails any more: then the plan must be done at once.
const TROUBLED_LIVES: usize = 12;

/// When a process ends.
#[derive(Clone, Copy, Debug)]
enum Crash {
    /// As it passes its n-th boundary.
    AtBoundary(u32),
    /// After so many milliseconds.
    AfterMillis(u64),
}

#[derive(Clone, Debug)]
struct Scenario {
    outline: Outline,
    seed: u64,
    faults: f64,
    atomic_refusals: bool,
    crashes: Vec<Crash>,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let numbers = || proptest::collection::btree_set(0u32..24, 0..4);
    let crash = prop_oneof![
        (1u32..60).prop_map(Crash::AtBoundary),
        (0u64..900_000).prop_map(Crash::AfterMillis),
        (0u64..2_000).prop_map(Crash::AfterMillis),
    ];
    let outline = (0u32..24, 0u32..18, 0u32..18, numbers(), numbers()).prop_map(
        |(creates, updates, deletes, poisoned, removed)| Outline { creates, updates, deletes, poisoned, removed },
    );
    let crashes = proptest::collection::vec(crash, 0..6);
    (outline, any::<u64>(), prop_oneof![Just(0.0), Just(0.3), Just(0.7)], any::<bool>(), crashes).prop_map(
        |(outline, seed, faults, atomic_refusals, crashes)| Scenario {
            outline,
            seed,
            faults,
            atomic_refusals,
            crashes,
        },
    )
}

/// Ends the process at its n-th boundary.
struct EndAt {
    left: AtomicU32,
}

/// What a planned crash unwinds with.
struct PlannedCrash;

impl BoundaryObserver for EndAt {
    fn reached(&self, _boundary: Boundary) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::panic::resume_unwind(Box::new(PlannedCrash));
        }
    }
}

impl Scenario {
    fn world(&self) -> World {
        let capabilities = Capabilities { atomic_refusals: self.atomic_refusals, ..FakeSink::small_capabilities() };
        World::new(self.outline.clone(), capabilities, Faults::seeded(self.seed, self.faults))
    }

    /// Lives one life after the other until the plan is delivered, and then that of the next run.
    fn deliver(&self, world: &World, sink: Arc<dyn Destination>) -> DeliveryReport {
        for life in 0..=TROUBLED_LIVES {
            if life == TROUBLED_LIVES {
                world.sink.calm_down();
            }
            let crash = self.crashes.get(life).copied().filter(|_| life < TROUBLED_LIVES);
            let Some(Ok(report)) = live(world, Arc::clone(&sink), crash, life > 0) else { continue };
            if report.end == DeliveryEnd::Complete {
                world.sink.calm_down();
                live(world, sink, None, false).expect("does not crash").expect("nothing goes wrong any more");
                return report;
            }
        }
        panic!("the plan was not delivered although nothing failed any more");
    }
}

/// One process: settles, sweeps, delivers, sweeps. `None` if it crashed.
fn live(
    world: &World,
    sink: Arc<dyn Destination>,
    crash: Option<Crash>,
    taken_over: bool,
) -> Option<Result<DeliveryReport, DeliveryError>> {
    let (boundary, millis) = match crash {
        Some(Crash::AtBoundary(number)) => (number, u64::MAX),
        Some(Crash::AfterMillis(millis)) => (0, millis),
        None => (0, u64::MAX),
    };
    let observer = Arc::new(EndAt { left: AtomicU32::new(boundary) });
    let courier = Courier::new(world.ports(sink, observer), world.binding.clone(), world.lease(taken_over));
    let life = async {
        courier.settle_open().await?;
        courier.sweep(&world.named()).await?;
        let report = world.deliver(&courier).await?;
        courier.sweep(&world.named()).await?;
        Ok(report)
    };
    let lived = AssertUnwindSafe(life).catch_unwind();
    let death = world.clock.sleep(Duration::from_millis(millis));
    let ended = world.clock.run(async {
        tokio::select! {
            biased;
            () = death => None,
            lived = lived => Some(lived),
        }
    });
    match ended? {
        Ok(result) => Some(result),
        Err(panic) if panic.is::<PlannedCrash>() => None,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// At least this many cases; more if `PROPTEST_CASES` says so.
fn config(cases: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(cases), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn the_audience_is_as_planned_whatever_fails_and_whenever_the_process_ends(scenario in scenarios()) {
        let world = scenario.world();
        let report = scenario.deliver(&world, Arc::clone(&world.sink) as _);
        prop_assert_eq!(world.violations(&report), Vec::<String>::new());
        let mut tallied = world.clock.run(tally(&*world.state, world.terms.plan)).unwrap();
        tallied.requests = report.counts.requests;
        prop_assert_eq!(tallied, report.counts);
        prop_assert!(world.sink.most_in_flight() <= FakeSink::small_capabilities().requests_in_flight);
    }
}

/// A planted bug: takes every lost answer for a request that was not applied, so it is sent again without a look.
struct Credulous(Arc<FakeSink>);

#[async_trait]
impl Sink for Credulous {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        Ok(match self.0.send(audience, request).await? {
            Answer::Unknown { reason } => Answer::NotApplied { reason, retry_after: None },
            answer => answer,
        })
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        self.0.poll(audience, job).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.0.look_up(audience, query).await
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        self.0.scan(audience, cursor).await
    }
}

#[async_trait]
impl AudienceSetup for Credulous {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        self.0.survey(target, known_id).await
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.0.provision(step).await
    }
}

fn creates_only(creates: u32) -> Outline {
    Outline { creates, updates: 0, deletes: 0, poisoned: BTreeSet::new(), removed: BTreeSet::new() }
}

fn troubled(seed: u64) -> Scenario {
    Scenario { outline: creates_only(24), seed, faults: 0.5, atomic_refusals: true, crashes: Vec::new() }
}

#[test]
fn the_oracle_sees_doubles_when_lost_answers_are_taken_for_lost_requests() {
    let has_doubles = |seed| {
        let scenario = troubled(seed);
        let world = scenario.world();
        let report = scenario.deliver(&world, Arc::new(Credulous(Arc::clone(&world.sink))));
        !world.violations(&report).is_empty()
    };
    assert!((0..20).any(has_doubles));
}

#[test]
fn the_oracle_sees_doubles_when_the_destination_commits_later_than_it_declares_and_nothing_is_swept() {
    let has_doubles = |forgets_recreated: bool| {
        let scenario = Scenario { faults: 0.0, ..troubled(1) };
        let mut world = scenario.world();
        world.state = Arc::new(MemoryState::forgetting(forgets_recreated));
        let too_late = FakeSink::small_capabilities().max_commit_delay * 2;
        world.sink.script([convoke_testkit::fake_sink::WriteFault::LateCommit { by: too_late }]);
        live(&world, Arc::clone(&world.sink) as _, None, false).unwrap().unwrap();
        world.clock.advance(too_late);
        let report = live(&world, Arc::clone(&world.sink) as _, None, false).unwrap().unwrap();
        !world.violations(&report).is_empty()
    };
    assert!(has_doubles(true), "a planted bug goes unseen");
    assert!(!has_doubles(false), "the sweep of the next run removes late doubles");
}
