//! Object stores and databases as sources, and the connections to them.

use std::path::Path;

use convoke_config::{Config, config_hash};
use convoke_core::spec::{
    ObjectsMode, ObjectsSpec, PostgresSpec, Relation, S3Connection, SourceSpec, SyncMode, TlsMode,
};
use convoke_core::{ConnectionName, SyncName};
use secrecy::ExposeSecret;

use crate::directory::{Directory, SYNC};

const CONNECTIONS: &str = "\
local: { embedded: { data: store } }
lake: { s3: {} }
house: { postgres: { host: db.example.com, database: d, user: u } }
";

const DROP: &str = "csv_drop: { path: drop, mode: snapshot }";

fn with_source(source: &str) -> Directory {
    Directory::default().file("config/connections.yaml", CONNECTIONS).sync("people", &SYNC.replacen(DROP, source, 1))
}

fn source(source: &str) -> SourceSpec {
    with_source(source).loaded().syncs.remove(&SyncName::new("people")).expect("the sync").spec.source
}

fn objects(text: &str) -> ObjectsSpec {
    match source(text) {
        SourceSpec::Objects(spec) => spec,
        other => panic!("objects, not {other:?}"),
    }
}

fn database(text: &str) -> PostgresSpec {
    match source(text) {
        SourceSpec::Postgres(spec) => spec,
        other => panic!("a database, not {other:?}"),
    }
}

#[test]
fn every_key_of_an_object_source_reaches_its_spec() {
    let spec = objects(
        "s3_parquet: { url: \"s3://b/x/**/*.parquet\", mode: append, hive_partitions: true, connection: lake }\n\
         dedupe: { by: updated_at }",
    );
    assert_eq!(
        (spec.url.as_str(), spec.mode, spec.hive_partitions),
        ("s3://b/x/**/*.parquet", ObjectsMode::Append, true)
    );
    assert_eq!(spec.connection, Some(ConnectionName::new("lake")));
    let spec = objects("s3_parquet: { url: data/*.parquet, mode: snapshot }");
    assert_eq!((spec.url.as_str(), spec.mode), ("file:///project/data/*.parquet", ObjectsMode::Snapshot));
    assert_eq!((spec.hive_partitions, spec.connection), (false, None));
}

#[test]
fn every_key_of_a_database_source_reaches_its_spec() {
    let spec = database("postgres: { connection: house, table: \"crm.\\\"Odd Name\\\"\", time_column: updated_at }");
    assert_eq!(spec.connection, ConnectionName::new("house"));
    assert_eq!(spec.relation, Relation::Table { schema: Some("crm".to_owned()), name: "Odd Name".to_owned() });
    assert_eq!(spec.time_column.as_deref(), Some("updated_at"));
    let spec = database("postgres: { connection: house, query: \" SELECT ';' FROM people ; \" }");
    assert_eq!((spec.relation, spec.time_column), (Relation::Query("SELECT ';' FROM people".to_owned()), None));
}

#[test]
fn a_wrong_source_is_refused_with_line_key_and_remedy() {
    let cases = [
        ("s3_parquet: { mode: snapshot }", "s3_parquet.url`: is missing; give a URL such as `s3://bucket/folder`"),
        ("s3_parquet: { url: a.parquet }", "s3_parquet.mode`: is missing; give one of `snapshot`, `append`"),
        (
            "s3_parquet: { url: \"gs://b/*.parquet\", mode: snapshot }",
            "s3_parquet.url`: names a kind of store that is not built yet; use `s3://` or `file:///`",
        ),
        (
            "s3_parquet: { url: \"file://data/*.parquet\", mode: snapshot }",
            "s3_parquet.url`: a `file:` URL is absolute and has three slashes",
        ),
        (
            "s3_parquet: { url: a.parquet, mode: snapshot, connection: lake }",
            "s3_parquet.connection`: is for `s3://` only, and the URL is a path; remove it",
        ),
        (
            "s3_parquet: { url: \"s3://b/a.parquet\", mode: snapshot, connection: house }",
            "s3_parquet.connection`: `house` is a connection of kind `postgres`; name one of kind `s3`",
        ),
        (
            "s3_parquet: { url: \"s3://b/a.parquet\", mode: snapshot, connection: lka }",
            "s3_parquet.connection`: there is no connection `lka`; did you mean `lake`?",
        ),
        (
            "s3_parquet: { url: \"s3://b/a.parquet\", mode: snapshot, connection: house2 }",
            "s3_parquet.connection`: there is no connection `house2`; add it to `connections.yaml`, as `s3`",
        ),
        (
            "postgres: { connection: lake, table: t }",
            "postgres.connection`: `lake` is a connection of kind `s3`; name one of kind `postgres`",
        ),
        ("postgres: { table: t }", "postgres.connection`: is missing; give a name"),
        ("postgres: { connection: house }", "postgres`: says nothing about what is read; give `table` or `query`"),
        (
            "postgres: { connection: house, table: t, query: q }",
            "postgres.query`: give either `table` or `query`, not both",
        ),
        (
            "postgres: { connection: house, table: a.b.c }",
            "postgres.table`: has more parts than `schema.name`; the database stands in the connection",
        ),
        ("postgres: { connection: house, table: select 1 }", "postgres.table`: is not `name` or `schema.name`"),
        ("postgres: { connection: house, query: \";\" }", "postgres.query`: is no query; give one SELECT"),
    ];
    for (source, expected) in cases {
        let problems = with_source(source).refused();
        let expected = format!("config/syncs/people.yaml:3: `source.{expected}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{expected}\n{problems:#?}");
    }
}

