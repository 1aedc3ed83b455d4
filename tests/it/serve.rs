//! The daemon: schedules, several replicas on one PostgreSQL, kills, drains, health and metrics.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use serde_json::Value;
use tempfile::TempDir;

use crate::audience::{assert_holds, rows};
use crate::daemon::{Daemon, eventually};
use crate::feeds::{DROP, database_block};
use crate::workspace::{Ended, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

const EVERY_MINUTE: &str = "schedule: { cron: \"* * * * *\" }\n";

/// Longer than anything here takes, but for a time of the schedule, which is at most a minute away.
const LONG: Duration = Duration::from_secs(60);

/// Replicas: folders of their own, one checkpoint store, one ledger, one drop folder, one audience store.
struct Cluster {
    database: TestDatabase,
    shared: TempDir,
    store: StoreProcess,
}

impl Cluster {
    async fn new() -> Self {
        let shared = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(shared.path().join("drop")).expect("a folder");
        let database = PostgresServer::shared().create_database("state").await;
        Self { database, shared, store: StoreProcess::start() }
    }

    /// A replica that speaks to a destination at this base URL.
    fn replica(&self, base_url: &str, more: &str) -> Workspace {
        let workspace = Workspace::remote(base_url, &self.store.client);
        let ledger = self.shared.path().join("ledger");
        workspace.write(
            "config/convoke.yaml",
            &format!(
                "state_dir: scratch\nmemory_limit: 128MB\nstate:\n  lease: 5s\n  postgres: {}\n  ledger: {{ url: \"file://{}\" }}\n",
                database_block(&self.database.connection()),
                ledger.display()
            ),
        );
        let drop = self.shared.path().join("drop");
        let source =
            format!("csv_drop: {{ path: \"{}\", mode: snapshot, settle: 0s, processed: keep }}", drop.display());
        workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", more).replace(DROP, &source));
        workspace
    }

    /// Drops a file for all replicas.
    fn drop_csv(&self, workspace: &Workspace, name: &str, numbers: std::ops::Range<usize>) {
        workspace.drop_csv(name, &people(numbers));
        std::fs::copy(workspace.path("drop").join(name), self.shared.path().join("staged")).expect("a copy");
        std::fs::rename(self.shared.path().join("staged"), self.shared.path().join("drop").join(name))
            .expect("a rename");
    }
}

/// Plans hold personal data, wherever they are published.
fn assert_private(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} can be read by others", path.display());
        if path.is_dir() {
            assert_private(&path);
        }
    }
}

