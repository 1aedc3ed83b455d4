//! Checkpoints of sources, and the one transaction that ends a run.

use async_trait::async_trait;
use convoke_core::state::{Checkpoint, Checkpoints, Lease, PlanState, Settlement};
use convoke_core::{StateError, SyncName};

use crate::columns::{CHECKPOINT_COUNTS, POSITION, checkpoint_from};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
use crate::stored;

#[async_trait]
impl Checkpoints for SqliteState {
    async fn checkpoint(&self, sync: &SyncName) -> Result<Checkpoint, StateError> {
        let sync = sync.clone();
        self.read("looking up a checkpoint", |connection| {
            Box::pin(async move {
                let row = sqlx::query_as(
                    "SELECT version, position, config_hash, ledger_version, counts, snapshot_records, clean
                     FROM checkpoints WHERE sync = ?",
                )
                .bind(sync.as_str())
                .fetch_optional(connection)
                .await?;
                checkpoint_from(row)
            })
        })
        .await
    }

    async fn settle_run(&self, settlement: &Settlement, lease: &Lease) -> Result<(), StateError> {
        let (settlement, lease) = (settlement.clone(), lease.clone());
        self.write("settling a run", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.replace_run(&settlement.run).await?;
                transaction.move_plan(settlement.plan, PlanState::Applying, PlanState::Settled).await?;
                if let Some(window) = settlement.window {
                    transaction.settle_window(window, settlement.run.state).await?;
                }
                match &settlement.checkpoint {
                    Some(checkpoint) => transaction.move_checkpoint(&settlement.run.sync, checkpoint).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }
}

impl Transaction {
    async fn move_checkpoint(&mut self, sync: &SyncName, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let stored: Option<i64> = sqlx::query_scalar("SELECT version FROM checkpoints WHERE sync = ?")
            .bind(sync.as_str())
            .fetch_optional(&mut self.connection)
            .await?;
        if stored.unwrap_or(0).cast_unsigned() != checkpoint.version {
            return Err(Fault::conflict(format!("the checkpoint of `{sync}`")));
        }
        sqlx::query(
            "INSERT OR REPLACE INTO checkpoints
                 (sync, version, position, config_hash, ledger_version, counts, snapshot_records, clean)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(sync.as_str())
        .bind((checkpoint.version + 1).cast_signed())
        .bind(stored::optional_to_json(checkpoint.position.as_ref(), POSITION)?)
        .bind(&checkpoint.config_hash)
        .bind(checkpoint.ledger_version.cast_signed())
        .bind(stored::optional_to_json(checkpoint.counts.as_ref(), CHECKPOINT_COUNTS)?)
        .bind(checkpoint.snapshot_records.map(u64::cast_signed))
        .bind(checkpoint.clean)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}
