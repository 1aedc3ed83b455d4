//! The journal: durable intents, closed once, folded in order.

use convoke_core::StateError;
use convoke_core::hash::KeyHash;
use convoke_core::journal::{Entry, EntryId};
use convoke_core::sink::{AttemptTag, JobId};
use convoke_core::state::{Lease, Recreated};
use futures::future::join_all;

use super::StateFixture;
use super::samples::{audience, intent, leased, ledger, new_plan_id, outcomes};

pub async fn an_entry_is_open_until_it_is_closed_once(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (plan, audience) = (new_plan_id(), audience("one"));
    let lease = leased(&store, &audience).await;
    let first = store.intend(&intent(plan, &audience, 1), &lease).await.unwrap();
    let second = store.intend(&intent(plan, &audience, 2), &lease).await.unwrap();
    assert!(second > first);
    store.close(first, &outcomes(), &lease).await.unwrap();

    // As after a crash: another process finds what this one reported as done.
    let reopened = fixture.open().await;
    let open = Entry { id: second, intent: intent(plan, &audience, 2), outcomes: None };
    let closed = Entry { id: first, intent: intent(plan, &audience, 1), outcomes: Some(outcomes()) };
    assert_eq!(reopened.open_entries(&audience).await.unwrap(), [open]);
    assert_eq!(reopened.unfolded(&audience, None, 10).await.unwrap(), [closed]);

    let again = reopened.close(first, &outcomes(), &lease).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    let unknown = reopened.close(EntryId(i64::MAX), &outcomes(), &lease).await;
    assert!(matches!(unknown, Err(StateError::Conflict { .. })), "{unknown:?}");
}

pub async fn an_entry_cannot_be_closed_with_too_few_outcomes(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let audience = audience("one");
    let lease = leased(&store, &audience).await;
    let entry = store.intend(&intent(new_plan_id(), &audience, 1), &lease).await.unwrap();
    store.close(entry, &outcomes()[..1], &lease).await.unwrap_err();
    let open = store.open_entries(&audience).await.unwrap();
    assert_eq!(open.len(), 1, "it stays open");
    store.close(entry, &outcomes(), &lease).await.unwrap();
}

pub async fn fifty_concurrent_intents_are_all_kept(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let (plan, audience) = (new_plan_id(), audience("one"));
    let lease = leased(&one, &audience).await;
    let intents: Vec<_> = (0..50).map(|batch| intent(plan, &audience, batch)).collect();
    let writes = intents.iter().map(|intent| {
        let store = if intent.batch % 5 == 0 { &two } else { &one };
        store.intend(intent, &lease)
    });
    let ids: Vec<EntryId> = join_all(writes).await.into_iter().map(Result::unwrap).collect();
    let kept = fixture.open().await.open_entries(&audience).await.unwrap();
    assert_eq!(kept.len(), 50);
    for (id, intent) in ids.iter().zip(&intents) {
        let entry = kept.iter().find(|entry| entry.id == *id).expect("an id that was given is kept");
        assert_eq!(entry.intent, *intent);
    }
}

/// Folding goes on after the last entry that it has seen: one that appeared below it later would be passed over.
pub async fn entries_appear_in_the_order_of_their_ids(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let (plan, audience) = (new_plan_id(), audience("one"));
    let lease = leased(&one, &audience).await;
    let intents: Vec<_> = (0..60).map(|batch| intent(plan, &audience, batch)).collect();
    let writing = join_all(intents.iter().map(|intent| {
        let store = if intent.batch % 2 == 0 { &one } else { &two };
        store.intend(intent, &lease)
    }));
    let reader = fixture.open().await;
    let watching = async {
        let mut seen: Vec<EntryId> = Vec::new();
        while seen.len() < intents.len() {
            let now: Vec<_> = reader.open_entries(&audience).await.unwrap().iter().map(|entry| entry.id).collect();
            assert_eq!(now[..seen.len()], seen, "an entry appeared below one that was there before");
            seen = now;
        }
    };
    let (written, ()) = tokio::join!(writing, watching);
    assert!(written.iter().all(Result::is_ok), "{written:?}");
}

pub async fn entries_are_paged_in_order(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (plan, other_plan) = (new_plan_id(), new_plan_id());
    let (audience, other_audience) = (audience("one"), audience("two"));
    let lease = leased(&store, &audience).await;
    let other_lease = leased(&store, &other_audience).await;
    let mut ids = Vec::new();
    for batch in 0..5 {
        ids.push(store.intend(&intent(plan, &audience, batch), &lease).await.unwrap());
        store.close(ids[batch as usize], &outcomes(), &lease).await.unwrap();
        store.intend(&intent(other_plan, &other_audience, batch), &other_lease).await.unwrap();
    }
    let ids_of = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    assert_eq!(ids_of(store.unfolded(&audience, None, 2).await.unwrap()), ids[..2]);
    assert_eq!(ids_of(store.unfolded(&audience, Some(ids[1]), 2).await.unwrap()), ids[2..4]);
    assert_eq!(ids_of(store.unfolded(&audience, Some(ids[3]), 2).await.unwrap()), ids[4..]);
    assert_eq!(ids_of(store.entries_of(plan, None, 3).await.unwrap()), ids[..3]);
    assert_eq!(ids_of(store.entries_of(plan, Some(ids[2]), 3).await.unwrap()), ids[3..]);
    assert_eq!(store.unfolded(&other_audience, None, 10).await.unwrap(), []);
    assert_eq!(store.open_entries(&audience).await.unwrap(), []);
}

