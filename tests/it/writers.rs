//! A table that several write while it is read: with PostgreSQL as the oracle, what was committed stands in the audience
//! once, however long its transaction took and whatever became of the runs.

use std::time::Duration;

use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::audience::assert_holds;
use crate::feeds::{DROP, table_connection};
use crate::workspace::{Person, SYNC, StoreProcess, Workspace, remote_connection, sync_yaml};

const WRITERS: usize = 4;
const TRANSACTIONS: usize = 40;
const PEOPLE_OF_ONE: usize = 50;

/// Runs do not wait for each other's records to be few.
const UNGUARDED: &str = "guards: { max_create: unlimited, max_update: unlimited, max_delete: unlimited }\n";

/// Where a run may be killed.
const BOUNDARIES: [&str; 6] =
    ["after-plan-row", "after-send", "after-answer", "before-fold", "before-checkpoint", "after-checkpoint"];

const TABLE: &str = "CREATE TABLE people (email text PRIMARY KEY, name text, score bigint, updated_at timestamptz, \
                     gone timestamptz)";

/// What one of them writes: `people` tells whom, which others may write too.
#[derive(Clone, Debug)]
struct Writer {
    database: TestDatabase,
    number: usize,
    people: std::ops::Range<usize>,
    seed: u64,
}

impl Writer {
    async fn write(self) {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(self.number as u64));
        for transaction in 0..TRANSACTIONS {
            let mut changed: Vec<_> =
                (0..random.random_range(1..5)).map(|_| random.random_range(self.people.clone())).collect();
            // In one order, so that nobody waits in a circle.
            changed.sort_unstable();
            let mut script = "BEGIN;".to_owned();
            for person in changed {
                script.push_str(&change(person, &mut random));
                // Now and then one is held open over several runs.
                let pause = if random.random_ratio(1, 25) { 1_500 } else { random.random_range(0..20) };
                script.push_str(&format!("SELECT pg_sleep({pause} / 1000.0);"));
            }
            let name = format!("{}_{}_{transaction}", self.database.connection().database, self.number);
            match random.random_range(0..8) {
                0 => self.database.execute(&format!("{script} ROLLBACK")).await,
                1 => {
                    self.database.execute(&format!("{script} PREPARE TRANSACTION '{name}'")).await;
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
                    let end = if random.random_ratio(3, 4) { "COMMIT" } else { "ROLLBACK" };
                    self.database.execute(&format!("{end} PREPARED '{name}'")).await;
                }
                _ => self.database.execute(&format!("{script} COMMIT")).await,
            }
        }
    }
}

/// One is told to be gone, or is there with values of this moment.
fn change(person: usize, random: &mut StdRng) -> String {
    let Person { email, .. } = Person::numbered(person);
    if random.random_ratio(1, 6) {
        return format!("UPDATE people SET gone = now(), updated_at = now() WHERE email = '{email}';");
    }
    let score = random.random_range(0..1_000_000);
    format!(
        "INSERT INTO people VALUES ('{email}', 'Person {score}', {score}, now(), NULL) ON CONFLICT (email) DO UPDATE SET \
         name = EXCLUDED.name, score = EXCLUDED.score, updated_at = now(), gone = NULL;"
    )
}

async fn committed(database: &TestDatabase) -> Vec<Person> {
    let rows = database.rows("SELECT email, name, score FROM people WHERE gone IS NULL").await;
    let text = |cell: &Option<String>| cell.clone().expect("each row has all");
    let person = |row: &Vec<Option<String>>| Person {
        email: text(&row[0]),
        name: text(&row[1]),
        score: text(&row[2]).parse().expect("a whole number"),
        updated_at: String::new(),
    };
    rows.iter().map(person).collect()
}

/// Writers and runs at once, some of which are killed; then one run more.
async fn story(incremental: &str, more: &str, people_of: impl Fn(usize) -> std::ops::Range<usize>) {
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let database = PostgresServer::shared().create_database("written").await;
    database.execute(TABLE).await;
    let store = StoreProcess::start();
    let workspace = Workspace::remote(&store.base_url, &store.client);
    let connection = remote_connection(&store.base_url, &store.client);
    workspace.write("config/connections.yaml", &format!("{connection}{}", table_connection(&database.connection())));
    let source = format!("postgres: {{ connection: crm, table: people, incremental: {{ {incremental} }} }}");
    let deleted = "deleted: { column: gone, not_empty: true }\n";
    let sync = sync_yaml("upsert", &format!("{UNGUARDED}{deleted}")).replace(DROP, &source);
    let order = "dedupe: { keep: latest, by: updated_at }\n";
    assert!(sync.contains(order));
    workspace.write("config/syncs/people.yaml", &sync.replace(order, more));

    let writing: Vec<_> = (0..WRITERS)
        .map(|number| {
            let writer = Writer { database: database.clone(), number, people: people_of(number), seed };
            tokio::spawn(writer.write())
        })
        .collect();
    let (mut runs, mut killed) = (0_u32, 0_u32);
    while !writing.iter().all(tokio::task::JoinHandle::is_finished) {
        let mut command = workspace.command(&["run", SYNC]);
        if random.random_ratio(1, 3) {
            let boundary = BOUNDARIES[random.random_range(0..BOUNDARIES.len())];
            command.env("CONVOKE_CRASH_AT", format!("{boundary}:1"));
        }
        let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let ended = ended.expect("the binary runs");
        assert!(matches!(ended.status.code(), None | Some(0)), "seed {seed}: {ended:?}");
        (runs, killed) = (runs + 1, killed + u32::from(ended.status.code().is_none()));
    }
    for writer in writing {
        writer.await.expect("a writer ends");
    }
    assert!(runs > 3 && killed > 0, "seed {seed}: {runs} runs, {killed} of them killed");
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &committed(&database).await).await;
    workspace.run(0).expect(0, &["nothing to send"]);
}

/// Each writes people of its own, so that the time of a person's change never goes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_several_commit_at_once_stands_in_the_audience_once_read_by_the_time_of_its_change() {
    let own = |number: usize| number * PEOPLE_OF_ONE..(number + 1) * PEOPLE_OF_ONE;
    story("column: updated_at, overlap: 5ms", "dedupe: { keep: latest, by: updated_at }\n", own).await;
}

/// All write the same people. Who begins first may commit last, with an older time; the version of a row does not mind.
#[tokio::test(flavor = "multi_thread")]
async fn what_several_commit_at_once_stands_in_the_audience_once_read_by_the_versions_of_rows() {
    story("row_versions: true", "", |_| 0..2 * PEOPLE_OF_ONE).await;
}
