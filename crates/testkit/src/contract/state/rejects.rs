//! Rejects: kept once, counted over plans, closed, paged, forgotten.

use convoke_core::hash::{ContentHash, KeyHash};
use convoke_core::ids::{PlanId, RunId};
use convoke_core::plan::PlanManifest;
use convoke_core::reject::{KeptRejects, NotedReject, OpenReject, RejectState};
use convoke_core::state::{PlanState, RejectRecord, RejectStage, StateStore};
use convoke_core::{SyncName, Timestamp};
use uuid::Uuid;

use super::StateFixture;
use super::samples::{audience, leased, new_plan_id, plan as sample_plan, sync};

pub async fn a_reject_is_kept_once(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (run, plan) = (new_run_id(), new_plan_id());
    let whole = reject(run, plan, 1);
    let bare = RejectRecord { key: None, origin: None, column: None, content: None, ..whole.clone() };
    let other_code = RejectRecord { code: "too_long".to_owned(), ..bare.clone() };
    store.add_rejects(&[whole.clone(), bare.clone(), whole.clone()]).await.unwrap();
    store.add_rejects(&[bare.clone(), other_code.clone(), whole.clone()]).await.unwrap();
    store.add_rejects(&[]).await.unwrap();
    let kept = fixture.open().await.rejects(&sync(), Some(run), None, 10).await.unwrap();
    assert!(kept.iter().all(|noted| (noted.attempts, noted.state) == (1, RejectState::Open)), "{kept:?}");
    assert_eq!(records(kept), [whole, bare, other_code]);
}

pub async fn open_rejects_are_paged_and_those_of_a_run_too(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (old_run, new_run) = (new_run_id(), new_run_id());
    let (old_plan, new_plan) = (new_plan_id(), new_plan_id());
    // More than one insert takes.
    let new: Vec<_> = (0..1_200).map(|line| reject(new_run, new_plan, line)).collect();
    let old: Vec<_> = (5_000..5_003).map(|line| reject(old_run, old_plan, line)).collect();
    store.add_rejects(&old).await.unwrap();
    store.add_rejects(&new).await.unwrap();
    let all = open(store.as_ref()).await;
    assert_eq!(records(all.clone()), [old.clone(), new].concat());
    let page = store.rejects(&sync(), None, Some(all[1_199].id), 100).await.unwrap();
    assert_eq!(page, all[1_200..]);
    assert_eq!(store.rejects(&sync(), None, Some(all[2].id), 3).await.unwrap(), all[3..6]);
    assert_eq!(records(store.rejects(&sync(), Some(old_run), Some(all[0].id), 10).await.unwrap()), old[1..]);
    assert_eq!(store.rejects(&SyncName::new("another"), None, None, 10).await.unwrap(), []);
    assert_eq!(store.rejects(&SyncName::new("another"), Some(old_run), None, 10).await.unwrap(), []);
}

pub async fn a_reject_that_comes_again_takes_the_place_of_the_one_before_and_counts_on(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let first = refused(1, 10);
    // The same record stands in another line by now.
    let again = RejectRecord { at: Timestamp(70), origin: Some("scans.csv:99".to_owned()), ..refused(1, 10) };
    store.add_rejects(std::slice::from_ref(&first)).await.unwrap();
    // A process that died before it could say so notes it twice.
    for _ in 0..2 {
        store.add_rejects(std::slice::from_ref(&again)).await.unwrap();
    }
    let open = open(store.as_ref()).await;
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].attempts, open[0].first_at, open[0].record.clone()), (2, first.at, again));
    let history = store.rejects(&sync(), Some(first.run), None, 10).await.unwrap();
    assert_eq!((history[0].attempts, history[0].state), (1, RejectState::Repeated));
    assert_eq!(records(history), [first]);
}

pub async fn another_content_of_the_same_record_counts_from_one(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    store.add_rejects(&[refused(1, 10)]).await.unwrap();
    let changed = RejectRecord { at: Timestamp(70), ..refused(1, 11) };
    store.add_rejects(std::slice::from_ref(&changed)).await.unwrap();
    let open = open(store.as_ref()).await;
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].attempts, open[0].first_at), (1, Timestamp(70)));
}

pub async fn a_record_without_a_key_is_known_by_its_origin(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let unkeyed = |line| RejectRecord { key: None, ..reject(new_run_id(), new_plan_id(), line) };
    store.add_rejects(&[unkeyed(3)]).await.unwrap();
    store.add_rejects(&[unkeyed(4)]).await.unwrap();
    store.add_rejects(&[unkeyed(3)]).await.unwrap();
    let attempts: Vec<_> = open(store.as_ref()).await.iter().map(|noted| noted.attempts).collect();
    assert_eq!(attempts, [1, 2]);
}

pub async fn a_reason_that_changes_does_not_make_a_refusal_younger(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let other_code = RejectRecord { at: Timestamp(70), code: "TOO_LONG".to_owned(), ..refused(1, 10) };
    store.add_rejects(&[refused(1, 10)]).await.unwrap();
    store.add_rejects(std::slice::from_ref(&other_code)).await.unwrap();
    let lease = leased(&store, &audience("one")).await;
    store.close_rejects(&sync(), other_code.plan, &lease).await.unwrap();
    let open = open(store.as_ref()).await;
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].attempts, open[0].first_at, open[0].record.clone()), (1, Timestamp(1), other_code));
}

