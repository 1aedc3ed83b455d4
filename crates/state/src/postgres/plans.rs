//! Plans: one row for each, with its manifest and where it stands.

use async_trait::async_trait;
use convoke_core::ids::PlanId;
use convoke_core::plan::PlanManifest;
use convoke_core::state::{Journal, PlanRecord, PlanState, Plans};
use convoke_core::{StateError, SyncName, Timestamp};
use sqlx::PgConnection;

use super::PostgresState;
use super::sql::now;
use crate::columns::{PLAN_MANIFEST, PlanColumns, plan_from};
use crate::fault::Fault;
use crate::stored;

pub(super) const SUPERSEDE: &str =
    concat!("UPDATE plans SET state = 'superseded', moved_at = ", now!(), " WHERE sync = $2 AND state = 'waiting'");

const ADD: &str = concat!(
    "INSERT INTO plans (id, sync, state, hash, created_at, moved_at, manifest)
     VALUES ($2, $3, 'waiting', $4, $5, ",
    now!(),
    ", $6) ON CONFLICT (id) DO NOTHING"
);

const MOVE: &str = concat!("UPDATE plans SET state = $4, moved_at = ", now!(), " WHERE id = $2 AND state = $3");

#[async_trait]
impl Plans for PostgresState {
    async fn add_plan(&self, manifest: &PlanManifest, hash: &str) -> Result<(), StateError> {
        let ahead = self.clock.ahead();
        let mut transaction = self.begin("adding a plan").await?;
        let worked = self.in_time(add_plan(transaction.connection(), ahead, manifest, hash)).await;
        transaction.end(worked).await
    }

    async fn plan(&self, id: PlanId) -> Result<Option<PlanRecord>, StateError> {
        let action = "looking up a plan";
        let query = sqlx::query_as("SELECT manifest, hash, state FROM plans WHERE id = $1").bind(id.to_string());
        let columns: Option<PlanColumns> = self.find(action, query).await?;
        columns.map(plan_from).transpose().map_err(|fault| self.explain(action, fault))
    }

    async fn plans_in(&self, sync: &SyncName, state: PlanState) -> Result<Vec<PlanRecord>, StateError> {
        let action = "listing plans";
        let query = sqlx::query_as(
            "SELECT manifest, hash, state FROM plans WHERE sync = $1 AND state = $2
             ORDER BY created_at DESC, id DESC",
        );
        let rows: Vec<PlanColumns> = self.list(action, query.bind(sync.as_str()).bind(state.as_str())).await?;
        let plans: Result<Vec<PlanRecord>, Fault> = rows.into_iter().map(plan_from).collect();
        plans.map_err(|fault| self.explain(action, fault))
    }

    async fn move_plan(&self, id: PlanId, from: PlanState, to: PlanState) -> Result<(), StateError> {
        let ahead = self.clock.ahead();
        let mut transaction = self.begin("moving a plan on").await?;
        let worked = self.in_time(move_plan(transaction.connection(), ahead, id, from, to)).await;
        transaction.end(worked).await
    }

    async fn expired_plans(
        &self,
        ended_before: Timestamp,
        waiting_before: Timestamp,
    ) -> Result<Vec<PlanId>, StateError> {
        let action = "looking for expired plans";
        let query = sqlx::query_as(
            "SELECT id FROM plans WHERE NOT forgotten AND (
                 (state IN ('settled', 'superseded', 'abandoned') AND moved_at < $1)
                 OR (state = 'waiting' AND created_at < $2))
             ORDER BY id",
        );
        let ids: Vec<(String,)> = self.list(action, query.bind(ended_before.0).bind(waiting_before.0)).await?;
        let ids: Result<Vec<PlanId>, Fault> = ids.iter().map(|(id,)| stored::plan_id(id)).collect();
        ids.map_err(|fault| self.explain(action, fault))
    }

    async fn forget_plan(&self, id: PlanId) -> Result<(), StateError> {
        let mut transaction = self.begin("forgetting the samples of a plan").await?;
        let worked = self.in_time(blank_plan(transaction.connection(), id)).await;
        transaction.end(worked).await?;
        self.forget_entries(id).await?;
        // Entries that are not folded yet keep the plan among the expired ones, until they are.
        let query = sqlx::query_as(
            "UPDATE plans SET forgotten = true
             WHERE id = $1 AND NOT EXISTS (SELECT FROM entries WHERE entries.plan = plans.id) RETURNING id",
        );
        let _forgotten: Option<(String,)> = self.change("forgetting a plan", query.bind(id.to_string())).await?;
        Ok(())
    }
}

async fn add_plan(connection: &mut PgConnection, ahead: i64, manifest: &PlanManifest, hash: &str) -> Result<(), Fault> {
    // Two plans that are added at once would not see each other, and both would wait.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('plans/' || $1, 0))")
        .bind(manifest.sync.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query(SUPERSEDE).bind(ahead).bind(manifest.sync.as_str()).execute(&mut *connection).await?;
    let added = sqlx::query(ADD)
        .bind(ahead)
        .bind(manifest.id.to_string())
        .bind(manifest.sync.as_str())
        .bind(hash)
        .bind(manifest.created_at.0)
        .bind(stored::to_json(manifest, PLAN_MANIFEST)?)
        .execute(connection)
        .await?;
    match added.rows_affected() {
        0 => Err(Fault::conflict(format!("plan {}", manifest.id))),
        _ => Ok(()),
    }
}

/// Moves a plan from one state to another; one that is not in `from` is a conflict.
pub(super) async fn move_plan(
    connection: &mut PgConnection,
    ahead: i64,
    id: PlanId,
    from: PlanState,
    to: PlanState,
) -> Result<(), Fault> {
    let query = sqlx::query(MOVE).bind(ahead).bind(id.to_string()).bind(from.as_str()).bind(to.as_str());
    match query.execute(connection).await?.rows_affected() {
        0 => Err(Fault::conflict(format!("plan {id} (no longer {})", from.as_str()))),
        _ => Ok(()),
    }
}

/// Takes the samples out of the manifest of a plan that is not being applied. One that waits is superseded.
async fn blank_plan(connection: &mut PgConnection, id: PlanId) -> Result<(), Fault> {
    let found: Option<(String,)> =
        sqlx::query_as("SELECT manifest FROM plans WHERE id = $1 AND state <> 'applying' FOR UPDATE")
            .bind(id.to_string())
            .fetch_optional(&mut *connection)
            .await?;
    let Some((text,)) = found else {
        return Err(Fault::conflict(format!("plan {id} (unknown, or being applied)")));
    };
    let mut manifest: PlanManifest = stored::from_json(&text, PLAN_MANIFEST)?;
    manifest.samples.clear();
    sqlx::query(
        "UPDATE plans SET manifest = $2, state = CASE state WHEN 'waiting' THEN 'superseded' ELSE state END
         WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(stored::to_json(&manifest, PLAN_MANIFEST)?)
    .execute(connection)
    .await?;
    Ok(())
}
