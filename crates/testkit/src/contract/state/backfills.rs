//! How far backfills have come.

use convoke_core::backfill::{BackfillRecord, BackfillState, PlannedWindow};
use convoke_core::ids::BackfillId;
use convoke_core::source::Selection;
use convoke_core::state::Settlement;
use convoke_core::{StateError, SyncName, Timestamp};
use uuid::Uuid;

use super::StateFixture;
use super::plans::applying;
use super::samples::{audience, leased, sync};

fn backfill(sync: &SyncName) -> BackfillRecord {
    let window = |name: &str| Selection::Named(vec![name.to_owned()]);
    BackfillRecord {
        id: BackfillId(Uuid::now_v7()),
        sync: sync.clone(),
        selection: Selection::Between { from: Some(Timestamp(1)), to: None },
        windows: vec![window("a"), window("b"), window("c")],
        settled: 0,
        config_hash: "cafe".to_owned(),
        state: BackfillState::Open,
        started_at: Timestamp(7),
    }
}

pub async fn a_sync_has_one_open_backfill(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (first, second, other) = (backfill(&sync()), backfill(&sync()), backfill(&SyncName::new("another")));
    store.begin_backfill(&first).await.unwrap();
    let refused = store.begin_backfill(&second).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    store.begin_backfill(&other).await.unwrap();
    store.end_backfill(first.id, BackfillState::Cancelled).await.unwrap();
    store.begin_backfill(&second).await.unwrap();
    let first = BackfillRecord { state: BackfillState::Cancelled, ..first };
    let reopened = fixture.open().await;
    assert_eq!(reopened.backfills(&sync(), 10).await.unwrap(), [second.clone(), first], "newest first");
    assert_eq!(reopened.backfills(&sync(), 1).await.unwrap(), [second]);
}

pub async fn a_window_is_settled_together_with_its_plan(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let backfill = backfill(&sync());
    store.begin_backfill(&backfill).await.unwrap();
    let lease = leased(&store, &audience("one")).await;
    let settled = async || store.backfills(&sync(), 1).await.unwrap()[0].settled;
    let window = |number| Some(PlannedWindow { backfill: backfill.id, number, of: 3 });
    let settlement = Settlement { window: window(1), checkpoint: None, ..applying(&*store, 0).await };
    store.settle_run(&settlement, &lease).await.unwrap();
    assert_eq!(settled().await, 1);
    let refused = store.settle_run(&Settlement { window: window(2), ..settlement }, &lease).await;
    assert!(refused.is_err(), "that plan is settled already");
    assert_eq!(settled().await, 1);
    let later = Settlement { window: window(2), checkpoint: None, ..applying(&*store, 0).await };
    store.settle_run(&later, &lease).await.unwrap();
    let again = Settlement { window: window(1), checkpoint: None, ..applying(&*store, 0).await };
    store.settle_run(&again, &lease).await.unwrap();
    assert_eq!(settled().await, 2, "it never goes back");
}

pub async fn a_backfill_that_ended_stays_as_it_is(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let backfill = backfill(&sync());
    store.begin_backfill(&backfill).await.unwrap();
    store.end_backfill(backfill.id, BackfillState::Done).await.unwrap();
    store.end_backfill(backfill.id, BackfillState::Cancelled).await.unwrap();
    assert_eq!(store.backfills(&sync(), 1).await.unwrap()[0].state, BackfillState::Done);
}
