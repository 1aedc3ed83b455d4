//! What a delivery tells its caller, case by case.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::boundary::{Boundary, BoundaryObserver, Unobserved};
use convoke_core::journal::{Operation, RowOutcome};
use convoke_core::plan::OperationCounts;
use convoke_core::sink::{Capabilities, KeyCell, Request};
use convoke_core::spec::Limit;
use convoke_core::state::{Audiences, Journal};
use convoke_core::{Clock, SinkError, StateError};
use convoke_delivery::{Courier, DeliveryEnd, DeliveryError, LeaseView};
use convoke_testkit::clock::START;
use convoke_testkit::fake_sink::{FakeSink, Faults, WriteFault};
use tokio_util::sync::CancellationToken;

use crate::world::{Outline, TestLease, World};

fn outline(creates: u32) -> Outline {
    Outline { creates, updates: 0, deletes: 0, poisoned: BTreeSet::new(), removed: BTreeSet::new() }
}

fn calm_world(outline: Outline) -> World {
    World::new(outline, FakeSink::small_capabilities(), Faults::none())
}

#[test]
fn a_plan_without_trouble_takes_one_request_for_each_batch() {
    let world = calm_world(Outline { updates: 10, deletes: 3, ..outline(20) });
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&report), Vec::<String>::new());
    assert_eq!(report.end, DeliveryEnd::Complete);
    assert_eq!(world.sink.sent().len(), 3 + 2 + 1);
    assert_eq!(world.sink.most_in_flight(), 3);
    assert_eq!(report.counts.creates, OperationCounts { acknowledged: 20, ..OperationCounts::default() });
}

#[test]
fn a_plan_that_is_delivered_sends_nothing_when_it_is_delivered_again() {
    let world = calm_world(outline(20));
    let first = world.clock.run(world.deliver(&world.courier())).unwrap();
    let sent = world.sink.sent().len();
    let second = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.sink.sent().len(), sent);
    assert_eq!(second.counts.creates, first.counts.creates);
    assert_eq!(second.end, DeliveryEnd::Complete);
}

#[test]
fn a_lost_answer_is_read_back_and_nothing_is_sent_twice() {
    let world = calm_world(outline(8));
    world.sink.script([WriteFault::LostAnswer]);
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&report), Vec::<String>::new());
    assert_eq!(world.sink.sent().len(), 1);
    let capabilities = FakeSink::small_capabilities();
    assert!(world.clock.elapsed() >= capabilities.max_commit_delay + capabilities.settle);
}

#[test]
fn one_refused_record_among_many_is_isolated_in_few_requests() {
    let world = calm_world(Outline { poisoned: BTreeSet::from([5]), ..outline(8) });
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&report), Vec::<String>::new());
    let reject = &world.state.all_rejects()[0];
    assert_eq!((reject.code.as_str(), reject.origin.as_deref()), ("POISONED", Some("leads.csv:5")));
    assert_eq!(reject.cells, [("Email".to_owned(), Some("poison-create-5".to_owned()))]);
    assert_eq!(report.reject_samples.len(), 1);
    // All eight, then the seven it does not point at, then the one it does.
    assert_eq!(world.sink.sent().len(), 3);
}

#[test]
fn a_row_that_somebody_removed_is_not_made_again() {
    let world = calm_world(Outline { updates: 8, deletes: 8, removed: BTreeSet::from([1, 2]), ..outline(0) });
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&report), Vec::<String>::new());
    assert_eq!(report.counts.updates.found_removed, 2);
    assert_eq!(report.counts.deletes.acknowledged, 8);
}

#[test]
fn passing_the_reject_limit_stops_delivery() {
    let mut world = calm_world(Outline { poisoned: (0..40).collect(), ..outline(80) });
    world.terms.reject_limit = Limit { percent: None, records: Some(3) };
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    let DeliveryEnd::RejectLimit { rejected } = report.end else { panic!("{:?}", report.end) };
    assert!((4..40).contains(&rejected), "{rejected}");
    assert!(report.counts.creates.settled() < 80);
}

#[test]
fn a_long_retry_after_gives_the_slot_up_until_then() {
    let world = calm_world(outline(80));
    let retry_after = Some(Duration::from_secs(1_800));
    world.sink.script([WriteFault::None, WriteFault::NotApplied { retry_after }]);
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    let DeliveryEnd::WaitingForQuota { until } = report.end else { panic!("{:?}", report.end) };
    assert!(until > world.clock.now().after(Duration::from_secs(1_700)));
    assert!(world.state.entries().iter().all(|entry| entry.outcomes.is_some()));
    let resumed = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&resumed), Vec::<String>::new());
}