fn runs(workspace: &Workspace) -> Vec<Value> {
    let ended = workspace.convoke(&["runs", SYNC, "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    ended.json().as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_runs_what_is_due_and_both_tell_how_they_are() {
    let cluster = Cluster::new().await;
    let one = cluster.replica(&cluster.store.base_url, EVERY_MINUTE);
    let two = cluster.replica(&cluster.store.base_url, EVERY_MINUTE);
    cluster.drop_csv(&one, "1.csv", 0..60);
    let daemons = [Daemon::start(&one), Daemon::start(&two)];
    for daemon in &daemons {
        eventually("ready", LONG, async || daemon.get("/readyz").await.0 == 200).await;
        assert_eq!(daemon.get("/healthz").await.0, 200);
        assert_eq!(daemon.get("/nothing").await.0, 404);
    }
    let minute = Duration::from_secs(75);
    eventually("a run at the full minute", minute, async || {
        runs(&one).first().is_some_and(|run| run["state"] == "succeeded")
    })
    .await;
    assert_holds(&cluster.store.base_url, &cluster.store.client, &people(0..60)).await;
    assert_private(&cluster.shared.path().join("ledger"));
    // Whoever did not get the turn looks at the mark and lets it be.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(runs(&one).len(), 1, "one time, one run: {:?}", runs(&one));
    for daemon in &daemons {
        eventually("facts of the store", LONG, async || daemon.metric("convoke_ledger_rows{").await == Some(60.0))
            .await;
        assert!(daemon.metric("convoke_sync_last_success_timestamp_seconds{").await.expect("a time") > 1.7e9);
        assert!(daemon.metric("convoke_next_run_timestamp_seconds{").await.expect("a time") > 1.7e9);
        assert_eq!(daemon.metric("convoke_rows_in_doubt{").await, Some(0.0));
    }
    for daemon in daemons {
        daemon.signal("-TERM");
        daemon.end().expect(143, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_replica_is_killed_the_other_goes_on_with_its_plan_in_time_and_makes_nothing_twice() {
    let cluster = Cluster::new().await;
    let upstream = cluster.store.address().parse().expect("an address");
    let slow = Rule::on("POST", "bulk/upsert", Fault::DelayAnswer { by: Duration::from_millis(300) });
    let proxy = FaultProxy::start(upstream, FaultScript::rules(vec![slow])).await.expect("the proxy starts");
    let one = cluster.replica(&proxy.base_url(), "");
    let two = cluster.replica(&cluster.store.base_url, "");
    cluster.drop_csv(&one, "1.csv", 0..8_000);
    let mut child = one.command(&["run", SYNC]).spawn().expect("the binary runs");
    while proxy.stats().total() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let daemon = Daemon::start(&two);
    child.kill().expect("it runs");
    child.wait().expect("it is dead");
    assert!(rows(&cluster.store.base_url, &cluster.store.client, "People").await.len() < 8_000, "killed in the middle");
    // Lease 5 s, request time-out 2 s, commit delay 1 s, twice 50 ms to settle; the rest is work and looking.
    eventually("the plan is finished", Duration::from_secs(40), async || {
        runs(&two).first().is_some_and(|run| run["state"] == "succeeded")
    })
    .await;
    let told = runs(&two);
    assert_eq!(told[0]["plan"], told[1]["plan"], "one plan, begun here and finished there");
    assert_eq!((told[1]["state"].as_str(), told.len()), (Some("interrupted"), 2));
    assert_holds(&cluster.store.base_url, &cluster.store.client, &people(0..8_000)).await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &[]);
    two.run(0).expect(0, &["nothing"]);
    assert_holds(&cluster.store.base_url, &cluster.store.client, &people(0..8_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_goes_on_with_an_interrupted_plan_and_drains_when_it_is_told_to() {
    let store = StoreProcess::start();
    let upstream = store.address().parse().expect("an address");
    let proxy = FaultProxy::start(upstream, FaultScript::none()).await.expect("the proxy starts");
    let workspace = Workspace::new(&remote_connection(&proxy.base_url(), &store.client));
    workspace.drop_csv("1.csv", &people(0..9_000));
    let mut command = workspace.command(&["run", SYNC]);
    let killed = command.env("CONVOKE_CRASH_AT", "after-answer:2").output().expect("the binary runs");
    assert!(killed.status.code().is_none(), "{killed:?}");
    let slow = Rule::on("POST", "bulk/upsert", Fault::DelayAnswer { by: Duration::from_millis(400) });
    proxy.set_script(FaultScript::rules(vec![slow]));
    let before = proxy.stats().total();
    let daemon = Daemon::start(&workspace);
    eventually("it delivers", LONG, async || proxy.stats().total() > before + 1).await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &["draining"]);
    let partly = rows(&store.base_url, &store.client, "People").await.len();
    assert!(partly > 0 && partly < 9_000, "{partly} rows");
    proxy.set_script(FaultScript::none());
    let daemon = Daemon::start(&workspace);
    eventually("the next one finishes", LONG, async || {
        rows(&store.base_url, &store.client, "People").await.len() == 9_000
    })
    .await;
    eventually("and says so", LONG, async || workspace.newest_run()["state"] == "succeeded").await;
    daemon.signal("-INT");
    daemon.end().expect(130, &[]);
    assert_holds(&store.base_url, &store.client, &people(0..9_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_one_sqlite_state_is_refused_and_commands_beside_one_work() {
    let workspace = Workspace::embedded();
    let daemon = Daemon::start(&workspace);
    let second = Ended::of(workspace.command(&["serve", "--listen", "127.0.0.1:0"]).output().expect("it runs"));
    second.expect(1, &["serves this state already", "process"]);
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.run(0).expect(0, &["5 created"]);
    workspace.convoke(&["runs"]).expect(0, &["succeeded"]);
    drop(daemon);
    // One that was killed is not waited for.
    let third = Daemon::start(&workspace);
    third.signal("-TERM");
    third.end().expect(143, &[]);
}

#[test]
fn the_next_times_are_told_with_what_daylight_saving_does_to_them() {
    let workspace = Workspace::embedded();
    let berlin = "schedule: { cron: \"30 2 * 3,10 SUN\", timezone: Europe/Berlin, jitter: 5m }\n";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", berlin));
    let told = workspace.convoke(&["schedule", "next", SYNC, "-n", "20"]);
    told.expect(0, &["30 2 * 3,10 SUN in Europe/Berlin, up to 300 s later", "clocks skip 02:30", "twice"]);
    let facts = workspace.convoke(&["schedule", "next", "--json"]).json();
    assert_eq!(facts[0]["next"].as_array().expect("a list").len(), 10);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "schedule: weekly\n"));
    workspace.convoke(&["schedule", "next", "-n", "1"]).expect(0, &["Sat ", "18:00 UTC"]);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "schedule: { cron: \"61 * * * *\" }\n"));
    workspace.convoke(&["schedule", "next"]).expect(2, &["schedule.cron"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_finishes_an_interrupted_canary_and_goes_no_further() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..3_000));
    let mut command = workspace.command(&["run", SYNC, "--limit", "700"]);
    let killed = command.env("CONVOKE_CRASH_AT", "after-answer").output().expect("the binary runs");
    assert!(killed.status.code().is_none(), "{killed:?}");
    let daemon = Daemon::start(&workspace);
    eventually("the canary is finished", LONG, async || workspace.newest_run()["state"] == "succeeded").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_holds(&store.base_url, &store.client, &people(0..700)).await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &[]);
}
