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
