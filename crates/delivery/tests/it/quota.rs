//! A rate budget that lets out a few requests at a time: what a run has found out is kept, so that each goes on from there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use convoke_core::SinkError;
use convoke_core::boundary::Unobserved;
use convoke_core::gate::QuotaExhausted;
use convoke_core::journal::{Entry, Intent, Operation, RowOutcome};
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, FoundRow, JobId, JobState, LookUp, Provision,
    ProvisionAnswer, Request, ScanPage, Sink, Survey,
};
use convoke_core::state::Journal;
use convoke_delivery::{Courier, DeliveryEnd, DeliveryError, LeaseView, Ports};
use convoke_testkit::clock::START;
use convoke_testkit::fake_sink::{FakeSink, Faults, WriteFault};
use tokio_util::sync::CancellationToken;

use crate::world::{Outline, World};

/// A destination behind a gate that lets so many requests out, and then none.
struct Rationed {
    sink: Arc<FakeSink>,
    left: AtomicU32,
    /// Cancelled by the request after which so many are left.
    cancelled_at: Option<(u32, CancellationToken)>,
}

impl Rationed {
    fn take(&self) -> Result<(), SinkError> {
        if let Some((left, cancel)) = &self.cancelled_at
            && self.left.load(Ordering::Relaxed) == left + 1
        {
            cancel.cancel();
        }
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map(drop).map_err(|_| SinkError::Quota(QuotaExhausted { until: START }))
    }
}

#[async_trait]
impl Sink for Rationed {
    fn capabilities(&self) -> Capabilities {
        self.sink.capabilities()
    }

    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        self.take()?;
        self.sink.send(audience, request).await
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        self.take()?;
        self.sink.poll(audience, job).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.take()?;
        self.sink.look_up(audience, query).await
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        self.sink.scan(audience, cursor).await
    }
}

#[async_trait]
impl AudienceSetup for Rationed {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        self.sink.survey(target, known_id).await
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.sink.provision(step).await
    }
}

/// The courier of a run that may send so many requests.
fn rationed(world: &World, requests: u32) -> Courier {
    let left = AtomicU32::new(requests);
    let sink = Arc::new(Rationed { sink: Arc::clone(&world.sink), left, cancelled_at: None });
    Courier::new(world.ports(sink, Arc::new(Unobserved)), world.binding.clone(), world.lease(false))
}

/// A world whose first run lost the answers to all its requests, and could not look after a single one.
fn in_doubt(outline: Outline, requests: u32, fault: WriteFault) -> World {
    let world = World::new(outline, FakeSink::small_capabilities(), Faults::none());
    world.sink.script((0..requests).map(|_| fault));
    let report = world.clock.run(world.deliver(&rationed(&world, requests))).expect("it ends in order");
    assert!(matches!(report.end, DeliveryEnd::WaitingForQuota { .. }), "{:?}", report.end);
    world
}

fn open_rows(world: &World) -> usize {
    let open: Vec<Entry> = world.clock.run(world.state.open_entries(&world.binding.key)).expect("it is in memory");
    open.iter().map(|entry| entry.intent.rows.len()).sum()
}

fn outline(creates: u32, updates: u32, deletes: u32) -> Outline {
    Outline { creates, updates, deletes, poisoned: BTreeSet::new(), removed: BTreeSet::new() }
}

/// Runs that settle with so many requests each until nothing is open; each gets on.
fn runs_that_settle(world: &World, requests: u32) -> u32 {
    let mut runs = 0;
    let mut left = open_rows(world);
    assert!(left > 0, "nothing is in doubt");
    while left > 0 {
        runs += 1;
        let settled = world.clock.run(rationed(world, requests).settle_open());
        let before = std::mem::replace(&mut left, open_rows(world));
        assert!(left < before, "run {runs} came to nothing: {settled:?}");
        if let Err(error) = settled {
            assert!(matches!(error, DeliveryError::Sink { source: SinkError::Quota(_), .. }), "{error:?}");
        }
    }
    runs
}

fn demand_as_planned_once_settled(world: &World) {
    world.clock.run(world.courier().settle_open()).expect("nothing goes wrong any more");
    demand_as_planned(world);
}

fn demand_as_planned(world: &World) {
    let courier = world.courier();
    world.clock.run(courier.sweep(&world.named())).expect("nothing goes wrong any more");
    let report = world.clock.run(world.deliver(&courier)).expect("nothing goes wrong any more");
    assert_eq!(report.end, DeliveryEnd::Complete);
    assert_eq!(world.violations(&report), Vec::<String>::new());
}

#[test]
fn runs_that_may_look_up_one_page_each_settle_what_is_in_doubt_all_the_same() {
    for fault in [WriteFault::LostRequest, WriteFault::LostAnswer] {
        let world = in_doubt(outline(24, 0, 0), 3, fault);
        // Five pages, each of which is looked up a second time if nothing was found.
        let runs = runs_that_settle(&world, 2);
        assert!(runs <= 5, "{fault:?}: {runs} runs");
        demand_as_planned(&world);
    }
}

