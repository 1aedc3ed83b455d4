//! Commands of a backfill beside and after one another: who goes through its windows, what ends that, what is kept of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use convoke_core::SyncName;
use convoke_core::state::{Audiences, Leases, audience_resource, waiting_resource};
use convoke_state::{OpenMode, SqliteState};

use crate::audience::rows;
use crate::daemon::eventually;
use crate::windows::{Scene, of_day};
use crate::workspace::{Ended, Person, SYNC, people, remote_connection};

const ONE_BY_ONE: [&str; 5] = ["backfill", SYNC, "--all", "--window", "1"];
const APPEND: &str = "csv_drop: { path: drop, mode: append, settle: 0s }";

/// A record that no sync can send.
fn nobody() -> Person {
    Person { email: "nobody".to_owned(), ..Person::numbered(1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_command_is_told_who_is_at_it_and_takes_nothing_away() {
    let scene = Scene::dropping("");
    let connection = remote_connection(&scene.store.base_url, &scene.store.client);
    let slow = connection.replace("rate: unlimited", "rate: { per_second: 4 }");
    scene.workspace.write("config/connections.yaml", &slow);
    let files: Vec<_> = (0..3).map(|number| of_day(number * 4_000..(number + 1) * 4_000, 1)).collect();
    for (number, file) in files.iter().enumerate() {
        scene.workspace.drop_csv(&format!("{number}.csv"), file);
    }
    let mut command = scene.workspace.command(&ONE_BY_ONE);
    let first = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    eventually("it has begun", Duration::from_secs(60), async || scene.newest_backfill()["state"] == "open").await;
    for second in [&ONE_BY_ONE[..], &["backfill", SYNC, "--resume"]] {
        scene.workspace.convoke(second).expect(1, &["backfill/people", "wait for it"]);
    }
    let ended = Ended::of(first.wait_with_output().expect("it ends"));
    ended.expect(0, &["backfill done: 3 of 3 windows settled"]);
    let listed = scene.workspace.convoke(&["backfill", SYNC, "--list", "--json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    scene.assert_holds(&files.concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_deleted_since_does_not_come_back() {
    let scene = Scene::dropping("deleted: { sql: \"name = 'gone'\" }\n");
    let everybody = of_day(0..10, 1);
    scene.workspace.drop_csv("1.csv", &everybody);
    scene.workspace.run(0);
    let gone = Person { name: "gone".to_owned(), ..of_day(3..4, 2).remove(0) };
    scene.workspace.drop_csv("2.csv", &[gone]);
    scene.workspace.run(0);
    let mut left = everybody.clone();
    left.remove(3);
    scene.assert_holds(&left).await;
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "1.csv"]).expect(0, &["nothing to send"]);
    scene.assert_holds(&left).await;
    scene.workspace.convoke(&ONE_BY_ONE).expect(0, &["2 of 2 windows settled"]);
    let created: u64 = scene.counts_of_windows("creates").iter().sum();
    assert_eq!(created, 0, "nobody was made for a while either");
    scene.assert_holds(&left).await;
    // The ledger names no such row.
    scene.workspace.convoke(&["explain", SYNC, "person3@example.com"]).expect(0, &["never sent, or deleted since"]);
    // Whoever is there again, later, is made again.
    let again = of_day(3..4, 3);
    scene.workspace.drop_csv("3.csv", &again);
    scene.workspace.run(0);
    scene.assert_holds(&[left, again].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_a_guard_stopped_goes_on_under_another_guard() {
    let scene = Scene::dropping("");
    let guarded = |max_invalid: &str| {
        scene.write_sync(APPEND, &format!("guards: {{ max_create: unlimited, max_invalid: {max_invalid} }}\n"));
    };
    guarded("0");
    scene.workspace.drop_csv("1.csv", &people(0..5));
    scene.workspace.drop_csv("2.csv", &[people(5..10), vec![nobody()]].concat());
    scene.workspace.drop_csv("3.csv", &people(10..15));
    scene.workspace.convoke(&ONE_BY_ONE).expect(4, &["max_invalid", "1 of 3 windows settled"]);
    let stopped = scene.workspace.newest_run();
    let told = stopped["message"].as_str().expect("what stopped it");
    assert!(told.starts_with("window 2 of 3 of a backfill; nothing of plan"), "{told}");
    guarded("unlimited");
    let resumed = scene.workspace.convoke(&["backfill", SYNC, "--resume"]);
    resumed.expect(3, &["window 3 of 3", "3 of 3 windows settled"]);
    assert!(!resumed.text().contains("window 1 of 3"), "{}", resumed.text());
    scene.assert_holds(&people(0..15)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_window_was_partial_is_known_to_the_command_that_settles_the_last() {
    let scene = Scene::dropping("");
    scene.write_sync(APPEND, "guards: { max_create: unlimited, max_invalid: unlimited }\n");
    scene.workspace.drop_csv("1.csv", &[people(0..5), vec![nobody()]].concat());
    scene.workspace.drop_csv("2.csv", &people(5..10));
    scene.workspace.drop_csv("3.csv", &people(10..15));
    scene.killed(&ONE_BY_ONE, "after-checkpoint:1");
    // Whoever was killed tells it as well, and so does a live run that settles a window.
    scene.killed(&["backfill", SYNC, "--resume"], "after-send:1");
    scene.workspace.run(3);
    let told = scene.workspace.convoke(&["runs", SYNC, "--json"]).text();
    assert!(told.contains("window 2 of 3 of a backfill; its process ended without a word"), "{told}");
    assert_eq!(told.matches("window 2 of 3 of a backfill").count(), 2, "{told}");
    let resumed = scene.workspace.convoke(&["backfill", SYNC, "--resume", "--json"]);
    resumed.expect(3, &[]);
    let facts = resumed.json()["backfill"].clone();
    assert_eq!((&facts["windows_settled"], &facts["windows_settled_now"]), (&3.into(), &1.into()), "{facts}");
    scene.assert_holds(&people(0..15)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_backfill_between_two_windows_is_told_with_how_far_it_came() {
    let scene = Scene::dropping("");
    let files: Vec<_> = (0..4).map(|number| of_day(number * 5..number * 5 + 5, 1)).collect();
    scene.workspace.drop_csv("0.csv", &files[0]);
    scene.workspace.run(0);
    for (number, file) in files.iter().enumerate().skip(1) {
        scene.workspace.drop_csv(&format!("{number}.csv"), file);
    }
    // Somebody waits for the audience, so the backfill makes room after its first window.
    let state =
        SqliteState::open(&scene.workspace.path("state/state.sqlite"), OpenMode::Existing).await.expect("a store");
    let binding = state.binding(&SyncName::new(SYNC)).await.expect("a read").expect("it is bound");
    let waiting = waiting_resource(&audience_resource(&binding.key));
    let lease = state.acquire(&waiting, "somebody", Duration::from_secs(600)).await.expect("a lease");
    let interrupted = async |arguments: &[&str], settled: u64| {
        let mut command = scene.workspace.command(arguments);
        let backfill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let is_settled = async || scene.newest_backfill()["windows_settled"] == settled;
        eventually("a window is settled", Duration::from_secs(60), is_settled).await;
        let sent = Command::new("kill").args(["-INT", &backfill.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        Ended::of(backfill.wait_with_output().expect("it ends"))
    };
    interrupted(&ONE_BY_ONE, 1).await.expect(130, &["1 of 4 windows settled", "--resume"]);
    let ended = interrupted(&["backfill", SYNC, "--resume", "--json"], 2).await;
    ended.expect(130, &[]);
    let facts = ended.json();
    assert_eq!(facts["backfill"]["windows_settled"], 2, "{facts}");
    assert_eq!(facts["backfill"]["windows_settled_now"], 1, "{facts}");
    assert_eq!(facts["exit_code"], 130, "{facts}");
    state.release(&lease).await.expect("let go");
    state.close().await;
    scene.workspace.convoke(&["backfill", SYNC, "--resume"]).expect(0, &["4 of 4 windows settled"]);
    assert_eq!(rows(&scene.store.base_url, &scene.store.client, "People").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_cancelled_while_it_goes_on_says_so_with_its_figures() {
    let scene = Scene::dropping("");
    let connection = remote_connection(&scene.store.base_url, &scene.store.client);
    let slow = connection.replace("rate: unlimited", "rate: { per_second: 2 }");
    scene.workspace.write("config/connections.yaml", &slow);
    for number in 0..3 {
        scene.workspace.drop_csv(&format!("{number}.csv"), &of_day(number * 3_000..(number + 1) * 3_000, 1));
    }
    let mut command = scene.workspace.command(&ONE_BY_ONE);
    let backfill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    eventually("it has begun", Duration::from_secs(60), async || scene.newest_backfill()["state"] == "open").await;
    scene.workspace.convoke(&["backfill", SYNC, "--cancel"]).expect(0, &["cancelled"]);
    let ended = Ended::of(backfill.wait_with_output().expect("it ends"));
    ended.expect(4, &["the backfill of `people` was cancelled meanwhile", "of 3 windows settled", "--list"]);
}
