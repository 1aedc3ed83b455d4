//! What changes are found by, and that none is missed.

use std::time::Duration;

use convoke_core::Origin;
use convoke_core::source::{Coverage, Source, SourcePosition};
use convoke_core::spec::{ChangeSign, Incremental, NullCursors, PostgresConnection, Relation};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::test_source::{TestSource, chain, table};

/// `updated_at` is set by whoever writes, at the start of the transaction.
const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text, updated_at timestamptz DEFAULT now(), \
                      version int)";

pub(crate) fn by_column(name: &str) -> ChangeSign {
    ChangeSign::Column { name: name.to_owned(), overlap: Duration::ZERO, nulls: NullCursors::Read }
}

pub(crate) fn incremental(connection: PostgresConnection, relation: Relation, by: ChangeSign) -> TestSource {
    TestSource::with(connection, relation, |spec| spec.incremental = Some(Incremental { by, full_every: None }))
}

async fn database() -> TestDatabase {
    let database = PostgresServer::shared().create_database("incremental").await;
    database.execute(PEOPLE).await;
    database
}

fn both(database: &TestDatabase) -> [TestSource; 2] {
    [by_column("updated_at"), ChangeSign::RowVersions].map(|by| incremental(database.connection(), table("people"), by))
}

async fn say(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

#[tokio::test]
async fn the_first_run_reads_everything_and_later_ones_what_has_changed() {
    let database = database().await;
    database.execute("INSERT INTO people SELECT i, 'first' FROM generate_series(1, 100) AS i").await;
    for source in both(&database) {
        let mut stored = None;
        let first = source.run(&mut stored).await;
        assert_eq!((first.coverage, first.sorted("id").len()), (Coverage::Snapshot, 100));
        database
            .execute("INSERT INTO people VALUES (1000, 'second'); UPDATE people SET updated_at = now() WHERE id = 7")
            .await;
        let second = source.run(&mut stored).await;
        assert_eq!(second.coverage, Coverage::Delta);
        let ids = second.sorted("id");
        assert!(ids.contains(&"1000".to_owned()) && ids.contains(&"7".to_owned()), "{ids:?}");
        database.execute("DELETE FROM people WHERE id = 1000").await;
    }
}

#[tokio::test]
async fn a_transaction_that_commits_behind_a_later_one_is_not_missed() {
    let database = database().await;
    let mut late = database.connect().await;
    for (number, source) in both(&database).iter().enumerate() {
        let (early, later) = (number * 10 + 1, number * 10 + 2);
        let mut stored = None;
        source.run(&mut stored).await;
        say(&mut late, &format!("BEGIN; INSERT INTO people VALUES ({early}, 'late')")).await;
        database.execute(&format!("INSERT INTO people VALUES ({later}, 'later')")).await;
        assert!(source.run(&mut stored).await.sorted("id").contains(&later.to_string()));
        // The newest that was read is newer than what is committed now.
        say(&mut late, "COMMIT").await;
        assert!(source.run(&mut stored).await.sorted("id").contains(&early.to_string()));
    }
}

#[tokio::test]
async fn a_transaction_that_has_not_written_yet_is_reckoned_with() {
    let database = database().await;
    let source = incremental(database.connection(), table("people"), by_column("updated_at"));
    let mut stored = None;
    let mut late = database.connect().await;
    say(&mut late, "BEGIN; SELECT 1").await;
    database.execute("INSERT INTO people VALUES (1, 'early bird')").await;
    source.run(&mut stored).await;
    say(&mut late, "INSERT INTO people VALUES (2, 'late'); COMMIT").await;
    assert!(source.run(&mut stored).await.sorted("id").contains(&"2".to_owned()), "its stamp is from its start");
}

#[tokio::test]
async fn what_a_savepoint_wrote_is_not_missed() {
    let database = database().await;
    let source = incremental(database.connection(), table("people"), ChangeSign::RowVersions);
    let mut stored = None;
    source.run(&mut stored).await;
    let mut late = database.connect().await;
    say(
        &mut late,
        "BEGIN; SAVEPOINT one; INSERT INTO people VALUES (1, 'inner'); RELEASE one; SAVEPOINT two; \
                    INSERT INTO people VALUES (2, 'inner')",
    )
    .await;
    database.execute("INSERT INTO people VALUES (3, 'outer')").await;
    assert!(!source.run(&mut stored).await.sorted("id").contains(&"1".to_owned()));
    say(&mut late, "COMMIT").await;
    let ids = source.run(&mut stored).await.sorted("id");
    assert!(["1", "2"].iter().all(|id| ids.contains(&(*id).to_owned())), "{ids:?}");
}

#[tokio::test]
async fn thousands_of_rows_of_one_moment_are_all_read() {
    let database = database().await;
    for (number, source) in both(&database).iter().enumerate() {
        let first = number * 200_000;
        let mut stored = None;
        database
            .execute(&format!("INSERT INTO people SELECT {first} + i, 'one' FROM generate_series(1, 30000) AS i"))
            .await;
        source.run(&mut stored).await;
        // Of the same moment as what was read.
        database
            .execute(&format!(
                "INSERT INTO people SELECT {first} + 50000 + i, 'two', (SELECT max(updated_at) FROM people) FROM \
                 generate_series(1, 30000) AS i"
            ))
            .await;
        let ids = source.run(&mut stored).await.sorted("id");
        let new = (1..=30_000).map(|id| (first + 50_000 + id).to_string());
        let ids: std::collections::BTreeSet<_> = ids.into_iter().collect();
        assert!(new.into_iter().all(|id| ids.contains(&id)));
    }
}

#[tokio::test]
async fn rows_without_a_value_are_read_each_time_or_refused() {
    let database = database().await;
    database.execute("INSERT INTO people VALUES (1, 'known'); INSERT INTO people VALUES (2, 'unknown', NULL)").await;
    let source = incremental(database.connection(), table("people"), by_column("updated_at"));
    let mut stored = None;
    for _ in 0..3 {
        assert!(source.run(&mut stored).await.sorted("id").contains(&"2".to_owned()));
    }
    let ChangeSign::Column { name, overlap, .. } = by_column("updated_at") else { unreachable!("a column") };
    let refusing = ChangeSign::Column { name, overlap, nulls: NullCursors::Refuse };
    let source = incremental(database.connection(), table("people"), refusing);
    for mut stored in [None, stored] {
        let error = source.try_run(&mut stored, false).await.unwrap_err();
        assert!(error.to_string().contains("without a value in `updated_at`"), "{error}");
        assert_eq!(error.origin, Origin::User);
    }
}

#[tokio::test]
async fn a_prepared_transaction_is_not_missed_however_long_it_takes() {
    let database = database().await;
    for (number, source) in both(&database).iter().enumerate() {
        let id = number + 1;
        let mut stored = None;
        database.execute(&format!("INSERT INTO people VALUES ({id}00, 'before')")).await;
        source.run(&mut stored).await;
        source.run(&mut stored).await;
        let name = format!("{}_{number}", database.connection().database);
        let mut other = database.connect().await;
        say(&mut other, &format!("BEGIN; INSERT INTO people VALUES ({id}, 'prepared'); PREPARE TRANSACTION '{name}'"))
            .await;
        for run in 0..3 {
            database.execute(&format!("INSERT INTO people VALUES ({id}1{run}, 'meanwhile')")).await;
            source.run(&mut stored).await;
        }
        database.execute(&format!("COMMIT PREPARED '{name}'")).await;
        let run = source.run(&mut stored).await;
        assert!(run.sorted("id").contains(&id.to_string()), "{:?}", run.sorted("id"));
    }
}

#[tokio::test]
async fn a_first_run_beside_a_prepared_transaction_is_followed_by_another_whole_one() {
    let database = database().await;
    let source = incremental(database.connection(), table("people"), by_column("updated_at"));
    let name = database.connection().database;
    let mut other = database.connect().await;
    say(&mut other, &format!("BEGIN; INSERT INTO people VALUES (1, 'prepared'); PREPARE TRANSACTION '{name}'")).await;
    let mut stored = None;
    source.run(&mut stored).await;
    database.execute(&format!("COMMIT PREPARED '{name}'")).await;
    let second = source.run(&mut stored).await;
    assert_eq!((second.coverage, second.sorted("id")), (Coverage::Snapshot, vec!["1".to_owned()]));
    assert!(second.notices[0].contains("does not tell from where on"), "{:?}", second.notices);
    assert_eq!(source.run(&mut stored).await.coverage, Coverage::Delta);
}

#[tokio::test]
async fn numbers_that_are_drawn_early_and_committed_late_are_not_missed() {
    let database = PostgresServer::shared().create_database("numbers").await;
    database.execute("CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)").await;
    let source = incremental(database.connection(), table("events"), by_column("id"));
    let mut stored = None;
    database.execute("INSERT INTO events (name) SELECT 'old' FROM generate_series(1, 1000)").await;
    assert_eq!(source.run(&mut stored).await.sorted("id").len(), 1000);
    let mut late = database.connect().await;
    say(&mut late, "BEGIN; INSERT INTO events (name) VALUES ('late')").await;
    for _ in 0..3 {
        database.execute("INSERT INTO events (name) VALUES ('meanwhile')").await;
        assert!(source.run(&mut stored).await.sorted("name").contains(&"meanwhile".to_owned()));
    }
    say(&mut late, "COMMIT").await;
    let run = source.run(&mut stored).await;
    assert!(run.sorted("id").contains(&"1001".to_owned()));
    source.run(&mut stored).await;
    let run = source.run(&mut stored).await;
    assert!(run.coverage == Coverage::Delta && run.sorted("id").len() < 10, "{:?}", run.sorted("id"));
}

#[tokio::test]
async fn days_and_times_without_a_zone_find_what_is_written_in_any_zone() {
    let database = PostgresServer::shared().create_database("zones").await;
    database.execute("CREATE TABLE local (id int, at timestamp DEFAULT now(), day date DEFAULT now())").await;
    for column in ["at", "day"] {
        let source = incremental(database.connection(), table("local"), by_column(column));
        let mut stored = None;
        for (id, zone) in ["Pacific/Kiritimati", "Etc/GMT+12", "UTC", "America/Los_Angeles"].iter().enumerate() {
            let id = id.to_string();
            database.execute(&format!("SET TimeZone = '{zone}'; INSERT INTO local VALUES ({id})")).await;
            assert!(source.run(&mut stored).await.sorted("id").contains(&id), "{column} {zone}");
        }
        database.execute("TRUNCATE local").await;
    }
}

#[tokio::test]
async fn a_stamp_in_the_far_future_does_not_hide_what_comes_after_it() {
    let database = database().await;
    let source = TestSource::with(database.connection(), table("people"), |spec| {
        spec.incremental = Some(Incremental { by: by_column("updated_at"), full_every: None });
        spec.out_of_range = convoke_core::spec::OutOfRange::Text;
    });
    database.execute("INSERT INTO people VALUES (1, 'x', '2999-01-01'), (2, 'y', 'infinity')").await;
    let mut stored = None;
    source.run(&mut stored).await;
    database.execute("INSERT INTO people VALUES (3, 'today')").await;
    assert!(source.run(&mut stored).await.sorted("id").contains(&"3".to_owned()));
}

#[tokio::test]
async fn everything_is_read_again_when_it_is_due_whoever_asks() {
    let database = database().await;
    database.execute("INSERT INTO people VALUES (1, 'one'), (2, 'two')").await;
    let source = |full_every| {
        TestSource::with(database.connection(), table("people"), |spec| {
            spec.incremental = Some(Incremental { by: by_column("updated_at"), full_every });
        })
    };
    let mut stored = None;
    source(None).run(&mut stored).await;
    database.execute("DELETE FROM people WHERE id = 2").await;
    let run = source(Some(Duration::from_secs(3600))).run(&mut stored).await;
    assert_eq!(run.coverage, Coverage::Delta, "an hour has not passed");
    // Another process, with nothing but the position.
    let run = source(Some(Duration::from_micros(1))).run(&mut stored).await;
    assert_eq!((run.coverage, run.sorted("id")), (Coverage::Snapshot, vec!["1".to_owned()]));
    assert!(run.notices[0].contains("`full_every`"), "{:?}", run.notices);
    let run = source(None).try_run(&mut stored, true).await.unwrap();
    assert_eq!(run.coverage, Coverage::Snapshot, "it was asked for");
}

#[tokio::test]
async fn other_columns_or_another_table_in_its_place_are_read_whole() {
    let database = database().await;
    database.execute("INSERT INTO people VALUES (1, 'one')").await;
    for source in both(&database) {
        let mut stored = None;
        source.run(&mut stored).await;
        database.execute("ALTER TABLE people ADD COLUMN city text DEFAULT 'Bonn'").await;
        assert_eq!(source.run(&mut stored).await.coverage, Coverage::Snapshot);
        database
            .execute(
                "CREATE TABLE fresh (LIKE people INCLUDING ALL); INSERT INTO fresh VALUES (9, 'old', now() - interval '1 \
                 year')",
            )
            .await;
        source.run(&mut stored).await;
        source.run(&mut stored).await;
        database.execute("DROP TABLE people; ALTER TABLE fresh RENAME TO people").await;
        assert_eq!(source.run(&mut stored).await.sorted("id"), ["9"], "written long before it came into sight");
        database.execute(&format!("DROP TABLE people; {PEOPLE}; INSERT INTO people VALUES (1, 'one')")).await;
    }
}

#[tokio::test]
async fn a_partition_that_is_attached_is_read_whole() {
    let database = PostgresServer::shared().create_database("attached").await;
    database
        .execute(
            "CREATE TABLE parts (id int, at timestamptz DEFAULT now()) PARTITION BY RANGE (id); CREATE TABLE first \
             PARTITION OF parts FOR VALUES FROM (0) TO (100); INSERT INTO parts VALUES (1); CREATE TABLE second (LIKE \
             parts); INSERT INTO second VALUES (101, now() - interval '1 year')",
        )
        .await;
    for by in [by_column("at"), ChangeSign::RowVersions] {
        let is_told_by_all_databases = by == ChangeSign::RowVersions;
        let source = incremental(database.connection(), table("parts"), by);
        let mut stored = None;
        source.run(&mut stored).await;
        database.execute("INSERT INTO parts VALUES (2)").await;
        source.run(&mut stored).await;
        database.execute("ALTER TABLE parts ATTACH PARTITION second FOR VALUES FROM (100) TO (200)").await;
        let run = source.run(&mut stored).await;
        assert_eq!(run.coverage, Coverage::Delta);
        assert!(run.sorted("id").contains(&"101".to_owned()), "{:?}", run.sorted("id"));
        let again = source.run(&mut stored).await.sorted("id");
        assert!(is_told_by_all_databases || !again.contains(&"101".to_owned()), "once is enough: {again:?}");
        database.execute("ALTER TABLE parts DETACH PARTITION second").await;
    }
}

#[tokio::test]
async fn what_has_no_versions_or_no_order_is_refused_with_what_has() {
    let database = database().await;
    database.execute("CREATE VIEW seen AS SELECT * FROM people").await;
    let error = incremental(database.connection(), table("seen"), ChangeSign::RowVersions).error().await;
    assert!(error.to_string().contains("its rows have no versions"), "{}", chain(&error));
    for (column, expected) in [("name", "neither a timestamp, nor a date"), ("updated", "is not there")] {
        let error = incremental(database.connection(), table("people"), by_column(column)).error().await;
        assert!(error.to_string().contains(expected), "{}", chain(&error));
    }
    let view = incremental(database.connection(), table("seen"), by_column("updated_at"));
    let query = Relation::Query("SELECT id, updated_at AS \"When\" FROM people -- all".to_owned());
    let query = incremental(database.connection(), query, by_column("When"));
    for source in [view, query] {
        let mut stored = None;
        source.run(&mut stored).await;
        database.execute("INSERT INTO people (id) SELECT coalesce(max(id), 0) + 1 FROM people").await;
        let run = source.run(&mut stored).await;
        assert!(run.coverage == Coverage::Delta && !run.sorted("id").is_empty());
    }
}

#[tokio::test]
async fn who_does_not_see_the_transactions_of_others_is_told_the_grant() {
    let database = database().await;
    let name = database.connection().database;
    let user = format!("blind_{}", &name[name.len() - 16..]);
    database.execute(&format!("CREATE ROLE {user} LOGIN PASSWORD 'secret'; GRANT SELECT ON people TO {user}")).await;
    let connection =
        PostgresConnection { user: user.clone(), password: Some("secret".into()), ..database.connection() };
    let source = incremental(connection.clone(), table("people"), by_column("updated_at"));
    let error = source.error().await;
    assert!(error.to_string().contains(&format!("GRANT pg_read_all_stats TO \"{user}\"")), "{}", chain(&error));
    let versions = incremental(connection, table("people"), ChangeSign::RowVersions);
    let mut stored = None;
    versions.run(&mut stored).await;
    assert_eq!(versions.run(&mut stored).await.coverage, Coverage::Delta, "versions need no right");
    database.execute(&format!("GRANT pg_read_all_stats TO {user}")).await;
    source.run(&mut None).await;
}

#[tokio::test]
async fn a_position_of_another_database_is_not_believed() {
    let (one, two) = (database().await, database().await);
    two.execute("INSERT INTO people VALUES (1, 'old', '2001-01-01')").await;
    for by in [by_column("updated_at"), ChangeSign::RowVersions] {
        let mut stored = None;
        incremental(one.connection(), table("people"), by.clone()).run(&mut stored).await;
        let run = incremental(two.connection(), table("people"), by).run(&mut stored).await;
        assert_eq!((run.coverage, run.sorted("id")), (Coverage::Snapshot, vec!["1".to_owned()]));
        assert!(run.notices[0].contains("another one"), "{:?}", run.notices);
    }
}

#[tokio::test]
async fn a_position_moves_only_with_what_was_read() {
    let database = database().await;
    let source = incremental(database.connection(), table("people"), by_column("updated_at"));
    let mut stored = None;
    source.run(&mut stored).await;
    source.source.discover(convoke_core::source::Discover { stored: stored.as_ref(), reread: false }).await.unwrap();
    let unread: Option<SourcePosition> = Some(source.source.propose(stored.as_ref(), &[]));
    let next = |position: &Option<SourcePosition>| position.as_ref().map(|position| position.0["next"].clone());
    assert_eq!(next(&unread), next(&stored));
}
