//! Checkpoints of sources, and the one transaction that ends a run.

use async_trait::async_trait;
use convoke_core::state::{Checkpoint, Checkpoints, Lease, PlanState, Settlement};
use convoke_core::{StateError, SyncName};
use sqlx::PgConnection;

use super::PostgresState;
use super::backfills::settle_window;
use super::plans::move_plan;
use super::runs::replace_run;
use crate::columns::{CHECKPOINT_COUNTS, POSITION, checkpoint_from};
use crate::fault::Fault;
use crate::stored;

#[async_trait]
impl Checkpoints for PostgresState {
    async fn checkpoint(&self, sync: &SyncName) -> Result<Checkpoint, StateError> {
        let action = "looking up a checkpoint";
        let query = sqlx::query_as(
            "SELECT version, position, config_hash, ledger_version, counts, snapshot_records, clean
             FROM checkpoints WHERE sync = $1",
        );
        let columns = self.find(action, query.bind(sync.as_str())).await?;
        checkpoint_from(columns).map_err(|fault| self.explain(action, fault))
    }

    async fn settle_run(&self, settlement: &Settlement, lease: &Lease) -> Result<(), StateError> {
        let ahead = self.clock.ahead();
        let mut transaction = self.begin_under("settling a run", lease).await?;
        let worked = self.in_time(async {
            replace_run(transaction.connection(), &settlement.run).await?;
            let connection = transaction.connection();
            move_plan(connection, ahead, settlement.plan, PlanState::Applying, PlanState::Settled).await?;
            if let Some(window) = settlement.window {
                settle_window(transaction.connection(), window, settlement.run.state).await?;
            }
            match &settlement.checkpoint {
                Some(checkpoint) => move_checkpoint(transaction.connection(), &settlement.run.sync, checkpoint).await,
                None => Ok(()),
            }
        });
        let worked = worked.await;
        transaction.end(worked).await
    }
}

/// Replaces a checkpoint if its version is the stored one; none is stored as long as it is 0.
async fn move_checkpoint(connection: &mut PgConnection, sync: &SyncName, checkpoint: &Checkpoint) -> Result<(), Fault> {
    let statement = match checkpoint.version {
        0 => {
            "INSERT INTO checkpoints
                 (sync, version, position, config_hash, ledger_version, counts, snapshot_records, clean)
             VALUES ($1, $2 + 1, $3, $4, $5, $6, $7, $8) ON CONFLICT (sync) DO NOTHING"
        }
        _ => {
            "UPDATE checkpoints SET version = $2 + 1, position = $3, config_hash = $4, ledger_version = $5, counts = $6,
                 snapshot_records = $7, clean = $8
             WHERE sync = $1 AND version = $2"
        }
    };
    let moved = sqlx::query(statement)
        .bind(sync.as_str())
        .bind(checkpoint.version.cast_signed())
        .bind(stored::optional_to_json(checkpoint.position.as_ref(), POSITION)?)
        .bind(&checkpoint.config_hash)
        .bind(checkpoint.ledger_version.cast_signed())
        .bind(stored::optional_to_json(checkpoint.counts.as_ref(), CHECKPOINT_COUNTS)?)
        .bind(checkpoint.snapshot_records.map(u64::cast_signed))
        .bind(checkpoint.clean)
        .execute(connection)
        .await?;
    match moved.rows_affected() {
        0 => Err(Fault::conflict(format!("the checkpoint of `{sync}`"))),
        _ => Ok(()),
    }
}
