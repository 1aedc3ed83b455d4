//! What killed and interrupted commands leave behind, and what is told of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};
use uuid::{NoContext, Timestamp, Uuid};

use crate::workspace::{Ended, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

fn crash_at(workspace: &Workspace, point: &str) {
    let mut command = workspace.command(&["run", SYNC]);
    let output = command.env("CONVOKE_CRASH_AT", point).output().expect("the binary runs");
    assert!(output.status.code().is_none(), "{point}: the process should have been killed: {output:?}");
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).into_iter().flatten().count()
}

#[test]
fn records_refused_before_a_crash_are_told_by_the_run_that_finishes_the_work() {
    let workspace = Workspace::embedded();
    let text = "email,name,score,updated_at\na@example.com,A,12,1\nb@example.com,B,twelve,1\n";
    workspace.write("drop/1.csv", text);
    crash_at(&workspace, "after-acknowledge:1");
    workspace.run(3);
    let run = workspace.newest_run();
    assert_eq!(run["state"], "partial");
    assert!(run["message"].as_str().is_some_and(|message| message.contains("refused")), "{run}");
    workspace.run(0);
}

#[test]
fn what_killed_runs_left_is_removed() {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..20));
    crash_at(&workspace, "after-plan-file");
    assert_eq!(count(&workspace.path("state/spool")), 1, "the killed run left its spool");
    let (now, _) = Uuid::now_v7().get_timestamp().expect("it tells the time").to_unix();
    let made_days_ago = |days: u64| Uuid::new_v7(Timestamp::from_unix(NoContext, now - days * 86_400, 0)).to_string();
    let old_plan = workspace.path("state/plans").join(made_days_ago(31));
    let young_plan = workspace.path("state/plans").join(made_days_ago(1));
    let old_preview = workspace.path("state/spool").join(made_days_ago(2));
    let spilled = workspace.path("state/spill/datafusion-left");
    for folder in [&old_plan, &young_plan, &old_preview, &spilled] {
        fs::create_dir_all(folder).expect("a folder");
    }
    workspace.run(0);
    assert_eq!(count(&workspace.path("state/spool")), 0, "spools end with their runs");
    assert!(!old_plan.exists() && young_plan.exists(), "a plan without a row is kept as long as one that waits");
    assert!(!spilled.exists());
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(name).arg(child.id().to_string()).status().expect("kill runs");
    assert!(sent.success());
}

/// A long wait that the test does not mean to sit out.
const LONG: Duration = Duration::from_secs(300);

async fn assert_ends_promptly(child: Child, code: i32) {
    let waiting = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = tokio::time::timeout(LONG / 2, waiting).await.expect("it does not sit the wait out");
    let ended = Ended::of(output.expect("nothing panics").expect("it ends"));
    assert_eq!(ended.code, Some(code), "{}", ended.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_a_file_to_settle() {
    let workspace = Workspace::embedded();
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "").replace("settle: 0s", "settle: 300s"));
    workspace.drop_csv("1.csv", &people(0..5));
    let mut child = workspace.command(&["run", SYNC]).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // It says what it waits for, and has long watched for signals by then.
    let mut told = BufReader::new(child.stderr.take().expect("piped")).lines();
    let waiting = told.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("waiting")));
    let waiting = waiting.expect("it says so before it ends").expect("text");
    assert!(waiting.contains("for `1.csv` to settle") && waiting.contains(" s "), "{waiting}");
    assert_eq!(workspace.newest_run()["state"], "running");
    signal(&child, "-TERM");
    assert_ends_promptly(child, 143).await;
    assert_eq!(workspace.newest_run()["state"], "interrupted");
    assert_eq!(count(&workspace.path("state/plans")), 0, "nothing is left of the plan that was not made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_scan_of_an_adoption() {
    let store = StoreProcess::start();
    let before = Workspace::remote(&store.base_url, &store.client);
    before.drop_csv("1.csv", &people(0..5));
    before.run(0);
    let upstream = store.address().parse().expect("an address");
    let hold = Rule::on("POST", "rows/actions/search", Fault::DelayAnswer { by: LONG });
    let proxy = FaultProxy::start(upstream, FaultScript::rules(vec![hold])).await.expect("the proxy starts");
    let workspace = Workspace::remote(&proxy.base_url(), &store.client);
    let patient =
        remote_connection(&proxy.base_url(), &store.client).replace("request_timeout: 2s", "request_timeout: 290s");
    workspace.write("config/connections.yaml", &patient);
    let child = workspace.command(&["adopt", SYNC]).spawn().expect("the binary runs");
    while proxy.stats().total() == 0 {
        tokio::task::yield_now().await;
    }
    signal(&child, "-TERM");
    assert_ends_promptly(child, 143).await;
}
