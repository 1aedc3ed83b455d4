//! `verify`: what people did to an audience is told, and mended where it is ours.

use std::fs;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};
use serde_json::{Value, json};

use crate::audience::{add_row, add_rows, assert_holds, copy_row, delete_row, edit_row, rows};
use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people, remote_connection};

const PEOPLE: usize = 40;

/// A store with an audience of [`PEOPLE`], each in step.
fn filled() -> (StoreProcess, Workspace) {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..PEOPLE));
    workspace.run(0);
    (store, workspace)
}

fn verify(workspace: &Workspace, exit_code: i32) -> Value {
    let ended = workspace.convoke(&["verify", SYNC, "--json"]);
    ended.expect(exit_code, &[]);
    ended.json()
}

fn email(number: usize) -> String {
    Person::numbered(number).email
}

/// Insists on these figures, and on zero for all others.
fn assert_figures(facts: &Value, expected: &Value) {
    let told = facts["counts"].as_object().unwrap_or_else(|| panic!("{facts}"));
    for (name, count) in told {
        assert_eq!(*count, expected.get(name).cloned().unwrap_or(json!(0)), "{name}: {facts}");
    }
}

/// Insists that the command holds its plan for approval, and gives that.
fn approve(workspace: &Workspace, repair: &Ended) {
    let plan = &repair.json()["plan"];
    let text = |name: &str| plan[name].as_str().unwrap_or_else(|| panic!("{}", repair.text())).to_owned();
    workspace.convoke(&["apply", &text("id"), "--approve", &text("hash")]).expect(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_nobody_touched_is_in_step_and_needs_no_repair() {
    let (_store, workspace) = filled();
    let facts = verify(&workspace, 0);
    assert_figures(&facts, &json!({ "rows": PEOPLE, "ledger_rows": PEOPLE, "in_step": PEOPLE }));
    assert_eq!((&facts["source"]["unchanged"], &facts["samples"]), (&json!(PEOPLE), &json!([])));
    let verified = workspace.convoke(&["verify", SYNC]);
    verified.expect(0, &["in step", "40 unchanged"]);
    assert!(!verified.text().contains("ahead"), "{}", verified.text());
    workspace.convoke(&["verify", SYNC, "--repair"]).expect(0, &["nothing to mend"]);
}

#[test]
fn a_source_that_is_ahead_of_the_audience_is_told_and_no_difference() {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..PEOPLE));
    workspace.run(0);
    let mut newer = people(1..PEOPLE + 2);
    newer[0].score = 99;
    workspace.drop_csv("2.csv", &newer);
    let verified = workspace.convoke(&["verify", SYNC]);
    verified.expect(0, &["`convoke run people` would create 2, update 1, delete 1"]);
    assert!(verified.stdout.trim_end().ends_with("delete 1"), "it stands last: {}", verified.text());
    workspace.run(0).expect(0, &["2 created", "1 updated", "1 deleted"]);
    assert!(!workspace.convoke(&["verify", SYNC]).text().contains("ahead"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_is_told_apart_and_mended() {
    let (store, workspace) = filled();
    let (url, client) = (store.base_url.as_str(), &store.client);
    delete_row(url, client, "People", &email(1)).await;
    edit_row(url, client, "People", &email(2), ("Name", json!("Edited"))).await;
    copy_row(url, client, "People", &email(3)).await;
    edit_row(url, client, "People", &email(4), ("convoke_key", Value::Null)).await;
    add_row(url, client, "People", &Person::numbered(99)).await;

    let told = json!({
        "rows": 41, "ledger_rows": 40, "in_step": 37, "drifted": 1, "moved": 1, "missing": 1, "doubled": 1,
        "extra_of_others": 1
    });
    let facts = verify(&workspace, 3);
    assert_figures(&facts, &told);
    let sample = |finding: &str| {
        let samples = facts["samples"].as_array().expect("samples");
        samples.iter().find(|sample| sample["finding"] == finding).unwrap_or_else(|| panic!("{facts}")).clone()
    };
    assert_eq!(sample("drifted")["columns"], json!(["Name"]));
    assert!(sample("drifted")["origin"].as_str().is_some_and(|origin| origin.contains("1.csv")), "{facts}");
    assert!(sample("doubled")["ledger_row"].is_string() && sample("doubled")["attempt"].is_number(), "{facts}");
    let values = ["Edited", "person", "Person"];
    assert!(!values.iter().any(|value| facts.to_string().contains(value)), "values are shown: {facts}");
    // To look is to change nothing.
    assert_figures(&verify(&workspace, 3), &told);

    let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
    // The row of somebody else is what holds it: the double is known to be ours.
    repair.expect(4, &["unexplained_rows", "holds 41 rows, the ledger explains 40"]);
    assert_figures(&repair.json(), &told);
    let planned = &repair.json()["plan"]["counts"];
    assert_eq!((&planned["creates"], &planned["updates"], &planned["deletes"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(rows(url, client, "People").await.len(), 41, "nothing was sent yet");
    approve(&workspace, &repair);

    assert_holds(url, client, &people((0..PEOPLE).chain([99]))).await;
    let facts = verify(&workspace, 0);
    assert_figures(&facts, &json!({ "rows": 41, "ledger_rows": 40, "in_step": 40, "extra_of_others": 1 }));
    workspace.drop_csv("2.csv", &people(0..PEOPLE));
    workspace.run(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_made_for_a_person_of_ours_is_told_and_left_alone() {
    let (store, workspace) = filled();
    let (url, client) = (store.base_url.as_str(), &store.client);
    add_row(url, client, "People", &Person::numbered(5)).await;
    // This one was made in the place of ours: made again, it would stand twice.
    delete_row(url, client, "People", &email(6)).await;
    add_row(url, client, "People", &Person::numbered(6)).await;
    let told = json!({
        "rows": 41, "ledger_rows": 40, "in_step": 39, "missing": 1, "doubled_by_others": 1, "extra_of_others": 1
    });
    assert_figures(&verify(&workspace, 3), &told);
    workspace.convoke(&["verify", SYNC, "--repair"]).expect(3, &["doubled by others"]);
    let facts = verify(&workspace, 3);
    assert_figures(
        &facts,
        &json!({ "rows": 41, "ledger_rows": 39, "in_step": 39, "doubled_by_others": 1, "extra_of_others": 1 }),
    );
    assert_eq!(rows(url, client, "People").await.len(), 41);
    workspace.convoke(&["adopt", SYNC]).expect(0, &["1 taken over"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_says_since_is_a_plans_work_and_no_difference() {
    let (_store, workspace) = filled();
    workspace.drop_csv("2.csv", &people(1..PEOPLE + 2));
    let facts = verify(&workspace, 0);
    assert_figures(&facts, &json!({ "rows": PEOPLE, "ledger_rows": PEOPLE, "in_step": PEOPLE }));
    let source = &facts["source"];
    assert_eq!((&source["creates"], &source["deletes"], &source["unchanged"]), (&json!(2), &json!(1), &json!(39)));
    workspace.convoke(&["verify", SYNC]).expect(0, &["2 create", "1 delete"]);
    // No plan is left behind, and no segment.
    assert_eq!(fs::read_dir(workspace.path("state/plans")).expect("a folder").count(), 1);
    workspace.run(0);
    assert_figures(&verify(&workspace, 0), &json!({ "rows": 41, "ledger_rows": 41, "in_step": 41 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_dies_is_gone_on_with_by_the_next() {
    for point in ["before-fold:1", "after-fold:1", "before-plan-row:1", "after-plan-row:1"] {
        let (store, workspace) = filled();
        let (url, client) = (store.base_url.as_str(), &store.client);
        delete_row(url, client, "People", &email(1)).await;
        edit_row(url, client, "People", &email(2), ("Name", json!("Edited"))).await;
        copy_row(url, client, "People", &email(3)).await;
        let mut command = workspace.command(&["verify", SYNC, "--repair"]);
        let output = command.env("CONVOKE_CRASH_AT", point).output().expect("the binary runs");
        assert!(output.status.code().is_none(), "{point}: the process should have been killed: {output:?}");
        let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
        repair.expect(3, &[]);
        approve(&workspace, &repair);
        assert_holds(url, client, &people(0..PEOPLE)).await;
        assert_figures(&verify(&workspace, 0), &json!({ "rows": 40, "ledger_rows": 40, "in_step": 40 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_not_applied_makes_nobody_again_whom_people_removed() {
    let (store, workspace) = filled();
    let (url, client) = (store.base_url.as_str(), &store.client);
    delete_row(url, client, "People", &email(1)).await;
    let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
    repair.expect(3, &[]);
    assert_eq!(repair.json()["plan"]["counts"]["creates"], 1, "{}", repair.text());

    // Nobody applies it, and the next run comes.
    let mut changed = people(0..PEOPLE);
    changed[2].name = "Changed".to_owned();
    workspace.drop_csv("2.csv", &changed);
    workspace.run(0);
    let without: Vec<_> = changed.iter().filter(|person| person.email != email(1)).cloned().collect();
    assert_holds(url, client, &without).await;
    assert_figures(&verify(&workspace, 3), &json!({ "rows": 39, "ledger_rows": 40, "in_step": 39, "missing": 1 }));

    // The next repair finds the same, and the row is back once that is applied.
    let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
    repair.expect(3, &[]);
    let plan = repair.json()["plan"]["id"].as_str().expect("an id").to_owned();
    workspace.convoke(&["apply", &plan]).expect(0, &[]);
    assert_holds(url, client, &changed).await;
    assert_figures(&verify(&workspace, 0), &json!({ "rows": 40, "ledger_rows": 40, "in_step": 40 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_row_whose_record_is_gone_too_is_forgotten_by_a_repair() {
    let (store, workspace) = filled();
    delete_row(&store.base_url, &store.client, "People", &email(1)).await;
    let without: Vec<_> = people(0..PEOPLE).into_iter().filter(|person| person.email != email(1)).collect();
    workspace.drop_csv("2.csv", &without);
    let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
    repair.expect(3, &[]);
    let plan = repair.json()["plan"].clone();
    assert_eq!((&plan["counts"]["creates"], &plan["counts"]["deletes"]), (&json!(0), &json!(0)));
    workspace.convoke(&["apply", plan["id"].as_str().expect("an id")]).expect(0, &[]);
    assert_figures(&verify(&workspace, 0), &json!({ "rows": 39, "ledger_rows": 39, "in_step": 39 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_makes_again_stops_the_repair_that_would_make_it_too() {
    let (store, workspace) = filled();
    delete_row(&store.base_url, &store.client, "People", &email(1)).await;
    let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
    let plan = repair.json()["plan"]["id"].as_str().expect("an id").to_owned();
    add_row(&store.base_url, &store.client, "People", &Person::numbered(1)).await;
    workspace.convoke(&["apply", &plan]).expect(4, &["somebody added rows since"]);
    assert_eq!(rows(&store.base_url, &store.client, "People").await.len(), PEOPLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_killed_while_it_is_applied_ends_in_step() {
    for point in ["before-fold:1", "after-fold:1", "after-intent:1", "after-acknowledge:1", "before-checkpoint:1"] {
        let (store, workspace) = filled();
        let (url, client) = (store.base_url.as_str(), &store.client);
        for number in [1, 2, 3] {
            delete_row(url, client, "People", &email(number)).await;
        }
        let repair = workspace.convoke(&["verify", SYNC, "--repair", "--json"]);
        let plan = repair.json()["plan"]["id"].as_str().expect("an id").to_owned();
        let output = workspace.command(&["apply", &plan]).env("CONVOKE_CRASH_AT", point).output();
        assert!(
            output.expect("the binary runs").status.code().is_none(),
            "{point}: the process should have been killed"
        );
        // Before the ledger has learned of it, the plan still waits; from then on a run does the rest.
        let again = if point == "before-fold:1" { vec!["apply", &plan] } else { vec!["run", SYNC] };
        workspace.convoke(&again).expect(0, &[]);
        assert_holds(url, client, &people(0..PEOPLE)).await;
        assert_figures(&verify(&workspace, 0), &json!({ "rows": 40, "ledger_rows": 40, "in_step": 40 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_is_said() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.convoke(&["verify", "nobody"]).expect(2, &["nobody"]);
    workspace.convoke(&["verify", SYNC]).expect(2, &["has not filled an audience yet", "convoke run people"]);
    workspace.convoke(&["verify", SYNC, "--repair"]).expect(2, &["has not filled an audience yet"]);
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.run(0);
    let mapped = fs::read_to_string(workspace.path("config/syncs/people.yaml")).expect("a sync");
    workspace.write("config/syncs/people.yaml", &mapped.replace("  Name: name\n", "  Full Name: name\n"));
    workspace.convoke(&["verify", SYNC]).expect(4, &["columns", "convoke run people"]);
    workspace.write("config/syncs/people.yaml", &mapped);
    fs::remove_dir_all(workspace.path("drop/processed")).ok();
    fs::remove_dir_all(workspace.path("state/ledger")).expect("there is a ledger");
    workspace.convoke(&["verify", SYNC]).expect(1, &["ledger", "convoke adopt"]);
    workspace.convoke(&["verify", SYNC, "--repair"]).expect(1, &["ledger", "convoke adopt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_is_held_against_its_ledger_also_when_the_source_cannot_be_read() {
    let (store, workspace) = filled();
    delete_row(&store.base_url, &store.client, "People", &email(1)).await;
    fs::remove_dir_all(workspace.path("drop")).expect("the drop folder");
    let ended = workspace.convoke(&["verify", SYNC]);
    ended.expect(1, &["missing", "the source could not be compared"]);
    assert!(ended.stdout.contains("in step"), "{}", ended.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_stays_where_it_is_while_the_audience_is_only_looked_at() {
    let (_store, workspace) = filled();
    workspace.write("drop/2.csv", "email,name,score,updated_at\n\"never closed,1,2,3\n");
    workspace.convoke(&["verify", SYNC]).expect(1, &["the source could not be compared", "2.csv", "quot"]);
    assert!(workspace.path("drop/2.csv").exists());
    workspace.convoke(&["run", SYNC]).expect(1, &["quarantined `2.csv`"]);
    assert!(workspace.path("drop/quarantine/2.csv").exists());
}

/// More rows than the pages of one list give: a hundred of 500.
const MANY: usize = 50_200;

/// A workspace that gives the store time to look through many rows.
fn patient(store: &StoreProcess) -> Workspace {
    let connection = remote_connection(&store.base_url, &store.client);
    Workspace::new(&connection.replace("request_timeout: 2s", "request_timeout: 2m"))
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_can_be_paged_through_are_adopted_and_verified() {
    let store = StoreProcess::start();
    let (url, client) = (store.base_url.as_str(), &store.client);
    let workspace = patient(&store);
    // The first run makes the audience; most of it is another program's work, without a key cell.
    workspace.drop_csv("1.csv", &people(0..1));
    workspace.run(0);
    add_rows(url, client, "People", &people(1..MANY)).await;
    workspace.convoke(&["adopt", SYNC]).expect(0, &["50200 rows read, 50199 taken over, 1 known already"]);
    workspace.drop_csv("2.csv", &people(0..MANY));
    workspace.run(0).expect(0, &["nothing to send"]);
    assert_figures(&verify(&workspace, 0), &json!({ "rows": MANY, "ledger_rows": MANY, "in_step": MANY }));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_of_ours_than_can_be_paged_through_are_verified() {
    let store = StoreProcess::start();
    let workspace = patient(&store);
    workspace.drop_csv("1.csv", &people(0..MANY));
    workspace.run(0);
    edit_row(&store.base_url, &store.client, "People", &email(1), ("Name", json!("Edited"))).await;
    let told = json!({ "rows": MANY, "ledger_rows": MANY, "in_step": MANY - 1, "drifted": 1 });
    assert_figures(&verify(&workspace, 3), &told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_lost_on_its_way_is_asked_for_again() {
    let store = StoreProcess::start();
    let script = FaultScript::rules(vec![Rule::on("POST", "actions/search", Fault::DropAnswer).times(2)]);
    let upstream = store.address().parse().expect("an address");
    let proxy = FaultProxy::start(upstream, script).await.expect("the proxy starts");
    let workspace = Workspace::remote(&proxy.base_url(), &store.client);
    workspace.drop_csv("1.csv", &people(0..PEOPLE));
    workspace.run(0);
    assert_figures(&verify(&workspace, 0), &json!({ "rows": PEOPLE, "ledger_rows": PEOPLE, "in_step": PEOPLE }));
}
