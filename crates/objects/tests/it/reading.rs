//! Reading a pinned object from its beginning to its end.

use std::io::Read;

use convoke_core::SourceError;
use convoke_core::error::SourceErrorKind;
use convoke_core::spec::{ObjectStoreConnection, S3Connection, S3Credentials};
use convoke_objects::{Location, ObjectReader, Store, source_error};
use convoke_testkit::scripted_http::{HttpAnswer, RecordedRequest, Reply, ScriptedHttp};

use crate::fixture::TestStore;

/// Some bytes that do not repeat.
fn contents(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64).map(|index| ((index + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

async fn read_whole(mut reader: ObjectReader) -> Result<Vec<u8>, SourceError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).map(|_| read)
    });
    read.await.unwrap().map_err(|error| source_error(error).unwrap())
}

#[tokio::test]
async fn an_object_is_read_whole_whatever_its_length() {
    for store in TestStore::both().await {
        for length in [0, 1, 4 << 20, (9 << 20) + 7] {
            let whole = contents(length, 1);
            store.place("a.csv", &whole);
            let read = read_whole(store.store.reader(store.pin("a.csv").await)).await.unwrap();
            assert!(read == whole, "{length} bytes");
        }
    }
}

#[tokio::test]
async fn an_object_that_is_replaced_between_two_parts_is_told_as_changed() {
    for store in TestStore::both().await {
        store.place("a.csv", &contents(20 << 20, 1));
        let mut reader = store.store.reader(store.pin("a.csv").await);
        let (mut reader, first) = tokio::task::spawn_blocking(move || {
            let mut first = [0; 1];
            reader.read_exact(&mut first).unwrap();
            (reader, first)
        })
        .await
        .unwrap();
        assert_eq!(first[0], contents(1, 1)[0]);
        store.place("a.csv", &contents(20 << 20, 2));
        let rest = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let error = source_error(rest.await.unwrap().unwrap_err()).unwrap();
        assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
    }
}

#[tokio::test]
async fn what_is_read_ahead_is_bounded() {
    let store = TestStore::on_s3().await;
    store.place("a.csv", &contents(40 << 20, 1));
    let pin = store.pin("a.csv").await;
    let mut reader = store.store.reader(pin);
    tokio::task::spawn_blocking(move || {
        reader.read_exact(&mut [0; 1]).unwrap();
        reader
    })
    .await
    .unwrap();
    assert!(store.server().requests("GetObject") <= 2, "one part is read, and one ahead of it");
}

fn scripted_store(server: &ScriptedHttp) -> Store {
    let credentials =
        S3Credentials { access_key_id: "AKID".to_owned(), secret_access_key: "secret".into(), session_token: None };
    let connection = S3Connection {
        endpoint: Some(server.url()),
        path_style: true,
        credentials: Some(credentials),
        ..S3Connection::default()
    };
    Store::open(&Location::parse("s3://lake/*.csv").unwrap(), None, Some(&ObjectStoreConnection::S3(connection)))
        .unwrap()
}

fn answer(status: u16, body: &[u8], range: Option<&str>) -> HttpAnswer {
    let answer = HttpAnswer::new(status, body)
        .header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("ETag", "\"one\"");
    match range {
        Some(range) => answer.header("Content-Range", range),
        None => answer,
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_taken_up_again_at_the_byte_it_had_reached_and_under_the_pin() {
    let server = ScriptedHttp::start().await;
    let whole = contents(1_000, 1);
    server.then(Reply::Truncated { answer: answer(200, &whole, None), body_bytes: 0 });
    let first = answer(206, &whole, Some("bytes 0-999/1000"));
    server.then(Reply::Truncated { answer: first, body_bytes: 400 });
    server.then(answer(206, &whole[400..], Some("bytes 400-999/1000")).into());
    let store = scripted_store(&server);
    let pin = store.look("a.csv").await.unwrap().unwrap().pin;
    assert!(read_whole(store.reader(pin)).await.unwrap() == whole);
    let requests = server.requests();
    let header = |request: &RecordedRequest, name| request.header(name).map(str::to_owned);
    assert_eq!(header(&requests[2], "range").as_deref(), Some("bytes=400-999"));
    assert_eq!(header(&requests[2], "if-match").as_deref(), Some("\"one\""));
}

#[tokio::test]
async fn what_takes_up_a_broken_connection_is_never_another_object() {
    let server = ScriptedHttp::start().await;
    let whole = contents(1_000, 1);
    server.then(Reply::Truncated { answer: answer(200, &whole, None), body_bytes: 0 });
    let first = answer(206, &whole, Some("bytes 0-999/1000"));
    server.then(Reply::Truncated { answer: first, body_bytes: 400 });
    server.then(HttpAnswer::new(412, "<Error><Code>PreconditionFailed</Code></Error>").into());
    let store = scripted_store(&server);
    let pin = store.look("a.csv").await.unwrap().unwrap().pin;
    let error = read_whole(store.reader(pin)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
}
