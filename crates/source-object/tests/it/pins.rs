//! Objects that change while somebody reads.

use std::fs;

use convoke_core::SourceError;
use convoke_core::error::SourceErrorKind;
use convoke_core::source::{Discover, Discovery, Selection, Source, SplitContent};
use convoke_core::spec::{ObjectsMode, S3Connection, S3Credentials};
use convoke_source_object::ObjectSource;
use convoke_testkit::contract::source::SourceSetUp;
use convoke_testkit::scripted_http::{HttpAnswer, RecordedRequest, Reply, ScriptedHttp};
use secrecy::SecretString;

use crate::fixture::{TestObjects, large_file, open, parquet_file, small_file, texts};

async fn both() -> [TestObjects; 2] {
    [
        TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet"),
        TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await,
    ]
}

/// Reads the beginning of the only object; gives back the error and its kind.
async fn read_start(objects: &TestObjects, discovery: &Discovery) -> (SourceErrorKind, String) {
    let parquet = objects.open_split(&discovery.splits[0]).await;
    let error = parquet.file.read(std::slice::from_ref(&(0..100))).await.unwrap_err();
    (error.kind, error.to_string())
}

#[tokio::test]
async fn an_object_that_was_replaced_or_removed_is_told_as_changed() {
    for objects in both().await {
        objects.put_object("a.parquet", &large_file(0));
        let discovery = objects.discover(None).await;
        objects.put_object("a.parquet", &large_file(1));
        let (kind, error) = read_start(&objects, &discovery).await;
        assert_eq!(kind, SourceErrorKind::Changed, "{error}");
        assert!(error.contains("/in/a.parquet` was replaced or removed after it was listed; run again"), "{error}");
        let error = objects.source().describe().await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
        objects.remove("a.parquet");
        assert_eq!(read_start(&objects, &discovery).await.0, SourceErrorKind::Changed);
    }
}

#[tokio::test]
async fn an_object_that_was_replaced_after_its_footer_was_read_never_mixes_with_the_old_one() {
    for objects in both().await {
        objects.put_object("a.parquet", &large_file(0));
        let discovery = objects.discover(None).await;
        objects.source().describe().await.unwrap();
        objects.put_object("a.parquet", &large_file(1));
        let (kind, error) = read_start(&objects, &discovery).await;
        assert_eq!(kind, SourceErrorKind::Changed, "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_written_to_in_its_place_is_told_as_changed() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet");
    for change in [large_file(1), b"PAR1".to_vec()] {
        objects.put_at(1, "a.parquet", &large_file(0));
        let discovery = objects.discover(None).await;
        fs::write(objects.path_of("a.parquet"), change).unwrap();
        assert_eq!(read_start(&objects, &discovery).await.0, SourceErrorKind::Changed);
    }
}

#[tokio::test]
async fn a_footer_is_asked_for_once_whoever_reads_it() {
    let objects = TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await;
    let many: Vec<String> = (0..2_000).map(|number| format!("a column with the number {number}")).collect();
    let wide = parquet_file(many.iter().map(|name| (name.as_str(), texts(["x"]))));
    objects.put_at(1, "large.parquet", &large_file(0));
    objects.put_at(2, "wide.parquet", &wide);
    let discovery = objects.discover(None).await;
    assert_eq!(objects.columns().await.len(), 2_001);
    assert_eq!(objects.server().requests("GetObject"), 3, "a long footer takes a second request");
    for split in &discovery.splits {
        let parquet = objects.open_split(split).await;
        let size = parquet.file.size();
        let end = parquet.file.read(&[size - 8..size, size - (64 << 10)..size]).await.unwrap();
        assert!(end[0].ends_with(b"PAR1") && end[1].ends_with(&end[0]));
    }
    assert_eq!(objects.server().requests("GetObject"), 3);
}

#[tokio::test]
async fn ranges_come_in_the_order_in_which_they_were_asked_for_and_near_ones_with_one_request() {
    for objects in both().await {
        let contents = large_file(0);
        objects.put_object("a.parquet", &contents);
        let discovery = objects.discover(None).await;
        let parquet = objects.open_split(&discovery.splits[0]).await;
        assert_eq!(parquet.file.size(), contents.len() as u64);
        let ranges = [900..1_000, 0..4, 4..4, 950..1_500, 20_000..30_000];
        let read = parquet.file.read(&ranges).await.unwrap();
        assert_eq!(read.len(), ranges.len());
        for (range, bytes) in ranges.into_iter().zip(read) {
            assert_eq!(bytes, contents[range.start as usize..range.end as usize], "{range:?}");
        }
    }
    let objects = TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await;
    objects.put_object("a.parquet", &large_file(0));
    let discovery = objects.discover(None).await;
    let parquet = objects.open_split(&discovery.splits[0]).await;
    parquet.file.read(&[0..4, 900..1_000, 20_000..30_000]).await.unwrap();
    assert_eq!(objects.server().requests("GetObject"), 1);
}

#[tokio::test]
async fn a_fingerprint_tells_contents_apart() {
    for objects in both().await {
        let mut fingerprints = Vec::new();
        for value in ["1", "2"] {
            objects.put_object("a.parquet", &small_file("id", value));
            let discovery = objects.discover(None).await;
            fingerprints.push(objects.open_split(&discovery.splits[0]).await.file.fingerprint().to_owned());
        }
        assert!(!fingerprints[0].is_empty() && fingerprints[0] != fingerprints[1], "{fingerprints:?}");
    }
}

/// What a scripted store has listed of an object, and then answers when it is read.
struct Answers<'a> {
    listed_e_tag: &'a str,
    e_tag: Option<&'a str>,
    size: u64,
}

