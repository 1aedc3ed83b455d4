//! How far backfills have come.

use convoke_core::backfill::{BackfillRecord, BackfillState, OpenBackfill, PlannedWindow};
use convoke_core::ids::BackfillId;
use convoke_core::source::Selection;
use convoke_core::state::{RunRecord, RunState, Settlement};
use convoke_core::{StateError, SyncName, Timestamp};
use uuid::Uuid;

use super::StateFixture;
use super::plans::applying;
use super::samples::{audience, leased, sync};

fn backfill(sync: &SyncName) -> OpenBackfill {
    let window = |name: &str| Selection::Named(vec![name.to_owned()]);
    let record = BackfillRecord {
        id: BackfillId(Uuid::now_v7()),
        sync: sync.clone(),
        selection: Selection::Between { from: Some(Timestamp(1)), to: None },
        window_count: 3,
        settled: 0,
        is_partial: false,
        config_hash: "cafe".to_owned(),
        state: BackfillState::Open,
        started_at: Timestamp(7),
    };
    OpenBackfill { record, windows: vec![window("a"), window("b"), window("c")] }
}

pub async fn a_sync_has_one_open_backfill(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (first, second, other) = (backfill(&sync()), backfill(&sync()), backfill(&SyncName::new("another")));
    store.begin_backfill(&first).await.unwrap();
    let refused = store.begin_backfill(&second).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    store.begin_backfill(&other).await.unwrap();
    store.end_backfill(first.record.id, BackfillState::Cancelled).await.unwrap();
    store.begin_backfill(&second).await.unwrap();
    let first = BackfillRecord { state: BackfillState::Cancelled, ..first.record };
    let reopened = fixture.open().await;
    assert_eq!(reopened.backfills(&sync(), 10).await.unwrap(), [second.record.clone(), first], "newest first");
    assert_eq!(reopened.backfills(&sync(), 1).await.unwrap(), [second.record]);
}

pub async fn a_window_is_settled_together_with_its_plan(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let backfill = backfill(&sync());
    let id = backfill.record.id;
    store.begin_backfill(&backfill).await.unwrap();
    let lease = leased(&store, &audience("one")).await;
    let settled = async || store.backfill(id).await.unwrap().unwrap().settled;
    let window = |number| Some(PlannedWindow { backfill: id, number, of: 3 });
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
    let open = store.open_backfill(&sync()).await.unwrap().unwrap();
    let next = PlannedWindow { backfill: id, number: 3, of: 3 };
    assert_eq!(open.next_window(), Some((next, &backfill.windows[2])));
}

pub async fn what_windows_read_is_kept_as_long_as_it_is_wanted(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let begun = backfill(&sync());
    assert_eq!(store.open_backfill(&sync()).await.unwrap(), None);
    assert_eq!(store.backfill(begun.record.id).await.unwrap(), None);
    store.begin_backfill(&begun).await.unwrap();
    store.begin_backfill(&backfill(&SyncName::new("another"))).await.unwrap();
    let reopened = fixture.open().await;
    assert_eq!(reopened.open_backfill(&sync()).await.unwrap(), Some(begun.clone()));
    assert_eq!(reopened.backfill(begun.record.id).await.unwrap(), Some(begun.record.clone()));
    store.end_backfill(begun.record.id, BackfillState::Done).await.unwrap();
    assert_eq!(reopened.open_backfill(&sync()).await.unwrap(), None);
    let ended = BackfillRecord { state: BackfillState::Done, ..begun.record };
    assert_eq!(reopened.backfill(ended.id).await.unwrap(), Some(ended), "how many windows there were is still told");
}

pub async fn a_window_that_ended_as_partial_is_not_forgotten(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let begun = backfill(&sync());
    store.begin_backfill(&begun).await.unwrap();
    let lease = leased(&store, &audience("one")).await;
    for (number, state, is_partial) in
        [(1, RunState::Succeeded, false), (2, RunState::Partial, true), (3, RunState::Succeeded, true)]
    {
        let window = Some(PlannedWindow { backfill: begun.record.id, number, of: 3 });
        let settlement = Settlement { window, checkpoint: None, ..applying(&*store, 0).await };
        let run = RunRecord { state, ..settlement.run.clone() };
        store.settle_run(&Settlement { run, ..settlement }, &lease).await.unwrap();
        assert_eq!(store.backfill(begun.record.id).await.unwrap().unwrap().is_partial, is_partial, "window {number}");
    }
}

pub async fn a_backfill_that_ended_stays_as_it_is(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let backfill = backfill(&sync());
    store.begin_backfill(&backfill).await.unwrap();
    store.end_backfill(backfill.record.id, BackfillState::Done).await.unwrap();
    store.end_backfill(backfill.record.id, BackfillState::Cancelled).await.unwrap();
    assert_eq!(store.backfills(&sync(), 1).await.unwrap()[0].state, BackfillState::Done);
}
