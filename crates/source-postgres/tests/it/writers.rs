//! Random writers beside a source that reads what has changed: PostgreSQL itself tells what should have been read.

use std::collections::BTreeMap;
use std::time::Duration;

use convoke_core::source::{Coverage, SourcePosition};
use convoke_core::spec::{ChangeSign, Incremental, NullCursors};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::test_source::{Run, TestSource, table, texts_of};

const WRITERS: usize = 5;
const STEPS: usize = 200;
const IDS: u32 = 40;
const SEED_VARIABLE_HINT: &str = "the seed of this story";

/// Values by id: a row that is deleted at the source says so.
type Rows = BTreeMap<String, (Option<String>, Option<String>)>;

/// One who writes, in transactions that stay open for many steps of the others.
struct Writer {
    connection: PgConnection,
    is_open: bool,
    /// Ids that others hold may not be waited for.
    ids: std::ops::Range<u32>,
    prepared: Option<String>,
}

impl Writer {
    async fn say(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("`{sql}`: {error}"));
    }

    async fn step(&mut self, random: &mut StdRng, name: &str) {
        if let Some(prepared) = self.prepared.take_if(|_| random.random_ratio(1, 3)) {
            let end = if random.random_ratio(2, 3) { "COMMIT" } else { "ROLLBACK" };
            return self.say(&format!("{end} PREPARED '{prepared}'")).await;
        }
        if self.prepared.is_some() {
            return;
        }
        if !self.is_open {
            self.is_open = true;
            return self.say("BEGIN").await;
        }
        let id = random.random_range(self.ids.clone());
        let value = random.random::<u32>();
        match random.random_range(0..12) {
            0 | 1 => self.end("COMMIT").await,
            2 => self.end("ROLLBACK").await,
            3 => {
                self.say(&format!("PREPARE TRANSACTION '{name}'")).await;
                (self.is_open, self.prepared) = (false, Some(name.to_owned()));
            }
            4 => self.say("SAVEPOINT inner_one").await,
            5 => self.say(&format!("UPDATE rows SET gone = 'yes', updated_at = now() WHERE id = {id}")).await,
            6 => {
                self.say(&format!("UPDATE rows SET gone = NULL, updated_at = clock_timestamp() WHERE id = {id}")).await
            }
            _ => {
                self.say(&format!(
                    "INSERT INTO rows VALUES ({id}, '{value}', NULL, now()) ON CONFLICT (id) DO UPDATE SET value = \
                     EXCLUDED.value, updated_at = now()"
                ))
                .await;
            }
        }
    }

    async fn end(&mut self, word: &str) {
        self.say(word).await;
        self.is_open = false;
    }
}

fn take(rows: &mut Rows, run: &Run) {
    if run.coverage == Coverage::Snapshot {
        rows.clear();
    }
    for batch in &run.batches {
        let (values, gone) = (texts_of(batch, "value"), texts_of(batch, "gone"));
        let cells = values.into_iter().zip(gone);
        rows.extend(texts_of(batch, "id").into_iter().flatten().zip(cells));
    }
}

async fn truth(database: &TestDatabase) -> Rows {
    let rows = database.rows("SELECT id, value, gone FROM rows").await;
    rows.into_iter().map(|row| (row[0].clone().unwrap(), (row[1].clone(), row[2].clone()))).collect()
}

