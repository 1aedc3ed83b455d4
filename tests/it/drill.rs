//! A rehearsal on a copy of a sync's records: it passes, tells what it did, and leaves nothing behind and nothing changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::audience::rows;
use crate::feeds::Feed;
use crate::workspace::{CONVOKE, Ended, Person, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

/// The shipped examples and the demo's first drop, as a user has them, and a folder for temporary files.
struct Project {
    root: TempDir,
    temporary: TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { root: TempDir::new().expect("a folder"), temporary: TempDir::new().expect("a folder") };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = [
            ("config/convoke.yaml", "config/convoke.yaml"),
            ("config/connections.yaml", "config/connections.yaml"),
            ("config/syncs/newsletter.yaml", "config/syncs/newsletter.yaml"),
            ("crates/convoke/demo/suppressed.csv", "demo/suppressed.csv"),
            ("crates/convoke/demo/contacts.csv", "demo/drop/contacts.csv"),
        ];
        for (from, to) in files {
            let to = project.root.path().join(to);
            fs::create_dir_all(to.parent().expect("a parent")).expect("folders");
            fs::copy(repository.join(from), to).expect("a copy");
        }
        project
    }

    fn command(&self, arguments: &[&str]) -> Command {
        drilling(&self.root.path().join("config"), self.temporary.path(), arguments)
    }

    fn convoke(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().expect("the binary runs"))
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(contents(self.temporary.path()), BTreeMap::new(), "the drill leaves nothing behind");
    }
}

fn drilling(config: &Path, temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(CONVOKE);
    command.arg("--config").arg(config).args(arguments).env("TMPDIR", temporary).stdin(Stdio::null());
    command.env_remove("CONVOKE_CRASH_AT");
    command
}

/// Every file beneath a folder, with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            match entry.file_type().expect("a kind").is_dir() {
                true => left.push(entry.path()),
                false => drop(found.insert(entry.path(), fs::read(entry.path()).expect("a file"))),
            }
        }
    }
    found
}

#[test]
fn a_drill_of_the_demos_sync_passes_and_touches_nothing_of_it() {
    let project = Project::new();
    project.convoke(&["run", "newsletter"]).expect(3, &["created"]);
    let before = contents(project.root.path());

    // All files are settled by now: it reads what the source still has.
    let ended = project.convoke(&["drill", "newsletter", "--limit", "250", "--rounds", "5", "--seed", "3", "--json"]);

    ended.expect(0, &[]);
    let facts = ended.json();
    let rounds = facts["rounds"].as_array().expect("rounds");
    assert_eq!((rounds.len(), &facts["passed"], &facts["seed"]), (5, &true.into(), &3.into()));
    let sum = |name: &str| rounds.iter().map(|round| round[name].as_u64().expect("a count")).sum::<u64>();
    assert!(sum("expected") > 500 && sum("expected") == sum("present"), "{}", ended.text());
    assert_eq!(["doubled", "missing", "unexplained", "different"].map(sum), [0; 4]);
    let is_killed = |round: &&serde_json::Value| round["done"].as_str().expect("a text").starts_with("killed at ");
    assert!(rounds.iter().filter(is_killed).count() >= 3, "{}", ended.text());
    assert!(
        rounds.iter().any(|round| round["found"].as_str().expect("a text").contains("settled")),
        "{}",
        ended.text()
    );
    assert!(before == contents(project.root.path()), "the drill changed something of the project");
    project.assert_nothing_is_left();
}

#[test]
fn a_drill_makes_no_state_where_there_was_none_and_prints_a_table() {
    let project = Project::new();
    let before = contents(project.root.path());
    let ended = project.convoke(&["drill", "newsletter", "--limit", "40", "--rounds", "1", "--seed", "1"]);
    ended.expect(0, &["seed 1", "expected", "doubled", "missing", "passed"]);
    assert!(before == contents(project.root.path()), "the drill changed something of the project");
    project.assert_nothing_is_left();
}

#[test]
fn a_drill_never_calls_the_connection_that_the_sync_names() {
    // Whoever is called there would have to be listening.
    let nowhere =
        "local:\n  gtm:\n    base_url: http://127.0.0.1:9/gtm/studio/v1\n    client_id: x\n    client_secret: y\n";
    let (workspace, temporary) = (Workspace::new(nowhere), TempDir::new().expect("a folder"));
    workspace.drop_csv("1.csv", &people(0..30));
    let arguments = ["drill", SYNC, "--rounds", "1", "--seed", "2"];
    let output = drilling(&workspace.path("config"), temporary.path(), &arguments).output().expect("the binary runs");
    Ended::of(output).expect(0, &["with 30 records", "passed"]);
    assert!(workspace.path("drop/1.csv").exists(), "the source is left as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_rehearses_with_records_of_every_kind_of_source() {
    for feed in Feed::all().await {
        let (store, temporary) = (StoreProcess::start(), TempDir::new().expect("a folder"));
        let workspace = Workspace::remote(&store.base_url, &store.client);
        feed.configure(&workspace, &remote_connection(&store.base_url, &store.client), "mirror", "");
        let mut records = people(0..60);
        // Of two records with one key either may stand there, once.
        records.push(Person { name: "Another name".to_owned(), ..Person::numbered(2) });
        feed.put(&workspace, &records).await;
        let arguments = ["drill", SYNC, "--limit", "50", "--rounds", "2", "--seed", "4", "--json"];
        let output = drilling(&workspace.path("config"), temporary.path(), &arguments).output();
        let ended = Ended::of(output.expect("the binary runs"));
        ended.expect(0, &[]);
        assert_eq!(ended.json()["records"], 50, "{}", ended.text());
        assert!(rows(&store.base_url, &store.client, "People").await.is_empty(), "the real audience is not touched");
    }
}

#[test]
fn what_cannot_be_drilled_is_named_and_leaves_nothing_behind() {
    let project = Project::new();
    project.convoke(&["drill", "nobody"]).expect(2, &["`nobody`", "newsletter"]);
    project.convoke(&["drill", "newsletter", "--rounds", "0"]).expect(2, &["--rounds"]);
    project.convoke(&["drill", "newsletter", "--limit", "0"]).expect(2, &["--limit"]);
    fs::remove_dir_all(project.root.path().join("demo/drop")).expect("the drop folder");
    project.convoke(&["drill", "newsletter"]).expect(1, &["demo/drop"]);
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..3));
    workspace.write("config/syncs/people.yaml", &sync_yaml("delete_list", ""));
    let drill = |arguments: &[&str]| {
        let output = drilling(&workspace.path("config"), project.temporary.path(), arguments).output();
        Ended::of(output.expect("the binary runs"))
    };
    drill(&["drill", SYNC]).expect(2, &["delete_list", "drill a sync that fills an audience"]);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "").replace("Score:", "Convoke Drill Round:"));
    drill(&["drill", SYNC]).expect(2, &["`Convoke Drill Round`", "rename it"]);
    project.assert_nothing_is_left();
}

#[test]
fn a_drill_that_is_stopped_removes_what_it_made() {
    let project = Project::new();
    let before = contents(project.root.path());
    let mut command = project.command(&["drill", "newsletter", "--limit", "60", "--rounds", "1000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut told = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("round 1: ") {
        line.clear();
        assert_ne!(told.read_line(&mut line).expect("text"), 0, "it ended by itself");
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it still runs");
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest}");
    assert!(rest.contains("nothing is left of it"), "{rest}");
    assert!(before == contents(project.root.path()), "the drill changed something of the project");
    project.assert_nothing_is_left();
}
