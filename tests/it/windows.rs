//! Backfills window by window: what is settled stays settled, whatever ends the command, and live runs go between.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use convoke_core::SyncName;
use convoke_core::state::{Checkpoint, Checkpoints};
use convoke_state::{OpenMode, SqliteState};
use convoke_testkit::s3::S3Server;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::audience::{assert_holds, rows};
use crate::daemon::{Daemon, eventually};
use crate::feeds::{BUCKET, DROP, lake_connection, lake_source, parquet_of, people_table, table_connection};
use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

/// No guard stops a window of records that are all new.
const UNGUARDED: &str = "guards: { max_create: unlimited, max_update: unlimited }\n";

pub(crate) struct Scene {
    pub(crate) store: StoreProcess,
    pub(crate) workspace: Workspace,
}

impl Scene {
    /// A sync that adds each file that is dropped.
    pub(crate) fn dropping(more: &str) -> Self {
        let store = StoreProcess::start();
        let workspace = Workspace::remote(&store.base_url, &store.client);
        let scene = Self { store, workspace };
        scene.configure("csv_drop: { path: drop, mode: append, settle: 0s }", more);
        scene
    }

    fn configure(&self, source: &str, more: &str) {
        self.write_sync(source, &format!("{UNGUARDED}{more}"));
    }

    /// [`Scene::configure`], under the guards that `more` has.
    pub(crate) fn write_sync(&self, source: &str, more: &str) {
        let sync = sync_yaml("upsert", more).replace(DROP, source);
        self.workspace.write("config/syncs/people.yaml", &sync);
    }

    pub(crate) fn killed(&self, arguments: &[&str], at: &str) {
        let mut command = self.workspace.command(arguments);
        let killed = command.env("CONVOKE_CRASH_AT", at).output().expect("the binary runs");
        assert!(killed.status.code().is_none(), "not killed: {killed:?}");
    }

    pub(crate) fn newest_backfill(&self) -> Value {
        self.workspace.convoke(&["backfill", SYNC, "--list", "--json"]).json()[0].clone()
    }

    /// How many records each run of a window has read, oldest first, with what it is called; those that came to a plan.
    fn windows_read(&self) -> Vec<(String, u64)> {
        let told = |run: &Value| Some((run["message"].as_str()?.to_owned(), run["counts"]["read"].as_u64()?));
        self.window_runs().iter().filter_map(told).collect()
    }

    /// One of the counts of each run of a window that came to a plan, oldest first.
    pub(crate) fn counts_of_windows(&self, name: &str) -> Vec<u64> {
        self.window_runs().iter().filter_map(|run| run["counts"][name].as_u64()).collect()
    }

    fn window_runs(&self) -> Vec<Value> {
        let runs = self.workspace.convoke(&["runs", SYNC, "--json"]).json();
        let is_of_window = |run: &&Value| run["message"].as_str().is_some_and(|told| told.starts_with("window "));
        runs.as_array().expect("a list").iter().rev().filter(is_of_window).cloned().collect()
    }

    async fn checkpoint(&self) -> Checkpoint {
        let state =
            SqliteState::open(&self.workspace.path("state/state.sqlite"), OpenMode::ReadOnly).await.expect("a store");
        state.checkpoint(&SyncName::new(SYNC)).await.expect("a checkpoint")
    }

    pub(crate) async fn assert_holds(&self, people: &[Person]) {
        assert_holds(&self.store.base_url, &self.store.client, people).await;
    }
}

pub(crate) fn of_day(numbers: std::ops::Range<usize>, day: u32) -> Vec<Person> {
    let mut people = people(numbers);
    for person in &mut people {
        person.updated_at = format!("2026-01-{day:02}T12:00:00Z");
        person.name = format!("{} of day {day}", person.name);
    }
    people
}

