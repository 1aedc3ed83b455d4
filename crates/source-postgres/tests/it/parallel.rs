//! Ranges of a table, all in one snapshot.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use convoke_core::error::SourceErrorKind;
use convoke_core::source::{Coverage, Selection, Source, SourcePosition, Split};
use convoke_core::spec::{ChangeSign, Incremental, PostgresSpec};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use futures::future::join_all;

use crate::incremental::by_column;
use crate::test_source::{TestSource, chain, drain, table};

/// Enough blocks for several ranges.
const ROWS: usize = 100_000;

async fn database() -> TestDatabase {
    let database = PostgresServer::shared().create_database("parallel").await;
    database
        .execute(&format!(
            "CREATE TABLE wide (id int, padding text); INSERT INTO wide SELECT i, repeat('x', 200) FROM \
             generate_series(1, {ROWS}) AS i"
        ))
        .await;
    database
}

fn parallel(database: &TestDatabase, change: impl FnOnce(&mut PostgresSpec)) -> TestSource {
    TestSource::with(database.connection(), table("wide"), |spec| {
        spec.parallel = NonZeroUsize::new(4).unwrap();
        change(spec);
    })
}

async fn splits(source: &TestSource) -> Vec<Split> {
    let splits = source.try_discover().await.unwrap().splits;
    assert!(splits.len() > 2, "{splits:?}");
    splits
}

/// Reads splits at the same time, and gives the ids that they hold.
async fn ids(source: &TestSource, splits: &[Split]) -> Vec<String> {
    let read = join_all(splits.iter().map(|split| source.try_read(split))).await;
    read.into_iter().flat_map(|contents| contents.unwrap().texts("id")).flatten().collect()
}

fn all() -> BTreeSet<String> {
    (1..=ROWS).map(|id| id.to_string()).collect()
}

#[tokio::test]
async fn ranges_are_the_whole_table_as_it_was_at_one_moment() {
    let database = database().await;
    let source = parallel(&database, |_| ());
    let splits = splits(&source).await;
    assert_eq!(splits[2].name, format!("wide[3/{}]", splits.len()));
    assert_eq!(source.source.splits_at_once().get(), 4);
    let mut read = ids(&source, &splits[..2]).await;
    // Rows move to other blocks, go and come while half of the ranges are still to be read.
    database.execute("UPDATE wide SET padding = 'moved'; DELETE FROM wide WHERE id < 5000").await;
    database.execute("INSERT INTO wide SELECT -i, 'new' FROM generate_series(1, 5000) AS i").await;
    read.extend(ids(&source, &splits[2..]).await);
    assert_eq!(read.len(), ROWS, "no row twice");
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), all());
    source.source.still_holds(&splits).await.unwrap();
}

#[tokio::test]
async fn ranges_of_partitions_are_the_whole_table() {
    let database = PostgresServer::shared().create_database("parallel_parts").await;
    database
        .execute(&format!(
            "CREATE TABLE wide (id int, padding text) PARTITION BY HASH (id); CREATE TABLE one PARTITION OF wide FOR \
             VALUES WITH (MODULUS 3, REMAINDER 0); CREATE TABLE two PARTITION OF wide FOR VALUES WITH (MODULUS 3, \
             REMAINDER 1); CREATE TABLE three PARTITION OF wide FOR VALUES WITH (MODULUS 3, REMAINDER 2); INSERT INTO \
             wide SELECT i, repeat('x', 400) FROM generate_series(1, {ROWS}) AS i"
        ))
        .await;
    let source = parallel(&database, |_| ());
    let read = ids(&source, &splits(&source).await).await;
    assert_eq!(read.len(), ROWS);
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), all());
}

#[tokio::test]
async fn what_has_no_ranges_is_read_by_one_session() {
    let database = database().await;
    database.execute("CREATE VIEW seen AS SELECT * FROM wide; CREATE TABLE small AS SELECT * FROM wide LIMIT 10").await;
    let query = convoke_core::spec::Relation::Query("SELECT * FROM wide".to_owned());
    for relation in [table("seen"), table("small"), query] {
        let source =
            TestSource::with(database.connection(), relation, |spec| spec.parallel = NonZeroUsize::new(4).unwrap());
        assert_eq!(source.try_discover().await.unwrap().splits.len(), 1);
    }
}