#[test]
fn creating_where_rows_cannot_be_looked_up_needs_consent() {
    let mut world = calm_world(outline(8));
    world.binding.key_look_up = None;
    let refused = world.clock.run(world.deliver(&world.courier()));
    assert!(matches!(refused, Err(DeliveryError::NeedsConsent { .. })), "{refused:?}");
    assert!(world.sink.sent().is_empty());
}

#[test]
fn with_consent_a_lost_create_stays_in_doubt_and_is_never_sent_again() {
    let mut world = calm_world(outline(24));
    world.binding.key_look_up = None;
    world.terms.allow_blind_creates = true;
    world.sink.script([WriteFault::LostAnswer, WriteFault::ShortAnswer]);
    let first = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!((first.in_doubt, first.counts.creates.acknowledged), (8 + 4, 12));
    let settled = world.clock.run(world.courier().settle_open()).unwrap();
    assert_eq!(settled.in_doubt, 12);
    let second = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!((second.in_doubt, second.counts.creates.acknowledged), (12, 12));
    assert_eq!(world.sink.sent().len(), 3);
}

#[test]
fn a_refused_credential_leaves_what_may_be_half_applied_in_the_journal() {
    for atomic_refusals in [false, true] {
        let capabilities = Capabilities { atomic_refusals, ..FakeSink::small_capabilities() };
        let world = World::new(outline(8), capabilities, Faults::none());
        world.sink.script([WriteFault::Forbidden]);
        let error = world.clock.run(world.deliver(&world.courier())).unwrap_err();
        assert!(matches!(error, DeliveryError::Sink { source: SinkError::Forbidden { .. }, .. }), "{error:?}");
        let is_open = world.state.entries()[0].outcomes.is_none();
        assert_eq!(is_open, !atomic_refusals, "what is certainly not applied is closed");
        let settled = world.clock.run(world.courier().settle_open()).unwrap();
        assert_eq!((settled.found, settled.not_applied), if atomic_refusals { (0, 0) } else { (4, 4) });
        let report = world.clock.run(world.deliver(&world.courier())).unwrap();
        assert_eq!(world.violations(&report), Vec::<String>::new());
    }
}

#[test]
fn rows_that_turn_up_after_a_short_answer_are_not_taken_for_complete() {
    let world = calm_world(outline(8));
    world.sink.script([WriteFault::ShortAnswer]);
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&report), Vec::<String>::new());
    assert_eq!((report.counts.creates.acknowledged, report.counts.creates.incomplete), (8, 4));
}

#[test]
fn an_update_that_a_refusal_may_have_left_half_done_is_unsure_in_the_ledger_although_it_is_rejected() {
    let capabilities = Capabilities { atomic_refusals: false, ..FakeSink::small_capabilities() };
    let poisoned = BTreeSet::from([0]);
    let world = World::new(Outline { updates: 1, poisoned, ..outline(0) }, capabilities, Faults::none());
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&report), Vec::<String>::new());
    let outcomes: Vec<_> = world.state.entries().into_iter().flat_map(|entry| entry.outcomes.unwrap()).collect();
    assert!(matches!(outcomes[..], [RowOutcome::Incomplete { .. }, RowOutcome::Rejected]), "{outcomes:?}");
    assert_eq!(world.sink.sent().len(), 1);
    let tallied = world.clock.run(convoke_delivery::courier::tally(&*world.state, world.terms.plan)).unwrap();
    assert_eq!(tallied.updates, report.counts.updates);
}

#[test]
fn a_delete_job_of_an_earlier_run_is_seen_to_its_end() {
    let world = calm_world(Outline { deletes: 8, ..outline(0) });
    let capabilities = FakeSink::small_capabilities();
    world.sink.script([WriteFault::SlowJob { by: capabilities.max_commit_delay * 2 }]);
    let ports = world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved));
    let cancel = ports.cancel.clone();
    let courier = Courier::new(ports, world.binding.clone(), world.lease(false));
    let report = world.clock.run(async {
        let cancelled = async {
            world.clock.sleep(Duration::from_secs(20)).await;
            cancel.cancel();
        };
        futures::future::join(world.deliver(&courier), cancelled).await.0
    });
    assert_eq!(report.unwrap().end, DeliveryEnd::Interrupted);
    let settled = world.clock.run(world.courier().settle_open()).unwrap();
    assert_eq!((settled.entries, settled.not_applied), (1, 0));
    let resumed = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&resumed), Vec::<String>::new());
    assert_eq!(world.sink.sent().len(), 1);
}

