//! Folds in one transaction, and the one hash key.

use convoke_core::StateError;
use futures::future::join_all;

use super::StateFixture;
use super::samples::{audience, intent, leased, ledger, new_plan_id, outcomes};

pub async fn a_fold_replaces_the_manifest_and_marks_entries(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let (plan, audience) = (new_plan_id(), audience("one"));
    let lease = leased(&store, &audience).await;
    let mut ids = Vec::new();
    for batch in 0..4 {
        ids.push(store.intend(&intent(plan, &audience, batch), &lease).await.unwrap());
    }
    for id in [ids[0], ids[2], ids[3]] {
        store.close(id, &outcomes(), &lease).await.unwrap();
    }
    assert_eq!(store.ledger(&audience).await.unwrap(), None);
    store.commit_fold(&ledger(&audience, 1), Some(ids[2]), &lease).await.unwrap();

    let reopened = fixture.open().await;
    assert_eq!(reopened.ledger(&audience).await.unwrap(), Some(ledger(&audience, 1)));
    let unfolded: Vec<_> = reopened.unfolded(&audience, None, 10).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(unfolded, [ids[3]]);
    let open: Vec<_> = reopened.open_entries(&audience).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(open, [ids[1]], "an open entry is not folded");
}

pub async fn a_fold_on_another_version_changes_nothing(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let audience = audience("one");
    let lease = leased(&store, &audience).await;
    let entry = store.intend(&intent(new_plan_id(), &audience, 1), &lease).await.unwrap();
    store.close(entry, &outcomes(), &lease).await.unwrap();
    for version in [0, 2] {
        let refused = store.commit_fold(&ledger(&audience, version), Some(entry), &lease).await;
        assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    }
    store.commit_fold(&ledger(&audience, 1), None, &lease).await.unwrap();
    for version in [1, 3] {
        let refused = store.commit_fold(&ledger(&audience, version), Some(entry), &lease).await;
        assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!(store.unfolded(&audience, None, 10).await.unwrap().len(), 1);
    assert_eq!(store.ledger(&audience).await.unwrap(), Some(ledger(&audience, 1)));
}

pub async fn of_two_folds_at_once_one_is_refused(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let audience = audience("one");
    let lease = leased(&one, &audience).await;
    for version in 1..4 {
        let manifest = ledger(&audience, version);
        let (first, second) =
            tokio::join!(one.commit_fold(&manifest, None, &lease), two.commit_fold(&manifest, None, &lease));
        let refused = if first.is_ok() { second } else { first };
        assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
        assert_eq!(two.ledger(&audience).await.unwrap(), Some(manifest));
    }
}

pub async fn concurrent_first_calls_agree_on_the_hash_key(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let calls = (0..10).map(|number| if number % 2 == 0 { one.hash_key() } else { two.hash_key() });
    let ids: Vec<String> = join_all(calls).await.into_iter().map(|key| key.unwrap().id()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fixture.open().await.hash_key().await.unwrap().id(), ids[0]);
}