#[tokio::test]
async fn a_range_whose_connection_is_lost_is_read_again_in_the_same_snapshot() {
    let database = database().await;
    let source = parallel(&database, |_| ());
    let splits = splits(&source).await;
    let mut read = ids(&source, &splits[1..]).await;
    let mut other = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE wide").execute(&mut other).await.unwrap();
    let waits = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND \
                 wait_event_type = 'Lock'";
    let cut = async { while database.value(waits).await == "0" {} };
    let (error, ()) = tokio::join!(source.try_read(&splits[0]), cut);
    let error = error.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Interrupted, "{}", chain(&error));
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    database.execute("DELETE FROM wide").await;
    read.extend(ids(&source, &splits[..1]).await);
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), all());
    source.source.still_holds(&splits).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_was_lost_between_its_ranges_is_a_change() {
    let database = database().await;
    let source = parallel(&database, |_| ());
    let listed = splits(&source).await;
    ids(&source, &listed[..1]).await;
    assert_eq!(database.terminate_backends().await, 1, "the session that holds the snapshot");
    let error = source.try_read(&listed[1]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "{}", chain(&error));
    let error = source.source.still_holds(&listed).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "what was not read is no snapshot");
    // From a new discovery on there is another one.
    let again = splits(&source).await;
    assert_eq!(ids(&source, &again).await.len(), ROWS);
    source.source.still_holds(&again).await.unwrap();
}

#[tokio::test]
async fn no_snapshot_is_held_once_reading_is_over() {
    let database = database().await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'convoke' AND datname = \
                    current_database()";
    let source = parallel(&database, |_| ());
    let listed = splits(&source).await;
    assert_eq!(database.value(sessions).await, "0", "none between discovery and reading");
    ids(&source, &listed).await;
    while database.value(sessions).await != "0" {}
    let listed = splits(&source).await;
    ids(&source, &listed[..1]).await;
    assert_eq!(database.value(sessions).await, "1");
    source.source.finished().await;
    while database.value(sessions).await != "0" {}
}

#[tokio::test]
async fn a_snapshot_is_not_held_longer_than_it_may_be() {
    let database = database().await;
    let held = Duration::from_secs(3);
    let source = parallel(&database, |spec| spec.max_snapshot = held);
    let listed = splits(&source).await;
    // Nobody takes the records.
    let stream = source.open(&listed[0]).await.unwrap();
    let snapshots = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT \
                     NULL AND pid <> pg_backend_pid()";
    assert_ne!(database.value(snapshots).await, "0");
    while database.value(snapshots).await != "0" {}
    drop(stream);
    let error = source.try_read(&listed[1]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "{}", chain(&error));
    let alone = TestSource::with(database.connection(), table("wide"), |spec| spec.max_snapshot = held);
    let stream = alone.stream().await;
    while database.value(snapshots).await != "0" {}
    let error = drain(stream, Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("`max_snapshot` allows (3s)"), "{}", chain(&error));
}

#[tokio::test]
async fn changes_are_found_after_a_whole_read_in_ranges() {
    let database = database().await;
    database.execute("ALTER TABLE wide ADD COLUMN updated_at timestamptz DEFAULT now()").await;
    for by in [by_column("updated_at"), ChangeSign::RowVersions] {
        let source = parallel(&database, |spec| spec.incremental = Some(Incremental { by, full_every: None }));
        let mut stored: Option<SourcePosition> = None;
        assert_eq!(source.run(&mut stored).await.sorted("id").len(), ROWS);
        database.execute("INSERT INTO wide VALUES (0, 'later')").await;
        let run = source.run(&mut stored).await;
        assert_eq!(run.coverage, Coverage::Delta);
        assert!(run.sorted("id").contains(&"0".to_owned()));
        database.execute("DELETE FROM wide WHERE id = 0").await;
    }
    let source = parallel(&database, |_| ());
    let selected = source.source.select(&Selection::All).await.unwrap();
    assert_eq!(ids(&source, &selected.splits).await.len(), ROWS);
}
