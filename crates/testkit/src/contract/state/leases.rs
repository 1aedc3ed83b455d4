//! Leases: exclusive, expiring by the database's clock, fenced.

use std::time::Duration;

use convoke_core::hash::KeyHash;
use convoke_core::reject::KeptRejects;
use convoke_core::sink::{AttemptTag, JobId};
use convoke_core::state::{Lease, ScheduleMark, Settlement, StateStore, audience_resource};
use convoke_core::{StateError, Timestamp};
use futures::future::join_all;

use super::StateFixture;
use super::audiences::binding;
use super::samples::{PAST_TTL, TTL, audience, intent, leased, ledger, new_plan_id, outcomes, plan, run, sync};

pub async fn a_held_lease_is_busy_for_everybody_else(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let held = one.acquire("audience/a", "worker one", TTL).await.unwrap();
    assert!(!held.taken_over);
    let refused = two.acquire("audience/a", "worker two", TTL).await.unwrap_err();
    let StateError::Busy { resource, holder, expires_at } = refused else { panic!("{refused:?}") };
    assert_eq!((resource.as_str(), holder.as_str(), expires_at), ("audience/a", "worker one", held.expires_at));
    assert_eq!(two.holder("audience/a").await.unwrap(), Some(held));
    assert_eq!(two.holder("audience/b").await.unwrap(), None);
    two.acquire("audience/b", "worker two", TTL).await.unwrap();
}

pub async fn a_released_lease_is_free_and_not_taken_over(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let first = store.acquire("audience/a", "worker one", TTL).await.unwrap();
    store.release(&first).await.unwrap();
    assert_eq!(store.holder("audience/a").await.unwrap(), None);
    assert!(matches!(store.release(&first).await, Err(StateError::LeaseLost { .. })));
    assert!(matches!(store.renew(&first, TTL).await, Err(StateError::LeaseLost { .. })));
    let second = store.acquire("audience/a", "worker two", TTL).await.unwrap();
    assert!(!second.taken_over);
    assert!(second.fence > first.fence);
}

pub async fn an_expired_lease_is_taken_over_with_a_greater_fence(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let first = one.acquire("audience/a", "worker one", TTL).await.unwrap();
    fixture.advance(PAST_TTL);
    assert_eq!(two.holder("audience/a").await.unwrap(), None);
    let second = two.acquire("audience/a", "worker two", TTL).await.unwrap();
    assert!(second.taken_over);
    assert!(second.fence > first.fence);
    assert!(matches!(one.renew(&first, TTL).await, Err(StateError::LeaseLost { .. })));
    assert!(matches!(one.release(&first).await, Err(StateError::LeaseLost { .. })));
    assert_eq!(one.holder("audience/a").await.unwrap(), Some(second));
}

pub async fn only_one_of_many_acquires_a_lease(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let attempts = (0..20).map(|number| {
        let store = if number % 2 == 0 { &one } else { &two };
        async move { store.acquire("audience/a", &format!("worker {number}"), TTL).await }
    });
    let results = join_all(attempts).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StateError::Busy { .. }))));
}

pub async fn renewing_extends_a_lease_and_fails_once_it_is_lost(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let first = store.acquire("audience/a", "worker one", TTL).await.unwrap();
    fixture.advance(TTL / 2);
    let renewed = store.renew(&first, TTL).await.unwrap();
    assert!(renewed.expires_at > first.expires_at);
    assert_eq!(renewed.fence, first.fence);
    fixture.advance(TTL / 2 + Duration::from_secs(1));
    assert!(matches!(store.acquire("audience/a", "worker two", TTL).await, Err(StateError::Busy { .. })));
    fixture.advance(TTL);
    let late = store.renew(&renewed, TTL).await.expect("nobody took it meanwhile");
    fixture.advance(PAST_TTL);
    store.acquire("audience/a", "worker two", TTL).await.unwrap();
    assert!(matches!(store.renew(&late, TTL).await, Err(StateError::LeaseLost { .. })));
}

