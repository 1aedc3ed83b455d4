//! Plans, and the transaction that settles one.

use convoke_core::journal::Operation;
use convoke_core::plan::{ChangeSample, PlanCounts, PlanManifest};
use convoke_core::source::SourcePosition;
use convoke_core::state::{Checkpoint, PlanState, RunRecord, RunState, Settlement, StateStore};
use convoke_core::{StateError, Timestamp};
use futures::future::join_all;
use serde_json::json;

use super::StateFixture;
use super::samples::{audience, intent, leased, ledger, outcomes, plan, run, sync};

pub async fn a_new_plan_supersedes_those_that_wait(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (applying, waiting, newest) = (plan(1), plan(2), plan(3));
    store.add_plan(&applying, "aa").await.unwrap();
    store.move_plan(applying.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    store.add_plan(&waiting, "bb").await.unwrap();
    store.add_plan(&newest, "cc").await.unwrap();
    let again = store.add_plan(&newest, "cc").await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");

    let reopened = fixture.open().await;
    let found = reopened.plan(newest.id).await.unwrap().unwrap();
    assert_eq!((found.manifest, found.hash.as_str(), found.state), (newest, "cc", PlanState::Waiting));
    assert_eq!(reopened.plan(waiting.id).await.unwrap().unwrap().state, PlanState::Superseded);
    assert_eq!(reopened.plan(applying.id).await.unwrap().unwrap().state, PlanState::Applying);
    assert_eq!(reopened.plan(plan(4).id).await.unwrap(), None);
}

pub async fn of_plans_added_at_once_one_waits(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let plans: Vec<_> = (0..10).map(plan).collect();
    let additions = plans.iter().enumerate().map(|(number, plan)| {
        let store = if number % 2 == 0 { &one } else { &two };
        store.add_plan(plan, "aa")
    });
    let added = join_all(additions).await;
    assert!(added.iter().all(Result::is_ok), "{added:?}");
    assert_eq!(one.plans_in(&sync(), PlanState::Waiting).await.unwrap().len(), 1);
    assert_eq!(one.plans_in(&sync(), PlanState::Superseded).await.unwrap().len(), 9);
}

pub async fn a_plan_moves_only_from_the_state_it_is_in(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let (first, second) = (plan(1), plan(2));
    one.add_plan(&first, "aa").await.unwrap();
    one.move_plan(first.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    let twice = two.move_plan(first.id, PlanState::Waiting, PlanState::Applying).await;
    assert!(matches!(twice, Err(StateError::Conflict { .. })), "{twice:?}");
    let unknown = two.move_plan(second.id, PlanState::Waiting, PlanState::Applying).await;
    assert!(matches!(unknown, Err(StateError::Conflict { .. })), "{unknown:?}");
    one.add_plan(&second, "bb").await.unwrap();
    one.move_plan(second.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    let applying = two.plans_in(&sync(), PlanState::Applying).await.unwrap();
    let ids: Vec<_> = applying.iter().map(|plan| plan.manifest.id).collect();
    assert_eq!(ids, [second.id, first.id], "newest first");
}

pub async fn plans_expire_by_how_they_ended(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (applying, superseded, waiting) = (plan(1), plan(2), plan(3));
    store.add_plan(&applying, "aa").await.unwrap();
    store.move_plan(applying.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    store.add_plan(&superseded, "bb").await.unwrap();
    store.add_plan(&waiting, "cc").await.unwrap();
    let (never, always) = (Timestamp(0), Timestamp(i64::MAX));
    assert_eq!(store.expired_plans(never, never).await.unwrap(), []);
    assert_eq!(store.expired_plans(always, never).await.unwrap(), [superseded.id]);
    assert_eq!(store.expired_plans(never, Timestamp(3)).await.unwrap(), []);
    assert_eq!(store.expired_plans(never, Timestamp(4)).await.unwrap(), [waiting.id]);
}

pub async fn an_expired_plan_is_forgotten_once_its_entries_are_folded(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    let cells = vec![("Email".to_owned(), Some("anna@example.com".to_owned()))];
    let samples = vec![ChangeSample { operation: Operation::Create, origin: None, row_id: None, cells }];
    let (abandoned, waiting) = (PlanManifest { samples, ..plan(1) }, plan(2));
    store.add_plan(&abandoned, "aa").await.unwrap();
    store.move_plan(abandoned.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    let entry = store.intend(&intent(abandoned.id, &audience("one"), 1), &lease).await.unwrap();
    store.close(entry, &outcomes(), &lease).await.unwrap();
    store.move_plan(abandoned.id, PlanState::Applying, PlanState::Abandoned).await.unwrap();
    store.add_plan(&waiting, "bb").await.unwrap();
    let always = Timestamp(i64::MAX);

    store.forget_plan(abandoned.id).await.unwrap();
    store.forget_plan(waiting.id).await.unwrap();
    assert_eq!(store.expired_plans(always, always).await.unwrap(), [abandoned.id], "an entry is not folded yet");
    assert_eq!(store.entries_of(abandoned.id, None, 10).await.unwrap().len(), 1);
    let found = store.plan(abandoned.id).await.unwrap().unwrap();
    assert_eq!(found.manifest, PlanManifest { samples: Vec::new(), ..abandoned.clone() });
    assert_eq!(found.state, PlanState::Abandoned);
    assert_eq!(store.plan(waiting.id).await.unwrap().unwrap().state, PlanState::Superseded);

    store.commit_fold(&ledger(&audience("one"), 1), Some(entry), &lease).await.unwrap();
    store.forget_plan(abandoned.id).await.unwrap();
    assert_eq!(fixture.open().await.expired_plans(always, always).await.unwrap(), []);
    assert_eq!(store.entries_of(abandoned.id, None, 10).await.unwrap(), []);
}

pub async fn a_plan_that_is_being_applied_is_not_forgotten(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let applying = plan(1);
    store.add_plan(&applying, "aa").await.unwrap();
    store.move_plan(applying.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    for id in [applying.id, plan(2).id] {
        let refused = store.forget_plan(id).await;
        assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!(store.plan(applying.id).await.unwrap().unwrap().state, PlanState::Applying);
}

pub async fn settling_ends_run_plan_and_checkpoint_together(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    let nothing = store.checkpoint(&sync()).await.unwrap();
    assert_eq!(
        nothing,
        Checkpoint {
            version: 0,
            position: None,
            config_hash: None,
            ledger_version: 0,
            counts: None,
            snapshot_records: None,
            clean: false
        }
    );

    let settlement = applying(&*store, 0).await;
    store.settle_run(&settlement, &lease).await.unwrap();
    let reopened = fixture.open().await;
    assert_eq!(reopened.run(settlement.run.id).await.unwrap(), Some(settlement.run.clone()));
    assert_eq!(reopened.plan(settlement.plan).await.unwrap().unwrap().state, PlanState::Settled);
    let stored = Checkpoint { version: 1, ..checkpoint(0) };
    assert_eq!(reopened.checkpoint(&sync()).await.unwrap(), stored);

    let next = applying(&*store, 1).await;
    reopened.settle_run(&next, &lease).await.unwrap();
    let stored = Checkpoint { version: 2, ..checkpoint(1) };
    assert_eq!(store.checkpoint(&sync()).await.unwrap(), stored);
}

pub async fn settling_on_another_checkpoint_changes_nothing(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    let moved = applying(&*store, 1).await;
    let refused = store.settle_run(&moved, &lease).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.run(moved.run.id).await.unwrap().unwrap().state, RunState::Running);
    assert_eq!(store.plan(moved.plan).await.unwrap().unwrap().state, PlanState::Applying);

    let superseded = Settlement { checkpoint: Some(checkpoint(0)), plan: plan(9).id, ..moved };
    let refused = store.settle_run(&superseded, &lease).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.checkpoint(&sync()).await.unwrap().version, 0);
}

pub async fn settling_without_a_checkpoint_leaves_it(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    let settlement = Settlement { checkpoint: None, ..applying(&*store, 0).await };
    store.settle_run(&settlement, &lease).await.unwrap();
    assert_eq!(store.checkpoint(&sync()).await.unwrap().version, 0);
    assert_eq!(store.plan(settlement.plan).await.unwrap().unwrap().state, PlanState::Settled);
}

pub async fn of_two_that_settle_at_once_one_is_refused(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let lease = leased(&one, &audience("one")).await;
    for version in 0..3 {
        let (first, second) = (applying(&*one, version).await, applying(&*one, version).await);
        let (settled, refused) = tokio::join!(one.settle_run(&first, &lease), two.settle_run(&second, &lease));
        let (settled, refused) = if settled.is_ok() { (settled, refused) } else { (refused, settled) };
        assert!(settled.is_ok() && matches!(refused, Err(StateError::Conflict { .. })), "{settled:?} {refused:?}");
        assert_eq!(one.checkpoint(&sync()).await.unwrap().version, version + 1);
    }
    assert_eq!(one.plans_in(&sync(), PlanState::Applying).await.unwrap().len(), 3, "those refused changed nothing");
}

/// Starts a run whose plan is being applied, and tells how it would end.
pub(super) async fn applying(store: &dyn StateStore, checkpoint_version: u64) -> Settlement {
    let (started, manifest) = (run(1), plan(1));
    store.start_run(&started).await.unwrap();
    store.add_plan(&manifest, "aa").await.unwrap();
    store.move_plan(manifest.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    let ended = RunRecord { ended_at: Some(Timestamp(2)), state: RunState::Succeeded, ..started };
    Settlement { run: ended, plan: manifest.id, checkpoint: Some(checkpoint(checkpoint_version)), window: None }
}

fn checkpoint(version: u64) -> Checkpoint {
    Checkpoint {
        version,
        position: Some(SourcePosition(json!({ "files": ["b.csv", "a.csv"] }))),
        config_hash: Some("cafe".to_owned()),
        ledger_version: 7,
        counts: Some(PlanCounts { read: 3, unchanged: 3, ..PlanCounts::default() }),
        // Not what `counts` tell: these three came after the snapshot.
        snapshot_records: Some(version * 10 + 1_000_000),
        clean: true,
    }
}
