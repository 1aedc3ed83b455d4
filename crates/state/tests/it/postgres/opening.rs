//! Opening a store: what is made, what is refused, and how it is told.

use convoke_core::StateError;
use convoke_core::backfill::Backfills;
use convoke_core::ids::{PlanId, RunId};
use convoke_core::source::Selection;
use convoke_core::spec::{PostgresConnection, TlsMode};
use convoke_core::state::{
    Audit, Budgets, Checkpoints, Ledgers, RejectRecord, RejectStage, Rejects, RunRecord, RunState, Runs,
};
use convoke_core::{SyncName, Timestamp};
use convoke_state::{OpenMode, PostgresState};
use convoke_testkit::contract::state::SaveBudget;
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use serde_json::json;
use uuid::Uuid;

use super::PostgresFixture;

async fn database() -> TestDatabase {
    PostgresServer::shared().create_database("opening").await
}

async fn refused(connection: &PostgresConnection, mode: OpenMode) -> StateError {
    let refused = PostgresState::open(connection, mode).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    let secret = secret_of(connection);
    assert!(!told.contains(&secret), "{told}");
    refused
}

fn secret_of(connection: &PostgresConnection) -> String {
    use secrecy::ExposeSecret;
    connection.password.as_ref().unwrap().expose_secret().to_owned()
}

async fn unusable(connection: &PostgresConnection, mode: OpenMode) -> String {
    match refused(connection, mode).await {
        StateError::Unusable { message } => {
            assert!(message.contains(&connection.database), "{message}");
            message
        }
        other => panic!("{other:?}"),
    }
}

/// A user of the database who owns nothing there.
async fn stranger(database: &TestDatabase) -> PostgresConnection {
    let user = format!("stranger_{}", Uuid::new_v4().simple());
    database.execute(&format!("CREATE ROLE {user} LOGIN PASSWORD 'a word'")).await;
    PostgresConnection { user, password: Some("a word".to_owned().into()), ..database.connection() }
}