fn scripted_source(server: &ScriptedHttp, pattern: &str) -> ObjectSource {
    let credentials = S3Credentials {
        access_key_id: "AKID".to_owned(),
        secret_access_key: SecretString::from("secret"),
        session_token: None,
    };
    let connection = S3Connection {
        endpoint: Some(server.url()),
        path_style: true,
        credentials: Some(credentials),
        ..S3Connection::default()
    };
    open(&format!("s3://lake/in/{pattern}"), ObjectsMode::Snapshot, &connection).unwrap()
}

fn range_answer(e_tag: Option<&str>, size: u64) -> HttpAnswer {
    let answer = HttpAnswer::new(206, vec![0; 100])
        .header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("Content-Range", &format!("bytes 0-99/{size}"));
    match e_tag {
        Some(e_tag) => answer.header("ETag", e_tag),
        None => answer,
    }
}

/// Reads the beginning of the only object of a store that answers whatever stands in a condition; tells what was asked.
async fn read_scripted(server: &ScriptedHttp, source: &ObjectSource) -> (Result<(), SourceError>, RecordedRequest) {
    let discovery = source.discover(Discover { stored: None, reread: false }).await.unwrap();
    let SplitContent::Parquet(parquet) = source.read(&discovery.splits[0]).await.unwrap() else { panic!() };
    let read = parquet.file.read(std::slice::from_ref(&(0..100))).await.map(drop);
    (read, server.requests().pop().unwrap())
}

async fn read_with(answers: Answers<'_>) -> (Result<(), SourceError>, Option<String>) {
    let server = ScriptedHttp::start().await;
    let listing = format!(
        "<ListBucketResult><Contents><Key>in/a.parquet</Key><Size>1000</Size><ETag>{}</ETag>\
         <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>",
        answers.listed_e_tag
    );
    server.then(HttpAnswer::new(200, listing).into());
    server.then(range_answer(answers.e_tag, answers.size).into());
    let (read, asked) = read_scripted(&server, &scripted_source(&server, "*.parquet")).await;
    (read, asked.header("if-match").map(str::to_owned))
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_pin_is_told_as_changed_also_if_the_store_heeds_no_condition() {
    let pinned = "\"one\"";
    for (e_tag, size) in [("\"two\"", 1_000), (pinned, 2_000)] {
        let (read, condition) = read_with(Answers { listed_e_tag: pinned, e_tag: Some(e_tag), size }).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
        assert_eq!(condition.as_deref(), Some(pinned));
    }
}

#[tokio::test]
async fn an_answer_without_an_etag_is_not_believed_for_its_size() {
    let (read, _) = read_with(Answers { listed_e_tag: "\"one\"", e_tag: None, size: 1_000 }).await;
    let error = read.unwrap_err().to_string();
    assert!(error.contains("/in/a.parquet` has no ETag") && error.contains("send ETags"), "{error}");
}

#[tokio::test]
async fn an_etag_that_is_listed_without_quotes_has_them_in_the_condition() {
    let (read, condition) = read_with(Answers { listed_e_tag: "one", e_tag: Some("\"one\""), size: 1_000 }).await;
    read.unwrap();
    assert_eq!(condition.as_deref(), Some("\"one\""));
}

/// A version can be read when it is not the newest any more.
#[tokio::test]
async fn an_object_with_an_etag_is_not_asked_for_by_its_version() {
    let server = ScriptedHttp::start().await;
    let head = HttpAnswer::new(200, vec![0; 1_000])
        .header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("ETag", "\"one\"")
        .header("x-amz-version-id", "v1");
    server.then(Reply::Truncated { answer: head, body_bytes: 0 });
    server.then(range_answer(Some("\"one\""), 1_000).into());
    let (read, asked) = read_scripted(&server, &scripted_source(&server, "a.parquet")).await;
    read.unwrap();
    assert_eq!(asked.target, "/lake/in/a.parquet");
}

#[tokio::test]
async fn objects_that_count_together_are_read_as_they_lay_together_or_told_as_changed() {
    for objects in both().await {
        objects.put_object("a.parquet", &large_file(0));
        objects.put_object("b.parquet", &large_file(0));
        let discovery = objects.discover(None).await;
        let splits = &discovery.splits;
        objects.source().still_holds(splits).await.unwrap();
        let changed = async |words: &str| {
            let error = objects.source().still_holds(splits).await.unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        };
        objects.put_object("c.parquet", &large_file(0));
        changed("/in/c.parquet` has come while").await;
        objects.remove("c.parquet");
        objects.put_object("b.parquet", &large_file(1));
        changed("/in/b.parquet` was replaced while").await;
        objects.remove("b.parquet");
        changed("/in/b.parquet` has gone while").await;
    }
}

#[tokio::test]
async fn objects_that_add_and_those_of_a_backfill_are_torn_apart_by_nothing() {
    let adding = TestObjects::on_s3(ObjectsMode::Append, "*.parquet").await;
    adding.put_object("a.parquet", &large_file(0));
    let discovery = adding.discover(None).await;
    adding.put_object("b.parquet", &large_file(0));
    adding.source().still_holds(&discovery.splits).await.unwrap();

    let together = TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await;
    together.put_object("a.parquet", &large_file(0));
    together.put_object("b.parquet", &large_file(0));
    let selected = together.source().select(&Selection::Objects("a*".to_owned())).await.unwrap();
    together.source().still_holds(&selected.splits).await.unwrap();
}
