//! Finding entries takes an index, however long the journal is.

use sqlx::AssertSqlSafe;

use super::*;
use crate::OpenMode;

async fn query_plan(state: &SqliteState, sql: &'static str) -> Vec<String> {
    let explained = format!("EXPLAIN QUERY PLAN {sql}");
    state
        .read("explaining", |connection| {
            Box::pin(async move {
                let steps: Vec<(i64, i64, i64, String)> =
                    sqlx::query_as(AssertSqlSafe(explained)).fetch_all(connection).await?;
                Ok(steps.into_iter().map(|(_, _, _, detail)| detail).collect())
            })
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn reading_entries_costs_as_much_as_there_are_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let state = SqliteState::open(&folder.path().join("convoke.db"), OpenMode::ReadWrite).await.unwrap();
    let cases = [
        (OPEN_ENTRIES, "USING INDEX entries_open"),
        (UNFOLDED_ENTRIES, "USING INDEX entries_unfolded"),
        (ENTRIES_OF_PLAN, "USING INDEX entries_by_plan"),
    ];
    for (sql, index) in cases {
        let steps = query_plan(&state, sql).await;
        assert!(steps.iter().any(|step| step.contains(index)), "{steps:?}");
        assert!(steps.iter().all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE")), "{steps:?}");
    }
}