#[test]
fn a_reject_limit_that_an_earlier_process_passed_stops_the_next_one_at_once() {
    let mut world = calm_world(Outline { poisoned: (0..8).collect(), ..outline(24) });
    world.terms.reject_limit = Limit { percent: None, records: Some(3) };
    world.clock.run(world.deliver(&world.courier())).unwrap();
    let sent = world.sink.sent().len();
    let resumed = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert!(matches!(resumed.end, DeliveryEnd::RejectLimit { .. }), "{:?}", resumed.end);
    assert_eq!(world.sink.sent().len(), sent);
}

#[test]
fn a_quiet_period_noted_by_a_wall_clock_far_ahead_is_not_waited_out() {
    let world = calm_world(outline(8));
    let far_ahead = world.clock.now().after(Duration::from_secs(365 * 86_400));
    let audience = &world.binding.key;
    world.clock.run(world.state.extend_quiet(audience, far_ahead, &world.lease(false).current())).unwrap();
    world.clock.run(world.deliver(&world.courier())).unwrap();
    let capabilities = FakeSink::small_capabilities();
    assert!(world.clock.elapsed() <= capabilities.max_commit_delay + capabilities.settle + Duration::from_secs(1));
}

#[test]
fn a_wait_for_the_rate_budget_that_was_cut_short_is_an_interruption() {
    for cancelled in [false, true] {
        let world = calm_world(outline(8));
        world.sink.script([WriteFault::UsedUp]);
        let ports = world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved));
        let cancel = ports.cancel.clone();
        let courier = Courier::new(ports, world.binding.clone(), world.lease(false));
        let report = world.clock.run(async {
            let while_under_way = async {
                world.clock.sleep(Duration::from_millis(10)).await;
                if cancelled {
                    cancel.cancel();
                }
            };
            futures::future::join(world.deliver(&courier), while_under_way).await.0
        });
        let end = report.unwrap().end;
        assert_eq!(end == DeliveryEnd::Interrupted, cancelled, "{end:?}");
        assert!(world.state.entries()[0].outcomes.is_some(), "nothing was sent, and the journal says so");
    }
}

/// Cancels as a boundary is reached.
struct CancelAt(Boundary, CancellationToken);

impl BoundaryObserver for CancelAt {
    fn reached(&self, boundary: Boundary) {
        if boundary == self.0 {
            self.1.cancel();
        }
    }
}

#[test]
fn a_cancelled_delivery_finishes_what_is_in_flight_and_starts_nothing_new() {
    let world = calm_world(outline(80));
    let mut ports = world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved));
    ports.boundaries = Arc::new(CancelAt(Boundary::AfterSend, ports.cancel.clone()));
    let courier = Courier::new(ports, world.binding.clone(), world.lease(false));
    let report = world.clock.run(world.deliver(&courier)).unwrap();
    assert_eq!(report.end, DeliveryEnd::Interrupted);
    assert_eq!(report.counts.creates.acknowledged, 24, "three requests were in flight");
    assert!(world.state.entries().iter().all(|entry| entry.outcomes.is_some()));
}

#[test]
fn a_cancelled_read_back_is_left_to_the_next_start() {
    let world = calm_world(outline(8));
    world.sink.script([WriteFault::LostAnswer]);
    let ports = world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved));
    let cancel = ports.cancel.clone();
    let courier = Courier::new(ports, world.binding.clone(), world.lease(false));
    let report = world.clock.run(async {
        let cancelled = async {
            world.clock.sleep(Duration::from_secs(20)).await;
            cancel.cancel();
        };
        futures::future::join(world.deliver(&courier), cancelled).await.0
    });
    assert_eq!(report.unwrap().end, DeliveryEnd::Interrupted);
    let settled = world.clock.run(world.courier().settle_open()).unwrap();
    assert_eq!((settled.entries, settled.found), (1, 8));
    let resumed = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&resumed), Vec::<String>::new());
    assert_eq!(world.sink.sent().len(), 1);
}

#[test]
fn nothing_is_sent_once_the_lease_has_run_out() {
    let world = calm_world(outline(80));
    let ends_at = Duration::from_millis(1_200);
    let lease = TestLease { fence: 1, taken_over: false, clock: Arc::clone(&world.clock), ends_at };
    let courier = Courier::new(
        world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved)),
        world.binding.clone(),
        Arc::new(lease),
    );
    let lost = world.clock.run(world.deliver(&courier)).unwrap_err();
    assert!(matches!(lost, DeliveryError::State { source: StateError::LeaseLost { .. }, .. }), "{lost:?}");
    // 200 ms before the margin: two rounds of 80 ms fit, a third is given up under way.
    assert!(world.clock.elapsed() < Duration::from_millis(1_200));
    assert!(world.sink.sent().len() < 10);
    let settled = world.clock.run(world.courier().settle_open()).unwrap();
    assert!(settled.entries > 0);
    let resumed = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(world.violations(&resumed), Vec::<String>::new());
}

