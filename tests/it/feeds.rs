//! The three sources with the same people in them: a drop folder, a bucket behind a real S3 server, a PostgreSQL table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use convoke_core::spec::PostgresConnection;
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use convoke_testkit::s3::S3Server;
use parquet::arrow::ArrowWriter;
use secrecy::ExposeSecret;

use crate::workspace::{Person, Workspace, sync_yaml};

/// Where people come from.
pub(crate) enum Feed {
    Drop(AtomicUsize),
    Lake(S3Server),
    Table(TestDatabase),
}

pub(crate) const BUCKET: &str = "people";

impl Feed {
    /// One of each kind, all empty.
    pub(crate) async fn all() -> [Self; 3] {
        let lake = S3Server::start().await;
        lake.make_bucket(BUCKET);
        [Self::Drop(AtomicUsize::new(0)), Self::Lake(lake), Self::Table(people_table().await)]
    }

    /// Points the workspace's sync at this source.
    pub(crate) fn configure(&self, workspace: &Workspace, connection: &str, mode: &str, more: &str) {
        let (source, source_connection) = match self {
            Self::Drop(_) => (DROP.to_owned(), String::new()),
            Self::Lake(server) => (lake_source("**/*.parquet", "snapshot"), lake_connection(server)),
            Self::Table(database) => {
                ("postgres: { connection: crm, table: people }".to_owned(), table_connection(&database.connection()))
            }
        };
        workspace.write("config/connections.yaml", &format!("{connection}{source_connection}"));
        workspace.write("config/syncs/people.yaml", &sync_yaml(mode, more).replace(DROP, &source));
    }

    /// Makes these people the whole contents of the source.
    pub(crate) async fn put(&self, workspace: &Workspace, people: &[Person]) {
        match self {
            Self::Drop(count) => {
                workspace.drop_csv(&format!("{:03}.csv", count.fetch_add(1, Ordering::Relaxed)), people);
            }
            Self::Lake(server) => {
                // Two objects in two folders, so that there is something to list.
                let (head, tail) = people.split_at(people.len() / 2);
                server.put(BUCKET, "a/part-0.parquet", parquet_of(head));
                server.put(BUCKET, "b/part-1.parquet", parquet_of(tail));
            }
            Self::Table(database) => fill(database, people).await,
        }
    }
}

/// How [`sync_yaml`] spells the source.
pub(crate) const DROP: &str = "csv_drop: { path: drop, mode: snapshot, settle: 0s }";

pub(crate) fn lake_source(pattern: &str, mode: &str) -> String {
    format!("s3_parquet: {{ url: \"s3://{BUCKET}/{pattern}\", mode: {mode}, connection: lake }}")
}

pub(crate) fn lake_connection(server: &S3Server) -> String {
    format!(
        "lake:
  s3:
    endpoint: {}
    region: us-east-1
    access_key_id: {}
    secret_access_key: {}
",
        server.endpoint(),
        server.access_key_id(),
        server.secret_access_key()
    )
}

/// A block of the keys with which a PostgreSQL database is reached, in one line.
pub(crate) fn database_block(connection: &PostgresConnection) -> String {
    let password = connection.password.as_ref().expect("a password").expose_secret();
    format!(
        "{{ host: {}, port: {}, database: {}, user: {}, password: \"{password}\", tls: disable }}",
        connection.host, connection.port, connection.database, connection.user
    )
}

pub(crate) fn table_connection(connection: &PostgresConnection) -> String {
    format!("crm:\n  postgres: {}\n", database_block(connection))
}

/// An empty table in a database of its own.
pub(crate) async fn people_table() -> TestDatabase {
    let database = PostgresServer::shared().create_database("people").await;
    database.execute("CREATE TABLE people (email text, name varchar(200), score bigint, updated_at timestamptz)").await;
    database
}

async fn fill(database: &TestDatabase, people: &[Person]) {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let rows: Vec<_> = people
        .iter()
        .map(|person| {
            format!(
                "({}, {}, {}, {})",
                quoted(&person.email),
                quoted(&person.name),
                person.score,
                quoted(&person.updated_at)
            )
        })
        .collect();
    let insert = format!("INSERT INTO people VALUES {}", rows.join(", "));
    database.execute(&format!("BEGIN; DELETE FROM people; {insert}; COMMIT")).await;
}

/// People with a type for each column.
pub(crate) fn parquet_of(people: &[Person]) -> Vec<u8> {
    let micros = |person: &Person| {
        chrono::DateTime::parse_from_rfc3339(&person.updated_at).expect("RFC 3339").timestamp_micros()
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(people.iter().map(|person| Some(person.email.as_str())).collect::<StringArray>()),
        Arc::new(people.iter().map(|person| Some(person.name.as_str())).collect::<StringArray>()),
        Arc::new(people.iter().map(|person| Some(person.score)).collect::<Int64Array>()),
        Arc::new(people.iter().map(micros).map(Some).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
    ];
    let schema = Arc::new(Schema::new(vec![
        Field::new("email", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("score", DataType::Int64, true),
        Field::new("updated_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns of one length");
    let mut contents = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut contents, schema, None).expect("a writer");
    writer.write(&batch).expect("memory takes everything");
    writer.close().expect("a footer");
    contents
}
