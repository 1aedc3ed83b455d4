//! Plans: one row for each, with its manifest and where it stands.

use async_trait::async_trait;
use convoke_core::ids::PlanId;
use convoke_core::plan::PlanManifest;
use convoke_core::state::{Journal, PlanRecord, PlanState, Plans};
use convoke_core::{StateError, SyncName, Timestamp};

use crate::columns::{PLAN_MANIFEST, PlanColumns, plan_from};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
use crate::stored;

#[async_trait]
impl Plans for SqliteState {
    async fn add_plan(&self, manifest: &PlanManifest, hash: &str) -> Result<(), StateError> {
        let (manifest, hash) = (manifest.clone(), hash.to_owned());
        self.write("adding a plan", |transaction| Box::pin(transaction.add_plan(manifest, hash))).await
    }

    async fn plan(&self, id: PlanId) -> Result<Option<PlanRecord>, StateError> {
        self.read("looking up a plan", move |connection| {
            Box::pin(async move {
                let columns = sqlx::query_as("SELECT manifest, hash, state FROM plans WHERE id = ?")
                    .bind(id.to_string())
                    .fetch_optional(connection)
                    .await?;
                columns.map(plan_from).transpose()
            })
        })
        .await
    }

    async fn plans_in(&self, sync: &SyncName, state: PlanState) -> Result<Vec<PlanRecord>, StateError> {
        let sync = sync.clone();
        self.read("listing plans", move |connection| {
            Box::pin(async move {
                let rows: Vec<PlanColumns> = sqlx::query_as(
                    "SELECT manifest, hash, state FROM plans WHERE sync = ? AND state = ?
                     ORDER BY created_at DESC, id DESC",
                )
                .bind(sync.as_str())
                .bind(state.as_str())
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(plan_from).collect()
            })
        })
        .await
    }

    async fn move_plan(&self, id: PlanId, from: PlanState, to: PlanState) -> Result<(), StateError> {
        self.write("moving a plan on", move |transaction| {
            Box::pin(async move { transaction.move_plan(id, from, to).await })
        })
        .await
    }

    async fn expired_plans(
        &self,
        ended_before: Timestamp,
        waiting_before: Timestamp,
    ) -> Result<Vec<PlanId>, StateError> {
        self.read("looking for expired plans", move |connection| {
            Box::pin(async move {
                let ids: Vec<String> = sqlx::query_scalar(
                    "SELECT id FROM plans WHERE forgotten = 0 AND (
                         (state IN ('settled', 'superseded', 'abandoned') AND moved_at < ?)
                         OR (state = 'waiting' AND created_at < ?))
                     ORDER BY id",
                )
                .bind(ended_before.0)
                .bind(waiting_before.0)
                .fetch_all(connection)
                .await?;
                ids.iter().map(|id| stored::plan_id(id)).collect()
            })
        })
        .await
    }

    async fn forget_plan(&self, id: PlanId) -> Result<(), StateError> {
        self.write("forgetting the samples of a plan", move |transaction| Box::pin(transaction.blank_plan(id))).await?;
        self.forget_entries(id).await?;
        self.write("forgetting a plan", move |transaction| Box::pin(transaction.mark_forgotten(id))).await
    }
}

impl Transaction {
    async fn add_plan(&mut self, manifest: PlanManifest, hash: String) -> Result<(), Fault> {
        sqlx::query("UPDATE plans SET state = 'superseded', moved_at = ? WHERE sync = ? AND state = 'waiting'")
            .bind(self.now.0)
            .bind(manifest.sync.as_str())
            .execute(&mut self.connection)
            .await?;
        let added = sqlx::query(
            "INSERT INTO plans (id, sync, state, hash, created_at, moved_at, manifest)
             VALUES (?, ?, 'waiting', ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )
        .bind(manifest.id.to_string())
        .bind(manifest.sync.as_str())
        .bind(hash)
        .bind(manifest.created_at.0)
        .bind(self.now.0)
        .bind(stored::to_json(&manifest, PLAN_MANIFEST)?)
        .execute(&mut self.connection)
        .await?;
        if added.rows_affected() == 0 {
            return Err(Fault::conflict(format!("plan {}", manifest.id)));
        }
        Ok(())
    }

    /// Takes the samples out of the manifest of a plan that is not being applied. One that waits is superseded.
    async fn blank_plan(&mut self, id: PlanId) -> Result<(), Fault> {
        let stored: Option<String> =
            sqlx::query_scalar("SELECT manifest FROM plans WHERE id = ? AND state <> 'applying'")
                .bind(id.to_string())
                .fetch_optional(&mut self.connection)
                .await?;
        let Some(stored) = stored else {
            return Err(Fault::conflict(format!("plan {id} (unknown, or being applied)")));
        };
        let mut manifest: PlanManifest = stored::from_json(&stored, PLAN_MANIFEST)?;
        manifest.samples.clear();
        sqlx::query(
            "UPDATE plans SET manifest = ?, state = CASE state WHEN 'waiting' THEN 'superseded' ELSE state END
             WHERE id = ?",
        )
        .bind(stored::to_json(&manifest, PLAN_MANIFEST)?)
        .bind(id.to_string())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Entries that are not folded yet keep the plan among the expired ones, until they are.
    async fn mark_forgotten(&mut self, id: PlanId) -> Result<(), Fault> {
        sqlx::query(
            "UPDATE plans SET forgotten = 1
             WHERE id = ? AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.plan = plans.id)",
        )
        .bind(id.to_string())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Moves a plan from one state to another; one that is not in `from` is a conflict.
    pub(super) async fn move_plan(&mut self, id: PlanId, from: PlanState, to: PlanState) -> Result<(), Fault> {
        let moved = sqlx::query("UPDATE plans SET state = ?, moved_at = ? WHERE id = ? AND state = ?")
            .bind(to.as_str())
            .bind(self.now.0)
            .bind(id.to_string())
            .bind(from.as_str())
            .execute(&mut self.connection)
            .await?;
        if moved.rows_affected() == 0 {
            return Err(Fault::conflict(format!("plan {id} (no longer {})", from.as_str())));
        }
        Ok(())
    }
}
