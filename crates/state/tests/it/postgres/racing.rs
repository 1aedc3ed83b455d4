//! Take-overs and writes that meet: each waits for the other's end, and sees what it left.

use convoke_core::StateError;
use convoke_core::state::{Journal, Leases, Ledgers, audience_resource};
use convoke_testkit::contract::state::StateFixture;

use super::{PostgresFixture, TTL, audience, intent, made, manifest};

/// What every write under a lease does first.
const WRITE_BEGINS: &str = "BEGIN; SELECT FROM convoke.leases FOR UPDATE";
const TAKE_OVER_BEGINS: &str = "BEGIN; UPDATE convoke.leases SET fence = fence + 1, holder = 'another'";

#[tokio::test]
async fn a_take_over_waits_for_a_write_under_way() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    fixture.advance(TTL * 2);
    let mut writer = fixture.database.connect().await;
    sqlx::raw_sql(WRITE_BEGINS).execute(&mut writer).await.unwrap();
    let taking_over = state.acquire(&lease.resource, "two", TTL);
    let committing = async {
        fixture.until_waiting(1).await;
        sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    };
    let (taken, ()) = tokio::join!(taking_over, committing);
    assert!(taken.unwrap().fence > lease.fence);
}

#[tokio::test]
async fn a_write_that_waited_for_a_take_over_is_refused() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    let entry = state.intend(&intent(1), &lease).await.unwrap();
    let mut successor = fixture.database.connect().await;
    sqlx::raw_sql(TAKE_OVER_BEGINS).execute(&mut successor).await.unwrap();
    let (next, outcomes, folded) = (intent(2), made(), manifest(1));
    let writes = async {
        tokio::join!(
            state.intend(&next, &lease),
            Journal::close(&state, entry, &outcomes, &lease),
            state.commit_fold(&folded, Some(entry), &lease),
            state.renew(&lease, TTL),
        )
    };
    let taking_over = async {
        fixture.until_waiting(4).await;
        sqlx::raw_sql("COMMIT").execute(&mut successor).await.unwrap();
    };
    let ((intended, closed, folded, renewed), ()) = tokio::join!(writes, taking_over);
    for refused in [intended.map(drop), closed, folded, renewed.map(drop)] {
        assert!(matches!(refused, Err(StateError::LeaseLost { .. })), "{refused:?}");
    }
    let open = state.open_entries(&audience()).await.unwrap();
    assert_eq!(open.iter().map(|open| open.id).collect::<Vec<_>>(), [entry]);
    assert_eq!(state.ledger(&audience()).await.unwrap(), None);
}

#[tokio::test]
async fn a_process_paused_in_a_transaction_does_not_keep_others_out() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    fixture.advance(TTL * 2);
    let mut paused = fixture.database.connect().await;
    // As the sessions of a store are set.
    sqlx::raw_sql("SET idle_in_transaction_session_timeout = '100ms'").execute(&mut paused).await.unwrap();
    sqlx::raw_sql(WRITE_BEGINS).execute(&mut paused).await.unwrap();
    let taken = state.acquire(&lease.resource, "two", TTL).await.unwrap();
    assert!(taken.taken_over);
    sqlx::raw_sql("COMMIT").execute(&mut paused).await.unwrap_err();
}
