//! A drop folder on the stores of Google and Azure: what is written there, and on which conditions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoke_core::ConnectionName;
use convoke_core::source::{Discover, Source};
use convoke_core::spec::{
    AzureConnection, AzureCredentials, CsvDropSpec, DropMode, DropPlace, GcsConnection, GcsCredentials,
    ObjectStoreConnection, ProcessedFiles,
};
use convoke_source_drop::{CsvDrop, Taker};
use convoke_testkit::clock::TestClock;
use convoke_testkit::scripted_http::{HttpAnswer, RecordedRequest, ScriptedHttp};

use crate::test_folder::{names, outcomes_of};

const WRITTEN: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Google,
    Azure,
}

/// Objects by their keys, each with the number of its version.
#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, (u64, Vec<u8>)>,
    last: u64,
}

impl Bucket {
    fn put(&mut self, key: &str, contents: &[u8]) -> u64 {
        self.last += 1;
        self.objects.insert(key.to_owned(), (self.last, contents.to_vec()));
        self.last
    }

    fn answer(&mut self, kind: Kind, request: &RecordedRequest) -> HttpAnswer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let key = decoded(path.strip_prefix("/lake").unwrap().trim_start_matches('/'));
        let found = self.objects.get(&key).cloned();
        match request.method.as_str() {
            "GET" if key.is_empty() => self.list(kind, query),
            "GET" | "HEAD" => found.map_or(HttpAnswer::new(404, ""), |(version, contents)| {
                let ranged = request.header("range").is_some();
                let range = format!("bytes 0-{}/{}", contents.len().saturating_sub(1), contents.len());
                let answer = versioned(if ranged { 206 } else { 200 }, version, contents);
                if ranged { answer.header("Content-Range", &range) } else { answer }
            }),
            "PUT" => {
                let version = found.map(|(version, _)| version);
                let allowed = match kind {
                    Kind::Google => {
                        let wanted = request.header("x-goog-if-generation-match");
                        wanted.is_none_or(|wanted| wanted == version.unwrap_or(0).to_string())
                    }
                    Kind::Azure => {
                        let fits = |tag: &str| version.is_some_and(|version| tag == e_tag(version));
                        !(request.header("if-none-match") == Some("*") && version.is_some())
                            && request.header("if-match").is_none_or(fits)
                    }
                };
                if !allowed {
                    return HttpAnswer::new(412, "<Error><Code>ConditionNotMet</Code></Error>");
                }
                versioned(201, self.put(&key, &request.body), "")
            }
            "POST" if query.contains("comp=batch") => self.delete_batch(&request.body),
            "DELETE" => {
                self.objects.remove(&key);
                HttpAnswer::new(if kind == Kind::Azure { 202 } else { 204 }, "")
            }
            other => panic!("{other} {}", request.target),
        }
    }

    /// Azure removes objects by a request that holds others.
    fn delete_batch(&mut self, body: &[u8]) -> HttpAnswer {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let mut answer = String::new();
        for (index, line) in body.lines().filter(|line| line.starts_with("DELETE ")).enumerate() {
            let path = line.split(' ').nth(1).unwrap().split('?').next().unwrap();
            self.objects.remove(&decoded(path.trim_start_matches("/lake/")));
            answer.push_str(&format!(
                "--batch\r\nContent-Type: application/http\r\nContent-ID: {index}\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n\r\n"
            ));
        }
        answer.push_str("--batch--\r\n");
        HttpAnswer::new(202, answer).header("Content-Type", "multipart/mixed; boundary=batch")
    }

    fn list(&self, kind: Kind, query: &str) -> HttpAnswer {
        let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).map(decoded).unwrap_or_default();
        let of_level = self.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let of_level = of_level.filter(|(key, _)| !key[prefix.len()..].contains('/'));
        let listed = of_level.map(|(key, (version, contents))| {
            let (tag, size) = (e_tag(*version), contents.len());
            match kind {
                Kind::Google => format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>{tag}</ETag>\
                     <Size>{size}</Size></Contents>"
                ),
                Kind::Azure => format!(
                    "<Blob><Name>{key}</Name><Properties><Last-Modified>{WRITTEN}</Last-Modified><Etag>{tag}</Etag>\
                     <Content-Length>{size}</Content-Length><Content-Type>text/csv</Content-Type></Properties></Blob>"
                ),
            }
        });
        let listed: String = listed.collect();
        HttpAnswer::new(
            200,
            match kind {
                Kind::Google => format!("<ListBucketResult>{listed}</ListBucketResult>"),
                Kind::Azure => format!("<EnumerationResults><Blobs>{listed}</Blobs><NextMarker/></EnumerationResults>"),
            },
        )
    }
}

fn e_tag(version: u64) -> String {
    format!("\"0x{version}\"")
}

