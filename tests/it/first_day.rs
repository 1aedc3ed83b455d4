//! The product's ordinary days: first load, a change, nothing new; modes; signals; the demo.

use std::process::Command;
use std::time::Duration;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};

use crate::audience::{assert_holds, rows};
use crate::workspace::{CONVOKE, Ended, SYNC, StoreProcess, Workspace, people, sync_yaml};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_twice_gives_the_same_audience_and_sends_nothing() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..700));
    workspace.run(0);
    let upstream = store.address().parse().expect("an address");
    // From here on, any write would be refused.
    let refuse = Rule::on("POST", "bulk/", Fault::FailAfterCommit { status: 500 });
    let proxy = FaultProxy::start(upstream, FaultScript::rules(vec![refuse])).await.expect("the proxy starts");
    workspace.write("config/connections.yaml", &crate::workspace::remote_connection(&proxy.base_url(), &store.client));
    workspace.run(0);
    workspace.drop_csv("2.csv", &people(0..700));
    workspace.run(0);
    workspace.convoke(&["run", SYNC, "--full"]).expect(0, &["nothing"]);
    assert_eq!(proxy.stats().total(), 0, "nothing was written");
    assert_holds(&store.base_url, &store.client, &people(0..700)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_record_is_one_record_sent() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..50));
    workspace.run(0);
    let mut changed = people(0..50);
    changed[7].name = "Somebody Else".to_owned();
    workspace.drop_csv("2.csv", &changed);
    workspace.run(0).expect(0, &["1 updated"]);
    let run = workspace.newest_run();
    assert_eq!(run["delivery"]["updates"]["acknowledged"], 1);
    assert_eq!(run["delivery"]["creates"]["acknowledged"], 0);
    assert_holds(&store.base_url, &store.client, &changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_does_what_it_says() {
    let expected = [
        ("upsert", 0..30, 30),
        ("mirror", 10..30, 20),
        ("insert_only", 0..30, 30),
        ("update_only", 0..20, 20),
        ("delete_list", 0..10, 10),
    ];
    for (mode, left, count) in expected {
        let store = StoreProcess::start();
        let workspace = Workspace::remote(&store.base_url, &store.client);
        workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", ""));
        workspace.drop_csv("1.csv", &people(0..20));
        workspace.run(0);
        workspace.write("config/syncs/people.yaml", &sync_yaml(mode, "guards: { max_create: unlimited }\n"));
        workspace.drop_csv("2.csv", &people(10..30));
        workspace.run(0);
        assert_holds(&store.base_url, &store.client, &people(left)).await;
        assert_eq!(rows(&store.base_url, &store.client, "People").await.len(), count, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_that_is_added_later_overwrites_nothing_newer() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let append = sync_yaml("upsert", "").replace("mode: snapshot", "mode: append");
    workspace.write("config/syncs/people.yaml", &append);
    workspace.drop_csv("february.csv", &people(0..5));
    workspace.run(0);
    let mut january = people(3..7);
    for person in &mut january {
        person.name = "An old name".to_owned();
        person.updated_at = "2025-12-31T00:00:00Z".to_owned();
    }
    workspace.drop_csv("january.csv", &january);
    workspace.run(0).expect(0, &["2 superseded", "2 created"]);
    let expected = [people(0..5), january[2..].to_vec()].concat();
    assert_holds(&store.base_url, &store.client, &expected).await;
    // A record that is newer than the row is applied as ever.
    january[0].updated_at = "2026-03-01T00:00:00Z".to_owned();
    workspace.drop_csv("march.csv", &january[..1]);
    workspace.run(0).expect(0, &["1 updated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_run_changes_no_more_than_it_was_told_and_the_next_run_does_the_rest() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..40));
    workspace.convoke(&["run", SYNC, "--limit", "3"]).expect(0, &["3 created"]);
    assert_holds(&store.base_url, &store.client, &people(0..3)).await;
    assert!(workspace.path("drop/1.csv").exists(), "the file is not done with");
    // It is a first load still, so that no guard asks about all these creates.
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(0..40)).await;
    workspace.drop_csv("2.csv", &people(0..90));
    workspace.convoke(&["run", SYNC]).expect(4, &["max_create"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_drains_and_the_next_one_goes_on() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let store = StoreProcess::start();
        let upstream = store.address().parse().expect("an address");
        let slow = Rule::on("POST", "bulk/upsert", Fault::DelayAnswer { by: Duration::from_millis(400) });
        let proxy = FaultProxy::start(upstream, FaultScript::rules(vec![slow])).await.expect("the proxy starts");
        let workspace = Workspace::remote(&proxy.base_url(), &store.client);
        workspace.drop_csv("1.csv", &people(0..6_000));
        let child = workspace.command(&["run", SYNC]).spawn().expect("the binary runs");
        while proxy.stats().total() == 0 {
            tokio::task::yield_now().await;
        }
        let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
        let ended = Ended::of(child.wait_with_output().expect("it ends"));
        assert_eq!(ended.code, Some(code), "{}", ended.text());
        let run = workspace.newest_run();
        assert_eq!(run["state"], "interrupted");
        let message = run["message"].as_str().expect("a message");
        assert!(message.contains(" of 6000 changes delivered; run again to go on"), "{message}");
        assert!(message.ends_with("with `convoke plan people`"), "{message}");
        let partly = rows(&store.base_url, &store.client, "People").await.len();
        assert!(partly > 0 && partly < 6_000, "{partly} rows");
        proxy.set_script(FaultScript::none());
        workspace.run(0);
        assert_holds(&store.base_url, &store.client, &people(0..6_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_deleted_at_the_destination_is_not_made_again() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..10));
    workspace.run(0);
    crate::audience::delete_row(&store.base_url, &store.client, "People", "person3@example.com").await;
    let mut changed = people(0..10);
    changed[3].score = 99;
    workspace.drop_csv("2.csv", &changed);
    workspace.run(0);
    workspace.drop_csv("3.csv", &people(0..10));
    workspace.run(0);
    let left: Vec<_> = people((0..10).filter(|number| *number != 3));
    assert_holds(&store.base_url, &store.client, &left).await;
}

#[test]
fn the_demo_shows_a_first_load_a_change_and_nothing_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(CONVOKE).arg("demo").env("TMPDIR", temporary.path()).output().expect("the binary runs");
    let ended = Ended::of(output);
    let first = ["1079 read", "23 filtered", "13 invalid", "37 superseded", "2 suppressed", "1004 create"];
    ended.expect(0, &first);
    ended.expect(0, &["1 create, 1 update, 1 delete", "1 created, 1 updated, 1 deleted", "nothing sent"]);
    let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("readable").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn explain_tells_a_records_way_and_show_tells_a_runs_balances() {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.run(0);
    workspace.convoke(&["explain", SYNC, "person3@example.com"]).expect(0, &["live", "the audience `People` holds"]);
    workspace.convoke(&["explain", SYNC, "nobody@example.com"]).expect(0, &["not in the ledger"]);
    let run = workspace.newest_run()["id"].as_str().expect("an id").to_owned();
    workspace.convoke(&["show", &run]).expect(0, &["5 create", "ledger", "0 + 5 created"]);
    let mut changed = people(0..4);
    changed[0].score = 99;
    workspace.drop_csv("2.csv", &changed);
    workspace.run(0);
    let run = workspace.newest_run()["id"].as_str().expect("an id").to_owned();
    let shown = workspace.convoke(&["show", &run]).stdout;
    let sample = |kind: &str| shown.lines().find(|line| line.trim_start().starts_with(kind)).map(str::to_owned);
    let of_row = |line: Option<String>| line.is_some_and(|line| line.contains(" row "));
    assert!(of_row(sample("update  ")) && of_row(sample("delete  ")), "{shown}");
}

#[test]
fn init_finds_the_separator_and_refuses_a_file_without_a_header() {
    let workspace = Workspace::embedded();
    workspace.write("kunden/1.csv", "Kunden Nr;E-Mail;Name\n1;Ada@Example.com;Ada\n");
    let config = workspace.path("fresh");
    let config = config.to_str().expect("UTF-8");
    let folder = workspace.path("kunden");
    let folder = folder.to_str().expect("UTF-8");
    let convoke = |arguments: &[&str]| {
        let output =
            Command::new(CONVOKE).args(["--config", config]).args(arguments).output().expect("the binary runs");
        Ended::of(output)
    };
    convoke(&["init", "kunden", "--drop", folder]).expect(0, &["preview kunden"]);
    convoke(&["run", "kunden"]).expect(0, &["1 created"]);
    workspace.write("kunden/2.csv", "2;bob@example.com;Bob\n");
    convoke(&["init", "again", "--drop", folder]).expect(2, &["header"]);
    assert!(!convoke(&["init", "again", "--drop", folder]).text().contains("bob@"));
}
