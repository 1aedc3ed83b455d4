//! A prefix with a million keys. In a process of its own, which nothing else disturbs.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use convoke_core::ids::ConnectionName;
use convoke_core::source::{Discover, Source, SourcePosition, SplitOutcome, SplitResult};
use convoke_core::spec::{ObjectFormat, ObjectStoreConnection, ObjectsMode, ObjectsSpec, S3Connection, S3Credentials};
use convoke_source_object::ObjectSource;
use convoke_testkit::clock::TestClock;
use convoke_testkit::scripted_http::{HttpAnswer, RecordedRequest, Reply, ScriptedHttp};

const KEYS: usize = 1_000_000;
const PAGE: usize = 1_000;
const AVRO: ObjectFormat = ObjectFormat::Avro { max_malformed: 0.0 };

/// The page of a listing that a request asks for; its number is the token of the one before.
fn page(request: &RecordedRequest, keys: usize) -> Reply {
    let token = request.target.split('&').find_map(|part| part.rsplit_once("continuation-token=")?.1.parse().ok());
    let start: usize = token.unwrap_or(0);
    let end = (start + PAGE).min(keys);
    let mut body = String::with_capacity(PAGE * 250);
    body.push_str("<ListBucketResult>");
    for number in start..end {
        // One in ten thousand is of another kind.
        let ending = if number % 10_000 == 0 { "avro" } else { "csv" };
        write!(
            body,
            "<Contents><Key>in/day={:04}/part-{number:09}.{ending}</Key><LastModified>2026-01-01T00:00:00.000Z\
             </LastModified><ETag>&quot;{number:032x}&quot;</ETag><Size>1000</Size></Contents>",
            number / 1_000
        )
        .unwrap();
    }
    match end < keys {
        true => write!(body, "<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"),
        false => write!(body, "<IsTruncated>false</IsTruncated>"),
    }
    .unwrap();
    body.push_str("</ListBucketResult>");
    Reply::Answer(HttpAnswer::new(200, body))
}

async fn server_of(keys: usize) -> ScriptedHttp {
    let server = ScriptedHttp::start().await;
    server.route("GET", "/lake", move |request| page(request, keys));
    server
}

fn source(server: &ScriptedHttp, pattern: &str, format: ObjectFormat) -> ObjectSource {
    let keys =
        S3Credentials { access_key_id: "key".to_owned(), secret_access_key: "secret".into(), session_token: None };
    let connection = S3Connection {
        endpoint: Some(server.url()),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        credentials: Some(keys),
        ..S3Connection::default()
    };
    let mut spec = ObjectsSpec::parquet(format!("s3://lake/in/{pattern}"), ObjectsMode::Append);
    (spec.connection, spec.format) = (Some(ConnectionName::new("lake")), format);
    ObjectSource::open(spec, Some(&ObjectStoreConnection::S3(connection)), TestClock::leaping() as Arc<_>).unwrap()
}

/// Most memory that the process has had so far, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// One after the other: the first is about memory.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_million_keys_those_that_count_and_those_that_are_new_are_found() {
    a_million_keys_take_memory_for_those_that_count_alone_and_are_listed_once().await;
    among_a_hundred_thousand_objects_that_are_known_three_new_ones_are_found().await;
}

async fn a_million_keys_take_memory_for_those_that_count_alone_and_are_listed_once() {
    /// For a hundred objects, and what an allocator keeps.
    const FEW: u64 = 32 << 20;
    let server = server_of(20_000).await;
    let small = source(&server, "**/*.avro", AVRO);
    assert_eq!(small.discover(Discover { stored: None, reread: false }).await.unwrap().splits.len(), 2);
    let before = peak_memory();
    let server = server_of(KEYS).await;
    let discovery =
        source(&server, "**/*.avro", AVRO).discover(Discover { stored: None, reread: false }).await.unwrap();
    assert_eq!(discovery.splits.len(), KEYS / 10_000);
    assert_eq!(server.requests().len(), KEYS / PAGE);
    let after = peak_memory();
    assert!(after < before + FEW, "{after} bytes, {before} after twenty thousand keys");
}

/// The position knows each of them; only what is new is read, and nothing else is opened.
async fn among_a_hundred_thousand_objects_that_are_known_three_new_ones_are_found() {
    const KNOWN: usize = 100_000;
    let server = server_of(KNOWN).await;
    let first = source(&server, "**/*.*", AVRO);
    let discovery = first.discover(Discover { stored: None, reread: false }).await.unwrap();
    assert_eq!(discovery.splits.len(), KNOWN);
    let outcome = |split| SplitOutcome { split, result: SplitResult::Read { fingerprint: String::new(), records: 1 } };
    let outcomes: Vec<_> = discovery.splits.into_iter().map(outcome).collect();
    let stored: SourcePosition = first.propose(None, &outcomes);
    assert!(stored.0.to_string().len() < KNOWN * 21, "twenty letters each");
    let server = server_of(KNOWN + 3).await;
    let later = source(&server, "**/*.*", AVRO);
    let found = later.discover(Discover { stored: Some(&stored), reread: false }).await.unwrap();
    let names: Vec<_> = found.splits.iter().map(|split| split.name.as_str()).collect();
    assert_eq!(
        names,
        [100_000, 100_001, 100_002].map(|number| {
            let ending = if number % 10_000 == 0 { "avro" } else { "csv" };
            format!("day=0100/part-{number:09}.{ending}")
        })
    );
    assert_eq!(server.requests().len(), KNOWN / PAGE + 1, "nothing but the listing is asked for");
}
