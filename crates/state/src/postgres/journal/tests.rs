//! Finding entries takes an index, however long the journal is.

use convoke_testkit::postgres::PostgresServer;
use sqlx::{Connection, Row};

use super::*;
use crate::OpenMode;

#[tokio::test]
async fn reading_entries_costs_as_much_as_there_are_of_them() {
    let database = PostgresServer::shared().create_database("entries").await;
    PostgresState::open(&database.connection(), OpenMode::ReadWrite).await.unwrap();
    let mut connection = database.connect().await;
    // A table that is empty would be read from end to end.
    sqlx::raw_sql("SET search_path = convoke; SET enable_seqscan = off; SET enable_sort = off")
        .execute(&mut connection)
        .await
        .unwrap();
    let cases = [
        (OPEN_ENTRIES, "('zoominfo'::text, 'a'::text)", "entries_open"),
        (UNFOLDED_ENTRIES, "('zoominfo'::text, 'a'::text, 5::bigint, 32::bigint)", "entries_unfolded"),
        (ENTRIES_OF_PLAN, "('plan'::text, 5::bigint, 32::bigint)", "entries_by_plan"),
    ];
    for (number, (sql, arguments, index)) in cases.into_iter().enumerate() {
        let explained = format!("PREPARE asked_{number} AS {sql}; EXPLAIN EXECUTE asked_{number} {arguments}");
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(explained)).fetch_all(&mut connection).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.try_get_unchecked(0).unwrap()).collect();
        assert!(steps.iter().any(|step| step.contains(&format!("Index Scan using {index} "))), "{steps:?}");
        assert!(steps.iter().all(|step| !step.contains("Seq Scan") && !step.contains("Sort")), "{steps:?}");
    }
    connection.close().await.unwrap();
}
