//! What the server refuses, and what is said of it.

use std::time::Duration;

use convoke_core::spec::{PostgresConnection, Relation};
use convoke_core::{Origin, SourceError};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use tokio::net::TcpListener;

use crate::test_source::{Sourced, TestSource, chain, table};

async fn database() -> TestDatabase {
    let database = PostgresServer::shared().create_database("refusals").await;
    database
        .execute("CREATE TABLE contacts (id int, email text); INSERT INTO contacts VALUES (1, 'ada@example.com')")
        .await;
    database
}

/// The error of a table `contacts` behind a connection that is changed so.
async fn error_with(change: impl FnOnce(&mut PostgresConnection)) -> SourceError {
    let mut connection = database().await.connection();
    change(&mut connection);
    TestSource::new(connection, table("contacts")).error().await
}

fn assert_says(error: &SourceError, origin: Origin, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing: {}", chain(error));
    }
    assert_eq!(error.origin, origin, "{message}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_showing_one() {
    let error = error_with(|connection| connection.password = Some("Tr0ub4dor".into())).await;
    assert_says(&error, Origin::User, &["refuses the password of user `convoke`"]);
    assert!(!format!("{} {error:?}", chain(&error)).contains("Tr0ub4dor"));
    let error = error_with(|connection| connection.password = None).await;
    assert_says(&error, Origin::User, &["asks for the password of user `convoke`"]);
}

