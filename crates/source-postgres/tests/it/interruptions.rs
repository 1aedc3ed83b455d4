//! What befalls a read under way.

use convoke_core::{Origin, SourceError};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};

use crate::test_source::{Sourced, chain, drain, first_batch};

/// Streams more than fits between the server and us.
const LONG: &str = "SELECT generate_series(1, 1000000) AS id, repeat('x', 100) AS padding";

async fn database() -> TestDatabase {
    PostgresServer::shared().create_database("interruptions").await
}

fn assert_cut(error: &SourceError) {
    assert!(error.to_string().contains("the connection was cut"), "{}", chain(error));
    assert!(error.to_string().contains("nothing was planned"), "{}", chain(error));
    assert_ne!(error.origin, Origin::Internal);
}

/// Sessions of ours that are there.
async fn sessions(database: &TestDatabase) -> u64 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'convoke' \
                 AND datname = current_database()";
    database.value(query).await.parse().unwrap()
}

/// Returns once there are so many.
async fn sessions_are(database: &TestDatabase, count: u64) {
    while sessions(database).await != count {}
}

#[tokio::test]
async fn a_connection_that_is_cut_in_mid_read_is_an_error() {
    let database = database().await;
    let mut stream = database.query(LONG).stream().await;
    let first = first_batch(&mut stream).await;
    assert_eq!(database.terminate_backends().await, 1);
    assert_cut(&drain(stream, vec![first]).await.unwrap_err());
}

#[tokio::test]
async fn a_server_that_is_restarted_in_mid_read_is_an_error_and_the_next_read_is_whole() {
    let server = PostgresServer::start();
    let database = server.create_database("restarted").await;
    let source = database.query(LONG);
    let mut stream = source.stream().await;
    let first = first_batch(&mut stream).await;
    server.restart_immediately();
    assert_cut(&drain(stream, vec![first]).await.unwrap_err());
    assert_eq!(source.read().await.records.num_rows(), 1_000_000);
    let split = source.split().await;
    server.stop();
    let error = source.try_read(&split).await.unwrap_err();
    assert!(error.to_string().contains("cannot reach PostgreSQL"), "{}", chain(&error));
}

#[tokio::test]
async fn a_stream_that_is_dropped_early_leaves_no_session() {
    let database = database().await;
    let mut stream = database.query(LONG).stream().await;
    first_batch(&mut stream).await;
    assert_eq!(sessions(&database).await, 1);
    drop(stream);
    sessions_are(&database, 0).await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_before_its_first_record_ends_the_query() {
    let database = database().await;
    let stream = database.query("SELECT pg_sleep(600)::text AS slept").stream().await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'convoke' \
                  AND datname = current_database() AND wait_event = 'PgSleep'";
    while database.value(asleep).await != "1" {}
    drop(stream);
    sessions_are(&database, 0).await;
}

#[tokio::test]
async fn a_read_to_the_end_leaves_no_session() {
    let database = database().await;
    assert_eq!(database.query("SELECT 1 AS id").read().await.records.num_rows(), 1);
    sessions_are(&database, 0).await;
}