pub async fn every_write_with_a_lost_lease_is_refused(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let lost = leased(&one, &audience("one")).await;
    fixture.advance(PAST_TTL);
    two.acquire(&audience_resource(&audience("one")), "worker two", TTL).await.unwrap();
    assert_refuses_every_write(&*one, &lost).await;
}

pub async fn every_write_with_an_expired_lease_is_refused(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let expired = leased(&store, &audience("one")).await;
    fixture.advance(PAST_TTL);
    assert_refuses_every_write(&*store, &expired).await;
}

/// Writes of the one and the take-over of the other meet in every order; what the one was told is what the other finds.
pub async fn nothing_of_a_stale_holder_s_stands_after_that_of_its_successor(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let audience = audience("one");
    let stale = leased(&one, &audience).await;
    let plan_id = new_plan_id();
    fixture.advance(TTL - Duration::from_secs(1));
    let intents: Vec<_> = (0..40).map(|batch| intent(plan_id, &audience, batch)).collect();
    let writing = join_all(intents.iter().map(|intent| one.intend(intent, &stale)));
    let taking_over = async {
        fixture.advance(PAST_TTL);
        let lease = two.acquire(&audience_resource(&audience), "worker two", TTL).await.unwrap();
        (two.open_entries(&audience).await.unwrap(), lease)
    };
    let (written, (found, lease)) = tokio::join!(writing, taking_over);
    assert!(lease.taken_over);
    let told: Vec<_> = written.iter().filter_map(|written| written.as_ref().ok()).copied().collect();
    let mut seen: Vec<_> = found.iter().map(|entry| entry.id).collect();
    let (mut told, last) = (told, two.open_entries(&audience).await.unwrap());
    told.sort();
    seen.sort();
    assert_eq!(told, seen, "what was confirmed was there when the successor looked, and nothing came later");
    assert_eq!(last.len(), found.len());
    assert!(written.iter().all(|written| matches!(written, Ok(_) | Err(StateError::LeaseLost { .. }))));
}

async fn assert_refuses_every_write(store: &dyn StateStore, lease: &Lease) {
    let audience = audience("one");
    let key = KeyHash([1; 16]);
    let mark = ScheduleMark { schedule: "daily".to_owned(), served_to: Timestamp(1) };
    let settlement = Settlement { run: run(1), plan: plan(1).id, checkpoint: None, window: None };
    let refusals = [
        store.bind(&sync(), &binding("one"), lease).await,
        store.extend_quiet(&audience, lease.expires_at, lease).await,
        store.intend(&intent(new_plan_id(), &audience, 1), lease).await.map(drop),
        store.close(convoke_core::journal::EntryId(1), &outcomes(), lease).await,
        store.note_recreated(&audience, &[(key, AttemptTag(1))], lease).await,
        store.count_sweep(&audience, &[key], lease).await,
        store.note_job(convoke_core::journal::EntryId(1), &JobId("job".to_owned()), lease).await,
        store.settle_run(&settlement, lease).await,
        store.commit_fold(&ledger(&audience, 1), None, lease).await,
        store.set_schedule_mark(&sync(), &mark, lease).await,
        store.keep_rejects(&sync(), new_plan_id(), &KeptRejects::Only(vec![key]), lease).await,
        store.keep_rejects(&sync(), new_plan_id(), &KeptRejects::AllBut(vec![]), lease).await,
        store.close_rejects(&sync(), new_plan_id(), lease).await,
    ];
    for (index, refusal) in refusals.iter().enumerate() {
        assert!(matches!(refusal, Err(StateError::LeaseLost { .. })), "write {index}: {refusal:?}");
    }
    assert_eq!(store.binding(&sync()).await.unwrap(), None);
    assert_eq!(store.open_entries(&audience).await.unwrap(), []);
    assert_eq!(store.ledger(&audience).await.unwrap(), None);
    assert_eq!(store.schedule_mark(&sync()).await.unwrap(), None);
}
