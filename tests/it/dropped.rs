//! The drop folder: what comes by itself, what several take, and what comes in thousands.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::audience::{assert_holds, rows};
use crate::daemon::{Daemon, eventually};
use crate::feeds::DROP;
use crate::workspace::{Person, SYNC, StoreProcess, Workspace, people, sync_yaml};

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
