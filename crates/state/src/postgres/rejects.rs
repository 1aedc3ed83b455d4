//! Refused records. Their cells are personal data, so they are forgotten after a time.

use async_trait::async_trait;
use convoke_core::ids::{PlanId, RunId};
use convoke_core::reject::{KeptRejects, NotedReject, OpenReject, RejectId};
use convoke_core::state::{Lease, RejectRecord, Rejects};
use convoke_core::{StateError, SyncName, Timestamp};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::PostgresState;
use super::plans::SUPERSEDE;
use super::sql::storable;
use crate::fault::Fault;
use crate::rejects::{
    CELLS, OpenColumns, RejectColumns, TAKE_PLACES, after, open_from, reject_from, stage_name, subject_of,
};
use crate::stored;

/// Rejects written or deleted in one transaction, which is over before anybody waits for it.
const AT_ONCE: usize = 500;

/// Completes the reading of rejects with a condition on the third parameter.
macro_rules! select_rejects {
    ($condition:literal) => {
        concat!(
            "SELECT id, sync, run, plan, at, stage, key, content, origin, code, column_name, reason, cells, attempts, first_at, state
             FROM rejects WHERE sync = $1 AND id > $2 AND ",
            $condition,
            " ORDER BY id LIMIT $4"
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
        last: Option<RejectId>,
        limit: u32,
    ) -> Result<Vec<NotedReject>, StateError> {
        let action = "reading rejects";
        let statement = match run {
            Some(_) => select_rejects!("run = $3"),
            None => select_rejects!("state = 'open' AND $3::text IS NULL"),
        };
        let query = sqlx::query_as(statement).bind(sync.as_str()).bind(after(last));
        let query = query.bind(run.map(|run| run.to_string())).bind(i64::from(limit));
        let rows: Vec<RejectColumns> = self.list(action, query).await?;
        let rejects: Result<Vec<NotedReject>, Fault> = rows.into_iter().map(reject_from).collect();
        rejects.map_err(|fault| self.explain(action, fault))
    }

    async fn open_rejects(
        &self,
        sync: &SyncName,
        last: Option<RejectId>,
        limit: u32,
    ) -> Result<Vec<OpenReject>, StateError> {
        let action = "reading open rejects";
        let query = sqlx::query_as(
            "SELECT id, key, content, run, first_at FROM rejects
             WHERE sync = $1 AND id > $2 AND state = 'open' AND key IS NOT NULL ORDER BY id LIMIT $3",
        );
        let query = query.bind(sync.as_str()).bind(after(last)).bind(i64::from(limit));
        let rows: Vec<OpenColumns> = self.list(action, query).await?;
        let rejects: Result<Vec<OpenReject>, Fault> = rows.into_iter().map(open_from).collect();
        rejects.map_err(|fault| self.explain(action, fault))
    }

    async fn keep_rejects(
        &self,
        sync: &SyncName,
        plan: PlanId,
        kept: &KeptRejects,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let query = sqlx::query(SUPERSEDE).bind(self.clock.ahead()).bind(sync.as_str());
        self.write_rejects("superseding plans that wait", query, lease).await?;
        let (keys, keeper) = match kept {
            KeptRejects::Only(keys) => (keys, Some(plan)),
            KeptRejects::AllBut(keys) => {
                let query = sqlx::query("UPDATE rejects SET kept_by = $1 WHERE sync = $2 AND state = 'open'");
                let query = query.bind(plan.to_string()).bind(sync.as_str());
                self.write_rejects("keeping rejects", query, lease).await?;
                (keys, None)
            }
        };
        for part in keys.chunks(AT_ONCE) {
            let subjects: Vec<Vec<u8>> = part.iter().map(|key| key.0.to_vec()).collect();
            let query =
                sqlx::query("UPDATE rejects SET kept_by = $1 WHERE sync = $2 AND state = 'open' AND subject = ANY($3)");
            let query = query.bind(keeper.map(|plan| plan.to_string())).bind(sync.as_str()).bind(subjects);
            self.write_rejects("keeping rejects", query, lease).await?;
        }
        Ok(())
    }

    async fn close_rejects(&self, sync: &SyncName, plan: PlanId, lease: &Lease) -> Result<(), StateError> {
        let query = sqlx::query(
            "UPDATE rejects SET state = 'closed'
             WHERE sync = $1 AND state = 'open' AND plan <> $2 AND kept_by IS DISTINCT FROM $2",
        );
        self.write_rejects("closing rejects", query.bind(sync.as_str()).bind(plan.to_string()), lease).await
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

impl PostgresState {
    async fn write_rejects(
        &self,
        action: &'static str,
        query: sqlx::query::Query<'_, Postgres, sqlx::postgres::PgArguments>,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let mut transaction = self.begin_under(action, lease).await?;
        let executed = async { Ok(query.execute(transaction.connection()).await.map(drop)?) };
        let worked = self.in_time(executed).await;
        transaction.end(worked).await
    }
}

/// Adds rejects. Those that are there already are left alone, so it may be repeated.
async fn add_rejects(connection: &mut PgConnection, rejects: &[RejectRecord]) -> Result<(), Fault> {
    let cells: Result<Vec<String>, Fault> =
        rejects.iter().map(|reject| stored::to_json(&reject.cells, CELLS)).collect();
    let mut insert = QueryBuilder::<Postgres>::new(
        "INSERT INTO rejects (sync, run, plan, at, stage, key, content, subject, origin, code, column_name, reason, cells, first_at, state) ",
    );
    insert.push_values(rejects.iter().zip(cells?), |mut columns, (reject, cells)| {
        columns
            .push_bind(reject.sync.as_str().to_owned())
            .push_bind(reject.run.to_string())
            .push_bind(reject.plan.to_string())
            .push_bind(reject.at.0)
            .push_bind(stage_name(reject.stage))
            .push_bind(reject.key.map(|key| key.0.to_vec()))
            .push_bind(reject.content.map(|content| content.0.to_vec()))
            .push_bind(subject_of(reject).to_vec())
            .push_bind(reject.origin.as_deref().map(storable))
            .push_bind(storable(&reject.code))
            .push_bind(reject.column.as_deref().map(storable))
            .push_bind(storable(&reject.reason))
            .push_bind(cells)
            .push_bind(reject.at.0)
            .push_bind("new");
    });
    insert.push(" ON CONFLICT DO NOTHING");
    let inserted = insert.build().execute(&mut *connection).await?;
    if inserted.rows_affected() > 0 {
        for statement in TAKE_PLACES {
            sqlx::query(statement).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
