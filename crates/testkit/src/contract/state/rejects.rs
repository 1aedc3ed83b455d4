//! Rejects: kept once, paged, forgotten.

use convoke_core::hash::KeyHash;
use convoke_core::ids::{PlanId, RunId};
use convoke_core::state::{RejectRecord, RejectStage};
use convoke_core::{SyncName, Timestamp};
use uuid::Uuid;

use super::StateFixture;
use super::samples::{new_plan_id, sync};

pub async fn a_reject_is_kept_once(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (run, plan) = (new_run_id(), new_plan_id());
    let whole = reject(run, plan, 1);
    let bare = RejectRecord { key: None, origin: None, column: None, stage: RejectStage::Refused, ..whole.clone() };
    let other_code = RejectRecord { code: "too_long".to_owned(), ..bare.clone() };
    store.add_rejects(&[whole.clone(), bare.clone(), whole.clone()]).await.unwrap();
    store.add_rejects(&[bare.clone(), other_code.clone(), whole.clone()]).await.unwrap();
    store.add_rejects(&[]).await.unwrap();
    let kept = fixture.open().await.rejects(&sync(), Some(run), 0, 10).await.unwrap();
    assert_eq!(kept, [whole, bare, other_code]);
}

pub async fn rejects_of_the_newest_plan_are_paged(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (old_run, new_run) = (new_run_id(), new_run_id());
    let (old_plan, new_plan) = (new_plan_id(), new_plan_id());
    // More than one insert takes.
    let new: Vec<_> = (0..1_200).map(|line| reject(new_run, new_plan, line)).collect();
    let old: Vec<_> = (0..3).map(|line| reject(old_run, old_plan, line)).collect();
    store.add_rejects(&new).await.unwrap();
    store.add_rejects(&old).await.unwrap();
    assert_eq!(store.rejects(&sync(), None, 0, 5_000).await.unwrap(), new);
    assert_eq!(store.rejects(&sync(), None, 1_190, 100).await.unwrap(), new[1_190..]);
    assert_eq!(store.rejects(&sync(), None, 2, 3).await.unwrap(), new[2..5]);
    assert_eq!(store.rejects(&sync(), Some(old_run), 1, 10).await.unwrap(), old[1..]);
    assert_eq!(store.rejects(&SyncName::new("another"), None, 0, 10).await.unwrap(), []);
    assert_eq!(store.rejects(&SyncName::new("another"), Some(old_run), 0, 10).await.unwrap(), []);
}

pub async fn old_rejects_are_forgotten(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (run, plan) = (new_run_id(), new_plan_id());
    let rejects: Vec<_> = (0..1_100).map(|line| reject(run, plan, line)).collect();
    store.add_rejects(&rejects).await.unwrap();
    store.forget_rejects(Timestamp(1_050)).await.unwrap();
    assert_eq!(store.rejects(&sync(), Some(run), 0, 5_000).await.unwrap(), rejects[1_050..]);
}

fn new_run_id() -> RunId {
    RunId(Uuid::now_v7())
}

fn reject(run: RunId, plan: PlanId, line: i64) -> RejectRecord {
    RejectRecord {
        sync: sync(),
        run,
        plan,
        at: Timestamp(line),
        stage: RejectStage::Invalid,
        key: Some(KeyHash(i128::from(line).to_be_bytes())),
        origin: Some(format!("scans.csv:{line}")),
        code: "invalid_email".to_owned(),
        column: Some("Email".to_owned()),
        reason: "the address has no domain".to_owned(),
        cells: vec![("Email".to_owned(), Some("nobody".to_owned())), ("Company".to_owned(), None)],
    }
}