/// What was committed when this returns, at the latest.
async fn story(seed: u64, by: ChangeSign) {
    let mut random = StdRng::seed_from_u64(seed);
    let database = PostgresServer::shared().create_database("writers").await;
    database
        .execute("CREATE TABLE rows (id int PRIMARY KEY, value text, gone text, updated_at timestamptz DEFAULT now())")
        .await;
    let mut writers = Vec::new();
    for number in 0..WRITERS as u32 {
        let connection = database.connect().await;
        writers.push(Writer { connection, is_open: false, ids: number * IDS..(number + 1) * IDS, prepared: None });
    }
    let source = TestSource::with(database.connection(), table("rows"), |spec| {
        spec.incremental = Some(Incremental { by, full_every: None });
    });
    let (mut stored, mut rows, mut deltas): (Option<SourcePosition>, _, _) = (None, Rows::new(), 0);
    for step in 0..STEPS {
        let writer = random.random_range(0..WRITERS);
        let name = format!("{}_{step}", database.connection().database);
        writers[writer].step(&mut random, &name).await;
        if random.random_ratio(1, 8) {
            let run = source.run(&mut stored).await;
            deltas += u32::from(run.coverage == Coverage::Delta);
            take(&mut rows, &run);
            // Whatever is committed was read; nobody has written meanwhile.
            assert_eq!(rows, truth(&database).await, "{SEED_VARIABLE_HINT}: {seed}, step {step}");
        }
    }
    assert!(deltas > 3, "{SEED_VARIABLE_HINT}: {seed}: it never read changes");
    for writer in &mut writers {
        if writer.is_open {
            writer.end("COMMIT").await;
        }
        if let Some(prepared) = writer.prepared.take() {
            writer.say(&format!("COMMIT PREPARED '{prepared}'")).await;
        }
    }
    take(&mut rows, &source.run(&mut stored).await);
    assert_eq!(rows, truth(&database).await, "{SEED_VARIABLE_HINT}: {seed}, at the end");
}

fn by_time() -> ChangeSign {
    ChangeSign::Column { name: "updated_at".to_owned(), overlap: Duration::from_millis(5), nulls: NullCursors::Read }
}

#[tokio::test]
async fn every_committed_row_arrives_by_the_time_of_its_change_whoever_writes() {
    for _ in 0..2 {
        let seed = rand::random();
        println!("seed {seed}");
        story(seed, by_time()).await;
    }
}

#[tokio::test]
async fn every_committed_row_arrives_by_its_version_whoever_writes() {
    for _ in 0..2 {
        let seed = rand::random();
        println!("seed {seed}");
        story(seed, ChangeSign::RowVersions).await;
    }
}

/// Writers that really write at the same time as the source reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_while_all_write_and_read_at_once() {
    for by in [by_time(), ChangeSign::RowVersions] {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let database = PostgresServer::shared().create_database("at_once").await;
        database.execute("CREATE TABLE rows (id int PRIMARY KEY, value text, gone text, updated_at timestamptz)").await;
        let writing: Vec<_> =
            (0..3_u64).map(|number| tokio::spawn(write_away(database.clone(), number, seed))).collect();
        let source = TestSource::with(database.connection(), table("rows"), |spec| {
            spec.incremental = Some(Incremental { by, full_every: None });
        });
        let (mut stored, mut rows) = (None, Rows::new());
        while !writing.iter().all(tokio::task::JoinHandle::is_finished) {
            take(&mut rows, &source.run(&mut stored).await);
        }
        for writer in writing {
            writer.await.unwrap();
        }
        take(&mut rows, &source.run(&mut stored).await);
        assert_eq!(rows, truth(&database).await, "{SEED_VARIABLE_HINT}: {seed}");
    }
}

async fn write_away(database: TestDatabase, number: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
    let mut connection = database.connect().await;
    for _ in 0..150 {
        let mut transaction = String::from("BEGIN;");
        for _ in 0..random.random_range(1..4) {
            let (id, value) = (number * 100 + random.random_range(0..50), random.random::<u32>());
            let pause = random.random_range(0..4);
            transaction.push_str(&format!(
                "SELECT pg_sleep(0.00{pause}); INSERT INTO rows VALUES ({id}, '{value}', NULL, now()) ON CONFLICT (id) DO \
                 UPDATE SET value = EXCLUDED.value, updated_at = now();"
            ));
        }
        transaction.push_str(if random.random_ratio(5, 6) { "COMMIT" } else { "ROLLBACK" });
        sqlx::raw_sql(AssertSqlSafe(transaction)).execute(&mut connection).await.unwrap();
    }
}