pub async fn one_refused_operation_leaves_the_others_alone(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (plan, audience) = (new_plan_id(), audience("one"));
    let lease = leased(&store, &audience).await;
    let stale = Lease { fence: lease.fence + 1, ..lease.clone() };
    let intents: Vec<_> = (0..20).map(|batch| intent(plan, &audience, batch)).collect();
    let writes = intents.iter().map(|intent| store.intend(intent, if intent.batch % 2 == 0 { &lease } else { &stale }));
    let results = join_all(writes).await;
    for (intent, result) in intents.iter().zip(&results) {
        assert_eq!(result.is_ok(), intent.batch % 2 == 0, "batch {}: {result:?}", intent.batch);
    }
    let kept: Vec<u32> = store.open_entries(&audience).await.unwrap().iter().map(|entry| entry.intent.batch).collect();
    assert_eq!(kept.len(), 10);
    assert!(kept.iter().all(|batch| batch % 2 == 0));
}

pub async fn only_folded_entries_are_forgotten(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (plan, audience) = (new_plan_id(), audience("one"));
    let lease = leased(&store, &audience).await;
    let mut ids = Vec::new();
    for batch in 0..3 {
        ids.push(store.intend(&intent(plan, &audience, batch), &lease).await.unwrap());
    }
    store.close(ids[0], &outcomes(), &lease).await.unwrap();
    store.commit_fold(&ledger(&audience, 1), Some(ids[0]), &lease).await.unwrap();
    store.close(ids[1], &outcomes(), &lease).await.unwrap();
    store.forget_entries(plan).await.unwrap();
    let left: Vec<_> = store.entries_of(plan, None, 10).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(left, ids[1..]);
}

pub async fn recreated_keys_are_kept_until_a_later_lease_sweeps_them(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (one, two) = (audience("one"), audience("two"));
    let lease = leased(&store, &one).await;
    let (early, late) = (KeyHash([1; 16]), KeyHash([2; 16]));
    store.note_recreated(&one, &[(early, AttemptTag(7)), (late, AttemptTag(8))], &lease).await.unwrap();
    store.note_recreated(&one, &[(early, AttemptTag(u32::MAX)), (early, AttemptTag(7))], &lease).await.unwrap();
    let both_tags = vec![AttemptTag(7), AttemptTag(u32::MAX)];
    let expected = |sweeps| {
        let late = Recreated { key: late, tags: vec![AttemptTag(8)], sweeps };
        [Recreated { key: early, tags: both_tags.clone(), sweeps }, late]
    };
    assert_eq!(fixture.open().await.recreated(&one).await.unwrap(), expected(0));
    assert_eq!(store.recreated(&two).await.unwrap(), []);

    for sweeps in 1..4 {
        store.count_sweep(&one, &[early, late], &lease).await.unwrap();
        assert_eq!(store.recreated(&one).await.unwrap(), expected(sweeps), "by the run that noted them");
    }
    store.release(&lease).await.unwrap();
    let later = leased(&store, &one).await;
    store.count_sweep(&one, &[late], &later).await.unwrap();
    assert_eq!(store.recreated(&one).await.unwrap(), expected(3)[..1]);
}

pub async fn a_key_recreated_again_is_swept_anew(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let audience = audience("one");
    let lease = leased(&store, &audience).await;
    let key = KeyHash([1; 16]);
    store.note_recreated(&audience, &[(key, AttemptTag(1))], &lease).await.unwrap();
    store.count_sweep(&audience, &[key], &lease).await.unwrap();
    store.release(&lease).await.unwrap();
    let lease = leased(&store, &audience).await;
    store.note_recreated(&audience, &[(key, AttemptTag(2))], &lease).await.unwrap();
    store.count_sweep(&audience, &[key], &lease).await.unwrap();
    let expected = Recreated { key, tags: vec![AttemptTag(1), AttemptTag(2)], sweeps: 1 };
    assert_eq!(store.recreated(&audience).await.unwrap(), [expected]);
}

pub async fn the_newest_job_of_an_entry_is_kept(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let audience = audience("one");
    let lease = leased(&store, &audience).await;
    let entry = store.intend(&intent(new_plan_id(), &audience, 1), &lease).await.unwrap();
    let other = store.intend(&intent(new_plan_id(), &audience, 2), &lease).await.unwrap();
    assert_eq!(store.job_of(entry).await.unwrap(), None);
    for job in ["first", "second"] {
        store.note_job(entry, &JobId(job.to_owned()), &lease).await.unwrap();
    }
    let reopened = fixture.open().await;
    assert_eq!(reopened.job_of(entry).await.unwrap(), Some(JobId("second".to_owned())));
    assert_eq!(reopened.job_of(other).await.unwrap(), None);
}
