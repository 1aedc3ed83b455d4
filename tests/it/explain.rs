//! Why somebody is in the audience, or is not.

use std::fs;

use serde_json::json;

use crate::audience::{delete_row, edit_row};
use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people, sync_yaml};

/// What a record may meet, from the filter to the ledger.
fn workspace() -> Workspace {
    let workspace = Workspace::embedded();
    let more = "where: { all: [ { column: name, not_empty: true } ] }\n\
                suppress: { csv: suppressed.csv, column: email, existing: remove }\n";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", more));
    workspace.write("suppressed.csv", "email\nbarred@example.com\n");
    workspace.write(
        "drop/1.csv",
        "email,name,score,updated_at\n\
         sent@example.com,Sent,1,2026-01-01\n\
         barred@example.com,Barred,1,2026-01-01\n\
         nameless@example.com,,1,2026-01-01\n\
         sent@example.com,Sent before,1,2025-01-01\n\
         score@example.com,Score,many,2026-01-01\n",
    );
    workspace
}

fn explained(workspace: &Workspace, key: &str) -> Ended {
    workspace.convoke(&["explain", SYNC, key])
}

#[test]
fn explain_tells_what_kept_a_record_out_of_the_audience() {
    let workspace = workspace();
    explained(&workspace, "sent@example.com").expect(0, &["1.csv:2 is to be sent", "creates its row", "not filled"]);
    workspace.run(3);
    explained(&workspace, "nameless@example.com")
        .expect(0, &["1.csv:4 is filtered out by `where`", "not in the ledger"]);
    explained(&workspace, "score@example.com").expect(0, &["1.csv:6 is invalid: `Score`", "rejected at"]);
    let barred = explained(&workspace, "barred@example.com");
    barred.expect(0, &["1.csv:3 is suppressed", "suppressed.csv` names it", "not in the ledger"]);
    // Case and blanks are as the mapping makes them.
    let sent = explained(&workspace, " Sent@Example.com ");
    sent.expect(
        0,
        &["1.csv:5 is superseded by 1.csv:2", "1.csv:2 is unchanged since it was written", "ledger: row", "live"],
    );
    let unknown = explained(&workspace, "nobody@example.com");
    unknown.expect(0, &["not in it as far as it was read (5 records in `1.csv`)", "not in the ledger"]);
    assert!(fs::read_dir(workspace.path("state/spool")).map_or(true, |mut left| left.next().is_none()));
}

#[test]
fn explain_tells_what_the_next_run_does_with_a_row() {
    let workspace = workspace();
    workspace.run(3);
    workspace.drop_csv("2.csv", &[Person::numbered(1)]);
    let gone = explained(&workspace, "sent@example.com");
    gone.expect(0, &["not in it as far as it was read (1 records in `2.csv`)", "next run deletes its row", "live"]);
    workspace.write("suppressed.csv", "email\nsent@example.com\n");
    let barred = explained(&workspace, "sent@example.com");
    barred.expect(0, &["suppressed.csv` names it", "next run deletes its row"]);
    let unread = workspace.convoke(&["explain", SYNC, "sent@example.com", "--no-source"]);
    unread.expect(0, &["live"]);
    assert!(!unread.text().contains("2.csv") && !unread.text().contains("next run"), "{}", unread.text());
    assert!(workspace.path("drop/2.csv").exists(), "nothing was settled");
}

#[test]
fn explain_tells_what_it_knows_when_the_source_cannot_be_read() {
    let workspace = workspace();
    workspace.run(3);
    fs::remove_file(workspace.path("suppressed.csv")).expect("it is there");
    explained(&workspace, "sent@example.com")
        .expect(0, &["could not be read", "suppressed.csv", "ledger: row", "live"]);
}

#[test]
fn explain_finds_a_text_that_is_no_key_where_it_was_refused() {
    let workspace = workspace();
    workspace.write(
        "drop/1.csv",
        "email,name,score,updated_at\n\
         sent@example.com,Sent,1,2026-01-01\n\
         Bob@example..com,Bob,1,2026-01-01\n",
    );
    explained(&workspace, "bob@example..com").expect(0, &["the value for `Email` is no key", "the key in 1.csv:3"]);
    workspace.run(3);
    explained(&workspace, " Bob@example..com").expect(0, &["the key in 1.csv:3", "rejected at", "(from 1.csv:3)"]);
    let unread = workspace.convoke(&["explain", SYNC, "bob@example..com", "--no-source"]);
    unread.expect(0, &["is no key", "(from 1.csv:3)"]);
    assert!(!unread.text().contains("the key in"), "{}", unread.text());
    let unknown = explained(&workspace, "eve@example..com");
    unknown.expect(0, &["is no key", "nothing has that text as far as it was read (2 records in `1.csv`)"]);
    assert!(!unknown.text().contains("rejected at"), "{}", unknown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_does_not_say_what_a_row_holds_that_it_did_not_read() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..2));
    workspace.run(0);
    let unchanged = "is unchanged since it was written, as the ledger has it";
    edit_row(&store.base_url, &store.client, "People", "person0@example.com", ("Name", json!("Edited"))).await;
    let edited = explained(&workspace, "person0@example.com");
    edited.expect(0, &[unchanged, "holds that row; `convoke verify people` compares its cells"]);
    delete_row(&store.base_url, &store.client, "People", "person1@example.com").await;
    explained(&workspace, "person1@example.com").expect(0, &[unchanged, "does not hold that row any more"]);
}