#[test]
fn runs_that_may_look_up_one_page_each_settle_updates_and_deletes_in_doubt() {
    for fault in [WriteFault::LostRequest, WriteFault::LostAnswer] {
        let world = in_doubt(outline(0, 10, 12), 3, fault);
        let runs = runs_that_settle(&world, 2);
        assert!(runs <= 6, "{fault:?}: {runs} runs");
        demand_as_planned(&world);
    }
}

#[test]
fn rows_that_a_run_found_before_its_budget_was_used_up_are_not_looked_up_again() {
    let world = in_doubt(outline(8, 0, 0), 1, WriteFault::LostAnswer);
    assert!(world.clock.run(rationed(&world, 1).settle_open()).is_err());
    assert_eq!(open_rows(&world), 3, "five values go into a look-up");
    let entries = world.state.entries();
    let rest = entries.last().expect("the rest is an entry of its own");
    assert_eq!((rest.intent.operation, rest.intent.tag), (Operation::Create, entries[0].intent.tag));
    world.clock.run(rationed(&world, 1).settle_open()).unwrap();
    assert_eq!(open_rows(&world), 0);
    demand_as_planned(&world);
    assert_eq!(world.sink.sent().len(), 1);
}

#[test]
fn one_look_in_vain_settles_nothing() {
    // Creates that never arrived, and deletes that were done.
    for (outline, fault) in [(outline(8, 0, 0), WriteFault::LostRequest), (outline(0, 0, 8), WriteFault::LostAnswer)] {
        let world = in_doubt(outline, 1, fault);
        assert!(world.clock.run(rationed(&world, 1).settle_open()).is_err());
        assert_eq!((open_rows(&world), world.state.entries().len()), (8, 1), "{fault:?}");
    }
}

#[test]
fn a_run_that_is_cut_short_between_its_looks_settles_nothing() {
    let world = in_doubt(outline(24, 0, 0), 3, WriteFault::LostRequest);
    // Two looks at the first page, then one at each of the next two: with the last it is told to stop. One request is left,
    // and the next is more than the budget lets out.
    let cancel = CancellationToken::new();
    let cancelled_at = Some((1, cancel.clone()));
    let sink = Arc::new(Rationed { sink: Arc::clone(&world.sink), left: AtomicU32::new(5), cancelled_at });
    let ports = Ports { cancel, ..world.ports(sink, Arc::new(Unobserved)) };
    let courier = Courier::new(ports, world.binding.clone(), world.lease(false));
    let report = world.clock.run(courier.settle_open()).expect("it is told to stop");
    assert!(report.interrupted);
    assert_eq!((open_rows(&world), world.state.entries().len()), (24, 3));
    demand_as_planned_once_settled(&world);
}

#[test]
fn an_entry_that_was_cut_in_two_and_not_closed_acknowledges_no_row_twice() {
    let world = in_doubt(outline(8, 0, 0), 1, WriteFault::LostAnswer);
    let [entry] = &world.state.entries()[..] else { panic!("one request was sent") };
    let rest = Intent { rows: entry.intent.rows[5..].to_vec(), ..entry.intent.clone() };
    world.clock.run(world.state.intend(&rest, &world.lease(false).current())).expect("it is in memory");
    let report = world.clock.run(world.courier().settle_open()).expect("nothing goes wrong any more");
    assert_eq!((report.found, report.not_applied, open_rows(&world)), (8, 0, 0));
    let outcomes = world.state.entries().into_iter().flat_map(|entry| entry.outcomes.expect("it is closed"));
    assert_eq!(outcomes.filter(|outcome| matches!(outcome, RowOutcome::Acknowledged { .. })).count(), 8);
    demand_as_planned(&world);
}

#[test]
fn runs_that_may_send_two_requests_each_sweep_every_key_and_remove_every_late_double() {
    let too_late = FakeSink::small_capabilities().max_commit_delay * 4;
    let world = in_doubt(outline(8, 0, 0), 1, WriteFault::LateCommit { by: too_late });
    world.clock.run(world.courier().settle_open()).unwrap();
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(report.end, DeliveryEnd::Complete);
    world.clock.advance(too_late);
    let keys = || world.clock.run(world.state.recreated(&world.binding.key)).unwrap().len();
    assert_eq!((keys(), world.sink.rows_now().len()), (8, 8 + 8 + 3), "each row is there twice");
    // A delete may be all that a run comes to: its end is then seen by the next one.
    let mut left = keys() + world.sink.rows_now().len();
    while keys() > 0 {
        let swept = world.clock.run(rationed(&world, 2).sweep(&world.named()));
        world.clock.advance(FakeSink::small_capabilities().settle);
        let before = std::mem::replace(&mut left, keys() + world.sink.rows_now().len());
        assert!(left < before, "a sweep came to nothing: {swept:?}");
    }
    assert_eq!(world.violations(&report), Vec::<String>::new());
}
