//! The drop folder: what comes by itself, what several take, and what comes in thousands.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use convoke_testkit::s3::S3Server;
use serde_json::Value;
use tempfile::TempDir;

use crate::audience::{assert_holds, rows};
use crate::daemon::{Daemon, eventually};
use crate::feeds::{BUCKET, DROP, lake_connection};
use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A workspace over a store of its own, with this source and whatever else.
fn workspace(store: &StoreProcess, source: &str, more: &str) -> Workspace {
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.write("config/syncs/people.yaml", &sync_yaml("upsert", more).replace(DROP, source));
    workspace
}

fn append(path: &Path) -> String {
    format!("csv_drop: {{ path: \"{}\", mode: append, settle: 0s }}", path.display())
}

fn csv_of(people: &[Person]) -> String {
    let lines = people.iter().map(|person| {
        let Person { email, name, score, updated_at } = person;
        format!("{email},{name},{score},{updated_at}\n")
    });
    std::iter::once("email,name,score,updated_at\n".to_owned()).chain(lines).collect()
}

fn file_count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file())).count()
}

fn runs(workspace: &Workspace) -> Vec<Value> {
    let ended = workspace.convoke(&["runs", SYNC, "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    ended.json().as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_file_reaches_its_audience_without_any_time_of_a_schedule() {
    let store = StoreProcess::start();
    // So rarely is looked that only a watcher can have told.
    let more = "schedule: { arrival: true, scan: 1h }\n";
    let workspace = workspace(&store, DROP, more);
    workspace.convoke(&["schedule", "next"]).expect(0, &["people: on arrival, looked at every 3600 s"]);
    let daemon = Daemon::start(&workspace);
    eventually("ready", LONG, async || daemon.get("/readyz").await.0 == 200).await;
    eventually("a first look", LONG, async || daemon.metric("convoke_arrivals{").await == Some(0.0)).await;
    for (number, until) in [(1, 20), (2, 30)] {
        workspace.drop_csv(&format!("{number}.csv"), &people(0..until));
        eventually("the rows of the file", LONG, async || {
            rows(&store.base_url, &store.client, "People").await.len() == until
        })
        .await;
        let is_counted = async || daemon.metric("convoke_arrival_runs_total{").await == Some(f64::from(number));
        eventually("one run for each file", LONG, is_counted).await;
    }
    assert_holds(&store.base_url, &store.client, &people(0..30)).await;
    eventually("the files are put away", LONG, async || file_count(&workspace.path("drop/processed")) == 2).await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &[]);
    assert_eq!(runs(&workspace).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_watcher_tells_of_a_scan_finds() {
    let store = StoreProcess::start();
    let workspace = workspace(&store, DROP, "schedule: { arrival: true, scan: 1s }\n");
    let daemon = Daemon::start(&workspace);
    eventually("a first look", LONG, async || daemon.metric("convoke_arrivals{").await == Some(0.0)).await;
    // What was watched is now elsewhere.
    fs::rename(workspace.path("drop"), workspace.path("away")).expect("a rename");
    fs::create_dir(workspace.path("drop")).expect("a folder");
    workspace.drop_csv("1.csv", &people(0..20));
    eventually("the rows of the file", LONG, async || rows(&store.base_url, &store.client, "People").await.len() == 20)
        .await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_files_takes_few_runs() {
    const FILES: usize = 600;
    let store = StoreProcess::start();
    let source = DROP.replace("snapshot", "append").replace("0s", "1s");
    let workspace =
        workspace(&store, &source, "schedule: arrival\nguards: { max_create: { percent: 100%, records: 100000 } }\n");
    let daemon = Daemon::start(&workspace);
    eventually("ready", LONG, async || daemon.get("/readyz").await.0 == 200).await;
    for number in 0..FILES {
        workspace.drop_csv(&format!("{number}.csv"), &people(number..number + 1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("every file is put away", 2 * LONG, async || file_count(&workspace.path("drop/processed")) == FILES)
        .await;
    assert_holds(&store.base_url, &store.client, &people(0..FILES)).await;
    let runs_made = daemon.metric("convoke_arrival_runs_total{").await.expect("counted");
    assert!(runs_made <= 4.0, "{runs_made} runs");
    daemon.signal("-TERM");
    daemon.end().expect(143, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_that_race_for_one_folder_take_each_file_once() {
    const FILES: usize = 300;
    let folder = TempDir::new().expect("a temporary folder");
    let stores = [StoreProcess::start(), StoreProcess::start()];
    let racers: Vec<_> = stores
        .iter()
        .map(|store| {
            workspace(store, &append(folder.path()), "guards: { max_create: { percent: 100%, records: 100000 } }\n")
        })
        .collect();
    let racing: Vec<_> = racers
        .into_iter()
        .map(|racer| {
            let path = folder.path().to_owned();
            std::thread::spawn(move || {
                let mut told = Vec::new();
                // Both go on until all that was ever dropped is put away.
                while file_count(&path.join("processed")) < FILES {
                    told.push(racer.convoke(&["run", SYNC]));
                    assert!(told.len() < 1_000, "{}", told[told.len() - 1].text());
                }
                (racer, told)
            })
        })
        .collect();
    for number in 0..FILES {
        let staged = folder.path().join("staged");
        fs::write(&staged, csv_of(&people(number..number + 1))).expect("a file");
        fs::rename(&staged, folder.path().join(format!("{number}.csv"))).expect("a rename");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut taken = Vec::new();
    for (racing, store) in racing.into_iter().zip(&stores) {
        let (_racer, told) = racing.join().expect("a racer ends");
        let bad = told.iter().find(|ended| !matches!(ended.code, Some(0 | 1)));
        assert!(bad.is_none(), "{}", bad.expect("found").text());
        let found = rows(&store.base_url, &store.client, "People").await;
        assert!(!found.is_empty(), "both had something to take");
        taken.extend(found.into_iter().map(|row| row["Email"].as_str().expect("a text").to_owned()));
    }
    taken.sort();
    let mut all: Vec<_> = people(0..FILES).into_iter().map(|person| person.email).collect();
    all.sort();
    assert_eq!(taken.len(), FILES, "none twice, none lost");
    assert_eq!(taken, all);
    assert_eq!(file_count(folder.path()), 0, "nothing is left");
}

#[test]
fn thousands_of_small_files_are_one_run() {
    const FILES: usize = 3_000;
    let store = StoreProcess::start();
    let workspace = workspace(&store, &DROP.replace("snapshot", "append"), "");
    for number in 0..FILES {
        let text = csv_of(&people(3 * number..3 * number + 3));
        fs::write(workspace.path("drop").join(format!("{number:05}.csv")), text).expect("a file");
    }
    let ended = workspace.run(0);
    assert!(ended.stdout.contains("9,000") || ended.stdout.contains("9000"), "{}", ended.text());
    assert_eq!(file_count(&workspace.path("drop/processed")), FILES);
    workspace.run(0).expect(0, &["nothing"]);
}

/// Any bucket that is reached with the keys of a connection may be a drop folder.
struct Inbox {
    server: S3Server,
    store: StoreProcess,
    workspace: Workspace,
}

impl Inbox {
    async fn new(mode: &str) -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        let store = StoreProcess::start();
        let source =
            format!("csv_drop: {{ url: \"s3://{BUCKET}/inbox/\", connection: lake, mode: {mode}, settle: 0s }}");
        let workspace = workspace(&store, &source, "");
        let connection = remote_connection(&store.base_url, &store.client);
        workspace.write("config/connections.yaml", &format!("{connection}{}", lake_connection(&server)));
        Self { server, store, workspace }
    }

    fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        self.server.put(BUCKET, &format!("inbox/{name}"), contents);
    }

    fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.server.path_of(BUCKET, &format!("inbox{below}"))) else {
            return Vec::new();
        };
        let files = entries.map(|entry| entry.expect("an entry")).filter(|entry| entry.path().is_file());
        let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_into_a_bucket_is_sent_once_and_put_away_there() {
    let inbox = Inbox::new("append").await;
    inbox.put("1.csv", csv_of(&people(0..20)));
    inbox.put("2.csv.gz", gzip(csv_of(&people(20..40)).as_bytes()));
    // Killed once everything is sent, before anything is put away.
    let mut killed = inbox.workspace.command(&["run", SYNC]);
    let killed = killed.env("CONVOKE_CRASH_AT", "after-checkpoint").output().expect("the binary runs");
    assert!(killed.status.code().is_none(), "not killed: {killed:?}");
    inbox.workspace.run(0);
    assert_holds(&inbox.store.base_url, &inbox.store.client, &people(0..40)).await;

    inbox.put("3.csv", csv_of(&people(40..50)));
    inbox.put("again.csv", csv_of(&people(0..20)));
    inbox.put("broken.csv", "email,email\na,b\n");
    let ended = inbox.workspace.run(3);
    ended.expect(3, &["`again.csv` has the same contents as `1.csv`", "broken.csv", "both named `email`"]);
    assert_holds(&inbox.store.base_url, &inbox.store.client, &people(0..50)).await;
    assert_eq!(inbox.names("/quarantine"), ["broken.csv", "broken.csv.reason.txt"]);
    let put_away = inbox.names("/processed");
    assert!(["1.csv", "2.csv.gz", "3.csv"].iter().all(|name| put_away.contains(&(*name).to_owned())), "{put_away:?}");
    inbox.workspace.run(0).expect(0, &["nothing"]);
}

/// It would empty the cells of that column; the other files do not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_column_that_the_mapping_reads_is_put_into_quarantine_alone() {
    let store = StoreProcess::start();
    let workspace = workspace(&store, "csv_drop: { path: drop, mode: append, settle: 0s }", "");
    workspace.drop_csv("1.csv", &people(0..10));
    fs::write(workspace.path("drop/2.csv"), "email,score,updated_at\nperson3@example.com,3,2026-03-01T00:00:00Z\n")
        .expect("a file");
    workspace.drop_csv("3.csv", &people(10..20));
    workspace.run(3).expect(3, &["2.csv", "no column `name`"]);
    assert_holds(&store.base_url, &store.client, &people(0..20)).await;
    assert_eq!(file_count(&workspace.path("drop/processed")), 2);
    let reason = fs::read_to_string(workspace.path("drop/quarantine/2.csv.reason.txt")).expect("a reason");
    assert!(reason.contains("no column `name`"), "{reason}");
    workspace.run(0).expect(0, &["nothing"]);
}

/// Neither a reading anew, which nobody may have asked for, nor a preview takes for data what a run has refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_refused_for_a_column_is_refused_when_all_is_read_again() {
    let store = StoreProcess::start();
    let source = "csv_drop: { path: drop, mode: append, settle: 0s, processed: keep }";
    let workspace = workspace(&store, source, "guards: { max_update: unlimited }\n");
    workspace.drop_csv("1.csv", &people(0..10));
    fs::write(workspace.path("drop/2.csv"), "email,score,updated_at\nperson3@example.com,3,2026-03-01T00:00:00Z\n")
        .expect("a file");
    workspace.convoke(&["preview", SYNC]).expect(0, &["`2.csv`", "no column `name`"]);
    workspace.run(3).expect(3, &["2.csv", "no column `name`"]);
    workspace.convoke(&["run", SYNC, "--full"]).expect(3, &["2.csv", "no column `name`"]);
    assert_holds(&store.base_url, &store.client, &people(0..10)).await;
    // What was read before the mapping named a column has none of it, and is no less true.
    let sync = fs::read_to_string(workspace.path("config/syncs/people.yaml")).expect("a configuration");
    workspace.write("config/syncs/people.yaml", &sync.replace("  Name: name\n", "  Name: name\n  Town: town\n"));
    fs::write(
        workspace.path("drop/3.csv"),
        "email,name,score,updated_at,town\nperson3@example.com,Person 3,3,2026-03-01T00:00:00Z,Bath\n",
    )
    .expect("a file");
    workspace.run(3).expect(3, &["column `town`, which the sync reads, is missing in `1.csv`", "10 updated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_object_of_a_prefix_is_the_whole_truth() {
    let inbox = Inbox::new("snapshot").await;
    inbox.put("monday.csv", csv_of(&people(0..30)));
    inbox.workspace.run(0);
    inbox.put("tuesday.csv", csv_of(&people(5..30)));
    let sync = fs::read_to_string(inbox.workspace.path("config/syncs/people.yaml")).expect("a configuration");
    inbox
        .workspace
        .write("config/syncs/people.yaml", &sync.replace("mode: upsert", "mode: mirror\nguards: { max_delete: 50% }"));
    inbox.workspace.run(0);
    assert_holds(&inbox.store.base_url, &inbox.store.client, &people(5..30)).await;
    assert_eq!(inbox.names("/processed"), ["monday.csv", "tuesday.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_may_not_be_written_to_is_told_with_the_right_that_is_missing() {
    let inbox = Inbox::new("append").await;
    inbox.put("1.csv", csv_of(&people(0..5)));
    inbox.server.deny("PutObject");
    let ended = inbox.workspace.convoke(&["run", SYNC]);
    ended.expect(1, &["s3:PutObject", "inbox"]);
    assert!(rows(&inbox.store.base_url, &inbox.store.client, "People").await.is_empty(), "{}", ended.text());
}

/// An archive of a few megabytes that is gigabytes long takes what a short one does.
#[test]
fn five_gigabytes_in_a_small_archive_take_no_more_memory_than_fifty_megabytes() {
    /// What the allocator and the spool of more positions may add.
    const SLACK: f64 = 1.2;
    let store = StoreProcess::start();
    let part = gzip(noted_people().as_bytes());
    let peak_of = |times: usize| {
        let workspace = workspace(&store, DROP, "guards: { max_create: unlimited }\n");
        let path = workspace.path("drop").join("people.csv.gz");
        let mut archive = fs::File::create(workspace.path("staged")).expect("a file");
        archive.write_all(&gzip(b"email,name,score,updated_at,note\n")).expect("written");
        // A gzip file may have many parts, one after the other.
        for _ in 0..times {
            archive.write_all(&part).expect("written");
        }
        fs::rename(workspace.path("staged"), path).expect("a rename");
        let planned = peak_memory_of(workspace.command(&["plan", SYNC, "--json"]));
        let facts = planned.0.json();
        assert_eq!(facts["run"]["counts"]["read"], times * NOTED_PEOPLE, "{}", planned.0.text());
        planned.1
    };
    let small = peak_of(1);
    let large = peak_of(100);
    assert!(large as f64 <= small as f64 * SLACK, "{large} bytes at the peak, {small} for a small archive");
}

const NOTED_PEOPLE: usize = 1_250;

/// Fifty megabytes: each with a long note that no sync reads.
fn noted_people() -> String {
    let note = "a note that is long and says little; ".repeat(1_081);
    let lines = people(0..NOTED_PEOPLE).into_iter().map(|person| {
        let Person { email, name, score, updated_at } = person;
        format!("{email},{name},{score},{updated_at},{note}\n")
    });
    lines.collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("written to memory");
    encoder.finish().expect("written to memory")
}

/// How it ended, and the most memory that it had, in bytes.
fn peak_memory_of(mut command: Command) -> (Ended, u64) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let status = format!("/proc/{}/status", child.id());
    let watching = std::thread::spawn(move || {
        let mut peak = 0;
        // Gone once the process is waited for; without the line once it has ended.
        while let Some(kilobytes) = fs::read_to_string(&status).ok().as_deref().and_then(high_water_mark) {
            peak = peak.max(kilobytes << 10);
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let ended = Ended::of(child.wait_with_output().expect("it ends"));
    (ended, watching.join().expect("no panic"))
}

fn high_water_mark(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
