//! Bindings, quiet periods, budgets and provisions.

use std::sync::{Arc, Mutex};

use convoke_core::ids::ConnectionName;
use convoke_core::sink::{AudienceBinding, KeyLookUp};
use convoke_core::state::{OpenProvision, StateStore};
use convoke_core::{StateError, SyncName, Timestamp};
use futures::future::join_all;
use serde_json::json;

use super::samples::{PAST_TTL, audience, leased, sync};
use super::{SaveBudget, StateFixture};

pub(super) fn binding(audience_id: &str) -> AudienceBinding {
    AudienceBinding {
        key: audience(audience_id),
        name: "Booth scans".to_owned(),
        columns: Vec::new(),
        key_column_id: "column-9".to_owned(),
        key_look_up: Some(KeyLookUp { values_per_request: 100, by_prefix: true }),
    }
}

pub async fn a_binding_replaces_the_one_before(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    let other = SyncName::new("another");
    assert_eq!(store.binding(&sync()).await.unwrap(), None);
    store.bind(&sync(), &binding("one"), &lease).await.unwrap();
    store.bind(&other, &binding("one"), &lease).await.unwrap();
    assert_eq!(store.syncs_of(&audience("one")).await.unwrap(), [other.clone(), sync()]);

    store.bind(&sync(), &binding("two"), &lease).await.unwrap();
    let reopened = fixture.open().await;
    assert_eq!(reopened.binding(&sync()).await.unwrap(), Some(binding("two")));
    assert_eq!(reopened.syncs_of(&audience("one")).await.unwrap(), [other]);
    assert_eq!(reopened.syncs_of(&audience("two")).await.unwrap(), [sync()]);
}

pub async fn the_quiet_period_never_moves_back(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    assert_eq!(store.quiet_until(&audience("one")).await.unwrap(), None);
    store.extend_quiet(&audience("one"), Timestamp(5_000), &lease).await.unwrap();
    store.extend_quiet(&audience("one"), Timestamp(4_000), &lease).await.unwrap();
    assert_eq!(store.quiet_until(&audience("one")).await.unwrap(), Some(Timestamp(5_000)));
    store.extend_quiet(&audience("one"), Timestamp(6_000), &lease).await.unwrap();
    assert_eq!(store.quiet_until(&audience("one")).await.unwrap(), Some(Timestamp(6_000)));
    assert_eq!(store.quiet_until(&audience("two")).await.unwrap(), None);
}

pub async fn budgets_are_kept_per_credential(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    assert_eq!(store.budget("one").await.unwrap(), None);
    store.save_budget("one", &json!({ "day": 1 })).await.unwrap();
    store.save_budget("one", &json!({ "day": 2 })).await.unwrap();
    store.save_budget("two", &json!([1, 2])).await.unwrap();
    let reopened = fixture.open().await;
    assert_eq!(reopened.budget("one").await.unwrap(), Some(json!({ "day": 2 })));
    assert_eq!(reopened.budget("two").await.unwrap(), Some(json!([1, 2])));
}

/// Adds one to what is stored, and tells by which time of the store.
async fn count_up(store: &dyn StateStore, seen: Arc<Mutex<Vec<Timestamp>>>) {
    let change = Box::new(move |stored: Option<serde_json::Value>, now| {
        seen.lock().unwrap().push(now);
        Ok(json!(stored.map_or(0, |count| count.as_u64().unwrap()) + 1))
    });
    store.update_budget("one", change).await.unwrap();
}

pub async fn budgets_are_changed_one_after_another(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    join_all((0..40).map(|number| {
        let store = if number % 2 == 0 { &one } else { &two };
        count_up(store.as_ref(), Arc::clone(&seen))
    }))
    .await;
    assert_eq!(one.budget("one").await.unwrap(), Some(json!(40)));
    assert!(seen.lock().unwrap().is_sorted(), "a change is told an earlier time than the one before it");
}

pub async fn budgets_are_changed_by_the_store_s_clock(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    count_up(store.as_ref(), Arc::clone(&seen)).await;
    fixture.advance(PAST_TTL);
    count_up(store.as_ref(), Arc::clone(&seen)).await;
    let seen = seen.lock().unwrap();
    assert!(seen[1].since(seen[0]) >= PAST_TTL, "{seen:?}");
}

pub async fn a_change_of_a_budget_that_fails_changes_nothing(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let refuse = |_, _| Err(StateError::Conflict { what: "the budget".to_owned() });
    let refused = store.update_budget("one", Box::new(refuse)).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.budget("one").await.unwrap(), None);
    store.save_budget("one", &json!({ "day": 1 })).await.unwrap();
    store.update_budget("one", Box::new(refuse)).await.unwrap_err();
    assert_eq!(store.budget("one").await.unwrap(), Some(json!({ "day": 1 })));
}

pub async fn a_provision_stays_open_until_it_is_closed(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let connection = ConnectionName::new("zoominfo");
    let (early, late) = (Timestamp(100), Timestamp(200));
    let open = OpenProvision { intended_at: early, made_id: None };
    assert_eq!(one.open_provision(&connection, "folder `Events`").await.unwrap(), None);
    assert_eq!(one.intend_provision(&connection, "folder `Events`", early).await.unwrap(), None);
    assert_eq!(two.intend_provision(&connection, "folder `Events`", late).await.unwrap(), Some(open.clone()));
    assert_eq!(two.open_provision(&connection, "folder `Events`").await.unwrap(), Some(open));
    assert_eq!(two.intend_provision(&connection, "folder `Other`", late).await.unwrap(), None);
    assert_eq!(two.intend_provision(&ConnectionName::new("other"), "folder `Events`", late).await.unwrap(), None);
    two.close_provision(&connection, "folder `Events`", early).await.unwrap();
    two.close_provision(&connection, "folder `Events`", early).await.expect("closing what is closed is no error");
    assert_eq!(one.intend_provision(&connection, "folder `Events`", late).await.unwrap(), None);
}

pub async fn a_provision_is_told_from_another_one_by_its_time(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let connection = ConnectionName::new("zoominfo");
    let what = "audience `Booth scans`";
    let (own, other) = (Timestamp(100), Timestamp(200));
    store.intend_provision(&connection, what, own).await.unwrap();
    store.note_made(&connection, what, other, "not this one").await.unwrap();
    store.close_provision(&connection, what, other).await.unwrap();
    let open = store.open_provision(&connection, what).await.unwrap();
    assert_eq!(open, Some(OpenProvision { intended_at: own, made_id: None }));
    store.note_made(&connection, what, own, "audience-7").await.unwrap();
    let made = Some(OpenProvision { intended_at: own, made_id: Some("audience-7".to_owned()) });
    assert_eq!(fixture.open().await.open_provision(&connection, what).await.unwrap(), made);
    assert_eq!(store.intend_provision(&connection, what, other).await.unwrap(), made);
}

pub async fn only_one_of_many_intends_to_make_a_thing(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let connection = ConnectionName::new("zoominfo");
    let intents = (0..10).map(|number| {
        let store = if number % 2 == 0 { &one } else { &two };
        store.intend_provision(&connection, "folder `Events`", Timestamp(number))
    });
    let found: Vec<_> = join_all(intents).await.into_iter().map(Result::unwrap).collect();
    let open = one.open_provision(&connection, "folder `Events`").await.unwrap().unwrap();
    assert_eq!(found.iter().filter(|earlier| earlier.is_none()).count(), 1);
    assert!(found.iter().flatten().all(|earlier| *earlier == open), "{found:?}");
}
