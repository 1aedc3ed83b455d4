//! Marked secrets and marked values must not come out where they do not belong: in logs, errors, tables and JSON facts.

use std::time::Duration;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};

use crate::workspace::{Person, SYNC, StoreProcess, Workspace, people};

const MARKED_NAME: &str = "Canaria Yellowfeather";
const MARKED_EMAIL: &str = "canaria.yellowfeather@example.com";

fn marked() -> Vec<Person> {
    let mut people = people(0..600);
    people[3].name = MARKED_NAME.to_owned();
    people[3].email = MARKED_EMAIL.to_owned();
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_error_or_table_holds_a_secret_or_a_value() {
    let store = StoreProcess::start();
    let upstream = store.address().parse().expect("an address");
    // A good run shows little; trouble makes programs talkative.
    let trouble = FaultScript::rules(vec![
        Rule::on("POST", "bulk/upsert", Fault::Unauthorized).once(),
        Rule::on("POST", "bulk/upsert", Fault::TooManyRequests { retry_after: Duration::from_secs(1) }).once(),
        Rule::on("POST", "bulk/upsert", Fault::FailAfterCommit { status: 500 }).once(),
        Rule::on("POST", "bulk/upsert", Fault::TruncateAnswer).once(),
        Rule::on("POST", "bulk/upsert", Fault::LeaveOutRows { every: 3 }).once(),
    ]);
    let proxy = FaultProxy::start(upstream, trouble).await.expect("the proxy starts");
    let workspace = Workspace::remote(&proxy.base_url(), &store.client);
    workspace.drop_csv("1.csv", &marked());
    let broken =
        format!("email,name,score,updated_at\n{MARKED_EMAIL},{MARKED_NAME},many,1\n{MARKED_EMAIL},{MARKED_NAME}\n");
    let commands: [&[&str]; 8] = [
        &["-vv", "check", "--connect"],
        &["-vv", "plan", SYNC],
        &["-vv", "run", SYNC],
        &["-vv", "run", SYNC, "--full", "--json"],
        &["-vv", "runs", "--json"],
        &["-vv", "rejects", "list", SYNC],
        &["-vv", "rejects", "list", SYNC, "--json"],
        &["-vv", "explain", SYNC, "person7@example.com"],
    ];
    for (round, arguments) in commands.iter().enumerate() {
        if round == 5 {
            workspace.write("drop/2.csv", &broken);
            workspace.convoke(&["-vv", "run", SYNC]);
        }
        let ended = workspace.convoke(arguments);
        let text = ended.text();
        for marked in [MARKED_NAME, "canaria.yellowfeather", &store.client.secret] {
            assert!(!text.contains(marked), "{arguments:?} shows {marked:?}: {text}");
        }
    }
    assert!(proxy.stats().total() >= 4, "the trouble was had: {:?}", proxy.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_personal_data_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &marked());
    workspace.run(0);
    workspace.drop_csv("2.csv", &people(0..5));
    workspace.convoke(&["plan", SYNC]);
    let mut folders = vec![workspace.path("state"), workspace.path("store")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let mode = entry.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
            files += 1;
        }
    }
    assert!(files > 4, "only {files} files were seen");
}
