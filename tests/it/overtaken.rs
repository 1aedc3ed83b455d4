//! A source that changed, or went away, while a plan was interrupted or waited for its approval.

use std::fs;

use convoke_testkit::fault_proxy::{Fault, FaultScript, Rule};
use serde_json::Value;

use crate::crash::{FIRST_LOAD, Scene, second_drop};
use crate::workspace::{Person, SYNC, people, sync_yaml};

/// More people than the requests take that are under way at once, so that a crash leaves some unsent.
const MANY: usize = 4_500;

/// Killed while the changes of the second drop go out, before the first delete.
async fn half_way_through_the_second_drop() -> Scene {
    let scene = Scene::new(FaultScript::none()).await;
    scene.load_first_drop().await;
    scene.workspace.drop_csv("2.csv", &second_drop());
    scene.crash_at("after-send:1");
    scene
}

/// The second drop, and those whom it left out.
fn second_drop_without_deletes() -> Vec<Person> {
    [people(0..300), second_drop()].concat()
}

/// The newest runs of the sync, newest first.
fn runs(scene: &Scene) -> Vec<Value> {
    let ended = scene.workspace.convoke(&["runs", SYNC, "--json"]);
    ended.json().as_array().expect("runs").clone()
}

fn cancelled(run: &Value) -> [u64; 3] {
    ["creates", "updates", "deletes"].map(|kind| run["delivery"][kind]["cancelled"].as_u64().expect("a count"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_newer_file_has_again_are_not_deleted_by_the_interrupted_plan() {
    let scene = half_way_through_the_second_drop().await;
    let third = people(0..FIRST_LOAD + 700);
    scene.workspace.drop_csv("3.csv", &third);
    scene.proxy.set_script(FaultScript::rules(vec![Rule::on("POST", "bulk/delete", Fault::DropRequest)]));
    let ended = scene.workspace.run(0);
    ended.expect(0, &["giving up the rest of plan", "`3.csv` has come since it was made", "are cancelled"]);
    assert_eq!(scene.proxy.stats().total(), 0, "nothing was deleted");
    scene.assert_ends_with(&third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_file_that_is_broken_neither_ends_a_plan_nor_brings_an_older_file_back() {
    let scene = half_way_through_the_second_drop().await;
    scene.workspace.write("drop/3.csv", "email,first_name\n\"never closed,x\n");
    let ended = scene.workspace.run(1);
    ended.expect(1, &["`3.csv` has come since, but is broken", "going on with plan", "quarantined `3.csv`"]);
    scene.assert_holds(&second_drop_without_deletes()).await;
    scene.workspace.run(0).expect(0, &["300 deleted"]);
    scene.assert_ends_with(&second_drop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_a_plan_that_was_given_up_balance() {
    let scene = half_way_through_the_second_drop().await;
    scene.workspace.drop_csv("2.csv", &people(0..FIRST_LOAD));
    scene.workspace.run(0).expect(0, &["`2.csv` was replaced since it was made"]);
    let interrupted = &runs(&scene)[1];
    assert_eq!(interrupted["state"], "interrupted");
    let message = interrupted["message"].as_str().expect("a message");
    assert!(message.contains("the rest of its plan was given up: `2.csv` was replaced"), "{message}");
    let plan = scene.workspace.convoke(&["show", interrupted["plan"].as_str().expect("a plan"), "--json"]).json();
    assert_eq!(plan["plan"]["state"], "abandoned");
    for kind in ["creates", "updates", "deletes"] {
        let figures = interrupted["delivery"][kind].as_object().expect("figures");
        let figure = |name: &str| figures[name].as_u64().expect("a count");
        let settled: u64 = ["acknowledged", "rejected", "cancelled", "found_removed"].map(figure).iter().sum();
        assert_eq!(settled, interrupted["counts"][kind].as_u64().expect("a count"), "{kind}: {interrupted}");
    }
    assert_eq!(cancelled(interrupted)[2], 300);
    scene.assert_ends_with(&people(0..FIRST_LOAD)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_file_a_plan_goes_on_but_for_its_deletes() {
    let scene = half_way_through_the_second_drop().await;
    fs::rename(scene.workspace.path("drop/2.csv"), scene.workspace.path("2.csv")).expect("a rename");
    scene.workspace.run(1).expect(1, &["going on with plan", "2.csv", "left to delete is cancelled", "put it back"]);
    scene.assert_holds(&second_drop_without_deletes()).await;
    let finished = &runs(&scene)[1];
    assert_eq!((finished["state"].as_str(), cancelled(finished)), (Some("partial"), [0, 0, 300]));
    assert!(finished["message"].as_str().is_some_and(|message| message.contains("`2.csv`")), "{finished}");
    fs::rename(scene.workspace.path("2.csv"), scene.workspace.path("drop/2.csv")).expect("a rename");
    scene.workspace.run(0).expect(0, &["300 deleted"]);
    scene.assert_ends_with(&second_drop()).await;
    assert_eq!(scene.files_left(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder_that_cannot_be_listed_a_plan_goes_on_but_for_its_deletes() {
    let scene = half_way_through_the_second_drop().await;
    let (drop, aside) = (scene.workspace.path("drop"), scene.workspace.path("aside"));
    fs::rename(&drop, &aside).expect("a rename");
    scene.workspace.run(1).expect(1, &["cannot list the drop folder", "left to delete is cancelled"]);
    scene.assert_holds(&second_drop_without_deletes()).await;
    fs::rename(&aside, &drop).expect("a rename");
    scene.workspace.run(0).expect(0, &["300 deleted"]);
    scene.assert_ends_with(&second_drop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_deletes_left_says_nothing_of_deletes() {
    let scene = Scene::new(FaultScript::none()).await;
    scene.load_first_drop().await;
    scene.workspace.drop_csv("2.csv", &second_drop());
    scene.crash_at("before-checkpoint");
    fs::remove_file(scene.workspace.path("drop/2.csv")).expect("the file is there");
    let ended = scene.workspace.run(0);
    ended.expect(0, &["going on with plan"]);
    assert!(!ended.text().contains("left to delete"), "{}", ended.text());
    scene.assert_holds(&second_drop()).await;
}

/// A sync in append mode.
fn append_yaml(mode: &str) -> String {
    let guards = "guards: { max_delete: unlimited, max_update: unlimited, max_create: unlimited }";
    sync_yaml(mode, guards).replace("mode: snapshot", "mode: append")
}

/// The second day's additions: some of the first day's people again, and others.
fn second_day() -> Vec<Person> {
    let mut people = people(MANY - 600..MANY + 200);
    for person in people.iter_mut().take(600) {
        person.score += 10_000;
        person.updated_at = "2026-02-01T00:00:00Z".to_owned();
    }
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_goes_on_whatever_has_come_since() {
    for later in ["1.csv", "2.csv"] {
        let scene = Scene::new(FaultScript::none()).await;
        scene.workspace.write("config/syncs/people.yaml", &append_yaml("upsert"));
        scene.workspace.drop_csv("1.csv", &people(0..MANY));
        scene.crash_at("after-acknowledge:1");
        scene.workspace.drop_csv(later, &second_day());
        let both_days = [people(0..MANY - 600), second_day()].concat();
        scene.workspace.run(0).expect(0, &["going on with plan"]);
        scene.assert_ends_with(&both_days).await;
        assert_eq!(scene.files_left(), [""; 0], "both days are settled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_delete_list_names_is_deleted_without_its_file_too() {
    for drop_mode in ["append", "snapshot"] {
        let scene = Scene::new(FaultScript::none()).await;
        scene.workspace.write("config/syncs/people.yaml", &append_yaml("upsert"));
        scene.workspace.drop_csv("1.csv", &people(0..MANY));
        scene.workspace.run(0);
        let list =
            append_yaml("delete_list").replace("path: drop, mode: append", &format!("path: drop, mode: {drop_mode}"));
        scene.workspace.write("config/syncs/people.yaml", &list);
        fs::remove_dir_all(scene.workspace.path("drop/processed")).expect("the first file is there");
        scene.workspace.drop_csv("list.csv", &people(5..MANY));
        let lost = Rule::on("POST", "bulk/delete", Fault::DropRequest).after(2);
        scene.proxy.set_script(FaultScript::rules(vec![lost]));
        scene.crash_at("after-acknowledge:2");
        scene.proxy.set_script(FaultScript::none());
        fs::remove_file(scene.workspace.path("drop/list.csv")).expect("the file is there");
        let ended = scene.workspace.run(0);
        ended.expect(0, &["going on with plan"]);
        assert!(!ended.text().contains("cancelled until"), "{}", ended.text());
        scene.assert_holds(&people(0..5)).await;
    }
}

/// A plan over the first drop that `max_delete` holds, with what approves it.
async fn held_by_a_guard() -> (Scene, String, String) {
    let scene = Scene::new(FaultScript::none()).await;
    scene.workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "guards: { max_delete: 100 }"));
    scene.load_first_drop().await;
    scene.workspace.drop_csv("2.csv", &people(0..FIRST_LOAD - 200));
    let ended = scene.workspace.convoke(&["run", SYNC, "--json"]);
    ended.expect(4, &["max_delete"]);
    let plan = &ended.json()["plan"];
    let text = |name: &str| plan[name].as_str().expect("a text").to_owned();
    let (id, hash) = (text("id"), text("hash"));
    (scene, id, hash)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_does_not_let_a_plan_through_that_a_newer_file_has_overtaken() {
    for (later, said) in [("3.csv", "`3.csv` has come since it was made"), ("2.csv", "`2.csv` was replaced since")] {
        let (scene, plan, hash) = held_by_a_guard().await;
        scene.workspace.drop_csv(later, &people(0..FIRST_LOAD + 1));
        let apply = scene.workspace.convoke(&["apply", &plan, "--approve", &hash]);
        apply.expect(4, &[&format!("plan {plan} is stale: {said}"), "plan again"]);
        scene.assert_holds(&people(0..FIRST_LOAD)).await;
        scene.assert_ends_with(&people(0..FIRST_LOAD + 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_plan_is_applied_while_its_file_is_there_and_when_it_is_gone() {
    for is_gone in [false, true] {
        let (scene, plan, hash) = held_by_a_guard().await;
        if is_gone {
            fs::remove_file(scene.workspace.path("drop/2.csv")).expect("the file is there");
        }
        scene.workspace.convoke(&["apply", &plan, "--approve", &hash]).expect(0, &["200 deleted"]);
        scene.assert_holds(&people(0..FIRST_LOAD - 200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_plan_that_was_overtaken_can_not_be_applied_by_its_id_either() {
    let scene = half_way_through_the_second_drop().await;
    scene.workspace.drop_csv("3.csv", &people(0..FIRST_LOAD));
    // The killed run noted its plan before it sent anything.
    let plan = runs(&scene)[0]["plan"].as_str().expect("a plan").to_owned();
    scene.workspace.convoke(&["apply", &plan]).expect(4, &["`3.csv` has come since", "plan again"]);
    scene.assert_ends_with(&people(0..FIRST_LOAD)).await;
}