/// The newest of each person.
fn newest(all: &[Vec<Person>]) -> Vec<Person> {
    let mut newest: BTreeMap<String, Person> = BTreeMap::new();
    for person in all.concat() {
        let kept = newest.entry(person.email.clone()).or_insert_with(|| person.clone());
        if kept.updated_at < person.updated_at {
            *kept = person;
        }
    }
    newest.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_of_files_goes_on_with_the_next_window_and_reads_none_twice() {
    let scene = Scene::dropping("");
    let days: Vec<_> = (1..=6).map(|day| of_day(day as usize * 10..day as usize * 10 + 20, day)).collect();
    scene.workspace.drop_csv("1.csv", &days[0]);
    scene.workspace.run(0);
    for (day, people) in (2..).zip(&days[1..]) {
        scene.workspace.drop_csv(&format!("{day}.csv"), people);
    }
    let before = scene.checkpoint().await;
    // Each window creates and updates; the first answer to the second window is not heard.
    scene.killed(&["backfill", SYNC, "--all", "--window", "2"], "after-send:3");
    assert_eq!(scene.newest_backfill()["state"], "open");
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "2*"]).expect(2, &["--resume", "--cancel"]);
    let resumed = scene.workspace.convoke(&["backfill", SYNC, "--resume"]);
    resumed.expect(0, &["window 3 of 3", "backfill done: 3 of 3 windows settled"]);
    assert!(!resumed.text().contains("window 1 of 3"), "{}", resumed.text());
    assert!(!resumed.text().contains("window 2 of 3"), "{}", resumed.text());
    assert_eq!(scene.checkpoint().await, before, "the live position has not moved");
    let expected = newest(&days);
    scene.assert_holds(&expected).await;
    let windows = scene.windows_read();
    let window_3: Vec<_> = windows.iter().filter(|(told, _)| told.starts_with("window 3 of 3")).collect();
    assert_eq!(window_3.len(), 1, "{windows:?}");
    // A live run moves it as ever, and finds nothing to send.
    scene.workspace.run(0);
    assert_ne!(scene.checkpoint().await, before);
    scene.assert_holds(&expected).await;
    scene.workspace.convoke(&["backfill", SYNC, "--resume"]).expect(2, &["no backfill of `people` is under way"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_of_objects_is_resumed_by_the_same_command() {
    let server = S3Server::start().await;
    server.make_bucket(BUCKET);
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let connection = remote_connection(&store.base_url, &store.client);
    workspace.write("config/connections.yaml", &format!("{connection}{}", lake_connection(&server)));
    let scene = Scene { store, workspace };
    scene.configure(&lake_source("*.parquet", "append"), "");
    let days: Vec<_> = (1..=4).map(|day| of_day(day as usize * 10..day as usize * 10 + 20, day)).collect();
    for (day, people) in (1..).zip(&days) {
        server.put(BUCKET, &format!("{day}.parquet"), parquet_of(people));
    }
    let command = ["backfill", SYNC, "--all", "--window", "1"];
    scene.killed(&command, "before-checkpoint:3");
    assert_eq!(scene.newest_backfill()["windows_settled"], 2);
    let resumed = scene.workspace.convoke(&command);
    resumed.expect(0, &["window 4 of 4", "backfill done: 4 of 4 windows settled"]);
    assert!(!resumed.text().contains("window 2 of 4"), "{}", resumed.text());
    scene.assert_holds(&newest(&days)).await;
    assert_eq!(scene.checkpoint().await.version, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_of_a_table_goes_on_with_the_next_span_of_time() {
    let database = people_table().await;
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let connection = remote_connection(&store.base_url, &store.client);
    let table = table_connection(&database.connection());
    workspace.write("config/connections.yaml", &format!("{connection}{table}"));
    let scene = Scene { store, workspace };
    scene.configure("postgres: { connection: crm, table: people, time_column: updated_at }", "");
    let days: Vec<_> = (1..=4).map(|day| of_day(day as usize * 10..day as usize * 10 + 10, day)).collect();
    for person in days.concat() {
        let Person { email, name, score, updated_at } = person;
        database.execute(&format!("INSERT INTO people VALUES ('{email}', '{name}', {score}, '{updated_at}')")).await;
    }
    let command = ["backfill", SYNC, "--from", "2026-01-01", "--to", "2026-01-06", "--window", "1d"];
    scene.killed(&command, "after-checkpoint:2");
    assert_eq!(scene.newest_backfill()["windows_settled"], 2);
    let resumed = scene.workspace.convoke(&["backfill", SYNC, "--resume", "--json"]);
    resumed.expect(0, &[]);
    let facts = resumed.json();
    assert_eq!(
        (&facts["backfill"]["windows_settled"], &facts["backfill"]["windows_settled_now"]),
        (&5.into(), &3.into())
    );
    scene.assert_holds(&newest(&days)).await;
    // The last day has no records, which is nothing to be asked about.
    assert_eq!(scene.windows_read().last().expect("a window").1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_of_a_whole_table_goes_on_with_the_next_window_and_leaves_no_row_out() {
    let database = people_table().await;
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let connection = remote_connection(&store.base_url, &store.client);
    let table = table_connection(&database.connection());
    workspace.write("config/connections.yaml", &format!("{connection}{table}"));
    let scene = Scene { store, workspace };
    scene.configure("postgres: { connection: crm, table: people, time_column: updated_at }", "");
    let days: Vec<_> = (1..=4).map(|day| of_day(day as usize * 10..day as usize * 10 + 10, day)).collect();
    let (long_ago, untimed) = (people(100..103), people(200..205));
    let times = days.concat().into_iter().map(|person| (format!("'{}'", person.updated_at), person));
    let times = times.chain(long_ago.iter().map(|person| ("'0099-01-01'".to_owned(), person.clone())));
    for (time, person) in times.chain(untimed.iter().map(|person| ("NULL".to_owned(), person.clone()))) {
        let Person { email, name, score, .. } = person;
        database.execute(&format!("INSERT INTO people VALUES ('{email}', '{name}', {score}, {time})")).await;
    }
    let command = ["backfill", SYNC, "--all", "--window", "1d"];
    scene.killed(&command, "after-checkpoint:2");
    assert_eq!(scene.newest_backfill()["windows_settled"], 2);
    let resumed = scene.workspace.convoke(&command);
    resumed.expect(0, &["window 3 of 4", "window 4 of 4", "backfill done: 4 of 4 windows settled"]);
    assert!(!resumed.text().contains("window 2 of 4"), "{}", resumed.text());
    scene.assert_holds(&[days.concat(), long_ago, untimed].concat()).await;
    let read: Vec<u64> = scene.windows_read().into_iter().map(|(_, read)| read).collect();
    assert_eq!(read, [13, 10, 20, 5]);
    scene.workspace.convoke(&["backfill", SYNC, "--all", "--window", "5"]).expect(2, &["give a time such as `1d`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_two_configurations_are_not_mixed_and_suppression_lists_are_read_for_each() {
    let list = "suppress: { csv: suppressed.csv, column: email, audience_column: Email }\n";
    let scene = Scene::dropping(list);
    scene.workspace.write("suppressed.csv", "email\nperson999@example.com\n");
    let days: Vec<_> = (1..=3).map(|day| of_day(day as usize * 10..day as usize * 10 + 10, day)).collect();
    for (day, people) in (1..).zip(&days) {
        scene.workspace.drop_csv(&format!("{day}.csv"), people);
    }
    scene.killed(&["backfill", SYNC, "--all", "--window", "1"], "after-checkpoint:1");
    scene.configure(
        "csv_drop: { path: drop, mode: append, settle: 0s }",
        &format!("{list}where: {{ column: email, not_empty: true }}\n"),
    );
    let refused = scene.workspace.convoke(&["backfill", SYNC, "--resume"]);
    refused.expect(2, &["has changed", "put it back", "--cancel"]);
    scene.configure("csv_drop: { path: drop, mode: append, settle: 0s }", list);
    // Put back; and somebody asked not to be sent, since.
    scene.workspace.write("suppressed.csv", "email\nperson25@example.com\n");
    scene.workspace.convoke(&["backfill", SYNC, "--resume"]).expect(0, &["3 of 3 windows settled"]);
    let mut expected = days.concat();
    expected.retain(|person| person.email != "person25@example.com");
    scene.assert_holds(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_can_be_cancelled_and_a_guard_stops_it_at_a_window() {
    let scene = Scene::dropping("");
    let guarded = sync_yaml("upsert", "guards: { max_invalid: 0 }\n").replace("mode: snapshot", "mode: append");
    scene.workspace.write("config/syncs/people.yaml", &guarded);
    scene.workspace.drop_csv("1.csv", &people(0..5));
    scene.workspace.drop_csv(
        "2.csv",
        &[people(5..10), vec![Person { email: "nobody".to_owned(), ..Person::numbered(1) }]].concat(),
    );
    scene.workspace.drop_csv("3.csv", &people(10..15));
    let stopped = scene.workspace.convoke(&["backfill", SYNC, "--all", "--window", "1"]);
    stopped.expect(4, &["max_invalid", "apply ", "1 of 3 windows settled"]);
    scene.workspace.convoke(&["backfill", SYNC, "--list"]).expect(0, &["open", "1 of 3", "--all"]);
    scene.workspace.convoke(&["backfill", SYNC, "--cancel"]).expect(0, &["cancelled", "1 of 3"]);
    scene.workspace.convoke(&["backfill", SYNC, "--resume"]).expect(2, &["under way"]);
    scene.assert_holds(&people(0..5)).await;
}

/// Nothing that was half sent is sent on by a command that is refused, nor forgotten by one that gives up.
#[tokio::test(flavor = "multi_thread")]
async fn another_backfill_is_refused_beside_one_whose_first_window_is_half_sent() {
    let scene = Scene::dropping("");
    scene.workspace.drop_csv("1.csv", &people(0..2_000));
    scene.workspace.drop_csv("2.csv", &people(2_000..2_010));
    scene.killed(&["backfill", SYNC, "--all", "--window", "1"], "after-send:1");
    let sent = rows(&scene.store.base_url, &scene.store.client, "People").await.len();
    assert!(0 < sent && sent < 2_000, "{sent}");
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "2*"]).expect(2, &["--resume", "--cancel"]);
    assert_eq!(rows(&scene.store.base_url, &scene.store.client, "People").await.len(), sent);
    scene.workspace.convoke(&["backfill", SYNC, "--cancel"]).expect(0, &["is half sent", "`convoke run people`"]);
    scene.workspace.run(0);
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "2*"]).expect(0, &["nothing to send"]);
    scene.assert_holds(&people(0..2_010)).await;
}

/// Windows that take longer than a minute together, beside a daemon that runs the same sync each minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_goes_between_two_windows_of_a_long_backfill() {
    let scene = Scene::dropping("schedule: { cron: \"* * * * *\" }\n");
    let connection = remote_connection(&scene.store.base_url, &scene.store.client);
    let slow = connection.replace("rate: unlimited", "rate: { per_second: 2 }");
    assert_ne!(slow, connection);
    scene.workspace.write("config/connections.yaml", &slow);
    let files: Vec<_> = (0..40).map(|number| of_day(number * 5..number * 5 + 10, 1)).collect();
    for (number, file) in files.iter().enumerate() {
        scene.workspace.drop_csv(&format!("{number:02}.csv"), file);
    }
    let daemon = Daemon::start(&scene.workspace);
    let mut command = scene.workspace.command(&["backfill", SYNC, "--all", "--window", "1"]);
    let mut backfill = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    eventually("a live run is made", Duration::from_secs(180), async || scene.checkpoint().await.version > 0).await;
    let meanwhile = scene.newest_backfill();
    assert_eq!(meanwhile["state"], "open", "the live run did not wait for the end of the backfill");
    assert!(meanwhile["windows_settled"].as_u64().expect("a count") > 0, "{meanwhile}");
    assert!(backfill.wait().expect("it ends").success());
    daemon.signal("-TERM");
    daemon.end();
    scene.assert_holds(&newest(&files)).await;
}

/// A window that the hour does not suffice for waits as a run does, and the next command goes on inside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_waits_for_quota_within_a_window_and_goes_on_there() {
    let scene = Scene::dropping("");
    let connection = remote_connection(&scene.store.base_url, &scene.store.client);
    let rated = |per_hour: u32| {
        let rated = connection.replace("rate: unlimited", &format!("rate: {{ per_second: 25, per_hour: {per_hour} }}"));
        assert_ne!(rated, connection);
        scene.workspace.write("config/connections.yaml", &rated);
    };
    // A fifth of which a backfill leaves to live runs.
    rated(80);
    let files: Vec<_> = (0..3).map(|number| of_day(number * 12_000..(number + 1) * 12_000, 1)).collect();
    for (number, file) in files.iter().enumerate() {
        scene.workspace.drop_csv(&format!("{number}.csv"), file);
    }
    let command = ["backfill", SYNC, "--all", "--window", "1"];
    let waiting = scene.workspace.convoke(&command);
    waiting.expect(6, &["waiting for quota until", "of 3 windows settled", "--resume"]);
    let settled = scene.newest_backfill()["windows_settled"].as_u64().expect("a count");
    assert!((1..3).contains(&settled), "the hour suffices for some of them: {}", waiting.text());
    assert_eq!(scene.workspace.newest_run()["state"], "waiting_for_quota");
    let written = rows(&scene.store.base_url, &scene.store.client, "People").await.len();
    assert!(written > 12_000 && written < 36_000, "{written} rows");

    rated(5_000);
    let resumed = scene.workspace.convoke(&["backfill", SYNC, "--resume"]);
    resumed.expect(0, &["window 3 of 3", "3 of 3 windows settled"]);
    assert!(!resumed.text().contains("window 1 of 3"), "{}", resumed.text());
    scene.assert_holds(&files.concat()).await;
    assert_eq!(scene.checkpoint().await.version, 0, "the live position has not moved");
}

/// Ctrl-C ends a backfill at once, with what it has begun noted; nothing of that is sent twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_interrupted_within_a_window_goes_on_there() {
    let scene = Scene::dropping("");
    let connection = remote_connection(&scene.store.base_url, &scene.store.client);
    let slow = connection.replace("rate: unlimited", "rate: { per_second: 4 }");
    scene.workspace.write("config/connections.yaml", &slow);
    let files: Vec<_> = (0..4).map(|number| of_day(number * 3_000..(number + 1) * 3_000, 1)).collect();
    for (number, file) in files.iter().enumerate() {
        scene.workspace.drop_csv(&format!("{number}.csv"), file);
    }
    let mut command = scene.workspace.command(&["backfill", SYNC, "--all", "--window", "1"]);
    let backfill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let row_count = async || rows(&scene.store.base_url, &scene.store.client, "People").await.len();
    // In the midst of the second window.
    eventually("rows of the second", Duration::from_secs(60), async || row_count().await > 3_000).await;
    let sent = Command::new("kill").args(["-INT", &backfill.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let ended = Ended::of(backfill.wait_with_output().expect("it ends"));
    ended.expect(130, &["of 4 windows settled", "--resume"]);
    assert!(row_count().await < 12_000, "{}", ended.text());
    let settled = scene.newest_backfill()["windows_settled"].as_u64().expect("a count");
    assert!(settled < 4, "{settled} settled");

    let resumed = scene.workspace.convoke(&["backfill", SYNC, "--resume"]);
    resumed.expect(0, &["4 of 4 windows settled"]);
    assert!(!resumed.text().contains("window 1 of 4"), "{}", resumed.text());
    scene.assert_holds(&files.concat()).await;
}

/// Random files, live runs, kills and resumptions: in the end everybody stands once, as the newest file that has them says.
#[tokio::test(flavor = "multi_thread")]
async fn random_kills_and_live_runs_leave_what_a_full_run_would() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let scene = Scene::dropping("");
        let mut files = Vec::new();
        for number in 0..random.random_range(4..8_u32) {
            let start = random.random_range(0..60);
            files.push(of_day(start..start + random.random_range(1..30), random.random_range(1..28)));
            scene.workspace.drop_csv(&format!("{number}.csv"), files.last().expect("just added"));
        }
        let command = ["backfill", SYNC, "--all", "--window", "1"];
        let boundaries =
            ["after-plan-row", "after-send", "after-answer", "before-fold", "before-checkpoint", "after-checkpoint"];
        for step in 0..3_u32 {
            let at = boundaries[random.random_range(0..boundaries.len())];
            let at = format!("{at}:{}", random.random_range(1..4));
            let mut killed = scene.workspace.command(&command);
            killed.env("CONVOKE_CRASH_AT", at).output().expect("the binary runs");
            let before = scene.checkpoint().await;
            if random.random_bool(0.5) {
                let start = random.random_range(0..60);
                files.push(of_day(start..start + 10, random.random_range(1..28)));
                scene.workspace.drop_csv(&format!("live-{step}.csv"), files.last().expect("just added"));
                scene.workspace.run(0);
                assert_ne!(scene.checkpoint().await, before, "seed {seed}");
            }
        }
        let before = scene.checkpoint().await;
        let ended = scene.workspace.convoke(&command);
        assert_eq!(ended.code, Some(0), "seed {seed}: {}", ended.text());
        assert_eq!(scene.checkpoint().await, before, "seed {seed}: the live position has moved");
        scene.workspace.run(0);
        scene.assert_holds(&newest(&files)).await;
    }
}
