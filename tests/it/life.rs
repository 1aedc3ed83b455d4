//! What becomes of rows and syncs in the long run: rows that people remove, syncs that get another name or come to an end.

use std::fs;

use crate::audience::{add_row, assert_holds, delete_row, rows};
use crate::workspace::{Person, SYNC, StoreProcess, Workspace, people, sync_yaml};

const RESTORE: &str = "removed_at_destination: restore\n";

fn crash_at(workspace: &Workspace, arguments: &[&str], point: &str) {
    let mut command = workspace.command(arguments);
    let output = command.env("CONVOKE_CRASH_AT", point).output().expect("the binary runs");
    assert!(output.status.code().is_none(), "{point}: the process should have been killed: {output:?}");
}

/// The counts of the plan of a run with `--json`.
fn counted(workspace: &Workspace, arguments: &[&str]) -> [u64; 3] {
    let ended = workspace.convoke(arguments);
    ended.expect(0, &[]);
    let counts = &ended.json()["run"]["counts"];
    ["creates", "updates", "deletes"].map(|name| counts[name].as_u64().unwrap_or_else(|| panic!("{}", ended.text())))
}

/// Ten people of whom somebody removed one, which a change of that one has shown.
async fn with_a_removed_row(yaml: &str) -> (StoreProcess, Workspace, Vec<Person>) {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.write("config/syncs/people.yaml", yaml);
    workspace.drop_csv("1.csv", &people(0..10));
    workspace.run(0);
    delete_row(&store.base_url, &store.client, "People", "person3@example.com").await;
    let mut changed = people(0..10);
    changed[3].score = 99;
    workspace.drop_csv("2.csv", &changed);
    workspace.run(0);
    assert_eq!(workspace.newest_run()["delivery"]["updates"]["found_removed"], 1);
    assert_holds(&store.base_url, &store.client, &people((0..10).filter(|number| *number != 3))).await;
    (store, workspace, changed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_row_is_created_again_once_where_that_is_asked_for() {
    let (store, workspace, expected) = with_a_removed_row(&sync_yaml("mirror", RESTORE)).await;
    workspace.convoke(&["explain", SYNC, "person3@example.com"]).expect(0, &["removed", "made again"]);
    assert_eq!(counted(&workspace, &["run", SYNC, "--json"]), [1, 0, 0]);
    assert_holds(&store.base_url, &store.client, &expected).await;
    assert_eq!(counted(&workspace, &["run", SYNC, "--full", "--json"]), [0, 0, 0]);
    assert_holds(&store.base_url, &store.client, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_removed_under_respect_come_back_once_restoring_is_switched_on() {
    let (store, workspace, expected) = with_a_removed_row(&sync_yaml("mirror", "")).await;
    assert_eq!(counted(&workspace, &["run", SYNC, "--full", "--json"]), [0, 0, 0]);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", RESTORE));
    assert_eq!(counted(&workspace, &["run", SYNC, "--json"]), [1, 0, 0]);
    assert_holds(&store.base_url, &store.client, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restoring_run_killed_at_any_boundary_makes_no_double() {
    for point in
        ["after-plan-row", "after-intent", "after-send", "after-acknowledge", "after-fold", "before-checkpoint"]
    {
        let (store, workspace, expected) = with_a_removed_row(&sync_yaml("mirror", RESTORE)).await;
        crash_at(&workspace, &["run", SYNC], point);
        workspace.run(0);
        assert_holds(&store.base_url, &store.client, &expected).await;
        assert_eq!(counted(&workspace, &["run", SYNC, "--full", "--json"]), [0, 0, 0], "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suppressed_person_whose_row_was_removed_does_not_come_back() {
    let (store, workspace, _) = with_a_removed_row(&sync_yaml("mirror", "")).await;
    workspace.write("suppressed.csv", "email\nperson3@example.com\n");
    let suppress = "suppress: { csv: suppressed.csv, column: email }\n";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", &format!("{RESTORE}{suppress}")));
    assert_eq!(counted(&workspace, &["run", SYNC, "--json"]), [0, 0, 0]);
    assert_holds(&store.base_url, &store.client, &people((0..10).filter(|number| *number != 3))).await;
}

/// A sync that has filled its audience.
fn with_people(count: usize) -> (StoreProcess, Workspace) {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..count));
    workspace.run(0);
    (store, workspace)
}

fn take_out_of_configuration(workspace: &Workspace) {
    fs::remove_file(workspace.path("config/syncs/people.yaml")).expect("it is configured");
}

/// Gives the sync the name `customers` in the configuration.
fn rename_in_configuration(workspace: &Workspace) {
    take_out_of_configuration(workspace);
    let renamed = sync_yaml("mirror", "").replace("sync: people", "sync: customers");
    workspace.write("config/syncs/customers.yaml", &renamed);
}

const RENAME: [&str; 4] = ["sync", "rename", SYNC, "customers"];

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_sync_goes_on_as_if_nothing_had_happened() {
    let (store, workspace) = with_people(30);
    rename_in_configuration(&workspace);
    workspace.convoke(&["run", "customers"]).expect(4, &["convoke sync rename people customers"]);
    workspace.convoke(&RENAME).expect(0, &["people renamed to customers", "30 rows"]);
    let run = workspace.convoke(&["run", "customers", "--json"]);
    run.expect(0, &[]);
    let counts = &run.json()["run"]["counts"];
    assert_eq!((counts["read"].as_u64(), counts["unchanged"].as_u64()), (Some(0), Some(30)), "{}", run.text());
    assert_eq!(counted(&workspace, &["run", "customers", "--full", "--json"]), [0, 0, 0]);
    workspace.drop_csv("2.csv", &people(1..31));
    assert_eq!(counted(&workspace, &["run", "customers", "--json"]), [1, 0, 1]);
    assert_holds(&store.base_url, &store.client, &people(1..31)).await;
    workspace
        .convoke(&["explain", "customers", "person3@example.com"])
        .expect(0, &["live", "owned by sync `customers`"]);
    let runs = workspace.convoke(&["runs", "customers", "--json"]).json();
    assert!(runs.as_array().is_some_and(|runs| runs.len() == 5), "its history came with it: {runs}");
    workspace.convoke(&RENAME).expect(0, &["was renamed before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_killed_at_any_boundary_is_finished_by_the_same_command() {
    for point in ["before-fold", "after-fold"] {
        let (store, workspace) = with_people(30);
        rename_in_configuration(&workspace);
        crash_at(&workspace, &RENAME, point);
        workspace.convoke(&RENAME).expect(0, &["to customers", "30 rows"]);
        assert_eq!(counted(&workspace, &["run", "customers", "--full", "--json"]), [0, 0, 0], "{point}");
        assert_holds(&store.base_url, &store.client, &people(0..30)).await;
        let audience = fs::read_dir(workspace.path("state/ledger")).expect("the ledger").flatten();
        let segments: usize = audience.map(|folder| fs::read_dir(folder.path()).map_or(1, Iterator::count)).sum();
        assert_eq!(segments, 1, "{point}: a segment was left behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_waits_for_the_configuration_and_for_interrupted_runs() {
    let (store, workspace) = with_people(30);
    workspace.convoke(&RENAME).expect(2, &["people.yaml", "customers.yaml"]);
    workspace.drop_csv("2.csv", &people(0..40));
    crash_at(&workspace, &["run", SYNC], "after-send");
    rename_in_configuration(&workspace);
    workspace.convoke(&RENAME).expect(4, &["interrupted", "convoke run people"]);
    workspace.convoke(&["sync", "rename", SYNC, "nobody"]).expect(2, &["no sync `nobody`", "customers"]);
    fs::remove_file(workspace.path("config/syncs/customers.yaml")).expect("it is configured");
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", ""));
    workspace.run(0);
    rename_in_configuration(&workspace);
    workspace.convoke(&RENAME).expect(0, &["40 rows"]);
    assert_holds(&store.base_url, &store.client, &people(0..40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_has_run_itself_is_not_taken() {
    let (_store, workspace) = with_people(3);
    rename_in_configuration(&workspace);
    let other =
        sync_yaml("mirror", "").replace("sync: people", "sync: customers").replace("name: People", "name: Others");
    workspace.write("config/syncs/customers.yaml", &other.replace("path: drop", "path: other"));
    workspace.write("other/1.csv", "email,name,score,updated_at\na@example.com,A,1,1\n");
    workspace.convoke(&["run", "customers"]).expect(0, &["1 created"]);
    workspace.convoke(&RENAME).expect(2, &["`customers` has run itself"]);
    workspace.convoke(&["sync", "rename", "unknown", "customers"]).expect(2, &["nothing to rename"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_retired_sync_left_are_taken_over_by_another_one() {
    for point in ["", "before-checkpoint", "after-checkpoint"] {
        let (store, workspace) = with_people(10);
        let keep = ["sync", "retire", SYNC, "--keep-rows"];
        workspace.convoke(&keep).expect(2, &["still in the configuration", "people.yaml"]);
        take_out_of_configuration(&workspace);
        if !point.is_empty() {
            crash_at(&workspace, &keep, point);
        }
        workspace.convoke(&keep).expect(0, &["retired"]);
        assert_holds(&store.base_url, &store.client, &people(0..10)).await;
        workspace.convoke(&keep).expect(0, &["was retired before"]);
        // A sync that fills the same audience owns nothing of it, until it is told to.
        workspace.write("config/syncs/others.yaml", &sync_yaml("mirror", "").replace("sync: people", "sync: others"));
        workspace.drop_csv("2.csv", &people(0..11));
        workspace.convoke(&["run", "others"]).expect(4, &["convoke adopt"]);
        workspace.convoke(&["adopt", "others"]).expect(0, &["10 rows read, 10 taken over, 0 known"]);
        assert_eq!(counted(&workspace, &["run", "others", "--json"]), [1, 0, 0], "{point}");
        assert_holds(&store.base_url, &store.client, &people(0..11)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_retired_begins_anew() {
    let (store, workspace) = with_people(10);
    take_out_of_configuration(&workspace);
    workspace.convoke(&["sync", "retire", SYNC, "--keep-rows"]).expect(0, &["retired"]);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", ""));
    workspace.convoke(&["adopt", SYNC]).expect(0, &["10 taken over"]);
    // What was created under the name before is no first load of this one, to which limits would not apply.
    workspace.drop_csv("2.csv", &people(0..40));
    workspace.convoke(&["run", SYNC]).expect(4, &["max_create"]);
    assert_eq!(rows(&store.base_url, &store.client, "People").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_retired_sync_are_deleted_once_somebody_approved_it() {
    let (store, workspace) = with_people(10);
    add_row(&store.base_url, &store.client, "People", &Person::numbered(99)).await;
    take_out_of_configuration(&workspace);
    let hash = removal_of(&workspace, 10);
    assert_eq!(removal_of(&workspace, 10), hash, "the plan that waits is the one to approve");
    let wrong = ["sync", "retire", SYNC, "--delete-rows", "--approve", "0123456789ab"];
    workspace.convoke(&wrong).expect(4, &["another plan"]);
    let approved = ["sync", "retire", SYNC, "--delete-rows", "--approve", &hash];
    workspace.convoke(&approved).expect(0, &["10 deleted", "`people` is retired"]);
    assert_holds(&store.base_url, &store.client, &[Person::numbered(99)]).await;
    workspace.convoke(&approved).expect(0, &["was retired before"]);
    let runs = workspace.convoke(&["runs", SYNC, "--json"]).json();
    assert_eq!(runs[0]["delivery"]["deletes"]["acknowledged"], 10, "its history stays: {runs}");
    workspace.convoke(&["sync", "retire", "unknown", "--delete-rows"]).expect(2, &["nothing to retire"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_kept_can_still_be_deleted_by_the_way_that_is_told() {
    let (store, workspace) = with_people(10);
    take_out_of_configuration(&workspace);
    workspace.convoke(&["sync", "retire", SYNC, "--keep-rows"]).expect(0, &["10 rows"]);
    let delete = ["sync", "retire", SYNC, "--delete-rows"];
    workspace.convoke(&delete).expect(2, &["nothing was deleted", "10 rows were kept", "convoke adopt"]);
    assert_holds(&store.base_url, &store.client, &people(0..10)).await;
    workspace.write("config/syncs/others.yaml", &sync_yaml("mirror", "").replace("sync: people", "sync: others"));
    workspace.convoke(&["adopt", "others"]).expect(0, &["10 taken over"]);
    fs::remove_file(workspace.path("config/syncs/others.yaml")).expect("it is configured");
    let delete = ["sync", "retire", "others", "--delete-rows", "--json"];
    let hash = workspace.convoke(&delete).json()["plan"]["hash"].as_str().expect("a hash").to_owned();
    let approved = ["sync", "retire", "others", "--delete-rows", "--approve", &hash];
    workspace.convoke(&approved).expect(0, &["10 deleted", "`others` is retired"]);
    assert_holds(&store.base_url, &store.client, &[]).await;
    workspace.convoke(&approved).expect(0, &["was retired before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_sync_has_to_name_the_audience_that_its_old_name_filled() {
    let (store, workspace) = with_people(3);
    rename_in_configuration(&workspace);
    let right = fs::read_to_string(workspace.path("config/syncs/customers.yaml")).expect("it is configured");
    let other = right.replace("name: People", "name: Others");
    workspace.write("config/syncs/customers.yaml", &other);
    workspace.convoke(&RENAME).expect(2, &["filled audience `People`", "names `Others`", "retire `people`"]);
    let other = right.replace("name: People", "id: \"404\", name: People");
    workspace.write("config/syncs/customers.yaml", &other);
    workspace.convoke(&RENAME).expect(2, &["filled audience `People`", "names `404`"]);
    workspace.write("config/syncs/customers.yaml", &right);
    workspace.convoke(&RENAME).expect(0, &["people renamed to customers"]);
    assert_eq!(counted(&workspace, &["run", "customers", "--full", "--json"]), [0, 0, 0]);
    assert_holds(&store.base_url, &store.client, &people(0..3)).await;
}

#[test]
fn a_rename_advises_nothing_that_would_be_refused() {
    let workspace = Workspace::embedded();
    let invalid = workspace.convoke(&["sync", "rename", SYNC, "New Name"]);
    invalid.expect(2, &["`New Name` is no name for a sync", "lower-case"]);
    assert!(!invalid.text().contains("write `sync:"), "{}", invalid.text());
    workspace.convoke(&["sync", "rename", SYNC, "customers"]).expect(2, &["people.yaml", "`sync: customers`"]);
    let copied = sync_yaml("mirror", "").replace("sync: people", "sync: customers").replace("name: People", "name: C");
    workspace.write("config/syncs/customers.yaml", &copied.replace("path: drop", "path: other"));
    let both = workspace.convoke(&RENAME);
    both.expect(2, &["both in the configuration", "take `", "people.yaml` away"]);
    assert!(!both.text().contains("rename `"), "it would replace the other one: {}", both.text());
}

/// Plans the removal of the sync's rows; gives the plan's hash.
fn removal_of(workspace: &Workspace, rows: u64) -> String {
    let planned = workspace.convoke(&["sync", "retire", SYNC, "--delete-rows", "--json"]);
    planned.expect(4, &["nothing was deleted", "--approve"]);
    let plan = planned.json()["plan"].clone();
    assert_eq!(plan["counts"]["deletes"].as_u64(), Some(rows), "{}", planned.text());
    plan["hash"].as_str().expect("a hash").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_killed_at_any_boundary_is_finished_by_the_same_command() {
    let points = [
        "before-intent",
        "after-intent",
        "after-send",
        "after-acknowledge",
        "before-fold",
        "after-fold",
        "before-checkpoint",
        "after-checkpoint",
        "before-checkpoint:2",
        "after-checkpoint:2",
    ];
    for point in points {
        let (store, workspace) = with_people(10);
        take_out_of_configuration(&workspace);
        let hash = removal_of(&workspace, 10);
        let approved = ["sync", "retire", SYNC, "--delete-rows", "--approve", &hash];
        crash_at(&workspace, &approved, point);
        let ended = workspace.convoke(&approved);
        assert_eq!(ended.code, Some(0), "{point}: {}", ended.text());
        assert_holds(&store.base_url, &store.client, &[]).await;
        workspace.convoke(&approved).expect(0, &["was retired before"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_sync_in_the_same_audience_stay_what_they_are() {
    let (store, workspace) = with_people(10);
    let shared = sync_yaml("mirror", "shared: true\n");
    workspace.write("config/syncs/people.yaml", &shared);
    let others = shared.replace("sync: people", "sync: others").replace("path: drop", "path: other");
    workspace.write("config/syncs/others.yaml", &others);
    workspace.write("other/1.csv", "email,name,score,updated_at\nperson20@example.com,Person 20,20,1\n");
    workspace.convoke(&["adopt", "others"]).expect(0, &["0 taken over, 10 known"]);
    workspace.convoke(&["run", "others"]).expect(0, &["1 created"]);

    take_out_of_configuration(&workspace);
    workspace.write("config/syncs/customers.yaml", &shared.replace("sync: people", "sync: customers"));
    workspace.convoke(&RENAME).expect(0, &["10 rows"]);
    assert_eq!(counted(&workspace, &["run", "others", "--full", "--json"]), [0, 0, 0]);
    assert_eq!(counted(&workspace, &["run", "customers", "--full", "--json"]), [0, 0, 0]);

    fs::remove_file(workspace.path("config/syncs/customers.yaml")).expect("it is configured");
    let planned = workspace.convoke(&["sync", "retire", "customers", "--delete-rows", "--json"]);
    let hash = planned.json()["plan"]["hash"].as_str().expect("a hash").to_owned();
    workspace.convoke(&["sync", "retire", "customers", "--delete-rows", "--approve", &hash]).expect(0, &["10 deleted"]);
    assert_holds(&store.base_url, &store.client, &people(20..21)).await;
    assert_eq!(counted(&workspace, &["run", "others", "--full", "--json"]), [0, 0, 0]);
}
