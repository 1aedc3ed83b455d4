//! What backfills ask for.

use std::time::Duration;

use convoke_core::backfill::cut_span;
use convoke_core::source::{Coverage, Selection, Source, TimeSpan};
use convoke_core::spec::{OutOfRange, Relation};
use convoke_core::{Origin, SourceError, Timestamp};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};

use crate::test_source::{Sourced, TestSource, table};

/// 2026-01-05T00:00:00Z.
const MONDAY: Timestamp = Timestamp(1_767_571_200_000);
const HOUR: i64 = 3_600_000;

/// Rows an hour apart around Monday's midnight.
async fn database() -> TestDatabase {
    let database = PostgresServer::shared().create_database("selecting").await;
    database
        .execute(
            "CREATE TABLE scans (id text, \"Moment\" timestamptz, local timestamp, day date, plain text); INSERT INTO \
             scans SELECT i::text, t, t AT TIME ZONE 'UTC', (t AT TIME ZONE 'UTC')::date, 'x' FROM generate_series(-3, \
             3) AS i, LATERAL (SELECT timestamptz '2026-01-05 00:00+00' + i * interval '1 hour') AS moments (t); \
             INSERT INTO scans (id) VALUES ('never')",
        )
        .await;
    database
}

fn source(database: &TestDatabase, time_column: &str) -> [TestSource; 2] {
    [table("scans"), Relation::Query("SELECT * FROM scans ORDER BY id -- all".to_owned())]
        .map(|relation| TestSource::timed(database.connection(), relation, Some(time_column)))
}

async fn ids(source: &TestSource, from: Option<i64>, to: Option<i64>) -> Result<Vec<String>, SourceError> {
    let time = |hours: i64| Timestamp(MONDAY.0 + hours * HOUR);
    let selection = Selection::Between { from: from.map(time), to: to.map(time) };
    let selected = source.source.select(&selection).await?;
    assert_eq!((selected.coverage, selected.unchanged), (Coverage::Delta, false));
    let contents = source.try_read(&selected.splits[0]).await?;
    if contents.records.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let mut ids: Vec<String> = contents.texts("id").into_iter().flatten().collect();
    ids.sort_by_key(|id| id.parse::<i64>().unwrap_or(i64::MAX));
    Ok(ids)
}

#[tokio::test]
async fn rows_from_a_time_on_and_before_another_are_selected() {
    let database = database().await;
    for time_column in ["Moment", "local"] {
        for source in source(&database, time_column) {
            assert_eq!(ids(&source, Some(-1), Some(2)).await.unwrap(), ["-1", "0", "1"], "{time_column}");
            assert_eq!(ids(&source, Some(2), None).await.unwrap(), ["2", "3"], "{time_column}");
            assert_eq!(ids(&source, None, Some(-2)).await.unwrap(), ["-3"], "{time_column}");
            assert!(ids(&source, Some(20), None).await.unwrap().is_empty(), "{time_column}");
        }
    }
    for source in source(&database, "day") {
        assert_eq!(ids(&source, Some(0), None).await.unwrap(), ["0", "1", "2", "3"], "a day is its midnight");
        assert!(ids(&source, Some(1), None).await.unwrap().is_empty());
        assert_eq!(ids(&source, None, Some(0)).await.unwrap(), ["-3", "-2", "-1"]);
    }
}

#[tokio::test]
async fn a_time_column_that_cannot_be_compared_is_refused() {
    let database = database().await;
    for (time_column, expected) in
        [("plain", "neither a timestamp nor a date"), ("moment", "there is no column `moment`")]
    {
        for source in source(&database, time_column) {
            let error = ids(&source, Some(0), None).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.origin, Origin::User);
        }
    }
}

#[tokio::test]
async fn selections_that_make_no_sense_are_refused_with_what_does() {
    let database = database().await;
    let untimed = database.table("scans");
    let error = ids(&untimed, Some(0), None).await.unwrap_err();
    assert!(error.to_string().contains("set `time_column`"), "{error}");
    let error = untimed.source.select(&Selection::Objects("*.parquet".to_owned())).await.unwrap_err();
    assert!(error.to_string().contains("--all"), "{error}");
    let [timed, _] = source(&database, "local");
    let error = ids(&timed, None, None).await.unwrap_err();
    assert!(error.to_string().contains("--from"), "{error}");
    let error = ids(&timed, Some(i64::MAX / HOUR / 2), None).await.unwrap_err();
    assert!(error.to_string().contains("outside the years 1 to 9999"), "{error}");
}

#[tokio::test]
async fn a_selection_of_all_is_the_whole_relation() {
    let database = database().await;
    for source in source(&database, "local") {
        let selected = source.source.select(&Selection::All).await.unwrap();
        assert_eq!(selected.coverage, Coverage::Delta);
        assert_eq!(source.try_read(&selected.splits[0]).await.unwrap().records.num_rows(), 8);
    }
}

#[tokio::test]
async fn the_times_of_a_selection_and_the_rows_without_one_are_told() {
    let database = database().await;
    database
        .execute("INSERT INTO scans VALUES ('old', '-infinity', '0001-01-01', '1900-01-01'), ('to come', 'infinity', '2999-01-01', 'infinity')")
        .await;
    let at = |hours: i64| Timestamp(MONDAY.0 + hours * HOUR);
    for (time_column, first, last) in [("Moment", -3, 3), ("local", -3, 3), ("day", -24, 0)] {
        for source in source(&database, time_column) {
            let span = async |selection| source.source.time_span(&selection).await.unwrap();
            let until = |hours| Selection::Between { from: None, to: Some(at(hours)) };
            let expected = TimeSpan { first: at(first), last: at(last) };
            assert_eq!(span(Selection::All).await, Some(expected), "{time_column}");
            assert_eq!(span(until(1_000)).await, Some(expected), "{time_column}");
            let last = if time_column == "day" { -24 } else { -1 };
            assert_eq!(span(until(0)).await, Some(TimeSpan { first: at(first), last: at(last) }), "{time_column}");
            assert_eq!(span(until(-1_000)).await, None, "{time_column}");
            let untimed = source.source.select(&Selection::Untimed).await.unwrap();
            let untimed = source.try_read(&untimed.splits[0]).await.unwrap();
            assert_eq!(untimed.texts("id"), [Some("never".to_owned())], "{time_column}");
        }
    }
    let untimed = database.table("scans");
    assert_eq!(untimed.source.time_span(&Selection::All).await.unwrap(), None);
}

#[tokio::test]
async fn windows_by_the_times_of_a_table_hold_each_row_once() {
    let database = database().await;
    database.execute("INSERT INTO scans VALUES ('old', '-infinity'), ('to come', 'infinity')").await;
    let source = TestSource::with(database.connection(), table("scans"), |spec| {
        spec.time_column = Some("Moment".to_owned());
        spec.out_of_range = OutOfRange::Text;
    });
    let span = source.source.time_span(&Selection::All).await.unwrap().unwrap();
    let windows = cut_span(&Selection::All, span, Some(Duration::from_millis(HOUR.unsigned_abs() * 2)));
    assert_eq!(windows.len(), 4);
    let mut ids = Vec::new();
    for window in windows {
        let selected = source.source.select(&window).await.unwrap();
        ids.extend(source.try_read(&selected.splits[0]).await.unwrap().texts("id").into_iter().flatten());
    }
    ids.sort();
    assert_eq!(ids, ["-1", "-2", "-3", "0", "1", "2", "3", "never", "old", "to come"]);
}
