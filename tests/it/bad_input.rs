//! Each kind of bad input gives one clear message with what, where and the remedy, the contract's exit code, and leaves
//! audience and ledger as they were.

use std::fs;
use std::process::Command;

use convoke_core::state::Audit;
use convoke_state::{OpenMode, SqliteState};
use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};

use crate::audience::{add_row, assert_holds, rows};
use crate::workspace::{Client, Person, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

fn loaded() -> Workspace {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..20));
    workspace.run(0);
    workspace
}

/// The id that `plan` printed.
fn planned(workspace: &Workspace) -> String {
    let ended = workspace.convoke(&["plan", SYNC, "--json"]);
    let plan = &ended.json()["plan"];
    plan["id"].as_str().unwrap_or_else(|| panic!("{}", ended.text())).to_owned()
}

#[test]
fn a_wrong_configuration_lists_every_problem_with_its_place() {
    let workspace = Workspace::embedded();
    let wrong = sync_yaml("mirorr", "guard: { max_delete: 5% }\n");
    workspace.write("config/syncs/people.yaml", &wrong);
    let ended = workspace.convoke(&["check"]);
    ended.expect(2, &["people.yaml:12", "mirror", "people.yaml:13", "guard", "guards"]);
}

#[test]
fn a_store_that_is_not_there_is_not_made_by_looking_into_it() {
    let workspace = Workspace::embedded();
    let data = workspace.path("typo.sqlite");
    let data_text = data.to_str().expect("a path of plain letters");
    workspace.convoke(&["store", "--data", data_text, "client", "list"]).expect(2, &["typo.sqlite", "--data"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    workspace.convoke(&["store", "--data", data_text, "--listen", &address]).expect(1, &[&address]);
    assert!(!data.exists());
}

#[test]
fn a_key_whose_feature_is_not_built_yet_is_refused_as_such() {
    let workspace = Workspace::embedded();
    let yaml =
        sync_yaml("mirror", "").replace("folder: Tests", "columns: { Fit: { match: ZI_CONTACT_ID, formula: x } }");
    workspace.write("config/syncs/people.yaml", &yaml);
    workspace.convoke(&["check"]).expect(2, &["people.yaml:11", "formula", "not built yet"]);
}

#[test]
fn a_column_that_the_file_lacks_is_named_with_its_nearest() {
    let workspace = Workspace::embedded();
    let yaml = sync_yaml("mirror", "").replace("Name: name", "Name: nmae");
    workspace.write("config/syncs/people.yaml", &yaml);
    workspace.drop_csv("1.csv", &people(0..3));
    let ended = workspace.run(1);
    ended.expect(1, &["nmae", "name", "map.Name"]);
    // Whoever asks about the configuration is told that it is wrong.
    workspace.convoke(&["preview", SYNC]).expect(2, &["nmae", "name", "map.Name"]);
    workspace.convoke(&["check", "--connect"]).expect(2, &["nmae", "name", "map.Name"]);
    assert!(workspace.path("drop/1.csv").exists(), "the file stays where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_its_type_is_a_reject_with_reason_and_origin() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let text = "email,name,score,updated_at\na@example.com,A,12,1\nb@example.com,B,twelve,1\nnot-an-address,C,3,1\n";
    workspace.write("drop/1.csv", text);
    // Two of three records are invalid, which the guard for invalid records lets pass below fifty.
    workspace.run(3);
    let listed = workspace.convoke(&["rejects", "list", SYNC]);
    listed.expect(0, &["1.csv:3", "Score", "1.csv:4", "Email"]);
    assert!(!listed.stdout.contains("twelve"), "a list shows no values: {}", listed.text());
    workspace
        .convoke(&["rejects", "resend", SYNC])
        .expect(2, &["invalid while planning", "anew", "convoke run people"]);
    let file = workspace.path("rejects.csv");
    let exported = workspace.convoke(&["rejects", "export", SYNC, "--to", file.to_str().expect("UTF-8")]);
    exported.expect(0, &["2 rejects"]);
    assert!(fs::read_to_string(&file).expect("the export").contains("twelve"));
    let expected =
        Person { email: "a@example.com".to_owned(), name: "A".to_owned(), score: 12, updated_at: String::new() };
    assert_holds(&store.base_url, &store.client, &[expected]).await;
}

#[test]
fn a_broken_file_is_quarantined_with_its_reason_and_deletes_nothing() {
    let workspace = loaded();
    workspace.write("drop/2.csv", "email,name,score,updated_at\n\"never closed,1,2,3\n");
    workspace.convoke(&["run", SYNC]).expect(1, &["2.csv", "quarantine"]);
    assert!(workspace.path("drop/quarantine/2.csv").exists());
    let reason = fs::read_to_string(workspace.path("drop/quarantine/2.csv.reason.txt")).expect("a reason");
    assert!(reason.contains("quot"), "{reason}");
    workspace.run(0);
    assert_eq!(workspace.newest_run()["counts"]["deletes"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readable_rest_of_a_broken_drop_deletes_nobody_in_later_runs_either() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let yaml = sync_yaml("mirror", "guards: { max_delete: unlimited, max_shrink: unlimited }\n");
    workspace.write("config/syncs/people.yaml", &yaml.replace("settle: 0s", "settle: 0s, manifest: \"*.manifest\""));
    workspace.write("drop/1.manifest", "a1.csv\nb1.csv\n");
    workspace.drop_csv("a1.csv", &people(0..10));
    workspace.drop_csv("b1.csv", &people(10..20));
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(0..20)).await;
    workspace.write("drop/a2.csv", "email,name,score,updated_at\n\"never closed,1,2,3\n");
    workspace.drop_csv("b2.csv", &people(10..20));
    workspace.write("drop/2.manifest", "a2.csv\nb2.csv\n");
    for arguments in [&["run", SYNC][..], &["run", SYNC], &["run", SYNC, "--full"], &["verify", SYNC, "--repair"]] {
        let ended = workspace.convoke(arguments);
        assert!(workspace.path("drop/quarantine/a2.csv").exists(), "{}", ended.text());
        assert_holds(&store.base_url, &store.client, &people(0..20)).await;
    }
    workspace.drop_csv("c3.csv", &people(10..20));
    workspace.write("drop/3.manifest", "c3.csv\n");
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(10..20)).await;
}

#[test]
fn a_plan_held_for_its_invalid_records_shows_them() {
    let workspace = Workspace::embedded();
    let mut text = "email,name,score,updated_at\n".to_owned();
    (0..200).for_each(|number| text.push_str(&format!("p{number}@example.com,P,{},1\n", ["1", "abc"][number % 2])));
    workspace.write("drop/1.csv", &text);
    workspace.convoke(&["run", SYNC]).expect(4, &["max_invalid", "rejects list"]);
    workspace.convoke(&["rejects", "list", SYNC]).expect(0, &["1.csv:3", "Score"]);
}

#[test]
fn a_file_of_malformed_records_is_quarantined_with_the_first_of_them() {
    let workspace = Workspace::embedded();
    workspace.write("drop/1.csv", "email,name,score,updated_at\na@example.com,A,1\nb@example.com,B,1,1\n");
    workspace.convoke(&["preview", SYNC]).expect(1, &["would be quarantined", "line 2"]);
    workspace.convoke(&["run", SYNC]).expect(1, &["quarantined", "line 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_withholds_deletes_until_it_is_allowed_for() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..40));
    workspace.run(0);
    workspace.drop_csv("2.csv", &people(1..41));
    let torn = format!("{}person0@example\n", fs::read_to_string(workspace.path("drop/2.csv")).expect("the drop"));
    workspace.write("drop/2.csv", &torn);
    let ended = workspace.convoke(&["run", SYNC, "--json"]);
    ended.expect(3, &[]);
    let expected = serde_json::json!({ "deletes": 1, "unreadable": 1, "first": "2.csv:42" });
    assert_eq!(ended.json()["plan"]["withheld"], expected);
    assert_holds(&store.base_url, &store.client, &people(0..41)).await;
    let run = ended.json()["run"]["id"].as_str().expect("an id").to_owned();
    let told = ["1 delete withheld", "1 records cannot be read (first: 2.csv:42)", "guards.max_unreadable"];
    workspace.convoke(&["show", &run]).expect(0, &told);
    workspace.run(0).expect(0, &["1 delete withheld"]);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "guards: { max_unreadable: 1 }\n"));
    workspace.run(3).expect(3, &["1 deleted"]);
    assert_holds(&store.base_url, &store.client, &people(1..41)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_was_left_out_deletes_nobody() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..40));
    workspace.run(0);
    workspace.drop_csv("2.csv", &people(0..40));
    let whole = fs::read_to_string(workspace.path("drop/2.csv")).expect("the drop");
    let mut lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    let quote = |line: &str, end: &str| {
        let (email, rest) = line.split_once(',').expect("cells");
        let (name, rest) = rest.split_once(',').expect("cells");
        format!("{email},\"{name}{end},{rest}")
    };
    (lines[11], lines[12]) = (quote(&lines[11], ""), quote(&lines[12], "\""));
    workspace.write("drop/2.csv", &(lines.join("\n") + "\n"));
    workspace.run(3).expect(3, &["2 delete withheld"]);
    workspace.convoke(&["rejects", "list", SYNC]).expect(0, &["2.csv:12", "a quote may be missing"]);
    assert_holds(&store.base_url, &store.client, &people(0..40)).await;
}

#[test]
fn a_suppression_list_without_entries_stops_the_run() {
    let workspace = Workspace::embedded();
    let suppress = "suppress: { csv: list.csv, column: email, audience_column: Email, existing: remove }\n";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", suppress));
    workspace.write("list.csv", "email\n");
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.convoke(&["run", SYNC]).expect(1, &["list.csv", "names nobody"]);
}

#[test]
fn an_empty_file_waits_for_approval_and_deletes_nothing() {
    let workspace = loaded();
    workspace.drop_csv("2.csv", &[]);
    workspace.convoke(&["run", SYNC]).expect(4, &["allow_empty", "--approve"]);
    workspace.drop_csv("3.csv", &people(0..20));
    workspace.run(0);
}

#[test]
fn an_empty_file_that_was_approved_is_not_asked_about_again() {
    let workspace = loaded();
    workspace.drop_csv("2.csv", &[]);
    let held = workspace.convoke(&["run", SYNC, "--json"]);
    held.expect(4, &["allow_empty"]);
    let plan = held.json()["plan"].clone();
    let (id, hash) = (plan["id"].as_str().expect("an id"), plan["hash"].as_str().expect("a hash"));
    workspace.convoke(&["apply", id, "--approve", hash]).expect(0, &["20 deleted"]);
    workspace.run(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_rows_of_others_as_are_let_be_stop_no_run() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..40));
    workspace.run(0);
    add_row(&store.base_url, &store.client, "People", &Person::numbered(90)).await;
    workspace.drop_csv("2.csv", &people(0..41));
    workspace.convoke(&["run", SYNC]).expect(4, &["unexplained_rows", "guards.max_unexplained"]);
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "guards: { max_unexplained: 1 }\n"));
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people((0..41).chain([90]))).await;
    add_row(&store.base_url, &store.client, "People", &Person::numbered(91)).await;
    workspace.drop_csv("3.csv", &people(0..42));
    workspace.convoke(&["run", SYNC]).expect(4, &["unexplained_rows"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_adopted_are_no_beginning_of_a_first_load() {
    let store = StoreProcess::start();
    let before = Workspace::remote(&store.base_url, &store.client);
    before.drop_csv("1.csv", &people(0..10));
    before.run(0);
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.convoke(&["adopt", SYNC]).expect(0, &["10 taken over"]);
    workspace.drop_csv("1.csv", &people(0..40));
    workspace.convoke(&["run", SYNC]).expect(4, &["max_create"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_whose_plan_was_lost_is_still_a_first_load() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..6_000));
    let mut killed = workspace.command(&["run", SYNC]);
    killed.env("CONVOKE_CRASH_AT", "after-acknowledge:1").output().expect("the binary runs");
    fs::remove_dir_all(workspace.path("state/plans")).expect("there are plans");
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(0..6_000)).await;
}

#[test]
fn a_plan_over_a_limit_is_applied_only_under_its_own_hash() {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..200));
    workspace.run(0);
    workspace.drop_csv("2.csv", &people(0..120));
    let planned = workspace.convoke(&["plan", SYNC, "--json"]);
    planned.expect(4, &["max_delete"]);
    let plan = planned.json()["plan"].clone();
    let (id, hash) = (plan["id"].as_str().expect("an id"), plan["hash"].as_str().expect("a hash"));
    workspace.convoke(&["apply", id]).expect(4, &["max_delete", "--approve"]);
    let refused = workspace.convoke(&["apply", id, "--approve", "0123456789ab"]);
    refused.expect(4, &["another plan", &format!("`convoke show {id}`")]);
    assert!(!refused.text().contains(&hash[..8]), "{}", refused.text());
    workspace.convoke(&["show", id]).expect(0, &[&hash[..12]]);
    workspace.convoke(&["apply", id, "--approve", &hash[..7]]).expect(2, &["at least 8 digits"]);
    workspace.convoke(&["apply", id, "--approve", &hash[..12]]).expect(0, &["80 deleted"]);
    workspace.convoke(&["apply", id]).expect(2, &["already applied"]);
    assert_eq!(workspace.newest_run()["state"], "succeeded", "what was not begun is not recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_another_plan_is_refused_where_none_is_needed_and_leaves_no_trace() {
    let workspace = loaded();
    workspace.drop_csv("2.csv", &people(0..21));
    let id = planned(&workspace);
    workspace.convoke(&["apply", &id, "--approve", "0123456789ab"]).expect(4, &["another plan"]);
    let state = SqliteState::open(&workspace.path("state/state.sqlite"), OpenMode::ReadOnly).await.expect("a store");
    assert!(state.audit_trail(10).await.expect("the trail").is_empty());
    // The first digits of an id will do; those of a plan made just before would be the same for a minute.
    workspace.convoke(&["apply", &id[..id.len() - 4]]).expect(0, &["1 created"]);
}