fn versioned(status: u16, version: u64, contents: impl Into<Vec<u8>>) -> HttpAnswer {
    HttpAnswer::new(status, contents)
        .header("ETag", &e_tag(version))
        .header("Last-Modified", WRITTEN)
        .header("x-goog-generation", &version.to_string())
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

async fn serve(kind: Kind) -> (ScriptedHttp, Arc<Mutex<Bucket>>) {
    let (server, bucket) = (ScriptedHttp::start().await, Arc::new(Mutex::new(Bucket::default())));
    for method in ["GET", "HEAD", "PUT", "DELETE", "POST"] {
        let bucket = Arc::clone(&bucket);
        server.route(method, "/lake", move |request| bucket.lock().unwrap().answer(kind, request).into());
    }
    (server, bucket)
}

fn connection(kind: Kind, server: &ScriptedHttp) -> ObjectStoreConnection {
    // A key as it is given for what only speaks the protocol: nobody is asked for a token.
    let key = r#"{ "private_key": "x", "private_key_id": "x", "client_email": "x", "disable_oauth": true }"#;
    let (endpoint, http, allow_plain_http) = (Some(server.url()), None, false);
    match kind {
        Kind::Google => ObjectStoreConnection::Gcs(GcsConnection {
            endpoint,
            credentials: GcsCredentials::Key(key.into()),
            http,
            allow_plain_http,
        }),
        Kind::Azure => ObjectStoreConnection::Azure(AzureConnection {
            account: "acme".to_owned(),
            endpoint,
            credentials: AzureCredentials::AccessKey("c2VjcmV0".into()),
            http,
            allow_plain_http,
        }),
    }
}

fn open(kind: Kind, server: &ScriptedHttp) -> CsvDrop {
    let url = if kind == Kind::Google { "gs://lake/in/" } else { "az://lake/in/" };
    let spec = CsvDropSpec {
        place: DropPlace::Prefix { url: url.to_owned(), connection: Some(ConnectionName::new("lake")) },
        pattern: "*.csv".to_owned(),
        drop_mode: DropMode::Append,
        settle: Duration::from_secs(5),
        done_suffix: None,
        manifest: None,
        processed: ProcessedFiles::Move,
        delimiter: Some(','),
        encoding: None,
        columns: Vec::new(),
        aliases: Vec::new(),
        max_malformed: 1.0,
    };
    let taker =
        Taker { installation: "one".to_owned(), sync: "people".to_owned(), holder: "host (process 1)".to_owned() };
    CsvDrop::open(spec, Some(&connection(kind, server)), TestClock::leaping()).unwrap().for_taker(taker)
}

/// The condition under which each write was asked for.
fn conditions(kind: Kind, server: &ScriptedHttp) -> Vec<(String, String)> {
    let puts = server.requests().into_iter().filter(|request| request.method == "PUT");
    let condition = |request: &RecordedRequest| match kind {
        Kind::Google => request.header("x-goog-if-generation-match").map(|wanted| format!("generation {wanted}")),
        Kind::Azure => {
            let new = request.header("if-none-match").map(|none| format!("none {none}"));
            new.or_else(|| request.header("if-match").map(|tag| format!("match {tag}")))
        }
    };
    puts.map(|request| {
        let key = decoded(request.path().trim_start_matches("/lake/"));
        (key, condition(&request).unwrap_or_else(|| "none at all".to_owned()))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_store_objects_are_claimed_and_put_away_on_conditions() {
    for kind in [Kind::Google, Kind::Azure] {
        let (server, bucket) = serve(kind).await;
        for (key, contents) in [("in/a.csv", "a\n1\n"), ("in/bad.csv", "a,a\n1,2\n"), ("in/processed/a.csv", "a\n9\n")]
        {
            bucket.lock().unwrap().put(key, contents.as_bytes());
        }
        let source = open(kind, &server);
        let found = source.discover(Discover { stored: None, reread: false }).await.unwrap();
        assert_eq!(names(&found), ["a.csv", "bad.csv"]);
        source.claim(&found.splits).await.unwrap();
        let outcomes = outcomes_of(&source, &found.splits).await;
        source.acknowledge(&outcomes).await.unwrap();
        let objects = bucket.lock().unwrap().objects.clone();
        let keys: Vec<&str> = objects.keys().map(String::as_str).collect();
        let expected = [
            "in/.convoke/claims.json",
            "in/processed/a.1.csv",
            "in/processed/a.csv",
            "in/quarantine/bad.csv",
            "in/quarantine/bad.csv.reason.txt",
        ];
        assert_eq!(keys, expected, "{kind:?}");
        assert_eq!(objects["in/processed/a.1.csv"].1, b"a\n1\n");
        assert_eq!(objects["in/processed/a.csv"].1, b"a\n9\n");
        let conditions = conditions(kind, &server);
        let new = if kind == Kind::Google { "generation 0" } else { "none *" };
        for (index, (key, condition)) in conditions.iter().enumerate() {
            let replaces = index > 0 && key == "in/.convoke/claims.json";
            let is_fit = if replaces { condition != new && condition != "none at all" } else { condition == new };
            assert!(is_fit, "{kind:?}: {key} under {condition}");
        }
        assert_eq!(conditions.iter().filter(|(key, _)| key == "in/.convoke/claims.json").count(), 2);
    }
}