#[test]
fn an_audience_is_in_no_object_store() {
    let problems = with_source(DROP).sync("people", &SYNC.replace("connection: local", "connection: lake")).refused();
    let expected = "config/syncs/people.yaml:9: `audience.gtm.connection`: `lake` is a connection of kind `s3`; name one of kind `gtm` or `embedded`";
    assert_eq!(problems, [expected]);
}

#[test]
fn a_mirror_needs_a_source_that_says_everything() {
    let mirror =
        |source: &str| with_source(DROP).sync("people", &format!("{}mode: mirror\n", SYNC.replacen(DROP, source, 1)));
    let problems = mirror("s3_parquet: { url: a.parquet, mode: append }\ndedupe: { by: updated_at }").refused();
    let expected = "config/syncs/people.yaml:11: `mode`: `mirror` deletes what the source no longer holds, so it needs \
                    `source.s3_parquet.mode: snapshot`";
    assert_eq!(problems, [expected]);
    for source in ["s3_parquet: { url: a.parquet, mode: snapshot }", "postgres: { connection: house, table: t }"] {
        assert_eq!(mirror(source).loaded().syncs[&SyncName::new("people")].spec.mode, SyncMode::Mirror);
    }
}

#[test]
fn objects_that_add_need_something_that_tells_older_values_from_newer_ones() {
    let adding = "s3_parquet: { url: a.parquet, mode: append }";
    let message = "`dedupe.by`: is missing; with `source.s3_parquet.mode: append` objects are read again after a failure \
                   or a change of the configuration, in whatever order they lie, so something must tell older values from \
                   newer ones; set `dedupe: { by: … }` to a column that grows with each change";
    assert_eq!(with_source(adding).refused(), [format!("config/syncs/people.yaml:1: {message}")]);
    let first = format!("{adding}\ndedupe: {{ keep: first }}");
    assert_eq!(with_source(&first).refused(), [format!("config/syncs/people.yaml:4: {message}")]);
    with_source(&format!("{adding}\ndedupe: {{ by: updated_at }}")).loaded();
    let list = format!("{}mode: delete_list\n", SYNC.replacen(DROP, adding, 1));
    with_source(DROP).sync("people", &list).loaded();
}

#[test]
fn two_syncs_may_read_the_same_objects_and_tables() {
    for source in ["s3_parquet: { url: a.parquet, mode: snapshot }", "postgres: { connection: house, table: t }"] {
        let one = SYNC.replacen(DROP, source, 1);
        let other = one.replace("sync: people", "sync: others").replace("name: People", "name: Others");
        let directory = with_source(source).sync("others", &other);
        assert_eq!(directory.loaded().syncs.len(), 2);
    }
}

fn connections(text: &str) -> Config {
    Directory::default().variable("S", "s").file("config/connections.yaml", text).loaded()
}

fn store(keys: &str) -> S3Connection {
    connections(&format!("lake: {{ s3: {{ {keys} }} }}\n"))
        .object_stores
        .remove(&ConnectionName::new("lake"))
        .expect("the store")
}

#[test]
fn every_key_of_an_object_store_reaches_its_connection() {
    let lake = store(
        "endpoint: http://127.0.0.1:9000/, region: r, access_key_id: id, secret_access_key: \"${env:S}\", \
         session_token: \"${env:S}\", http: { request_timeout: 7s, ca_file: ca.pem }",
    );
    assert_eq!((lake.endpoint.as_deref(), lake.region.as_deref()), (Some("http://127.0.0.1:9000"), Some("r")));
    assert!(lake.path_style && !lake.allow_plain_http);
    let credentials = lake.credentials.unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.secret_access_key.expose_secret()), ("id", "s"));
    assert_eq!(credentials.session_token.unwrap().expose_secret(), "s");
    let http = lake.http.unwrap();
    assert_eq!((http.connect_timeout.as_secs(), http.request_timeout.as_secs()), (10, 7));
    assert_eq!(http.ca_file.as_deref(), Some(Path::new("/project/ca.pem")));
    assert!(!store("endpoint: http://127.0.0.1:9000, path_style: false").path_style);
    let amazon = store("");
    assert!(!amazon.path_style && amazon.credentials.is_none() && amazon.endpoint.is_none());
}