#[tokio::test]
async fn a_missing_store_is_told_with_three_choices_and_not_made() {
    let database = database().await;
    for mode in [OpenMode::Existing, OpenMode::ReadOnly] {
        let error = refused(&database.connection(), mode).await;
        let StateError::Missing { message } = &error else { panic!("{error:?}") };
        for part in [database.connection().database.as_str(), "adopt", "restore a backup", "begin anew"] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert_eq!(database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'convoke'").await, "0");
    PostgresState::open(&database.connection(), OpenMode::ReadWrite).await.unwrap();
    PostgresState::open(&database.connection(), OpenMode::Existing).await.unwrap();
}

#[tokio::test]
async fn a_missing_database_is_told_apart_from_a_refused_user_and_an_unreachable_server() {
    let connection = database().await.connection();
    let elsewhere = PostgresConnection { database: "nowhere".to_owned(), ..connection.clone() };
    let error = refused(&elsewhere, OpenMode::ReadWrite).await;
    assert!(
        matches!(&error, StateError::Missing { message } if message.contains("no database `nowhere`")),
        "{error:?}"
    );
    let mistyped = PostgresConnection { password: Some("mistyped".to_owned().into()), ..connection.clone() };
    assert!(unusable(&mistyped, OpenMode::ReadWrite).await.contains("check user and password"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(&PostgresConnection { port: free, ..connection }, OpenMode::ReadWrite).await;
    assert!(
        matches!(&error, StateError::Storage { message, .. } if message.contains("cannot be reached")),
        "{error:?}"
    );
}

#[tokio::test]
async fn another_program_s_schema_and_a_newer_layout_are_refused_and_left_alone() {
    let foreign = database().await;
    foreign.execute("CREATE SCHEMA convoke; CREATE TABLE convoke.notes (note text)").await;
    let newer = database().await;
    PostgresState::open(&newer.connection(), OpenMode::ReadWrite).await.unwrap();
    newer.execute("INSERT INTO convoke.schema_version VALUES (99, 0)").await;
    for mode in [OpenMode::ReadWrite, OpenMode::Existing, OpenMode::ReadOnly] {
        assert!(unusable(&foreign.connection(), mode).await.contains("another program"));
        let message = unusable(&newer.connection(), mode).await;
        assert!(message.contains("version 99") && message.contains("use the newer Convoke"), "{message}");
    }
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'convoke'::regnamespace";
    assert_eq!(foreign.value(tables).await, "1");
}

#[tokio::test]
async fn an_older_layout_is_brought_up_to_date_with_what_it_holds() {
    const LAYOUTS: [&str; 4] = [
        include_str!("../../../migrations/postgres/0001_initial.sql"),
        include_str!("../../../migrations/postgres/0002_rejects_live_on.sql"),
        include_str!("../../../migrations/postgres/0003_enrichments.sql"),
        include_str!("../../../migrations/postgres/0004_backfills.sql"),
    ];
    const ROWS: &str = r#"INSERT INTO schema_version VALUES (1, 0), (2, 0), (3, 0), (4, 0);
         INSERT INTO checkpoints (sync, version, ledger_version, counts, clean)
         VALUES ('others', 1, 2, NULL, TRUE), ('people', 4, 2, '{"read": 7, "carried_over": 2, "filtered": 0,
             "invalid": 0, "superseded": 0, "unchanged": 9, "suppressed": 0, "skipped_by_mode": 0,
             "removed_respected": 0, "held_back": 0, "listed": 0, "creates": 0, "updates": 0, "deletes": 0}', TRUE);
         INSERT INTO backfills (id, sync, selection, windows, settled, config_hash, state, started_at)
         VALUES ('01970000-0000-7000-8000-000000000001', 'people', '"all"', '[{"named":["a"]}]', 1, 'cafe', 'done', 7),
             ('01970000-0000-7000-8000-000000000002', 'people', '"all"', '[{"named":["a"]},{"named":["b"]}]', 1,
              'cafe', 'open', 8);"#;
    let older = database().await;
    let layouts = LAYOUTS.join("\n");
    older.execute(&format!("CREATE SCHEMA convoke; SET search_path TO convoke; {layouts} {ROWS}")).await;
    assert!(unusable(&older.connection(), OpenMode::ReadOnly).await.contains("older Convoke"));
    let state = PostgresState::open(&older.connection(), OpenMode::ReadWrite).await.unwrap();
    let snapshot_of = async |sync: &str| state.checkpoint(&SyncName::new(sync)).await.unwrap().snapshot_records;
    assert_eq!((snapshot_of("people").await, snapshot_of("others").await), (Some(9), None));
    let people = SyncName::new("people");
    let open = state.open_backfill(&people).await.unwrap().unwrap();
    let next = open.next_window().map(|(window, selection)| (window.number, window.of, selection.clone()));
    assert_eq!(next, Some((2, 2, Selection::Named(vec!["b".to_owned()]))));
    let told = state.backfills(&people, 10).await.unwrap();
    let told: Vec<_> = told.iter().map(|told| (told.settled, told.window_count, told.is_partial)).collect();
    assert_eq!(told, [(1, 2, false), (1, 1, false)]);
    let ended = "SELECT count(*) FROM convoke.backfills WHERE windows = '[]'";
    assert_eq!(older.value(ended).await, "1", "what the windows of the one that ended read is forgotten");
}

#[tokio::test]
async fn a_user_who_may_not_make_the_schema_is_told_who_can() {
    let database = database().await;
    let connection = stranger(&database).await;
    let user = connection.user.clone();
    let message = unusable(&connection, OpenMode::ReadWrite).await;
    assert!(message.contains(&format!("CREATE SCHEMA convoke AUTHORIZATION {user}")), "{message}");
    database.execute(&format!("CREATE SCHEMA convoke AUTHORIZATION {user}")).await;
    let state = PostgresState::open(&connection, OpenMode::ReadWrite).await.unwrap();
    state.save_budget("one", &json!(1)).await.unwrap();
}

#[tokio::test]
async fn a_user_who_may_not_use_the_schema_is_told_so() {
    let database = database().await;
    PostgresState::open(&database.connection(), OpenMode::ReadWrite).await.unwrap();
    let message = unusable(&stranger(&database).await, OpenMode::ReadWrite).await;
    assert!(message.contains("make this one the owner"), "{message}");
    let user = stranger(&database).await;
    database.execute(&format!("GRANT USAGE ON SCHEMA convoke TO {}", user.user)).await;
    let message = unusable(&user, OpenMode::ReadWrite).await;
    assert!(message.contains("make this one the owner"), "{message}");
}

#[tokio::test]
async fn a_server_is_reached_over_tls_and_over_its_socket_and_not_believed_without_a_known_authority() {
    let server = PostgresServer::start_with_tls();
    let connection = server.create_database("sealed").await.connection();
    let state = PostgresState::open(&connection, OpenMode::ReadWrite).await.unwrap();
    state.save_budget("one", &json!(1)).await.unwrap();
    let host = server.socket_folder().to_str().unwrap().to_owned();
    let socket = PostgresConnection { host, tls: TlsMode::Disable, ca_file: None, ..connection.clone() };
    let local = PostgresState::open(&socket, OpenMode::ReadOnly).await.unwrap();
    assert_eq!(local.budget("one").await.unwrap(), Some(json!(1)));
    let ca_file = Some(server.other_ca_file().to_owned());
    let error = refused(&PostgresConnection { ca_file, ..connection }, OpenMode::ReadOnly).await;
    assert!(matches!(&error, StateError::Storage { message, .. } if message.contains("TLS")), "{error:?}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let server = PostgresServer::shared();
    let name = format!("ascii_{}", Uuid::new_v4().simple());
    server.execute(&format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")).await;
    let connection = PostgresConnection { database: name, ..server.connection() };
    assert!(unusable(&connection, OpenMode::ReadWrite).await.contains("--encoding=UTF8"));
}

#[tokio::test]
async fn several_processes_may_make_the_store_at_once() {
    let database = database().await;
    let connection = database.connection();
    let openings = (0..8).map(|_| PostgresState::open(&connection, OpenMode::ReadWrite));
    let states = futures::future::join_all(openings).await;
    let first = states[0].as_ref().unwrap().hash_key().await.unwrap().id();
    for state in &states {
        assert_eq!(state.as_ref().unwrap().hash_key().await.unwrap().id(), first);
    }
    assert_eq!(database.value("SELECT count(*) FROM convoke.schema_version WHERE version = 1").await, "1");
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_beside_it_commits_and_cannot_write() {
    let fixture = PostgresFixture::new().await;
    let writer = fixture.state().await;
    let reader = PostgresState::open(&fixture.database.connection(), OpenMode::ReadOnly).await.unwrap();
    for number in 1..3 {
        writer.save_budget("one", &json!(number)).await.unwrap();
        assert_eq!(reader.budget("one").await.unwrap(), Some(json!(number)));
    }
    for refused in [reader.save_budget("one", &json!(3)).await, reader.audit("anna", "approve", "plan").await] {
        assert!(matches!(refused, Err(StateError::Unusable { .. })), "{refused:?}");
    }
    writer.close().await;
    assert_eq!(reader.budget("one").await.unwrap(), Some(json!(2)));
}

#[tokio::test]
async fn a_commit_is_waited_for_whatever_the_server_s_own_setting_is() {
    let fixture = PostgresFixture::new().await;
    let name = fixture.database.connection().database;
    let state = fixture.state().await;
    let watch = format!(
        "ALTER DATABASE {name} SET synchronous_commit = off; ALTER DATABASE {name} SET default_transaction_isolation = serializable;
         CREATE TABLE convoke.seen (setting text);
         CREATE FUNCTION convoke.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO convoke.seen VALUES (current_setting('synchronous_commit') || ', ' || current_setting('transaction_isolation'));
             RETURN NEW; END $$;
         CREATE TRIGGER see BEFORE INSERT ON convoke.budgets FOR EACH ROW EXECUTE FUNCTION convoke.see()"
    );
    fixture.database.execute(&watch).await;
    // The settings of a database hold for connections that come later.
    fixture.database.terminate_backends().await;
    state.save_budget("one", &json!(1)).await.unwrap();
    assert_eq!(fixture.database.value("SELECT setting FROM convoke.seen").await, "on, read committed");
}

#[tokio::test]
async fn what_a_row_holds_is_not_repeated_in_an_error() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    fixture.database.execute("ALTER TABLE convoke.rejects ADD CHECK (cells NOT LIKE '%anna%')").await;
    let reject = RejectRecord {
        sync: SyncName::new("booth-scans"),
        run: RunId(Uuid::now_v7()),
        plan: PlanId(Uuid::now_v7()),
        at: Timestamp(1),
        stage: RejectStage::Invalid,
        key: None,
        content: None,
        origin: None,
        code: "invalid_email".to_owned(),
        column: None,
        reason: "the address has no domain".to_owned(),
        cells: vec![("Email".to_owned(), Some("anna".to_owned()))],
    };
    let error = state.add_rejects(&[reject]).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    let told = format!("{error} {error:?} {cause} {cause:?}");
    assert!(told.contains("check constraint") && !told.contains("anna"), "{told}");
}

#[tokio::test]
async fn text_that_the_server_cannot_hold_does_not_fail_a_run() {
    let fixture = PostgresFixture::new().await;
    let state = fixture.state().await;
    let run = RunRecord {
        id: RunId(Uuid::now_v7()),
        sync: SyncName::new("booth-scans"),
        started_at: Timestamp(1),
        ended_at: None,
        state: RunState::Failed,
        plan: None,
        message: Some("the destination said: \0".to_owned()),
        counts: None,
        delivery: None,
        ledger: None,
        enrichment: None,
    };
    state.start_run(&run).await.unwrap();
    let stored = state.run(run.id).await.unwrap().unwrap();
    assert_eq!(stored.message.as_deref(), Some("the destination said: \u{fffd}"));
}
