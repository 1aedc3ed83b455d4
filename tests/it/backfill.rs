//! Backfills: what was missed comes back, and nothing newer is overwritten.

use convoke_testkit::s3::S3Server;

use crate::audience::assert_holds;
use crate::feeds::{BUCKET, lake_connection, lake_source, parquet_of};
use crate::workspace::{Person, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

/// A sync that adds what comes into a bucket.
struct Scene {
    server: S3Server,
    store: StoreProcess,
    workspace: Workspace,
}

impl Scene {
    async fn new() -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        let store = StoreProcess::start();
        let workspace = Workspace::remote(&store.base_url, &store.client);
        let connection = remote_connection(&store.base_url, &store.client);
        workspace.write("config/connections.yaml", &format!("{connection}{}", lake_connection(&server)));
        let scene = Self { server, store, workspace };
        scene.configure("");
        scene
    }

    fn configure(&self, more: &str) {
        let sync = sync_yaml("upsert", more).replace(crate::feeds::DROP, &lake_source("*.parquet", "append"));
        self.workspace.write("config/syncs/people.yaml", &sync);
    }

    fn put(&self, key: &str, people: &[Person]) {
        self.server.put(BUCKET, key, parquet_of(people));
    }

    async fn assert_holds(&self, people: &[Person]) {
        assert_holds(&self.store.base_url, &self.store.client, people).await;
    }
}

fn named(mut people: Vec<Person>, name: &str, updated_at: &str) -> Vec<Person> {
    for person in &mut people {
        person.name = name.to_owned();
        person.updated_at = updated_at.to_owned();
    }
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_brings_back_what_is_missing_and_leaves_newer_values_and_the_position_alone() {
    let scene = Scene::new().await;
    // The sync went live with February; January lies there too, and was never read: it came back later under its old time.
    let february = named(people(0..20), "February", "2026-02-01T00:00:00Z");
    scene.put("2026-02.parquet", &february);
    scene.workspace.run(0);
    let january = named(people(10..30), "January", "2026-01-01T00:00:00Z");
    scene.put("2026-01.parquet", &january);
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "2026-01*"]).expect(0, &["10 created", "10 superseded"]);
    let expected = [february.clone(), january[10..].to_vec()].concat();
    scene.assert_holds(&expected).await;
    // The live position has not moved: the live run still finds January new, and has nothing to send of it.
    let live = scene.workspace.convoke(&["run", SYNC, "--json"]);
    live.expect(0, &[]);
    assert!(live.json()["run"]["counts"]["read"].as_u64().expect("a count") >= 20, "{}", live.text());
    scene.assert_holds(&expected).await;
    scene.workspace.convoke(&["backfill", SYNC, "--all"]).expect(0, &["nothing"]);
    scene.assert_holds(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_by_time_reads_what_was_written_then() {
    let scene = Scene::new().await;
    scene.put("a.parquet", &people(0..5));
    scene.workspace.run(0);
    scene.workspace.convoke(&["backfill", SYNC, "--from", "2020-01-01"]).expect(0, &["nothing"]);
    scene.workspace.convoke(&["backfill", SYNC, "--to", "2020-01-01"]).expect(2, &["nothing to backfill"]);
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "nothing*"]).expect(2, &["nothing to backfill"]);
    scene.workspace.convoke(&["backfill", SYNC, "--objects", "[2026"]).expect(2, &["is no pattern of names"]);
    scene.workspace.convoke(&["backfill", SYNC, "--from", "2026-02-01", "--to", "2026-01-01"]).expect(2, &["before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_needs_an_order_of_values_while_live_runs_are_made() {
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let ordered = sync_yaml("upsert", "").replace("mode: snapshot", "mode: append");
    let unordered = ordered.replace("dedupe: { keep: latest, by: updated_at }\n", "");
    assert_ne!(unordered, ordered);
    workspace.write("config/syncs/people.yaml", &unordered);
    workspace.drop_csv("1.csv", &people(0..5));
    // Nothing live yet: a first load by backfill is fine.
    workspace.convoke(&["backfill", SYNC, "--all"]).expect(0, &["5 created"]);
    workspace.run(0);
    workspace.convoke(&["backfill", SYNC, "--all"]).expect(2, &["dedupe"]);
    workspace.write("config/syncs/people.yaml", &ordered);
    workspace.convoke(&["backfill", SYNC, "--all"]).expect(0, &[]);
    assert_holds(&store.base_url, &store.client, &people(0..5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_is_finished_by_the_next_live_run_without_moving_the_position_for_it() {
    let scene = Scene::new().await;
    scene.put("a.parquet", &people(0..10));
    scene.configure("guards: { max_create: unlimited }\n");
    scene.workspace.run(0);
    scene.put("b.parquet", &people(10..1_500));
    let mut command = scene.workspace.command(&["backfill", SYNC, "--all"]);
    let killed = command.env("CONVOKE_CRASH_AT", "after-send").output().expect("the binary runs");
    assert!(killed.status.code().is_none(), "{killed:?}");
    scene.workspace.convoke(&["run", SYNC]).expect(0, &["finished the interrupted plan"]);
    scene.assert_holds(&people(0..1_500)).await;
    scene.workspace.convoke(&["run", SYNC]).expect(0, &["nothing"]);
}

#[test]
fn a_column_that_files_of_a_backfill_lack_is_told_and_one_that_all_lack_is_refused() {
    let workspace = Workspace::embedded();
    let append = sync_yaml("upsert", "").replace("mode: snapshot", "mode: append");
    workspace.write("config/syncs/people.yaml", &append);
    workspace.write("drop/1.csv", "email,score,updated_at\na@example.com,1,2026-01-01T00:00:00Z\n");
    workspace.drop_csv("2.csv", &people(0..2));
    let backfill = workspace.convoke(&["backfill", SYNC, "--all"]);
    backfill.expect(0, &["column `name`, which the sync reads, is missing in `1.csv`", "3 created"]);
    assert!(!backfill.text().contains("missing in `2.csv`"), "{}", backfill.text());
    // By itself nothing empties cells.
    workspace.convoke(&["run", SYNC]).expect(3, &["1.csv", "no column `name`"]);
    workspace.write("config/syncs/people.yaml", &append.replace("Name: name", "Name: nmae"));
    for arguments in [&["backfill", SYNC, "--all"][..], &["backfill", SYNC, "--objects", "2*"]] {
        workspace.convoke(arguments).expect(1, &["map.Name", "nmae"]);
    }
}
