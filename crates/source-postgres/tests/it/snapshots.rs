//! One snapshot, and nothing written.

use convoke_core::error::SourceErrorKind;
use convoke_core::source::Source;
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use sqlx::PgConnection;

use crate::test_source::{Sourced, TestSource, chain, drain, first_batch};

/// More than fits between the server and us, so that the read is still under way when the first batch is here.
const ROWS: usize = 200_000;

async fn database_with(rows: usize) -> TestDatabase {
    let database = PostgresServer::shared().create_database("snapshots").await;
    database
        .execute(&format!(
            "CREATE TABLE contacts (id int, padding text); \
             INSERT INTO contacts SELECT i, repeat('x', 200) FROM generate_series(1, {rows}) AS i"
        ))
        .await;
    database
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Returns once a session of ours waits for a lock.
async fn someone_waits(database: &TestDatabase) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'convoke' \
                   AND datname = current_database() AND wait_event_type = 'Lock'";
    while database.value(waiting).await == "0" {}
}

#[tokio::test]
async fn what_is_written_during_the_read_is_not_seen() {
    let database = database_with(ROWS).await;
    let mut stream = database.table("contacts").stream().await;
    let first = first_batch(&mut stream).await;
    database.execute("INSERT INTO contacts VALUES (0, 'new'); DELETE FROM contacts WHERE id > 10").await;
    database.execute("UPDATE contacts SET id = -id").await;
    let contents = drain(stream, vec![first]).await.unwrap();
    let ids = contents.texts("id");
    assert_eq!(ids.len(), ROWS);
    assert!(ids.iter().zip(1..).all(|(id, expected)| *id == Some(expected.to_string())));
}

#[tokio::test]
async fn an_unchanged_table_has_the_same_fingerprint_and_a_changed_one_another() {
    let database = database_with(50_000).await;
    let source = database.table("contacts");
    let before = source.read().await.fingerprint;
    assert_eq!(source.read().await.fingerprint, before);
    database.execute("UPDATE contacts SET padding = 'y' WHERE id = 700").await;
    assert_ne!(source.read().await.fingerprint, before);
}

#[tokio::test]
async fn a_table_that_was_read_is_not_said_to_be_as_it_was() {
    let database = database_with(1).await;
    let source = database.table("contacts");
    let before = source.try_discover().await.unwrap().splits;
    database.execute("DELETE FROM contacts").await;
    assert_eq!(source.try_discover().await.unwrap().splits, before, "a discovery sees the columns alone");
    assert!(!source.source.confirms_snapshots());
}

/// Reads while another session holds the table, and commits `change` to it once we wait.
async fn read_across(change: &'static str) -> convoke_core::SourceError {
    let database = database_with(10).await;
    let source = database.table("contacts");
    let split = source.split().await;
    let mut other = database.connect().await;
    run(&mut other, "BEGIN").await;
    run(&mut other, change).await;
    let reading = tokio::spawn(async move { source.try_read(&split).await });
    someone_waits(&database).await;
    run(&mut other, "COMMIT").await;
    reading.await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_table_that_is_refilled_as_the_read_begins_is_not_taken_for_empty() {
    let error = read_across("TRUNCATE contacts; INSERT INTO contacts VALUES (1, 'refilled')").await;
    assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
}

#[tokio::test]
async fn a_table_that_is_swapped_as_the_read_begins_is_not_taken_for_empty() {
    let error = read_across(
        "CREATE TABLE fresh (id int, padding text); INSERT INTO fresh VALUES (1, 'fresh'); DROP TABLE contacts; \
         ALTER TABLE fresh RENAME TO contacts",
    )
    .await;
    assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
}

#[tokio::test]
async fn a_table_altered_after_discovery_is_a_change() {
    let database = database_with(10).await;
    let source = database.table("contacts");
    let split = source.split().await;
    database.execute("ALTER TABLE contacts ALTER COLUMN id TYPE bigint").await;
    let error = source.try_read(&split).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
    assert_eq!(source.read().await.records.num_rows(), 10);
}

async fn assert_refused_as_write(database: &TestDatabase, query: &str) {
    let error = database.query(query).error().await;
    assert!(error.to_string().contains("the session may only read"), "{}", chain(&error));
    assert_eq!(database.value("SELECT count(*) FROM contacts").await, "10");
}

#[tokio::test]
async fn a_query_cannot_write() {
    let database = database_with(10).await;
    database.execute("CREATE SEQUENCE counter").await;
    assert_refused_as_write(&database, "WITH gone AS (DELETE FROM contacts RETURNING *) SELECT * FROM gone").await;
    assert_refused_as_write(&database, "DELETE FROM contacts RETURNING *").await;
    assert_refused_as_write(&database, "SELECT nextval('counter')").await;
    let opened = "SELECT set_config('transaction_read_only', 'off', false) AS mode";
    let error = database.query(opened).error().await;
    assert!(chain(&error).contains("read-write mode"), "{}", chain(&error));
}

#[tokio::test]
async fn a_query_cannot_break_out_of_its_place() {
    let database = database_with(10).await;
    for query in [
        "SELECT 1 AS one) TO STDOUT; DROP TABLE contacts; COPY (SELECT 1",
        "SELECT 1 AS one; DROP TABLE contacts",
        "SELECT 1 AS one) TO PROGRAM 'false' --",
        "COPY contacts TO STDOUT",
        "DROP TABLE contacts",
    ] {
        let error = database.query(query).error().await;
        assert_eq!(database.value("SELECT count(*) FROM contacts").await, "10", "{query}: {error}");
    }
}

#[tokio::test]
async fn a_source_on_a_unix_socket_is_read_in_utc() {
    let server = PostgresServer::shared();
    let database = server.create_database("socket").await;
    database
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database()); END $$",
        )
        .await;
    let mut connection = database.connection();
    connection.host = server.socket_folder().display().to_string();
    let query = "SELECT timestamptz '2026-01-01 00:00+00'::text AS moment, pg_backend_pid() IS NOT NULL AS there";
    let source = TestSource::new(connection, convoke_core::spec::Relation::Query(query.to_owned()));
    assert_eq!(source.read().await.texts("moment"), [Some("2026-01-01 00:00:00+00".to_owned())]);
}
