//! Syncs that get another name, or come to an end.

use std::sync::Arc;

use convoke_core::hash::KeyHash;
use convoke_core::ids::{PlanId, RunId};
use convoke_core::lifecycle::{RENAME, RETIRE, RenamedCheckpoint, Renaming, Retirement};
use convoke_core::sink::AudienceBinding;
use convoke_core::state::{
    Checkpoint, Lease, PlanState, RejectRecord, RejectStage, ScheduleMark, Settlement, StateStore, schedule_resource,
};
use convoke_core::{StateError, SyncName, Timestamp};

use super::StateFixture;
use super::samples::{PAST_TTL, TTL, audience, intent, leased, ledger, outcomes, plan, run, sync};

fn renamed() -> SyncName {
    SyncName::new("renamed")
}

fn binding() -> AudienceBinding {
    AudienceBinding {
        key: audience("one"),
        name: "Booth scans".to_owned(),
        columns: Vec::new(),
        key_column_id: "k".to_owned(),
        key_look_up: None,
    }
}

fn mark(schedule: &str) -> ScheduleMark {
    ScheduleMark { schedule: schedule.to_owned(), served_to: Timestamp(5_000) }
}

fn renaming(ledger_version: u64) -> Renaming {
    Renaming {
        from: sync(),
        to: renamed(),
        ledger: Some(ledger(&audience("one"), ledger_version)),
        checkpoint: Some(RenamedCheckpoint { config_hash: Some("beef".to_owned()), ledger_version }),
        actor: "anna".to_owned(),
    }
}

fn retirement() -> Retirement {
    let ledger = Some(ledger(&audience("one"), 2));
    Retirement { sync: sync(), ledger, actor: "anna".to_owned(), rows: "7 rows kept".to_owned() }
}

/// The ids of what [`lived`] leaves.
struct Left {
    settled: PlanId,
    waiting: PlanId,
    run: RunId,
}

/// A sync with something of each kind.
async fn lived(store: &Arc<dyn StateStore>) -> (Lease, Left) {
    let lease = leased(store, &audience("one")).await;
    store.bind(&sync(), &binding(), &lease).await.unwrap();
    let (settled, waiting) = (plan(1), plan(2));
    let mut ended = run(1);
    store.start_run(&ended).await.unwrap();
    store.add_plan(&settled, "aa").await.unwrap();
    store.move_plan(settled.id, PlanState::Waiting, PlanState::Applying).await.unwrap();
    ended.plan = Some(settled.id);
    let checkpoint = Checkpoint {
        version: 0,
        position: None,
        config_hash: Some("cafe".to_owned()),
        ledger_version: 1,
        counts: None,
        snapshot_records: Some(9),
        clean: true,
    };
    let settlement = Settlement { run: ended.clone(), plan: settled.id, checkpoint: Some(checkpoint), window: None };
    store.settle_run(&settlement, &lease).await.unwrap();
    store.commit_fold(&ledger(&audience("one"), 1), None, &lease).await.unwrap();
    store.add_plan(&waiting, "bb").await.unwrap();
    let entry = store.intend(&intent(waiting.id, &audience("one"), 1), &lease).await.unwrap();
    store.close(entry, &outcomes(), &lease).await.unwrap();
    store.add_rejects(&[reject(ended.id, settled.id)]).await.unwrap();
    let turn = store.acquire(&schedule_resource(&sync()), "worker one", TTL).await.unwrap();
    store.set_schedule_mark(&sync(), &mark("daily"), &turn).await.unwrap();
    (lease, Left { settled: settled.id, waiting: waiting.id, run: ended.id })
}

fn reject(run: RunId, plan: PlanId) -> RejectRecord {
    RejectRecord {
        sync: sync(),
        run,
        plan,
        at: Timestamp(1),
        stage: RejectStage::Refused,
        key: Some(KeyHash([1; 16])),
        content: None,
        origin: None,
        code: "PFAPI0005".to_owned(),
        column: None,
        reason: "refused".to_owned(),
        cells: Vec::new(),
    }
}

/// Whether the name has nothing by which it could go on from where it stopped.
async fn is_fresh(store: &Arc<dyn StateStore>, sync: &SyncName) -> bool {
    store.binding(sync).await.unwrap().is_none()
        && store.checkpoint(sync).await.unwrap().version == 0
        && store.schedule_mark(sync).await.unwrap().is_none()
        && store.plans_in(sync, PlanState::Waiting).await.unwrap().is_empty()
}

async fn has_history(store: &Arc<dyn StateStore>, sync: &SyncName) -> bool {
    let runs = store.runs(Some(sync), 10).await.unwrap();
    let rejects = match runs.first() {
        // Of a run also what is closed is told.
        Some(run) => store.rejects(sync, Some(run.id), None, 10).await.unwrap(),
        None => Vec::new(),
    };
    let settled = store.plans_in(sync, PlanState::Settled).await.unwrap();
    assert_eq!((runs.len(), rejects.len()), (settled.len(), settled.len()));
    !runs.is_empty()
}