#[tokio::test]
async fn an_unknown_database_or_user_is_told() {
    let error = error_with(|connection| connection.database = "elsewhere".to_owned()).await;
    assert_says(&error, Origin::User, &["has no database `elsewhere`", "check `database`"]);
    let error = error_with(|connection| connection.user = "nobody".to_owned()).await;
    assert_says(&error, Origin::User, &["user `nobody`"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = error_with(|connection| {
        connection.port = port;
        connection.connect_timeout = Duration::from_millis(200);
    })
    .await;
    assert_says(&silent, Origin::External, &["did not answer within 200ms", "`connect_timeout`"]);
    drop(listener);
    let error = error_with(|connection| connection.port = port).await;
    assert_says(&error, Origin::External, &["cannot reach PostgreSQL at `127.0.0.1:", "`port`"]);
    let error = error_with(|connection| connection.host = "no-such-host.invalid".to_owned()).await;
    assert_says(&error, Origin::External, &["cannot reach PostgreSQL at `no-such-host.invalid:", "`host`"]);
}

#[tokio::test]
async fn what_is_no_postgresql_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = error_with(|connection| connection.port = port).await;
    assert_says(&error, Origin::External, &["that it is PostgreSQL that answers there"]);
    answering.await.unwrap();
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_grant_that_gives_it() {
    let database = database().await;
    let name = database.connection().database;
    let user = format!("reader_{}", &name[name.len() - 16..]);
    database
        .execute(&format!(
            "CREATE ROLE {user} LOGIN PASSWORD 'secret'; CREATE SCHEMA crm; CREATE TABLE crm.leads (id int); \
             REVOKE CONNECT ON DATABASE \"{name}\" FROM PUBLIC"
        ))
        .await;
    let connection =
        PostgresConnection { user: user.clone(), password: Some("secret".into()), ..database.connection() };
    let error = |relation: Relation| {
        let source = TestSource::new(connection.clone(), relation);
        async move { source.error().await }
    };
    let refused = error(table("contacts")).await;
    assert_says(&refused, Origin::User, &[&format!("GRANT CONNECT ON DATABASE \"{name}\" TO \"{user}\"")]);
    database.execute(&format!("GRANT CONNECT ON DATABASE \"{name}\" TO {user}")).await;
    let refused = error(table("contacts")).await;
    assert_says(&refused, Origin::User, &["table `contacts`", &format!("GRANT SELECT ON \"contacts\" TO \"{user}\"")]);
    let refused = error(table("crm.leads")).await;
    let grants = [
        format!("GRANT SELECT ON \"crm\".\"leads\" TO \"{user}\""),
        format!("GRANT USAGE ON SCHEMA \"crm\" TO \"{user}\""),
    ];
    assert_says(&refused, Origin::User, &[&grants[0], &grants[1]]);
    let refused = error(Relation::Query("SELECT * FROM contacts".to_owned())).await;
    assert!(chain(&refused).contains("permission denied for table contacts"), "{}", chain(&refused));
    database.execute(&format!("GRANT SELECT ON contacts TO {user}")).await;
    let source = TestSource::new(connection.clone(), table("contacts"));
    assert_eq!(source.read().await.records.num_rows(), 1);
}

#[tokio::test]
async fn a_missing_table_is_told_with_how_names_are_taken() {
    let database = database().await;
    let error = database.table("Contacts").error().await;
    assert_says(&error, Origin::User, &["there is no table `Contacts`", "upper and lower case", "`search_path`"]);
    let error = database.table("crm.contacts").error().await;
    assert_says(&error, Origin::User, &["there is no table `crm.contacts`"]);
    let error = database.query("SELECT *\nFROM leads").error().await;
    assert_says(&error, Origin::User, &["names a table that is not there at line 2, column 6"]);
    assert!(chain(&error).contains("\"leads\""), "{}", chain(&error));
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_told_with_its_place() {
    let database = database().await;
    let error = database.query("SELECT id,\n  emial FROM contacts").error().await;
    assert_says(&error, Origin::User, &["at line 2, column 3 of it"]);
    assert!(chain(&error).contains("\"emial\""), "{}", chain(&error));
    let error = database.query("SELEKT 1").error().await;
    assert_says(&error, Origin::User, &["at line 1, column 1 of it"]);
}

#[tokio::test]
async fn columns_without_a_name_of_their_own_are_refused() {
    let database = database().await;
    let error = database.query("SELECT a.id, b.id FROM contacts a, contacts b").error().await;
    assert_says(&error, Origin::User, &["two columns `id`", "AS"]);
    let error = database.query("SELECT FROM contacts").error().await;
    assert_says(&error, Origin::User, &["has no columns"]);
}

#[tokio::test]
async fn an_error_in_a_value_does_not_show_it() {
    let database = database().await;
    let error = database.query("SELECT email::int AS id FROM contacts").error().await;
    assert_says(&error, Origin::User, &["SQLSTATE 22P02"]);
    assert!(!format!("{} {error:?}", chain(&error)).contains("ada@"), "{error:?}");
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_passed_on_and_what_a_function_raises_is_not() {
    let database = database().await;
    let raising = |code: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION raising(email text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION \
             'no such thing as %', email USING ERRCODE = '{code}'; END $$"
        )
    };
    for (code, origin, is_passed_on, says) in [
        ("0A000", Origin::User, true, "PostgreSQL does not read"),
        ("54001", Origin::User, true, "PostgreSQL does not read"),
        ("58030", Origin::External, true, "is damaged or at fault"),
        ("XX001", Origin::External, true, "is damaged or at fault"),
        ("22P02", Origin::User, false, "fails at a value"),
        ("23505", Origin::User, false, "fails at a value"),
        ("P0001", Origin::User, false, "fails at a value"),
        ("45000", Origin::User, false, "its log says at what"),
        ("26000", Origin::User, true, "`pool_mode = session`"),
        ("42P05", Origin::User, true, "`pool_mode = session`"),
    ] {
        database.execute(&raising(code)).await;
        let error = database.query("SELECT raising(email) AS email FROM contacts").error().await;
        assert_says(&error, origin, &[says]);
        assert_eq!(chain(&error).contains("no such thing as"), is_passed_on, "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_text_that_is_not_utf8_is_told_with_the_query_that_converts_it() {
    let database = database().await;
    let name = format!("{}_ascii", database.connection().database);
    let create = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    database.execute(&create).await;
    let connection = PostgresConnection { database: name.clone(), ..database.connection() };
    let bytes = "convert_from('\\x4a6f73e9', 'SQL_ASCII')";
    let error = TestSource::new(connection.clone(), Relation::Query(format!("SELECT {bytes} AS name"))).error().await;
    assert_says(&error, Origin::User, &["holds a text that is not UTF-8", "`convert_from(column::bytea, 'LATIN1')`"]);
    assert!(!chain(&error).contains("e9"), "{}", chain(&error));
    // PostgreSQL passes a single byte on as it is.
    for query in ["SELECT 'é'::\"char\" AS initial", "SELECT ARRAY['é'::\"char\"] AS initial"] {
        let error = database.query(query).error().await;
        assert_says(&error, Origin::User, &["column `initial`", "a text that is not UTF-8", "convert_from("]);
    }
    database.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_ended() {
    let database = database().await;
    let connection = PostgresConnection { statement_timeout: Duration::from_millis(300), ..database.connection() };
    let query = Relation::Query("SELECT pg_sleep(600)::text AS slept".to_owned());
    let error = TestSource::new(connection.clone(), query).error().await;
    assert_says(&error, Origin::External, &["`statement_timeout` (300ms)", "nothing was planned"]);
    let mut other = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let error = TestSource::new(connection, table("contacts")).error().await;
    assert_says(&error, Origin::External, &["`statement_timeout` (300ms)"]);
}

#[test]
fn a_source_of_nothing_is_refused() {
    use convoke_core::ConnectionName;
    use convoke_core::spec::{PostgresSpec, TlsMode};
    let connection = PostgresConnection {
        host: "localhost".to_owned(),
        port: 5432,
        database: "crm".to_owned(),
        user: "reader".to_owned(),
        password: None,
        tls: TlsMode::Prefer,
        ca_file: None,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
    };
    let name = ConnectionName::new("crm");
    let spec = PostgresSpec::whole(name, Relation::Query(" \n".to_owned()));
    let error = convoke_source_postgres::PostgresSource::open(spec, connection, None).err().unwrap();
    assert!(error.to_string().contains("`query`"), "{error}");
}
