//! Somebody else has a hand in it: another sync, a person at the destination, a configuration changed half-way.

use std::collections::HashSet;
use std::fs;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};

use crate::audience::{add_row, assert_holds, id, rename, rows};
use crate::workspace::{Person, SYNC, StoreProcess, Workspace, people, sync_yaml};

/// More rows than the requests take that are under way at once, so that a crash leaves some unsent.
const FIRST_LOAD: usize = 4_000;

fn remote(store: &StoreProcess) -> Workspace {
    Workspace::remote(&store.base_url, &store.client)
}

fn crash_at(workspace: &Workspace, arguments: &[&str], point: &str) {
    let mut command = workspace.command(arguments);
    let output = command.env("CONVOKE_CRASH_AT", point).output().expect("the binary runs");
    assert!(output.status.code().is_none(), "{point}: the process should have been killed: {output:?}");
}

/// The plan that a command with `--json` was about.
fn plan_of(workspace: &Workspace, arguments: &[&str], exit_code: i32) -> (String, String) {
    let ended = workspace.convoke(arguments);
    ended.expect(exit_code, &[]);
    let plan = &ended.json()["plan"];
    let text = |name: &str| plan[name].as_str().unwrap_or_else(|| panic!("{}", ended.text())).to_owned();
    (text("id"), text("hash"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_changed_in_the_middle_of_a_first_load_makes_no_double() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..FIRST_LOAD));
    crash_at(&workspace, &["run", SYNC], "after-acknowledge:1");
    let other_key = sync_yaml("mirror", "").replace("key: [Email]", "key: [Email, Name]");
    workspace.write("config/syncs/people.yaml", &other_key);
    workspace.convoke(&["run", SYNC]).expect(4, &["key columns", "convoke adopt"]);
    let held = rows(&store.base_url, &store.client, "People").await;
    let different: HashSet<_> = held.iter().map(|row| row["Email"].to_string()).collect();
    assert_eq!(different.len(), held.len(), "rows stand twice");
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", ""));
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(0..FIRST_LOAD)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_before_an_error_is_in_the_ledger_at_once() {
    let store = StoreProcess::start();
    let upstream = store.address().parse().expect("an address");
    let script = FaultScript::rules(vec![Rule::on("POST", "bulk/upsert", Fault::Unauthorized).after(1)]);
    let proxy = FaultProxy::start(upstream, script).await.expect("the proxy starts");
    let workspace = Workspace::remote(&proxy.base_url(), &store.client);
    workspace.drop_csv("1.csv", &people(0..FIRST_LOAD));
    workspace.run(1);
    let held = rows(&store.base_url, &store.client, "People").await;
    let sent = held.first().expect("the first request passed")["Email"].as_str().expect("a text").to_owned();
    workspace.convoke(&["explain", SYNC, &sent]).expect(0, &["live"]);
    assert_eq!(workspace.newest_run()["delivery"]["creates"]["acknowledged"], held.len());
}

/// A second sync over the same drop folder that reaches the audience by its id, under a name of its own.
fn write_second_sync(workspace: &Workspace, audience: &str, more: &str) {
    let yaml = sync_yaml("upsert", more)
        .replace("sync: people", "sync: others")
        .replace("path: drop", "path: others")
        .replace("name: People", &format!("name: By id, id: {audience}"));
    workspace.write("config/syncs/others.yaml", &yaml);
    workspace.write("others/1.csv", "email,name,score,updated_at\nperson3@example.com,Other,3,1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_syncs_that_reach_one_audience_by_name_and_by_id_must_both_say_so() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..10));
    workspace.run(0);
    write_second_sync(&workspace, &id(&store.base_url, &store.client, "People").await, "");
    workspace.convoke(&["run", "others"]).expect(4, &["`people`", "shared: true"]);
    workspace.convoke(&["adopt", "others"]).expect(4, &["`people`", "shared: true"]);
    workspace.drop_csv("2.csv", &people(0..11));
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(0..11)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_does_not_go_on_over_what_another_sync_wrote() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..FIRST_LOAD));
    crash_at(&workspace, &["run", SYNC], "after-acknowledge:1");
    write_second_sync(&workspace, &id(&store.base_url, &store.client, "People").await, "shared: true\n");
    workspace.convoke(&["adopt", "others"]).expect(0, &[]);
    workspace.convoke(&["run", SYNC]).expect(4, &["giving up the rest of plan", "`others`", "shared: true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_came_since_a_plan_was_made_stop_it() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..10));
    workspace.run(0);
    workspace.drop_csv("2.csv", &people(0..12));
    let (before, _) = plan_of(&workspace, &["plan", SYNC, "--json"], 0);
    add_row(&store.base_url, &store.client, "People", &Person::numbered(99)).await;
    workspace.convoke(&["apply", &before]).expect(4, &["somebody added rows", "plan again"]);
    // Whoever approves a plan made in their knowledge lets them be.
    let (after, hash) = plan_of(&workspace, &["plan", SYNC, "--json"], 4);
    workspace.convoke(&["apply", &after, "--approve", &hash]).expect(0, &["2 created"]);
    let expected: Vec<_> = people((0..12).chain([99]));
    assert_holds(&store.base_url, &store.client, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_came_while_a_plan_was_interrupted_are_asked_about() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..FIRST_LOAD));
    crash_at(&workspace, &["run", SYNC], "after-acknowledge:1");
    add_row(&store.base_url, &store.client, "People", &Person::numbered(9_999)).await;
    let (plan, hash) = plan_of(&workspace, &["run", SYNC, "--json"], 4);
    workspace.convoke(&["apply", &plan, "--approve", &hash]).expect(0, &["created"]);
    assert_holds(&store.base_url, &store.client, &people((0..FIRST_LOAD).chain([9_999]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_an_audience_that_another_sync_made_and_wrote_meanwhile_is_stale() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    let guards = "shared: true\nguards: { max_delete: unlimited, max_shrink: unlimited, allow_empty: true }\n";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", guards));
    let others =
        sync_yaml("mirror", guards).replace("sync: people", "sync: others").replace("path: drop", "path: other");
    workspace.write("config/syncs/others.yaml", &others);
    workspace.write("other/1.csv", "email,name,score,updated_at\nperson3@example.com,Other,3,1\n");
    let (waiting, _) = plan_of(&workspace, &["plan", "others", "--json"], 0);
    workspace.drop_csv("1.csv", &people(0..10));
    workspace.run(0);
    workspace.drop_csv("2.csv", &[]);
    workspace.run(0);
    workspace.convoke(&["apply", &waiting]).expect(4, &["stale", "the ledger", "plan again"]);
    workspace.convoke(&["run", "others"]).expect(0, &["1 created"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_dies_leaves_no_plan_that_makes_the_adopted_rows_again() {
    for point in ["before-fold:2", "after-fold:2"] {
        let store = StoreProcess::start();
        let workspace = remote(&store);
        workspace.drop_csv("1.csv", &people(0..FIRST_LOAD));
        crash_at(&workspace, &["run", SYNC], "after-acknowledge:1");
        let held = rows(&store.base_url, &store.client, "People").await;
        let is_absent = |person: &Person| held.iter().all(|row| row["Email"] != person.email);
        let absent = people(0..FIRST_LOAD).into_iter().find(is_absent).expect("not everybody was sent yet");
        add_row(&store.base_url, &store.client, "People", &absent).await;
        // The first fold is that of what the run had sent, the second one is the adoption.
        crash_at(&workspace, &["adopt", SYNC], point);
        if point == "before-fold:2" {
            workspace.convoke(&["adopt", SYNC]).expect(0, &["taken over"]);
        }
        workspace.run(0);
        assert_holds(&store.base_url, &store.client, &people(0..FIRST_LOAD)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_whose_ledger_is_lost_can_be_adopted_anew() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..30));
    workspace.run(0);
    fs::remove_dir_all(workspace.path("state/ledger")).expect("there is a ledger");
    workspace.drop_csv("2.csv", &people(0..31));
    workspace.convoke(&["run", SYNC]).expect(1, &["adopt"]);
    workspace.convoke(&["adopt", SYNC]).expect(0, &["30 taken over"]);
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(0..31)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_renamed_at_the_destination_is_still_the_same() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.run(0);
    rename(&store.base_url, &store.client, "People", "Customers").await;
    for (file, count) in [("2.csv", 6), ("3.csv", 7)] {
        workspace.drop_csv(file, &people(0..count));
        workspace.run(0);
        assert_eq!(rows(&store.base_url, &store.client, "Customers").await.len(), count);
    }
    // Its new name in the configuration can only mean the same one; any other name is asked back.
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "").replace("name: People", "name: Customers"));
    workspace.drop_csv("4.csv", &people(0..8));
    workspace.run(0);
    assert_eq!(rows(&store.base_url, &store.client, "Customers").await.len(), 8);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "").replace("name: People", "name: Elsewhere"));
    workspace.convoke(&["run", SYNC]).expect(4, &["`Customers`", "`Elsewhere`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_given_by_its_id_may_have_any_name() {
    let store = StoreProcess::start();
    let workspace = remote(&store);
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.run(0);
    let audience = id(&store.base_url, &store.client, "People").await;
    let by_id = sync_yaml("mirror", "").replace("name: People", &format!("name: Any, id: {audience}"));
    workspace.write("config/syncs/people.yaml", &by_id);
    for (file, count) in [("2.csv", 6), ("3.csv", 7)] {
        workspace.drop_csv(file, &people(0..count));
        workspace.run(0);
    }
    assert_holds(&store.base_url, &store.client, &people(0..7)).await;
}