pub async fn a_renamed_sync_has_everything_it_had(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (lease, left) = lived(&store).await;
    store.rename_sync(&renaming(2), &lease).await.unwrap();

    let store = fixture.open().await;
    assert!(is_fresh(&store, &sync()).await && !has_history(&store, &sync()).await);
    assert!(has_history(&store, &renamed()).await);
    assert_eq!(store.binding(&renamed()).await.unwrap(), Some(binding()));
    let checkpoint = store.checkpoint(&renamed()).await.unwrap();
    assert_eq!(
        (checkpoint.version, checkpoint.config_hash.as_deref(), checkpoint.ledger_version),
        (1, Some("beef"), 2)
    );
    assert_eq!(store.schedule_mark(&renamed()).await.unwrap(), Some(mark("daily")));
    assert_eq!(store.ledger(&audience("one")).await.unwrap(), Some(ledger(&audience("one"), 2)));
    assert_eq!(store.run(left.run).await.unwrap().unwrap().sync, renamed());
    let [settled, waiting] = [left.settled, left.waiting].map(|id| store.plan(id));
    let (settled, waiting) = (settled.await.unwrap().unwrap(), waiting.await.unwrap().unwrap());
    assert_eq!((settled.state, waiting.state), (PlanState::Settled, PlanState::Superseded));
    assert_eq!(settled.manifest.sync, sync(), "a manifest stays as it was hashed");
    let unfolded = store.unfolded(&audience("one"), None, 10).await.unwrap();
    assert!(unfolded.iter().all(|entry| entry.intent.sync == renamed()) && unfolded.len() == 1);
    let deed = store.audit_trail(1).await.unwrap().remove(0);
    assert_eq!((deed.actor.as_str(), deed.action.as_str(), deed.detail), ("anna", RENAME, renaming(2).detail()));
}

pub async fn a_rename_onto_a_name_that_has_state_changes_nothing(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (lease, _) = lived(&store).await;
    store.bind(&renamed(), &binding(), &lease).await.unwrap();
    let refused = store.rename_sync(&renaming(2), &lease).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    assert_nothing_changed(&store).await;
}

pub async fn a_rename_over_a_ledger_that_has_moved_changes_nothing(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (lease, _) = lived(&store).await;
    let refused = store.rename_sync(&renaming(3), &lease).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    assert_nothing_changed(&store).await;
    assert!(is_fresh(&store, &renamed()).await);
}

async fn assert_nothing_changed(store: &Arc<dyn StateStore>) {
    assert!(has_history(store, &sync()).await);
    assert_eq!(store.binding(&sync()).await.unwrap(), Some(binding()));
    assert_eq!(store.checkpoint(&sync()).await.unwrap().config_hash.as_deref(), Some("cafe"));
    assert_eq!(store.schedule_mark(&sync()).await.unwrap(), Some(mark("daily")));
    assert_eq!(store.plans_in(&sync(), PlanState::Waiting).await.unwrap().len(), 1);
    assert_eq!(store.audit_trail(10).await.unwrap(), []);
}

pub async fn a_mark_of_the_new_name_stays(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (lease, _) = lived(&store).await;
    let turn = store.acquire(&schedule_resource(&renamed()), "worker two", TTL).await.unwrap();
    store.set_schedule_mark(&renamed(), &mark("weekly"), &turn).await.unwrap();
    store.rename_sync(&renaming(2), &lease).await.unwrap();
    assert_eq!(store.schedule_mark(&renamed()).await.unwrap(), Some(mark("weekly")));
    assert_eq!(store.schedule_mark(&sync()).await.unwrap(), None);
}

pub async fn a_retired_sync_leaves_its_history(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (lease, left) = lived(&store).await;
    store.retire_sync(&retirement(), &lease).await.unwrap();

    let store = fixture.open().await;
    assert!(is_fresh(&store, &sync()).await && has_history(&store, &sync()).await);
    assert_eq!(store.plan(left.waiting).await.unwrap().unwrap().state, PlanState::Superseded);
    assert_eq!(store.ledger(&audience("one")).await.unwrap(), Some(ledger(&audience("one"), 2)));
    assert_eq!(store.syncs_of(&audience("one")).await.unwrap(), []);
    let deed = store.audit_trail(1).await.unwrap().remove(0);
    assert_eq!((deed.action.as_str(), deed.detail.as_str()), (RETIRE, "sync booth-scans: 7 rows kept"));
}

pub async fn neither_is_done_under_a_lost_lease(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (lease, _) = lived(&store).await;
    fixture.advance(PAST_TTL);
    let _successor = leased(&store, &audience("one")).await;
    let renamed = store.rename_sync(&renaming(2), &lease).await;
    assert!(matches!(renamed, Err(StateError::LeaseLost { .. })), "{renamed:?}");
    let retired = store.retire_sync(&retirement(), &lease).await;
    assert!(matches!(retired, Err(StateError::LeaseLost { .. })), "{retired:?}");
    assert_nothing_changed(&store).await;
}
