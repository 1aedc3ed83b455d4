//! What somebody new to the product trips over, and what is said then.

use std::fs;

use crate::workspace::{SYNC, Workspace, people};

#[test]
fn a_drop_folder_from_which_no_file_can_be_moved_is_told_before_anything_is_sent() {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..3));
    // As a right that is missing, this keeps files from being moved, also for root.
    workspace.write("drop/processed", "in the way");
    let words = ["nothing was sent", "drop/processed`; move away the file that stands in its place", "processed: keep"];
    workspace.run(1).expect(1, &words);
    assert!(workspace.newest_run()["delivery"].is_null());
    fs::remove_file(workspace.path("drop/processed")).expect("it is there");
    let planned = workspace.convoke(&["plan", SYNC, "--json"]);
    planned.expect(0, &[]);
    workspace.write("drop/processed", "in the way");
    let plan = planned.json()["plan"]["id"].as_str().expect("an id").to_owned();
    workspace.convoke(&["apply", &plan]).expect(1, &words);
    fs::remove_file(workspace.path("drop/processed")).expect("it is there");
    workspace.convoke(&["apply", &plan]).expect(0, &["3 created"]);
    assert!(workspace.path("drop/processed/1.csv").exists());
}

#[test]
fn a_file_with_another_delimiter_is_told_by_the_setting_that_reads_it() {
    let workspace = Workspace::embedded();
    let header = "email;name;score;updated_at;city;country;first contact;last contact;newsletter";
    workspace.write("drop/1.csv", &format!("{header}\nperson1@example.com;Person 1;1;2026-01-01;;;;;\n"));
    let told = workspace.run(1);
    told.expect(1, &["no column `email`", "with `;` between them", "`delimiter`"]);
    assert!(!told.text().contains("did you mean"), "{}", told.text());
    let sync = fs::read_to_string(workspace.path("config/syncs/people.yaml")).expect("it is there");
    workspace.write("config/syncs/people.yaml", &sync.replace("settle: 0s", "settle: 0s, delimiter: \";\""));
    workspace.run(0).expect(0, &["1 created"]);
}
