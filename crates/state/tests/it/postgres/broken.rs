//! Connections and servers that break: between operations nothing is lost, within one nothing is taken for done.

use convoke_core::StateError;
use convoke_core::state::{Budgets, Journal, Leases, Ledgers, Provisions, audience_resource};
use convoke_core::{Timestamp, ids::ConnectionName};
use convoke_state::{OpenMode, PostgresState};
use convoke_testkit::contract::state::SaveBudget;
use convoke_testkit::postgres::PostgresServer;
use serde_json::json;

use super::proxy::Proxy;
use super::{PostgresFixture, TTL, audience, intent, made, manifest};

/// Ends the sessions that wait for a lock.
const CUT_WAITING: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[tokio::test]
async fn connections_cut_between_operations_are_replaced() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    for batch in 0..3 {
        let entry = state.intend(&intent(batch), &lease).await.unwrap();
        assert!(fixture.database.terminate_backends().await > 0);
        Journal::close(&state, entry, &made(), &lease).await.unwrap();
    }
    assert_eq!(state.unfolded(&audience(), None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_crash_of_the_server() {
    let server = PostgresServer::start();
    let database = server.create_database("state").await;
    let state = PostgresState::open(&database.connection(), OpenMode::ReadWrite).await.unwrap();
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    let closed = state.intend(&intent(1), &lease).await.unwrap();
    Journal::close(&state, closed, &made(), &lease).await.unwrap();
    let open = state.intend(&intent(2), &lease).await.unwrap();
    server.restart_immediately();
    assert_eq!(state.open_entries(&audience()).await.unwrap()[0].id, open);
    assert_eq!(state.unfolded(&audience(), None, 10).await.unwrap()[0].id, closed);
    let later = state.intend(&intent(3), &lease).await.expect("the lease outlives the server's crash");
    assert!(later > open);
}

#[tokio::test]
async fn a_write_cut_short_is_reported_as_failed_and_ends_writing_under_its_lease() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    let entry = state.intend(&intent(1), &lease).await.unwrap();
    let mut blocker = fixture.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM convoke.leases FOR UPDATE").execute(&mut blocker).await.unwrap();
    let outcomes = made();
    let cutting = async {
        fixture.until_waiting(1).await;
        fixture.database.execute(CUT_WAITING).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    };
    let (closed, ()) = tokio::join!(Journal::close(&state, entry, &outcomes, &lease), cutting);
    let told = closed.unwrap_err();
    assert!(matches!(&told, StateError::Storage { message, .. } if message.contains("not confirmed")), "{told:?}");

    let refused = Journal::close(&state, entry, &outcomes, &lease).await.unwrap_err();
    assert!(refused.to_string().contains("writes nothing more"), "{refused}");
    state.intend(&intent(2), &lease).await.unwrap_err();
    state.commit_fold(&manifest(1), Some(entry), &lease).await.unwrap_err();
    assert_eq!(state.open_entries(&audience()).await.unwrap()[0].id, entry);

    state.release(&lease).await.unwrap();
    let next = state.acquire(&lease.resource, "one", TTL).await.unwrap();
    Journal::close(&state, entry, &outcomes, &next).await.unwrap();
}

#[tokio::test]
async fn an_outcome_that_arrives_after_its_connection_broke_is_folded_and_not_passed_over() {
    let fixture = PostgresFixture::new().await;
    let direct = fixture.database.connection();
    let proxy = Proxy::to(&direct).await;
    let state = PostgresState::open(&proxy.connection(&direct), OpenMode::ReadWrite).await.unwrap();
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    let early = state.intend(&intent(1), &lease).await.unwrap();
    let late = state.intend(&intent(2), &lease).await.unwrap();
    Journal::close(&state, late, &made(), &lease).await.unwrap();

    // The server is still working on it when the network breaks.
    let mut blocker = fixture.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM convoke.leases FOR UPDATE").execute(&mut blocker).await.unwrap();
    let outcomes = made();
    let cutting = async {
        fixture.until_waiting(1).await;
        proxy.cut();
    };
    let (closed, ()) = tokio::join!(Journal::close(&state, early, &outcomes, &lease), cutting);
    closed.unwrap_err();

    // What a run does after an error: it reads what there is, and folds that.
    let seen = state.unfolded(&audience(), None, 10).await.unwrap();
    assert_eq!(seen.iter().map(|entry| entry.id).collect::<Vec<_>>(), [late]);
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    while fixture.database.value("SELECT count(*) FROM convoke.entries WHERE state = 'open'").await != "0" {}
    let folded = state.commit_fold(&manifest(1), Some(late), &lease).await;
    assert!(matches!(folded, Err(StateError::Storage { .. })), "it would mark the early entry too: {folded:?}");

    let next = state.acquire(&lease.resource, "one", TTL).await;
    assert!(matches!(next, Err(StateError::Busy { .. })), "{next:?}");
    state.release(&lease).await.unwrap();
    let next = state.acquire(&lease.resource, "one", TTL).await.unwrap();
    let seen = state.unfolded(&audience(), None, 10).await.unwrap();
    assert_eq!(seen.iter().map(|entry| entry.id).collect::<Vec<_>>(), [early, late]);
    state.commit_fold(&manifest(1), Some(late), &next).await.unwrap();
    assert_eq!(state.unfolded(&audience(), None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_write_that_its_caller_gave_up_on_ends_writing_under_its_lease() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    let mut blocker = fixture.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM convoke.leases FOR UPDATE").execute(&mut blocker).await.unwrap();
    let first = intent(1);
    tokio::select! {
        biased;
        intended = state.intend(&first, &lease) => panic!("{intended:?}"),
        () = fixture.until_waiting(1) => {}
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    state.intend(&intent(2), &lease).await.unwrap_err();
    state.release(&lease).await.unwrap();
    let next = state.acquire(&lease.resource, "one", TTL).await.unwrap();
    state.intend(&intent(3), &next).await.unwrap();
}

#[tokio::test]
async fn a_transaction_whose_connection_broke_before_its_commit_is_not_done_and_casts_no_doubt() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let lease = state.acquire(&audience_resource(&audience()), "one", TTL).await.unwrap();
    let mut blocker = fixture.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK convoke.ledgers IN ACCESS EXCLUSIVE MODE").execute(&mut blocker).await.unwrap();
    let folded = manifest(1);
    let cutting = async {
        fixture.until_waiting(1).await;
        fixture.database.execute(CUT_WAITING).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    };
    let (committed, ()) = tokio::join!(state.commit_fold(&folded, None, &lease), cutting);
    assert!(matches!(committed, Err(StateError::Storage { .. })), "{committed:?}");
    assert_eq!(state.ledger(&audience()).await.unwrap(), None);
    state.commit_fold(&folded, None, &lease).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_its_return_noticed() {
    let server = PostgresServer::start();
    let database = server.create_database("state").await;
    let state = PostgresState::open(&database.connection(), OpenMode::ReadWrite).await.unwrap();
    state.save_budget("one", &json!(1)).await.unwrap();
    server.stop();
    let gone = PostgresState::open(&database.connection(), OpenMode::Existing).await.unwrap_err();
    assert!(matches!(&gone, StateError::Storage { message, .. } if message.contains("cannot be reached")), "{gone:?}");
    let (answer, ()) = tokio::join!(state.budget("one"), async { server.start_again() });
    assert_eq!(answer.unwrap(), Some(json!(1)));
    let open = state.intend_provision(&ConnectionName::new("zoominfo"), "folder `Events`", Timestamp(1)).await;
    assert_eq!(open.unwrap(), None);
}
