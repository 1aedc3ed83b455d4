//! A network that falls silent before the first record.

use convoke_core::ConnectionName;
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;

/// How long the source under test waits: long enough to get as far as the silence.
const PATIENCE: Duration = Duration::from_secs(3);

/// A way to the database that holds a request with these words back, and says nothing more. Tells what was asked till then.
async fn silent_from(database: &TestDatabase, words: &'static str) -> (u16, oneshot::Receiver<String>) {
    let PostgresConnection { host, port, .. } = database.connection();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own_port = listener.local_addr().unwrap().port();
    let (silence, silent) = oneshot::channel();
    tokio::spawn(async move {
        let (mut from_client, mut to_client) = listener.accept().await.unwrap().0.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect((host, port)).await.unwrap().into_split();
        let answers = async move { tokio::io::copy(&mut from_server, &mut to_client).await };
        let requests = async move {
            let mut asked = String::new();
            while !asked.contains(words) {
                let mut request = Vec::new();
                assert_ne!(from_client.read_buf(&mut request).await.unwrap(), 0, "no request held `{words}`");
                asked.push_str(&String::from_utf8_lossy(&request));
                if !asked.contains(words) {
                    to_server.write_all(&request).await.unwrap();
                }
            }
            silence.send(asked).unwrap();
            // Neither side is closed.
            std::future::pending::<()>().await;
        };
        drop(tokio::join!(answers, requests));
    });
    (own_port, silent)
}

/// The error of a source whose network falls silent at these words, and what was asked before.
async fn error_from(database: &TestDatabase, words: &'static str) -> (SourceError, String) {
    let mut connection = database.connection();
    let (port, silent) = silent_from(database, words).await;
    connection.port = port;
    let relation = Relation::Table { schema: None, name: "contacts".to_owned() };
    let spec = PostgresSpec::whole(ConnectionName::new("database"), relation);
    let mut source = PostgresSource::open(spec, connection.clone(), None).unwrap();
    let sessions = Arc::get_mut(&mut source.sessions).unwrap();
    assert!(sessions.look_timeout > connection.connect_timeout + LOCK_TIMEOUT, "a lock is waited for");
    sessions.look_timeout = PATIENCE;
    let discovered = tokio::time::timeout(PATIENCE * 10, source.discover(Discover { stored: None, reread: false }));
    (discovered.await.expect("an end").unwrap_err(), silent.await.unwrap())
}

#[tokio::test]
async fn a_network_that_falls_silent_before_the_first_record_does_not_hold_the_run() {
    let database = PostgresServer::shared().create_database("silence").await;
    database.execute("CREATE TABLE contacts (id int)").await;
    let places = ["BEGIN", "pg_stat_activity", "\"contacts\"", "pg_type"];
    for (error, _) in join_all(places.map(|words| error_from(&database, words))).await {
        assert_eq!(error.origin, Origin::External, "{error}");
        assert!(error.to_string().contains("was reached and did not tell within 3s"), "{error}");
    }
}

#[tokio::test]
async fn the_session_is_asked_who_serves_it_within_its_transaction() {
    let database = PostgresServer::shared().create_database("who_serves").await;
    let (_, asked) = error_from(&database, "pg_backend_pid").await;
    assert!(asked.contains("BEGIN ISOLATION LEVEL REPEATABLE READ"), "{asked}");
}