pub async fn a_settled_plan_closes_what_it_neither_noted_nor_keeps(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let elsewhere = RejectRecord { sync: SyncName::new("another"), ..refused(1, 10) };
    store.add_rejects(&[refused(1, 10), refused(2, 10), refused(3, 10), elsewhere]).await.unwrap();
    let again = refused(2, 10);
    let lease = leased(&store, &audience("one")).await;
    store.keep_rejects(&sync(), again.plan, &KeptRejects::Only(vec![key(3)]), &lease).await.unwrap();
    store.add_rejects(std::slice::from_ref(&again)).await.unwrap();
    for _ in 0..2 {
        store.close_rejects(&sync(), again.plan, &lease).await.unwrap();
    }
    let keys = |open: &[NotedReject]| open.iter().map(|noted| noted.record.key.unwrap()).collect::<Vec<_>>();
    assert_eq!(keys(&open(store.as_ref()).await), [key(3), key(2)]);
    // What one plan keeps, the next one need not.
    store.close_rejects(&sync(), new_plan_id(), &lease).await.unwrap();
    assert_eq!(open(store.as_ref()).await, []);
    assert_eq!(store.rejects(&SyncName::new("another"), None, None, 10).await.unwrap().len(), 1);
}

pub async fn a_plan_that_read_a_part_closes_only_what_it_saw(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let unkeyed = RejectRecord { key: None, ..refused(9, 10) };
    store.add_rejects(&[refused(1, 10), refused(2, 10), unkeyed.clone()]).await.unwrap();
    let plan = new_plan_id();
    let lease = leased(&store, &audience("one")).await;
    store.keep_rejects(&sync(), plan, &KeptRejects::AllBut(vec![key(1)]), &lease).await.unwrap();
    store.close_rejects(&sync(), plan, &lease).await.unwrap();
    let open: Vec<_> = open(store.as_ref()).await.into_iter().map(|noted| noted.record.key).collect();
    assert_eq!(open, [Some(key(2)), None]);
}

pub async fn a_plan_that_notes_what_it_keeps_supersedes_those_that_wait(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    for kept in [KeptRejects::Only(vec![]), KeptRejects::AllBut(vec![])] {
        let (own, other) = (sample_plan(1), PlanManifest { sync: SyncName::new("another"), ..sample_plan(2) });
        store.add_plan(&own, "aa").await.unwrap();
        store.add_plan(&other, "bb").await.unwrap();
        store.keep_rejects(&own.sync, new_plan_id(), &kept, &lease).await.unwrap();
        for (plan, state) in [(own.id, PlanState::Superseded), (other.id, PlanState::Waiting)] {
            assert_eq!(store.plan(plan).await.unwrap().unwrap().state, state, "{kept:?}");
        }
    }
}

pub async fn open_rejects_are_told_in_hashes(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let one = refused(1, 10);
    let invalid = RejectRecord { content: None, ..reject(new_run_id(), new_plan_id(), 2) };
    let unkeyed = RejectRecord { key: None, ..refused(3, 10) };
    store.add_rejects(&[one.clone(), invalid.clone(), unkeyed]).await.unwrap();
    let told = store.open_rejects(&sync(), None, 10).await.unwrap();
    let expected = |noted: &OpenReject, record: &RejectRecord| OpenReject {
        id: noted.id,
        key: record.key.unwrap(),
        content: record.content,
        run: record.run,
        first_at: record.at,
    };
    assert_eq!(told, [expected(&told[0], &one), expected(&told[1], &invalid)]);
    assert_eq!(store.open_rejects(&sync(), Some(told[0].id), 10).await.unwrap(), told[1..]);
}

pub async fn old_rejects_are_forgotten(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (run, plan) = (new_run_id(), new_plan_id());
    let rejects: Vec<_> = (0..1_100).map(|line| reject(run, plan, line)).collect();
    store.add_rejects(&rejects).await.unwrap();
    store.forget_rejects(Timestamp(1_050)).await.unwrap();
    assert_eq!(records(store.rejects(&sync(), Some(run), None, 5_000).await.unwrap()), rejects[1_050..]);
}

async fn open(store: &dyn StateStore) -> Vec<NotedReject> {
    store.rejects(&sync(), None, None, 5_000).await.unwrap()
}

fn records(noted: Vec<NotedReject>) -> Vec<RejectRecord> {
    noted.into_iter().map(|noted| noted.record).collect()
}

fn new_run_id() -> RunId {
    RunId(Uuid::now_v7())
}

fn key(number: i64) -> KeyHash {
    KeyHash(i128::from(number).to_be_bytes())
}

/// Refused by the destination in a plan of its own, with this key and content.
fn refused(number: i64, content: u8) -> RejectRecord {
    let content = Some(ContentHash([content; 16]));
    RejectRecord { stage: RejectStage::Refused, content, ..reject(new_run_id(), new_plan_id(), number) }
}

fn reject(run: RunId, plan: PlanId, line: i64) -> RejectRecord {
    RejectRecord {
        sync: sync(),
        run,
        plan,
        at: Timestamp(line),
        stage: RejectStage::Invalid,
        key: Some(key(line)),
        content: None,
        origin: Some(format!("scans.csv:{line}")),
        code: "invalid_email".to_owned(),
        column: Some("Email".to_owned()),
        reason: "the address has no domain".to_owned(),
        cells: vec![("Email".to_owned(), Some("nobody".to_owned())), ("Company".to_owned(), None)],
    }
}
