//! Where state is kept, and what the daemon does.

use std::path::Path;
use std::time::Duration;

use convoke_core::spec::TlsMode;

use crate::directory::Directory;

const CONNECTIONS: &str = "lake: { s3: { region: eu-central-1 } }\nlocal: { embedded: { data: store } }\n";

fn directory(convoke: &str) -> Directory {
    Directory::default().file("config/connections.yaml", CONNECTIONS).file("config/convoke.yaml", convoke)
}

#[test]
fn one_machine_needs_to_say_nothing() {
    let settings = Directory::new().loaded().settings;
    assert_eq!(settings.state.lease, Duration::from_secs(60));
    assert!(settings.state.postgres.is_none() && settings.state.ledger.is_none());
    assert_eq!(settings.serve.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!((settings.serve.concurrency, settings.serve.drain), (4, Duration::from_secs(25)));
}

#[test]
fn replicas_share_a_database_and_an_object_store() {
    let text = "\
state:
  lease: 15s
  postgres: { host: localhost, port: 5433, database: convoke, user: me, connect_timeout: 2s }
  ledger: { url: \"s3://state/ledger\", connection: lake }
serve: { listen: \"[::]:9090\", concurrency: 2, drain: 1m }
";
    let settings = directory(text).loaded().settings;
    let database = settings.state.postgres.unwrap();
    assert_eq!((database.host.as_str(), database.port, database.tls), ("localhost", 5433, TlsMode::Prefer));
    assert_eq!((database.database.as_str(), database.user.as_str()), ("convoke", "me"));
    assert_eq!((database.connect_timeout.as_secs(), database.statement_timeout.as_secs()), (2, 3600));
    let ledger = settings.state.ledger.unwrap();
    assert_eq!(ledger.url, "s3://state/ledger");
    assert_eq!(ledger.connection.unwrap().region.as_deref(), Some("eu-central-1"));
    assert_eq!(settings.state.lease, Duration::from_secs(15));
    assert_eq!(settings.serve.listen, "[::]:9090".parse().unwrap());
    assert_eq!((settings.serve.concurrency, settings.serve.drain), (2, Duration::from_secs(60)));
}

#[test]
fn a_shared_folder_can_hold_the_ledger() {
    for url in ["shared/ledger/", "file:///project/shared/ledger"] {
        let text = format!("state: {{ postgres: {{ host: /run, database: d, user: u }}, ledger: {{ url: {url} }} }}\n");
        let settings = directory(&text).loaded().settings;
        let ledger = settings.state.ledger.unwrap();
        assert_eq!((ledger.url.as_str(), ledger.connection.is_none()), ("file:///project/shared/ledger", true));
        assert_eq!(Path::new(&settings.state.postgres.unwrap().host), Path::new("/run"));
    }
}

#[test]
fn wrong_state_and_serve_settings_are_refused() {
    let database = "postgres: { host: localhost, database: d, user: u }";
    let ledger = "ledger: { url: \"s3://state/ledger\" }";
    let cases = [
        (
            format!("state: {{ {database} }}"),
            "`state.ledger`: is missing; processes that share a checkpoint store share the ledger too: give",
        ),
        (format!("state: {{ {ledger} }}"), "`state.ledger`: is for `postgres` only; without it the ledger stands in"),
        ("state: { lease: 4s }".to_owned(), "`state.lease`: is so short that a process could lose its lease"),
        (
            format!("state: {{ postgres: {{ host: localhost, user: u }}, {ledger} }}"),
            "`state.postgres.database`: is missing; give a text",
        ),
        (
            format!("state: {{ {database}, ledger: {{ url: \"gs://state/ledger\" }} }}"),
            "`state.ledger.url`: names a kind of store that state is not kept on; use `s3://` or `file:///`",
        ),
        (
            format!("state: {{ {database}, ledger: {{ url: \"s3://state\", connection: lak }} }}"),
            "`state.ledger.connection`: there is no connection `lak`; did you mean `lake`?",
        ),
        (
            format!("state: {{ {database}, ledger: {{ url: \"s3://state\", connection: local }} }}"),
            "`state.ledger.connection`: `local` is a connection of kind `embedded`; name one of kind `s3`",
        ),
        (
            format!("state: {{ {database}, ledger: {{ url: shared, connection: lake }} }}"),
            "`state.ledger.connection`: is for `s3://` only, and the URL is a path; remove it",
        ),
        ("serve: { listen: localhost }".to_owned(), "`serve.listen`: expected an IP address and a port such as"),
        ("serve: { concurrency: 0 }".to_owned(), "`serve.concurrency`: expected a whole number from 1 to 64, not `0`"),
    ];
    for (text, expected) in cases {
        let problems = directory(&text).refused();
        let expected = format!("config/convoke.yaml:1: {expected}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{expected}\n{problems:#?}");
    }
}

#[test]
fn a_refused_connection_is_reported_once_and_not_again_by_who_refers_to_it() {
    let problems = Directory::default()
        .file("config/connections.yaml", "lake: { s3: { endpoint: nowhere } }\n")
        .file(
            "config/convoke.yaml",
            "state:\n  postgres: { host: localhost, database: d, user: u }\n  ledger: { url: \"s3://state\", connection: lake }\n",
        )
        .refused();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with("config/connections.yaml:1: `lake.s3.endpoint`: is not a URL"), "{problems:#?}");
}
