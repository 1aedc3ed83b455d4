//! What the end-to-end tests work with: a folder with a configuration, the binary, and an audience store of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The shipped binary.
pub(crate) const CONVOKE: &str = env!("CARGO_BIN_EXE_convoke");

/// A sync over a drop folder with the columns `email,name,score,updated_at`.
pub(crate) const SYNC: &str = "people";

/// A folder with one sync, whose destination is either embedded or a store process.
pub(crate) struct Workspace {
    folder: TempDir,
}

impl Workspace {
    /// Writes a configuration for the sync [`SYNC`] in mode `mirror`, with the given connection.
    pub(crate) fn new(connection: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let workspace = Self { folder };
        workspace.write("config/convoke.yaml", "state_dir: state\nmemory_limit: 128MB\n");
        workspace.write("config/connections.yaml", connection);
        workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", ""));
        fs::create_dir(workspace.path("drop")).expect("the drop folder");
        workspace
    }

    /// A workspace over the embedded store.
    pub(crate) fn embedded() -> Self {
        Self::new("local:\n  embedded: { data: store/store.sqlite }\n")
    }

    /// A workspace over a service at this base URL.
    pub(crate) fn remote(base_url: &str, client: &Client) -> Self {
        Self::new(&remote_connection(base_url, client))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(&path, contents).expect("a file");
    }

    /// Drops a CSV file: written aside, then renamed into place.
    pub(crate) fn drop_csv(&self, name: &str, people: &[Person]) {
        let mut text = "email,name,score,updated_at\n".to_owned();
        for person in people {
            text.push_str(&format!("{},{},{},{}\n", person.email, person.name, person.score, person.updated_at));
        }
        self.write("staged", &text);
        fs::rename(self.path("staged"), self.path("drop").join(name)).expect("a rename");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CONVOKE);
        command.arg("--config").arg(self.path("config")).args(arguments).stdin(Stdio::null());
        command.env_remove("CONVOKE_CRASH_AT");
        command
    }

    pub(crate) fn convoke(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs the sync and insists on this exit code.
    pub(crate) fn run(&self, exit_code: i32) -> Ended {
        let ended = self.convoke(&["run", SYNC]);
        assert_eq!(ended.code, Some(exit_code), "{}", ended.text());
        ended
    }

    /// The sync's newest run, as `runs --json` tells it.
    pub(crate) fn newest_run(&self) -> Value {
        let ended = self.convoke(&["runs", SYNC, "-n", "1", "--json"]);
        assert_eq!(ended.code, Some(0), "{}", ended.text());
        ended.json()[0].clone()
    }
}

/// How a process ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    pub(crate) fn text(&self) -> String {
        format!("exit {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Insists on an exit code and on each of these words in what was said.
    pub(crate) fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text());
        for word in words {
            assert!(self.stdout.contains(word) || self.stderr.contains(word), "lacks {word:?}: {}", self.text());
        }
    }
}

pub(crate) fn sync_yaml(mode: &str, more: &str) -> String {
    format!(
        "sync: people
source:
  csv_drop: {{ path: drop, mode: snapshot, settle: 0s }}
map:
  Email: {{ sql: \"normalize_email(email)\", type: EMAIL }}
  Name: name
  Score: {{ column: score, type: INTEGER }}
key: [Email]
dedupe: {{ keep: latest, by: updated_at }}
audience:
  gtm: {{ connection: local, name: People, type: CONTACT, folder: Tests, match: {{ Email: CONTACT_EMAIL }} }}
mode: {mode}
{more}"
    )
}

/// Short delays, so that what is in doubt is settled within a test.
pub(crate) fn remote_connection(base_url: &str, client: &Client) -> String {
    format!(
        "local:
  gtm:
    base_url: {base_url}/gtm/studio/v1
    client_id: {}
    client_secret: {}
    rate: unlimited
    http: {{ request_timeout: 2s }}
    max_commit_delay: 1s
    settle: 50ms
",
        client.id, client.secret
    )
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Person {
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) score: i64,
    pub(crate) updated_at: String,
}

impl Person {
    pub(crate) fn numbered(number: usize) -> Self {
        Self {
            email: format!("person{number}@example.com"),
            name: format!("Person {number}"),
            score: i64::try_from(number).expect("small"),
            updated_at: "2026-01-01T00:00:00Z".to_owned(),
        }
    }
}

pub(crate) fn people(numbers: impl IntoIterator<Item = usize>) -> Vec<Person> {
    numbers.into_iter().map(Person::numbered).collect()
}

/// Credentials at a store.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// `convoke store` as a process of its own, with one client.
pub(crate) struct StoreProcess {
    child: Child,
    /// Holds the data for as long as the process runs.
    _folder: TempDir,
    pub(crate) base_url: String,
    pub(crate) client: Client,
}

impl StoreProcess {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let data = folder.path().join("store.sqlite");
        let added = Command::new(CONVOKE)
            .args(["store", "--json", "--data"])
            .arg(&data)
            .args(["client", "add", "tests"])
            .output()
            .expect("the binary runs");
        let added = Ended::of(added);
        assert_eq!(added.code, Some(0), "{}", added.text());
        let facts = added.json();
        let text = |name: &str| facts[name].as_str().expect("a string").to_owned();
        let client = Client { id: text("client_id"), secret: text("client_secret") };
        let (child, base_url) = serve(&data);
        Self { child, _folder: folder, base_url, client }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.base_url.trim_start_matches("http://")
    }
}

impl Drop for StoreProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a store on a free port; returns once it says where.
fn serve(data: &Path) -> (Child, String) {
    let mut child = Command::new(CONVOKE)
        .args(["store", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let url = line.split_whitespace().last().expect("the address stands last");
    let base_url = url.trim_end_matches("/gtm/studio/v1").to_owned();
    assert!(base_url.starts_with("http://127.0.0.1:"), "{line}");
    (child, base_url)
}