#[test]
fn a_plan_for_another_configuration_and_a_stale_plan_are_refused() {
    let workspace = loaded();
    workspace.drop_csv("2.csv", &people(0..25));
    let for_other_config = planned(&workspace);
    workspace.write("config/syncs/people.yaml", &sync_yaml("upsert", ""));
    workspace.convoke(&["apply", &for_other_config]).expect(4, &["stale", "configuration", "plan again"]);
    let stale = planned(&workspace);
    workspace.run(0);
    workspace.convoke(&["apply", &stale]).expect(4, &["plan again"]);
}

#[test]
fn a_manifest_changed_after_planning_is_refused() {
    let workspace = loaded();
    workspace.drop_csv("2.csv", &people(0..25));
    let id = planned(&workspace);
    let manifest = workspace.path(&format!("state/plans/{id}/manifest.json"));
    let text = fs::read_to_string(&manifest).expect("the manifest");
    fs::write(&manifest, text.replace("\"creates\": 5", "\"creates\": 6")).expect("written");
    workspace.convoke(&["apply", &id]).expect(4, &["changed after it was planned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_on_the_audience_is_told_who_has_it() {
    let store = StoreProcess::start();
    let upstream = store.address().parse().expect("an address");
    let hold = Rule::on("POST", "bulk/upsert", Fault::DelayAnswer { by: std::time::Duration::from_secs(60) });
    let proxy = FaultProxy::start(upstream, FaultScript::rules(vec![hold])).await.expect("the proxy starts");
    let workspace = Workspace::remote(&proxy.base_url(), &store.client);
    let patient =
        remote_connection(&proxy.base_url(), &store.client).replace("request_timeout: 2s", "request_timeout: 30s");
    workspace.write("config/connections.yaml", &patient);
    workspace.drop_csv("1.csv", &people(0..5));
    let mut first = workspace.command(&["run", SYNC]).spawn().expect("the binary runs");
    while proxy.stats().received == 0 || proxy.stats().total() == 0 {
        tokio::task::yield_now().await;
    }
    workspace.convoke(&["run", SYNC]).expect(1, &["is being written by", "process"]);
    first.kill().expect("it runs");
    first.wait().expect("it can be waited for");
}

#[test]
fn a_wrong_secret_names_the_place_and_never_the_secret() {
    let store = StoreProcess::start();
    let wrong = Client { id: store.client.id.clone(), secret: "canary-of-a-secret".to_owned() };
    let workspace = Workspace::remote(&store.base_url, &wrong);
    workspace.drop_csv("1.csv", &people(0..5));
    for arguments in
        [vec!["run", SYNC], vec!["-vv", "run", SYNC], vec!["check", "--connect"], vec!["run", SYNC, "--json"]]
    {
        let ended = workspace.convoke(&arguments);
        ended.expect(1, &["client_secret"]);
        assert!(!ended.text().contains("canary-of-a-secret"), "{}", ended.text());
    }
}

#[test]
fn an_unreachable_host_is_named_and_nothing_is_lost() {
    let nobody = Client { id: "a".to_owned(), secret: "b".to_owned() };
    let workspace = Workspace::remote("http://127.0.0.1:9", &nobody);
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.convoke(&["run", SYNC]).expect(1, &["127.0.0.1:9"]);
    assert!(workspace.path("drop/1.csv").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_already_holds_rows_is_adopted_or_left_alone() {
    let store = StoreProcess::start();
    let before = Workspace::remote(&store.base_url, &store.client);
    before.drop_csv("1.csv", &people(0..30));
    before.run(0);
    // The same audience with no state of ours.
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..40));
    workspace.convoke(&["run", SYNC]).expect(4, &["30 rows", "convoke adopt", "another audience name"]);
    assert_holds(&store.base_url, &store.client, &people(0..30)).await;
    workspace.convoke(&["adopt", SYNC]).expect(0, &["30 taken over"]);
    workspace.run(0);
    let counts = workspace.newest_run()["counts"].clone();
    assert_eq!((counts["creates"].as_u64(), counts["updates"].as_u64()), (Some(10), Some(0)));
    assert_holds(&store.base_url, &store.client, &people(0..40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_deleted_at_the_destination_stops_the_sync() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.run(0);
    crate::audience::delete(&store.base_url, &store.client, "People").await;
    workspace.drop_csv("2.csv", &people(0..6));
    workspace.convoke(&["run", SYNC]).expect(4, &["People", "no longer at the destination"]);
    assert!(rows(&store.base_url, &store.client, "People").await.is_empty(), "it is not made again");
}

#[test]
fn a_missing_suppression_list_stops_the_run() {
    let workspace = Workspace::embedded();
    let suppress = "suppress: { csv: gone.csv, column: email, audience_column: Email, existing: remove }\n";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", suppress));
    workspace.drop_csv("1.csv", &people(0..5));
    workspace.convoke(&["run", SYNC]).expect(1, &["gone.csv"]);
}

#[test]
fn a_key_specification_that_changed_is_never_compared_silently() {
    let workspace = loaded();
    let yaml = sync_yaml("mirror", "").replace("key: [Email]", "key: [Email, Name]");
    workspace.write("config/syncs/people.yaml", &yaml);
    workspace.convoke(&["run", SYNC]).expect(4, &["key columns", "convoke adopt"]);
}

#[test]
fn lost_ledger_segments_are_an_error_with_choices() {
    let workspace = loaded();
    fs::remove_dir_all(workspace.path("state/ledger")).expect("there is a ledger");
    workspace.drop_csv("2.csv", &people(0..21));
    workspace.convoke(&["run", SYNC]).expect(1, &["adopt", "backup"]);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_applied() {
    let workspace = Workspace::embedded();
    let mounted = SmallDisk::mount(&workspace.path("state"), "2m");
    let many = people(0..60_000);
    workspace.drop_csv("1.csv", &many);
    let ended = workspace.convoke(&["run", SYNC]);
    ended.expect(1, &["disk"]);
    drop(mounted);
    fs::create_dir_all(workspace.path("state")).expect("a folder");
    assert!(workspace.path("drop/1.csv").exists(), "the source is as it was");
}

/// A file system of a few megabytes, mounted for the length of a test.
struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(path: &std::path::Path, size: &str) -> Self {
        fs::create_dir_all(path).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(path)
            .status()
            .expect("`mount` is installed: apt-get install mount");
        assert!(mounted.success(), "this test mounts a small tmpfs; run the tests as root, or in `unshare -rm`");
        Self { path: path.to_owned() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

#[test]
fn an_unknown_sync_or_plan_is_a_usage_error_that_names_the_known_ones() {
    let workspace = Workspace::embedded();
    workspace.convoke(&["run", "poeple"]).expect(2, &["poeple", "people"]);
    workspace.convoke(&["apply", "nonsense"]).expect(2, &["nonsense"]);
    workspace.convoke(&["run"]).expect(2, &["SYNC"]);
}

#[test]
fn a_machine_can_read_what_a_wrong_command_was_told() {
    let workspace = Workspace::embedded();
    for (arguments, word) in [
        (vec!["run", "poeple", "--json"], "poeple"),
        (vec!["apply", "nonsense", "--json"], "nonsense"),
        (vec!["run", "--json"], "SYNC"),
        (vec!["runs", "--count", "many", "--json"], "many"),
        (vec!["demo", "--json"], "--json"),
    ] {
        let ended = workspace.convoke(&arguments);
        ended.expect(2, &[]);
        let facts = ended.json();
        assert_eq!(facts["exit_code"], 2, "{arguments:?}");
        assert!(facts["error"].as_str().is_some_and(|error| error.contains(word)), "{arguments:?}: {facts}");
    }
    workspace.write("drop/1.csv", "email,name,score,updated_at\na@example.com,A,12,1\nb@example.com,B,twelve,1\n");
    workspace.run(3);
    let file = workspace.path("rejects.csv");
    let exported = workspace.convoke(&["rejects", "export", SYNC, "--json", "--to", file.to_str().expect("UTF-8")]);
    exported.expect(0, &[]);
    assert_eq!(exported.json()["exported"], 1);
}
