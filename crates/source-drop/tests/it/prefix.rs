//! A drop folder that is a prefix in an object store.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::error::SourceErrorKind;
use convoke_core::source::{Discover, Discovery, Source, SourcePosition, Split};
use convoke_core::spec::{CsvDropSpec, DropMode, DropPlace, ObjectStoreConnection, ProcessedFiles};
use convoke_core::{Clock, ConnectionName, Timestamp};
use convoke_source_drop::{CsvDrop, Taker};
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord, obeys_the_contract};
use convoke_testkit::s3::S3Server;

use crate::test_folder::{csv_of, names, outcomes_of};

const BUCKET: &str = "inbox";

/// A clock at which everything has settled.
#[derive(Debug)]
struct MuchLater;

#[async_trait]
impl Clock for MuchLater {
    fn now(&self) -> Timestamp {
        Timestamp(4_000_000_000_000)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _duration: Duration) {
        std::future::pending().await
    }
}

struct Prefix {
    server: S3Server,
    spec: CsvDropSpec,
    source: CsvDrop,
    puts: AtomicU64,
}

impl Prefix {
    async fn new(drop_mode: DropMode, change: impl FnOnce(&mut CsvDropSpec)) -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        let place =
            DropPlace::Prefix { url: format!("s3://{BUCKET}/crm/"), connection: Some(ConnectionName::new("lake")) };
        let mut spec = CsvDropSpec {
            place,
            pattern: "*.csv".to_owned(),
            drop_mode,
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
        change(&mut spec);
        let source = open(&server, &spec);
        Self { server, spec, source, puts: AtomicU64::new(0) }
    }

    fn taker(&self, installation: &str) -> CsvDrop {
        let (sync, holder) = ("people".to_owned(), "host (process 1)".to_owned());
        open(&self.server, &self.spec).for_taker(Taker { installation: installation.to_owned(), sync, holder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.path_of(BUCKET, &format!("crm/{name}"))
    }

    /// Puts an object that is newer than all before, and than all that is moved in this test.
    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let minutes_from_2033 = self.puts.fetch_add(1, Ordering::SeqCst) + 1;
        self.write_at(name, contents, Duration::from_secs(2_000_000_000 + minutes_from_2033 * 60));
    }

    /// Puts an object as if at this time since 1970.
    fn write_at(&self, name: &str, contents: impl AsRef<[u8]>, time: Duration) {
        self.server.put(BUCKET, &format!("crm/{name}"), contents);
        let time = std::time::SystemTime::UNIX_EPOCH + time;
        std::fs::File::options().write(true).open(self.path(name)).unwrap().set_modified(time).unwrap();
    }

    fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(below)) else { return Vec::new() };
        let files = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn discover(&self, stored: Option<&SourcePosition>) -> Discovery {
        self.source.discover(Discover { stored, reread: false }).await.unwrap()
    }

    async fn run(&self, stored: Option<&SourcePosition>) -> SourcePosition {
        let discovery = self.discover(stored).await;
        let outcomes = outcomes_of(&self.source, &discovery.splits).await;
        let proposed = self.source.propose(stored, &outcomes);
        self.source.acknowledge(&outcomes).await.unwrap();
        proposed
    }
}

fn open(server: &S3Server, spec: &CsvDropSpec) -> CsvDrop {
    let connection = ObjectStoreConnection::S3(server.connection());
    CsvDrop::open(spec.clone(), Some(&connection), Arc::new(MuchLater)).unwrap()
}

#[async_trait]
impl SourceSetUp for Prefix {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    async fn put(&self, records: &[SuiteRecord]) {
        let number = self.puts.load(Ordering::SeqCst);
        self.write(&format!("contacts-{number}.csv"), csv_of(records));
    }