#[test]
fn a_database_is_trusted_without_tls_only_on_this_machine() {
    let cases = [
        ("db.example.com", "", TlsMode::VerifyFull, 0),
        ("10.0.0.7", "", TlsMode::VerifyFull, 0),
        ("2001:db8::7", "", TlsMode::VerifyFull, 0),
        ("localhost", "", TlsMode::Prefer, 0),
        ("127.0.0.1", "", TlsMode::Prefer, 0),
        ("::1", "", TlsMode::Prefer, 0),
        ("/run/postgresql", "", TlsMode::Prefer, 0),
        ("localhost", ", tls: verify-ca, ca_file: ca.pem", TlsMode::VerifyCa, 0),
        ("db.example.com", ", tls: require", TlsMode::Require, 0),
        ("db.example.com", ", tls: prefer", TlsMode::Prefer, 1),
        ("db.example.com", ", tls: disable", TlsMode::Disable, 1),
    ];
    for (host, keys, tls, warnings) in cases {
        let text = format!("house: {{ postgres: {{ host: \"{host}\", database: d, user: u{keys} }} }}\n");
        let config = connections(&text);
        let house = &config.databases[&ConnectionName::new("house")];
        assert_eq!((house.host.as_str(), house.tls, config.warnings.len()), (host, tls, warnings), "{text}");
        assert_eq!((house.port, house.password.is_none()), (5432, true));
        assert_eq!((house.connect_timeout.as_secs(), house.statement_timeout.as_secs()), (10, 3600));
    }
}

#[test]
fn a_wrong_connection_is_refused_and_not_shown() {
    let cases = [
        ("s3: { endpoint: http://canary.example.com }", "s3.endpoint`: `http://` to another machine"),
        ("s3: { access_key_id: canary }", "s3.secret_access_key`: is missing; a key has both"),
        ("s3: { secret_access_key: \"${env:S}\" }", "s3.access_key_id`: is missing; a key has both"),
        (
            "s3: { session_token: \"${env:S}\", access_key_id: canary }",
            "s3.secret_access_key`: is missing; a key has both",
        ),
        ("s3: { url: canary }", "s3.url`: unknown key; known here: `endpoint`, `region`"),
        ("postgres: { host: h, database: d, user: u, port: 65536 }", "postgres.port`: expected a whole number from 1"),
        ("postgres: { host: h, user: u }", "postgres.database`: is missing"),
        (
            "postgres: { host: \"postgres://u:canary@h/d\", database: d, user: u }",
            "postgres.host`: is neither the name nor the address of a server",
        ),
        ("postgres: { host: \"canary:5432\", database: d, user: u }", "postgres.host`: is neither the name nor"),
        (
            "postgres: { host: /run/canary, database: d, user: u, tls: require }",
            "postgres.tls`: a socket has no TLS; remove `tls`",
        ),
        (
            "postgres: { host: h, database: d, user: u, tls: require, ca_file: canary }",
            "postgres.ca_file`: is used by `tls: verify-ca` and `tls: verify-full` only",
        ),
        ("postgres: { host: h, database: d, user: u, tls: off }", "postgres.tls`: expected one of `disable`, `prefer`"),
        (
            "postgres: { host: h, database: d, user: u, statement_timeout: 0s }",
            "postgres.statement_timeout`: expected a duration above zero",
        ),
    ];
    for (connection, expected) in cases {
        let directory = Directory::default().variable("S", "canary");
        let problems = directory.file("config/connections.yaml", format!("far: {{ {connection} }}\n")).refused();
        let expected = format!("config/connections.yaml:1: `far.{expected}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{expected}\n{problems:#?}");
        assert!(!problems[0].contains("canary"), "{problems:#?}");
    }
}

#[test]
fn the_hash_follows_what_is_read_and_not_how_it_is_reached() {
    let hash = |connections: &str, source: &str| {
        let config = with_source(source).file("config/connections.yaml", connections).loaded();
        config_hash(&config.syncs[&SyncName::new("people")].spec, &[])
    };
    let elsewhere = CONNECTIONS
        .replace("s3: {}", "s3: { endpoint: https://s3.example.com, region: r }")
        .replace("host: db.example.com", "host: replica.example.com, port: 6432");
    let objects = "s3_parquet: { url: \"s3://b/*.parquet\", mode: snapshot, connection: lake }";
    let rows = "postgres: { connection: house, query: SELECT 1 }";
    let ordered =
        "s3_parquet: { url: \"s3://b/*.parquet\", mode: snapshot, connection: lake }\ndedupe: { by: updated_at }";
    for source in [objects, rows] {
        assert_eq!(hash(CONNECTIONS, source), hash(&elsewhere, source));
    }
    let changes = [
        (objects, "s3://b/*", "s3://c/*"),
        (ordered, "mode: snapshot", "mode: append"),
        (objects, "mode: snapshot", "mode: snapshot, hive_partitions: true"),
        (rows, "SELECT 1", "SELECT 2"),
        (rows, "query: SELECT 1", "table: people"),
    ];
    for (source, from, to) in changes {
        assert_ne!(hash(CONNECTIONS, source), hash(CONNECTIONS, &source.replace(from, to)), "{to}");
    }
}
