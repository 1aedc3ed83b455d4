//! Records refused for good. Their cells are personal data, so they are forgotten after a time.

use async_trait::async_trait;
use convoke_core::ids::RunId;
use convoke_core::state::{RejectRecord, Rejects};
use convoke_core::{StateError, SyncName, Timestamp};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::PostgresState;
use super::sql::storable;
use crate::columns::{CELLS, RejectColumns, reject_from, stage_name};
use crate::fault::Fault;
use crate::stored;

/// Rejects written or deleted in one transaction, which is over before anybody waits for it.
const AT_ONCE: usize = 500;

/// Completes the reading of rejects with a condition on the first two parameters.
macro_rules! select_rejects {
    ($condition:literal) => {
        concat!(
            "SELECT sync, run, plan, at, stage, key, origin, code, column_name, reason, cells FROM rejects WHERE ",
            $condition,
            " ORDER BY id LIMIT $3 OFFSET $4"
        )
    };
}

#[async_trait]
impl Rejects for PostgresState {
    async fn add_rejects(&self, rejects: &[RejectRecord]) -> Result<(), StateError> {
        for part in rejects.chunks(AT_ONCE) {
            let mut transaction = self.begin("adding rejects").await?;
            let worked = self.in_time(add_rejects(transaction.connection(), part)).await;
            transaction.end(worked).await?;
        }
        Ok(())
    }

    async fn rejects(
        &self,
        sync: &SyncName,
        run: Option<RunId>,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<RejectRecord>, StateError> {
        let action = "reading rejects";
        let statement = match run {
            Some(_) => select_rejects!("sync = $1 AND run = $2"),
            // Plan ids are ordered by time.
            None => select_rejects!(
                "sync = $1 AND plan = (SELECT max(plan) FROM rejects WHERE sync = $1) AND $2::text IS NULL"
            ),
        };
        let query = sqlx::query_as(statement).bind(sync.as_str()).bind(run.map(|run| run.to_string()));
        let query = query.bind(i64::from(limit)).bind(i64::try_from(offset).unwrap_or(i64::MAX));
        let rows: Vec<RejectColumns> = self.list(action, query).await?;
        let rejects: Result<Vec<RejectRecord>, Fault> = rows.into_iter().map(reject_from).collect();
        rejects.map_err(|fault| self.explain(action, fault))
    }

    async fn forget_rejects(&self, before: Timestamp) -> Result<(), StateError> {
        let at_once = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
        loop {
            let query = sqlx::query_as(
                "WITH forgotten AS (
                     DELETE FROM rejects WHERE id IN (SELECT id FROM rejects WHERE at < $1 LIMIT $2) RETURNING id)
                 SELECT count(*) FROM forgotten",
            );
            let forgotten: Option<(i64,)> =
                self.change("forgetting rejects", query.bind(before.0).bind(at_once)).await?;
            if forgotten.is_none_or(|(forgotten,)| forgotten < at_once) {
                return Ok(());
            }
        }
    }
}

/// Adds rejects. Those that are there already are left alone, so it may be repeated.
async fn add_rejects(connection: &mut PgConnection, rejects: &[RejectRecord]) -> Result<(), Fault> {
    let cells: Result<Vec<String>, Fault> =
        rejects.iter().map(|reject| stored::to_json(&reject.cells, CELLS)).collect();
    let mut insert = QueryBuilder::<Postgres>::new(
        "INSERT INTO rejects (sync, run, plan, at, stage, key, origin, code, column_name, reason, cells) ",
    );
    insert.push_values(rejects.iter().zip(cells?), |mut columns, (reject, cells)| {
        columns
            .push_bind(reject.sync.as_str().to_owned())
            .push_bind(reject.run.to_string())
            .push_bind(reject.plan.to_string())
            .push_bind(reject.at.0)
            .push_bind(stage_name(reject.stage))
            .push_bind(reject.key.map(|key| key.0.to_vec()))
            .push_bind(reject.origin.as_deref().map(storable))
            .push_bind(storable(&reject.code))
            .push_bind(reject.column.as_deref().map(storable))
            .push_bind(storable(&reject.reason))
            .push_bind(cells);
    });
    insert.push(" ON CONFLICT DO NOTHING");
    insert.build().execute(connection).await?;
    Ok(())
}
