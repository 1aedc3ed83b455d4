//! One sync from three sources, and what each of them can suffer.

use std::time::Duration;

use convoke_testkit::postgres::PostgresServer;
use convoke_testkit::s3::S3Server;
use serde_json::Value;

use crate::audience::assert_holds;
use crate::feeds::{BUCKET, Feed, lake_connection, lake_source, parquet_of, people_table, table_connection};
use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people, remote_connection, sync_yaml};

/// People as sources have them: one of them twice, spellings that mean the same.
fn untidy(count: usize) -> Vec<Person> {
    let mut untidy = people(0..count);
    untidy[1].email = " Person1@EXAMPLE.com ".to_owned();
    let mut older = untidy[2].clone();
    older.name = "An older name".to_owned();
    older.updated_at = "2025-06-01T00:00:00Z".to_owned();
    untidy.push(older);
    untidy
}

fn counts(ended: &Ended) -> Vec<u64> {
    let facts = ended.json();
    ["read", "creates", "updates", "deletes", "superseded", "unchanged"]
        .map(|name| facts["run"]["counts"][name].as_u64().expect("a count"))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_sync_from_each_source_gives_the_same_audience_and_then_sends_nothing() {
    for feed in Feed::all().await {
        let store = StoreProcess::start();
        let workspace = Workspace::remote(&store.base_url, &store.client);
        let connection = remote_connection(&store.base_url, &store.client);
        feed.configure(&workspace, &connection, "mirror", "");
        feed.put(&workspace, &untidy(1_200)).await;
        let first = workspace.convoke(&["run", SYNC, "--json"]);
        first.expect(0, &[]);
        assert_eq!(counts(&first), [1_201, 1_200, 0, 0, 1, 0]);
        assert_holds(&store.base_url, &store.client, &people(0..1_200)).await;
        let second = workspace.convoke(&["run", SYNC, "--json"]);
        second.expect(0, &[]);
        assert_eq!(second.json()["run"]["delivery"], Value::Null, "nothing is sent: {}", second.text());
        assert_eq!(counts(&second)[1..4], [0, 0, 0]);

        let mut changed = people(1..1_201);
        changed[4].name = "Somebody Else".to_owned();
        changed[4].updated_at = "2026-02-01T00:00:00Z".to_owned();
        feed.put(&workspace, &changed).await;
        let third = workspace.convoke(&["run", SYNC, "--json"]);
        third.expect(0, &[]);
        assert_eq!(counts(&third)[1..4], [1, 1, 1], "{}", third.text());
        assert_holds(&store.base_url, &store.client, &changed).await;
    }
}

/// A workspace that reads a bucket with some people in it, into a store of its own.
struct LakeScene {
    server: S3Server,
    workspace: Workspace,
    store: StoreProcess,
}

impl LakeScene {
    async fn with(objects: &[(&str, Vec<u8>)]) -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        for (key, contents) in objects {
            server.put(BUCKET, key, contents);
        }
        let store = StoreProcess::start();
        let scene = Self { workspace: Workspace::remote(&store.base_url, &store.client), server, store };
        scene.configure(&lake_connection(&scene.server), "snapshot");
        scene
    }

    fn configure(&self, lake: &str, mode: &str) {
        let connection = remote_connection(&self.store.base_url, &self.store.client);
        self.workspace.write("config/connections.yaml", &format!("{connection}{lake}"));
        let sync_mode = if mode == "snapshot" { "mirror" } else { "upsert" };
        let sync = sync_yaml(sync_mode, "").replace(crate::feeds::DROP, &lake_source("**/*.parquet", mode));
        self.workspace.write("config/syncs/people.yaml", &sync);
    }

    async fn assert_holds(&self, people: &[Person]) {
        assert_holds(&self.store.base_url, &self.store.client, people).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_have_not_changed_are_not_opened_again() {
    let scene = LakeScene::with(&[("1.parquet", parquet_of(&people(0..30)))]).await;
    scene.workspace.run(0);
    scene.server.forget_requests();
    scene.workspace.run(0).expect(0, &["nothing"]);
    assert_eq!((scene.server.requests("GetObject"), scene.server.requests("HeadObject")), (0, 0));
    assert!(scene.server.requests("ListObjectsV2") > 0);

    scene.configure(&lake_connection(&scene.server), "append");
    scene.server.put(BUCKET, "2.parquet", parquet_of(&people(30..40)));
    scene.workspace.run(0);
    scene.server.forget_requests();
    scene.server.put(BUCKET, "3.parquet", parquet_of(&people(40..50)));
    let ended = scene.workspace.convoke(&["run", SYNC, "--json"]);
    ended.expect(0, &[]);
    assert_eq!(counts(&ended)[..2], [10, 10], "of the new object alone");
    scene.assert_holds(&people(0..50)).await;
}

/// Writers of JSON leave out what has no value.
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_leave_a_mapped_member_out_are_added_with_an_empty_cell_and_it_is_told() {
    let scene = LakeScene::with(&[]).await;
    let source =
        lake_source("*.ndjson", "append").replace("s3_parquet", "objects").replace("mode:", "format: ndjson, mode:");
    let sync = sync_yaml("upsert", "").replace(crate::feeds::DROP, &source);
    scene.workspace.write("config/syncs/people.yaml", &sync);
    let line = |person: &Person, name: &str| {
        let Person { email, score, updated_at, .. } = person;
        format!("{{\"email\": \"{email}\", {name}\"score\": {score}, \"updated_at\": \"{updated_at}\"}}\n")
    };
    let mut expected = people(0..4);
    let named = expected[..3].iter().map(|person| line(person, &format!("\"name\": \"{}\", ", person.name)));
    scene.server.put(BUCKET, "1.ndjson", named.collect::<String>());
    scene.workspace.run(0);
    scene.server.put(BUCKET, "2.ndjson", line(&expected[3], ""));
    scene.workspace.run(0).expect(0, &["column `name` is gone"]);
    expected[3].name = String::new();
    scene.assert_holds(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_told_with_its_reason_and_without_its_keys() {
    let scene = LakeScene::with(&[("1.parquet", parquet_of(&people(0..30)))]).await;
    let secret = scene.server.secret_access_key().to_owned();
    let right = lake_connection(&scene.server);
    let wrong_secret = "wrongwrongwrongwrongwrongwrong";
    let refused = |lake: &str, words: &[&str]| {
        scene.configure(lake, "snapshot");
        let ended = scene.workspace.run(1);
        ended.expect(1, words);
        let text = ended.text();
        assert!(!text.contains(&secret) && !text.contains(wrong_secret), "a key is told: {text}");
    };
    refused(&right.replace(&secret, wrong_secret), &["lake", "secret_access_key"]);
    refused(&right.replace(scene.server.access_key_id(), "AKIANOBODY"), &["lake", "access key id"]);
    scene.configure(&right, "snapshot");
    let sync = sync_yaml("mirror", "").replace(crate::feeds::DROP, &lake_source("*.parquet", "snapshot"));
    scene.workspace.write("config/syncs/people.yaml", &sync.replace("s3://people", "s3://elsewhere"));
    scene.workspace.run(1).expect(1, &["bucket", "elsewhere"]);
    scene.configure(&right, "snapshot");
    scene.workspace.run(0);
    scene.server.expire();
    scene.workspace.run(1).expect(1, &["expired"]);
    scene.assert_holds(&people(0..30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_object_deletes_nobody_and_the_run_is_partial() {
    let scene = LakeScene::with(&[
        ("1.parquet", parquet_of(&people(0..20))),
        ("2.parquet", parquet_of(&people(20..40))),
        ("3.parquet", parquet_of(&people(40..60))),
    ])
    .await;
    scene.workspace.run(0);
    let whole = parquet_of(&people(20..41));
    scene.server.put(BUCKET, "2.parquet", &whole[..whole.len() - 50]);
    scene.server.put(BUCKET, "1.parquet", parquet_of(&people(1..20)));
    scene.workspace.run(3).expect(3, &["2.parquet", "Parquet"]);
    scene.assert_holds(&people(0..60)).await;
    // Whole again, the snapshot is believed: one is gone, and one that two objects hold is one.
    scene.server.put(BUCKET, "2.parquet", &whole);
    scene.workspace.run(0);
    scene.assert_holds(&people(1..60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_damaged_before_its_footer_is_left_out_with_its_reason_and_deletes_nobody() {
    let scene = LakeScene::with(&[
        ("1.parquet", parquet_of(&people(0..20))),
        ("2.parquet", parquet_of(&people(20..40))),
        ("3.parquet", parquet_of(&people(40..60))),
    ])
    .await;
    scene.workspace.run(0);
    let whole = parquet_of(&people(20..45));
    let mut damaged = whole.clone();
    damaged[4..200].fill(0xff);
    scene.server.put(BUCKET, "2.parquet", &damaged);
    scene.server.put(BUCKET, "1.parquet", parquet_of(&people(1..20)));
    scene.server.put(BUCKET, "4.parquet", parquet_of(&people(60..70)));
    scene.workspace.run(3).expect(3, &["left out `2.parquet`", "damaged before the footer", "no row is deleted"]);
    scene.assert_holds(&people(0..70)).await;
    scene.server.put(BUCKET, "2.parquet", &whole);
    scene.workspace.run(0);
    scene.assert_holds(&people(1..70)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_none_of_which_can_be_read_are_left_out_once_and_the_run_is_partial() {
    let scene = LakeScene::with(&[("1.parquet", parquet_of(&people(0..60)))]).await;
    scene.configure(&lake_connection(&scene.server), "append");
    scene.workspace.run(0);
    let whole = parquet_of(&people(60..80));
    let mut damaged = whole.clone();
    damaged[4..200].fill(0xff);
    for (key, contents) in [("2.parquet", &whole[..whole.len() - 50]), ("3.parquet", damaged.as_slice())] {
        scene.server.put(BUCKET, key, contents);
        let ended = scene.workspace.run(3);
        ended.expect(3, &[&format!("left out `{key}`")]);
        assert!(!ended.text().contains("quarantined"), "nothing moves: {}", ended.text());
        scene.workspace.run(0).expect(0, &["nothing"]);
    }
    scene.server.put(BUCKET, "2.parquet", &whole);
    scene.workspace.run(0);
    scene.assert_holds(&people(0..80)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_objects_may_lack_a_column_that_others_have() {
    let scene = LakeScene::with(&[]).await;
    let source = format!("objects: {{ url: \"s3://{BUCKET}/*.csv\", mode: append, connection: lake }}");
    scene.workspace.write("config/syncs/people.yaml", &sync_yaml("upsert", "").replace(crate::feeds::DROP, &source));
    scene.server.put(BUCKET, "1.csv", "email,score,updated_at,name\na@example.com,1,2026-01-01T00:00:00Z,A\n");
    scene.server.put(BUCKET, "2.csv", "email,score,updated_at\nb@example.com,2,2026-01-01T00:00:00Z\n");
    let told = "column `name`, which the sync reads, is missing in `2.csv`";
    scene.workspace.run(0).expect(0, &[told, "2 created"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_objects_deletes_nobody_until_that_is_approved() {
    let scene = LakeScene::with(&[("1.parquet", parquet_of(&people(0..20)))]).await;
    scene.workspace.run(0);
    scene.server.remove(BUCKET, "1.parquet");
    scene.workspace.run(4).expect(4, &["allow_empty"]);
    scene.assert_holds(&people(0..20)).await;
    let planned = scene.workspace.convoke(&["runs", SYNC, "-n", "1", "--json"]).json();
    let plan = planned[0]["plan"].as_str().expect("a plan").to_owned();
    let shown = scene.workspace.convoke(&["show", &plan, "--json"]).json();
    let hash = shown["plan"]["hash"].as_str().expect("a hash").to_owned();
    scene.workspace.convoke(&["apply", &plan, "--approve", &hash]).expect(0, &["20 deleted"]);
    scene.assert_holds(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_or_a_restart_in_mid_read_has_the_table_read_again() {
    let server = PostgresServer::start();
    let database = server.create_database("people").await;
    database.execute("CREATE TABLE people (email text, name text, score bigint, updated_at timestamptz)").await;
    database.execute("INSERT INTO people SELECT 'person' || n || '@example.com', 'Person ' || n, n, '2026-01-01T00:00:00Z' FROM generate_series(0, 199) n").await;
    // Slow enough to be caught in the middle.
    database
        .execute(
            "CREATE VIEW slow_people AS SELECT people.* FROM people, LATERAL (SELECT pg_sleep(0.02 + 0 * score)) nap",
        )
        .await;
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let connection = remote_connection(&store.base_url, &store.client);
    workspace.write("config/connections.yaml", &format!("{connection}{}", table_connection(&database.connection())));
    let source = "postgres: { connection: crm, table: slow_people }";
    workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "").replace(crate::feeds::DROP, source));
    for restart in [false, true] {
        let run = workspace.command(&["run", SYNC]).stderr(std::process::Stdio::piped()).spawn().expect("it runs");
        let reading =
            "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'copy%slow_people%' AND state = 'active'";
        while database.value(reading).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if restart {
            server.restart_immediately();
        } else {
            database.terminate_backends().await;
        }
        let ended = Ended::of(run.wait_with_output().expect("it ends"));
        ended.expect(0, &["again"]);
        assert_holds(&store.base_url, &store.client, &people(0..200)).await;
    }
}

/// Runs that read what has changed find no row that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_is_promised_of_the_run_that_finds_it() {
    let database = people_table().await;
    database.execute("INSERT INTO people VALUES ('a@example.com', 'A', 1, '2026-01-01'), ('b@example.com', 'B', 2, '2026-01-01')").await;
    let workspace = Workspace::embedded();
    let local = "local:\n  embedded: { data: store/store.sqlite }\n";
    workspace.write("config/connections.yaml", &format!("{local}{}", table_connection(&database.connection())));
    let source = "postgres: { connection: crm, table: people, incremental: { row_versions: true, full_every: 7d } }";
    let sync = sync_yaml("mirror", "guards: { max_delete: unlimited }\n").replace(crate::feeds::DROP, source);
    workspace.write("config/syncs/people.yaml", &sync);
    workspace.run(0);
    database.execute("DELETE FROM people WHERE score = 2").await;
    workspace.run(0).expect(0, &["nothing to send"]);
    let full = "`convoke run people --full`";
    workspace.convoke(&["explain", SYNC, "b@example.com"]).expect(0, &["the next run that reads everything", full]);
    workspace.convoke(&["verify", SYNC]).expect(0, &[&format!("{full} would delete 1")]);
    workspace.convoke(&["run", SYNC, "--full"]).expect(0, &["1 deleted"]);
    workspace.convoke(&["explain", SYNC, "b@example.com"]).expect(0, &["never sent, or deleted since"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_is_told_with_the_remedy() {
    let database = people_table().await;
    let workspace = Workspace::embedded();
    let right = table_connection(&database.connection());
    let local = "local:\n  embedded: { data: store/store.sqlite }\n";
    let refused = |connection: &str, source: &str, words: &[&str]| {
        workspace.write("config/connections.yaml", &format!("{local}{connection}"));
        workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", "").replace(crate::feeds::DROP, source));
        let ended = workspace.run(1);
        ended.expect(1, words);
        let driver = "error returned from database";
        assert!(!ended.stderr.contains(driver), "the server's words are told once: {}", ended.text());
    };
    let table = "postgres: { connection: crm, table: people }";
    refused(&right.replace("user: convoke", "user: nobody"), table, &["nobody"]);
    refused(&right, "postgres: { connection: crm, table: nothing_here }", &["nothing_here"]);
    refused(&right, "postgres: { connection: crm, query: \"SELECT nothing FROM people\" }", &["nothing"]);
    database.execute("CREATE TABLE odd (email text, name point, score bigint, updated_at text)").await;
    refused(&right, "postgres: { connection: crm, table: odd }", &["name", "point", "::text"]);
}
