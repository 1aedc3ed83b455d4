//! Runs: recorded once, replaced as they go on.

use convoke_core::plan::{DeliveryCounts, LedgerCounts, PlanCounts};
use convoke_core::state::{RunRecord, RunState};
use convoke_core::{StateError, SyncName, Timestamp};

use super::StateFixture;
use super::samples::{new_plan_id, run, sync};

pub async fn a_run_is_replaced_but_never_made_twice(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let started = run(1);
    let unknown = store.update_run(&started).await;
    assert!(matches!(unknown, Err(StateError::Missing { .. })), "{unknown:?}");
    store.start_run(&started).await.unwrap();
    let again = store.start_run(&started).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    assert_eq!(store.run(started.id).await.unwrap(), Some(started.clone()));

    let ended = RunRecord {
        ended_at: Some(Timestamp(9)),
        state: RunState::WaitingForQuota,
        plan: Some(new_plan_id()),
        message: Some("waiting for quota".to_owned()),
        counts: Some(PlanCounts { read: 5, creates: 5, ..PlanCounts::default() }),
        delivery: Some(DeliveryCounts { requests: 2, ..DeliveryCounts::default() }),
        ledger: Some(LedgerCounts { created: 5, live_after: 5, ..LedgerCounts::default() }),
        ..started
    };
    store.update_run(&ended).await.unwrap();
    assert_eq!(fixture.open().await.run(ended.id).await.unwrap(), Some(ended));
    assert_eq!(store.run(run(2).id).await.unwrap(), None);
}

pub async fn runs_are_listed_newest_first(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let other = RunRecord { sync: SyncName::new("another"), ..run(20) };
    let (old, new) = (run(10), run(30));
    for record in [&new, &old, &other] {
        store.start_run(record).await.unwrap();
    }
    let ids = |records: Vec<RunRecord>| records.into_iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(store.runs(None, 10).await.unwrap()), [new.id, other.id, old.id]);
    assert_eq!(ids(store.runs(None, 2).await.unwrap()), [new.id, other.id]);
    assert_eq!(ids(store.runs(Some(&sync()), 10).await.unwrap()), [new.id, old.id]);
}