    async fn replace(&self, split: &Split) -> bool {
        self.write(&split.name, "id,name\nother,Other\n");
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_obeys_the_contract() {
    obeys_the_contract(async || Prefix::new(DropMode::Snapshot, |_| {}).await).await;
    obeys_the_contract(async || Prefix::new(DropMode::Append, |_| {}).await).await;
    obeys_the_contract(async || Prefix::new(DropMode::Append, |spec| spec.processed = ProcessedFiles::Keep).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_put_away_and_never_replace_one() {
    let prefix = Prefix::new(DropMode::Append, |_| {}).await;
    let mut stored = None;
    for contents in ["a\n1\n", "a\n2\n"] {
        prefix.write("contacts.csv", contents);
        stored = Some(prefix.run(stored.as_ref()).await);
    }
    prefix.write("bad.csv", "a,a\n1,2\n");
    stored = Some(prefix.run(stored.as_ref()).await);
    assert!(prefix.names("").is_empty());
    assert_eq!(prefix.names("processed"), ["contacts.1.csv", "contacts.csv"]);
    assert_eq!(prefix.names("quarantine"), ["bad.csv", "bad.csv.reason.txt"]);
    let reason = std::fs::read_to_string(prefix.path("quarantine/bad.csv.reason.txt")).unwrap();
    assert!(reason.contains("both named `a`"), "{reason}");
    prefix.write("again.csv", "a\n1\n");
    let again = prefix.discover(stored.as_ref()).await;
    assert!(again.unchanged && again.notices[0].contains("same contents as `contacts.csv`"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_and_manifests_say_when_objects_are_complete() {
    let marked = Prefix::new(DropMode::Append, |spec| spec.done_suffix = Some(".done".to_owned())).await;
    marked.write("a.csv", "a\n1\n");
    marked.write("b.csv", "a\n2\n");
    marked.write("b.csv.done", "");
    assert_eq!(names(&marked.discover(None).await), ["b.csv"]);
    marked.run(None).await;
    assert_eq!(marked.names("processed"), ["b.csv", "b.csv.done"]);
    let listed = Prefix::new(DropMode::Snapshot, |spec| spec.manifest = Some("*.manifest".to_owned())).await;
    let contents = [("a.csv", "a\n1\n"), ("b.csv", "a\n2\n"), ("1.manifest", "a.csv\nb.csv\n")];
    for (name, contents) in contents {
        listed.write_at(name, contents, Duration::from_secs(60));
    }
    assert_eq!(names(&listed.discover(None).await), ["a.csv", "b.csv"]);
    listed.run(None).await;
    assert_eq!(listed.names("processed"), ["1.manifest", "a.csv", "b.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_hidden_elsewhere_and_empty_markers_are_seen() {
    let hidden = Prefix::new(DropMode::Append, |spec| spec.pattern = "_*".to_owned()).await;
    hidden.write("_people.csv", "a\n1\n");
    assert_eq!(names(&hidden.discover(None).await), ["_people.csv"]);
    let marked = Prefix::new(DropMode::Append, |spec| {
        (spec.pattern, spec.done_suffix) = ("people".to_owned(), Some("_DONE".to_owned()));
    })
    .await;
    marked.write("people", "a\n1\n");
    marked.write("people_DONE", "");
    assert_eq!(names(&marked.discover(None).await), ["people"]);
    marked.run(None).await;
    assert_eq!(marked.names("processed"), ["people", "people_DONE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_taken_letter_for_letter() {
    let prefix = Prefix::new(DropMode::Append, |spec| {
        let connection = Some(ConnectionName::new("lake"));
        spec.place = DropPlace::Prefix { url: format!("s3://{BUCKET}/crm/in[1]/"), connection };
    })
    .await;
    prefix.write("in[1]/a.csv", "a\n1\n");
    prefix.write("in1/b.csv", "a\n2\n");
    assert_eq!(names(&prefix.discover(None).await), ["a.csv"]);
    prefix.run(None).await;
    assert_eq!(prefix.names("in[1]/processed"), ["a.csv"]);
    assert_eq!((prefix.names("in[1]"), prefix.names("in1")), (Vec::new(), vec!["b.csv".to_owned()]));
}

/// A moved object is written anew, so its time does not tell when it was dropped.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_before_a_broken_object_was_moved_away_is_not_taken_for_older_than_it() {
    let prefix = Prefix::new(DropMode::Snapshot, |_| {}).await;
    prefix.write_at("older.csv", "a\n1\n", Duration::from_secs(60));
    prefix.write_at("bad.csv", "a,a\n1,2\n", Duration::from_secs(120));
    let outcomes = outcomes_of(&prefix.source, &prefix.discover(None).await.splits).await;
    prefix.write_at("newer.csv", "a\n3\n", Duration::from_secs(180));
    prefix.source.acknowledge(&outcomes).await.unwrap();
    assert_eq!(prefix.names("quarantine"), ["bad.csv", "bad.csv.reason.txt"]);
    assert_eq!(names(&prefix.discover(None).await), ["newer.csv"]);
    std::fs::remove_file(prefix.path("newer.csv")).unwrap();
    let error = prefix.source.discover(Discover { stored: None, reread: false }).await.unwrap_err().to_string();
    assert!(error.contains("`older.csv` is older than `bad.csv`, which lies in `quarantine/`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_one_takes_an_object() {
    let prefix = Prefix::new(DropMode::Append, |_| {}).await;
    prefix.write("a.csv", "a\n1\n");
    let (one, other) = (prefix.taker("one"), prefix.taker("other"));
    let request = Discover { stored: None, reread: false };
    let (of_one, of_other) = (one.discover(request).await.unwrap(), other.discover(request).await.unwrap());
    let (claimed, refused) = tokio::join!(one.claim(&of_one.splits), other.claim(&of_other.splits));
    let (winner, loser, error) = match (claimed, refused) {
        (Ok(()), Err(error)) => ((one, of_one), other, error),
        (Err(error), Ok(())) => ((other, of_other), one, error),
        both => panic!("one of two: {both:?}"),
    };
    assert_eq!(error.kind, SourceErrorKind::Changed);
    assert!(error.to_string().contains("`a.csv` is left to sync `people`"), "{error}");
    let outcomes = outcomes_of(&winner.0, &winner.1.splits).await;
    winner.0.acknowledge(&outcomes).await.unwrap();
    let error = loser.claim(&winner.1.splits).await.unwrap_err();
    assert!(error.to_string().contains("was taken by somebody else"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_come_to_a_prefix_is_seen() {
    let prefix = Prefix::new(DropMode::Append, |_| {}).await;
    let nothing = prefix.source.arrivals(None).await.unwrap().unwrap();
    assert_eq!((nothing.mark, nothing.count), (None, 0));
    prefix.write("a.csv", "a\n1\n");
    assert_eq!(prefix.source.arrivals(None).await.unwrap().unwrap().count, 1);
    let stored = prefix.run(None).await;
    assert_eq!(prefix.source.arrivals(Some(&stored)).await.unwrap().unwrap().count, 0);
}