#[test]
fn a_new_plan_waits_until_an_earlier_update_can_no_longer_commit() {
    let world = calm_world(Outline { updates: 8, ..outline(0) });
    world.sink.script([WriteFault::LostAnswer]);
    world.clock.run(world.deliver(&world.courier())).unwrap();
    let done_at = world.clock.elapsed();
    assert!(done_at < FakeSink::small_capabilities().max_commit_delay);
    let mut next = world;
    next.terms.plan = convoke_core::PlanId::parse("018f0000-0000-7000-8000-000000000009").unwrap();
    next.clock.run(next.deliver(&next.courier())).unwrap();
    assert!(next.clock.elapsed() >= FakeSink::small_capabilities().max_commit_delay);
}

#[test]
fn what_is_sent_next_never_meets_an_earlier_update_at_the_bound_of_its_commit() {
    let world = calm_world(Outline { updates: 8, ..outline(0) });
    world.clock.advance(Duration::from_micros(999));
    world.sink.script([WriteFault::LostAnswer]);
    world.clock.run(world.deliver(&world.courier())).unwrap();
    let quiet = world.clock.run(world.state.quiet_until(&world.binding.key)).unwrap().expect("an answer was lost");
    let Capabilities { max_commit_delay, settle, .. } = FakeSink::small_capabilities();
    // The answer came after 80 ms, and 999 µs of the clock are not in its timestamp.
    let answered = Duration::from_micros(80_999);
    assert!(quiet.since(START) >= answered + max_commit_delay + settle, "{quiet}");
}

#[test]
fn a_sweep_whose_delete_may_come_late_keeps_the_next_plan_waiting() {
    let world = calm_world(outline(8));
    world.sink.script([WriteFault::LostRequest]);
    world.clock.run(world.deliver(&world.courier())).unwrap();
    let key = crate::world::key_of(Operation::Create, 3);
    let noted = world.clock.run(world.state.recreated(&world.binding.key)).unwrap();
    let tag = noted.iter().find(|known| known.key == key).expect("it was created again").tags[0];
    let double = world.sink.add_row(KeyCell { key, tag }, &["late"]);
    let by = FakeSink::small_capabilities().max_commit_delay;
    world.sink.script([WriteFault::LateCommit { by }]);
    let sent_at = world.clock.elapsed();
    let swept = world.clock.run(world.courier().sweep(&|_| None)).unwrap();
    assert_eq!((swept.keys, swept.removed), (8, 1), "the delete is sent again");
    assert!(world.sink.rows_now().iter().all(|row| row.row_id != double));
    let quiet = world.clock.run(world.state.quiet_until(&world.binding.key)).unwrap().expect("an answer was lost");
    assert!(quiet.since(START) >= sent_at + by, "{quiet}");
}

#[test]
fn a_settled_crash_of_another_process_waits_for_its_last_request() {
    let world = calm_world(outline(8));
    world.sink.script([WriteFault::LateCommit { by: Duration::from_secs(290) }]);
    let ports = world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved));
    let dead = Courier::new(ports, world.binding.clone(), world.lease(false));
    world.clock.run(async {
        tokio::select! {
            biased;
            () = world.clock.sleep(Duration::from_millis(60)) => {}
            _ = world.deliver(&dead) => panic!("it was to be cut off"),
        }
    });
    let successor = Courier::new(
        world.ports(Arc::clone(&world.sink) as _, Arc::new(Unobserved)),
        world.binding.clone(),
        world.lease(true),
    );
    let settled = world.clock.run(successor.settle_open()).unwrap();
    assert_eq!((settled.entries, settled.found, settled.not_applied), (1, 8, 0));
    let capabilities = FakeSink::small_capabilities();
    assert!(world.clock.elapsed() >= capabilities.request_timeout + capabilities.max_commit_delay);
    assert_eq!(world.sink.sent().iter().map(Request::row_count).sum::<usize>(), 8);
}

#[test]
fn rows_of_ours_under_an_unknown_tag_are_reported_and_left_alone() {
    let world = calm_world(outline(8));
    world.sink.script([WriteFault::LostRequest]);
    let report = world.clock.run(world.deliver(&world.courier())).unwrap();
    assert_eq!(report.counts.creates.acknowledged, 8);
    let key = crate::world::key_of(Operation::Create, 3);
    let strange = convoke_core::sink::KeyCell { key, tag: convoke_core::sink::AttemptTag(77) };
    let doubled = world.sink.add_row(strange, &["whose"]);
    let swept = world.clock.run(world.courier().sweep(&|_| None)).unwrap();
    assert_eq!((swept.keys, swept.removed, swept.doubled), (8, 0, vec![doubled]));
    assert_eq!(world.sink.key_cells_of(key).len(), 2);
}
