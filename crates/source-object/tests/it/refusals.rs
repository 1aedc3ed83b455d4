//! Stores that refuse, or are not there.

use std::time::Duration;

use convoke_core::error::SourceErrorKind;
use convoke_core::spec::{ObjectsMode, ObjectsSpec, S3Connection};
use convoke_core::{Origin, SourceError};
use convoke_source_object::ObjectSource;
use convoke_testkit::clock::TestClock;
use convoke_testkit::contract::source::SourceSetUp;
use secrecy::SecretString;

use crate::fixture::{TestObjects, chain, large_file, open, small_file};

const MODE: ObjectsMode = ObjectsMode::Snapshot;

/// Objects on a server that is spoken to over this connection, and what becomes of it.
async fn refused(pattern: &str, change: impl FnOnce(&mut S3Connection)) -> SourceError {
    let objects = TestObjects::on_s3_with(MODE, pattern, change).await;
    objects.put_object("a.parquet", &small_file("id", "1"));
    let error = objects.try_discover(None, false).await.unwrap_err();
    assert_tells_no_secret(&error, &objects);
    assert_eq!((error.origin, error.kind), (Origin::User, SourceErrorKind::Failed), "{error}");
    error
}

fn assert_tells_no_secret(error: &SourceError, objects: &TestObjects) {
    let (server, told) = (objects.server(), chain(error));
    for secret in [server.secret_access_key(), server.access_key_id(), "WRONG", "Signature="] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn wrong_keys_are_told_by_which_of_them_is_wrong() {
    // A listing is refused with a reason, a look at a single object without one; both are told with it.
    for pattern in ["*.parquet", "a.parquet"] {
        let error = refused(pattern, |connection| {
            connection.credentials.as_mut().unwrap().access_key_id = "WRONGKEY".to_owned();
        });
        let error = error.await.to_string();
        assert!(error.contains("does not know the access key id; correct it in connection `warehouse`"), "{error}");
        let error = refused(pattern, |connection| {
            connection.credentials.as_mut().unwrap().secret_access_key = SecretString::from("WRONG");
        });
        let error = error.await.to_string();
        assert!(error.contains("the secret access key does not belong to the access key id"), "{error}");
    }
}

#[tokio::test]
async fn expired_keys_are_told_before_and_in_the_middle_of_a_run() {
    for pattern in ["*.parquet", "a.parquet"] {
        let objects = TestObjects::on_s3(MODE, pattern).await;
        objects.put_object("a.parquet", &large_file(0));
        let discovery = objects.discover(None).await;
        let parquet = objects.open_split(&discovery.splits[0]).await;
        objects.server().expire();
        let in_the_middle = parquet.file.read(std::slice::from_ref(&(0..100))).await.unwrap_err();
        let before = objects.try_discover(None, false).await.unwrap_err();
        for error in [in_the_middle, before] {
            assert_tells_no_secret(&error, &objects);
            assert_eq!(error.kind, SourceErrorKind::Failed);
            let told = error.to_string();
            assert!(told.contains("have expired; renew them in connection `warehouse`"), "{told}");
        }
    }
}

#[tokio::test]
async fn a_missing_bucket_is_told_with_its_name_and_address() {
    let objects = TestObjects::on_s3(MODE, "*.parquet").await;
    let stored = {
        objects.put_object("a.parquet", &small_file("id", "1"));
        objects.run(None, &[]).await
    };
    for (url, stored) in [
        ("s3://other/in/*.parquet", None),
        ("s3://other/in/*.parquet", Some(&stored)),
        ("s3://other/in/a.parquet", None),
    ] {
        let source = open(url, MODE, &objects.server().connection()).unwrap();
        let request = convoke_core::source::Discover { stored, reread: false };
        let error = convoke_core::source::Source::discover(&source, request).await.unwrap_err().to_string();
        let expected = format!("there is no bucket `other` at `{}`", objects.server().endpoint());
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let objects = TestObjects::on_s3(MODE, "*.parquet").await;
    objects.put_object("a.parquet", &large_file(0));
    let discovery = objects.discover(None).await;
    objects.server().deny("GetObject");
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("cannot read `s3://lake/in/a.parquet`"), "{error}");
    assert!(error.contains("allow the keys of connection `warehouse` `s3:GetObject` on `lake/*`"), "{error}");
    let parquet = objects.open_split(&discovery.splits[0]).await;
    let error = parquet.file.read(std::slice::from_ref(&(0..100))).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Failed, "{error}");
    objects.server().deny("ListObjectsV2");
    let error = objects.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("allow the keys of connection `warehouse` `s3:ListBucket` on `lake`"), "{error}");
}

#[tokio::test]
async fn a_store_that_is_down_is_told_soon_with_its_address() {
    let mut objects = TestObjects::on_s3(MODE, "*.parquet").await;
    objects.put_object("a.parquet", &large_file(0));
    let discovery = objects.discover(None).await;
    let parquet = objects.open_split(&discovery.splits[0]).await;
    objects.server_mut().stop();
    let both = async {
        let listed = objects.try_discover(None, false).await.unwrap_err();
        (listed, parquet.file.read(std::slice::from_ref(&(0..100))).await.unwrap_err())
    };
    let (listed, read) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    for error in [listed, read] {
        assert_eq!((error.origin, error.kind), (Origin::External, SourceErrorKind::Failed), "{error}");
        let expected = format!("`{}` cannot be reached; check `endpoint`", objects.server().endpoint());
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(chain(&error).contains("onnection refused"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_server_that_is_none_of_s3_is_told() {
    let server = convoke_testkit::scripted_http::ScriptedHttp::start().await;
    let connection = S3Connection { endpoint: Some(server.url()), path_style: true, ..some_connection() };
    let source = open("s3://lake/in/*.parquet", MODE, &connection).unwrap();
    let request = convoke_core::source::Discover { stored: None, reread: false };
    let error = convoke_core::source::Source::discover(&source, request).await.unwrap_err();
    assert!(error.to_string().contains("is overloaded or failing"), "{error}");
    assert!(chain(&error).contains("HTTP status 599"), "{}", chain(&error));
}

fn some_connection() -> S3Connection {
    let credentials = convoke_core::spec::S3Credentials {
        access_key_id: "AKID".to_owned(),
        secret_access_key: SecretString::from("secret"),
        session_token: Some(SecretString::from("token")),
    };
    S3Connection { credentials: Some(credentials), ..S3Connection::default() }
}

#[tokio::test]
async fn a_folder_that_is_missing_or_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for (name, expected) in [("missing", "create it, or correct `url`"), ("file", "is no folder; correct `url`")] {
        let url = format!("file://{}/{name}/*.parquet", folder.path().display());
        let source = ObjectSource::open(ObjectsSpec::parquet(url, MODE), None, TestClock::leaping()).unwrap();
        let request = convoke_core::source::Discover { stored: None, reread: false };
        let error = convoke_core::source::Source::discover(&source, request).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let error = |url: &str| open(url, MODE, &some_connection()).err().unwrap().to_string();
    assert!(error("ftp://lake/*.parquet").contains("is on a store that is not supported"));
    assert!(error("gs://lake/*.parquet").contains("`warehouse` is of kind `s3`"));
    assert!(error("file:///in/*.parquet").contains("takes no `connection`"));
}
