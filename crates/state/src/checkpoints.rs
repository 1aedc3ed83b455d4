//! Checkpoints of sources, and the one transaction that ends a run.

use async_trait::async_trait;
use convoke_core::state::{Checkpoint, Checkpoints, Lease, PlanState, Settlement};
use convoke_core::{StateError, SyncName};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::stored;
use crate::writer::Transaction;

const POSITION: &str = "the position of a source";
const COUNTS: &str = "the counts of a checkpoint";

#[async_trait]
impl Checkpoints for SqliteState {
    async fn checkpoint(&self, sync: &SyncName) -> Result<Checkpoint, StateError> {
        let sync = sync.clone();
        self.read("looking up a checkpoint", |connection| {
            Box::pin(async move {
                let row = sqlx::query("SELECT * FROM checkpoints WHERE sync = ?")
                    .bind(sync.as_str())
                    .fetch_optional(connection)
                    .await?;
                row.as_ref().map_or(Ok(nothing_stored()), checkpoint_from)
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
            "INSERT OR REPLACE INTO checkpoints (sync, version, position, config_hash, ledger_version, counts, clean)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(sync.as_str())
        .bind((checkpoint.version + 1).cast_signed())
        .bind(stored::optional_to_json(checkpoint.position.as_ref(), POSITION)?)
        .bind(&checkpoint.config_hash)
        .bind(checkpoint.ledger_version.cast_signed())
        .bind(stored::optional_to_json(checkpoint.counts.as_ref(), COUNTS)?)
        .bind(checkpoint.clean)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}

fn nothing_stored() -> Checkpoint {
    Checkpoint { version: 0, position: None, config_hash: None, ledger_version: 0, counts: None, clean: false }
}

fn checkpoint_from(row: &SqliteRow) -> Result<Checkpoint, Fault> {
    let version: i64 = row.try_get("version")?;
    let ledger_version: i64 = row.try_get("ledger_version")?;
    Ok(Checkpoint {
        version: version.cast_unsigned(),
        position: stored::optional_from_json(row.try_get("position")?, POSITION)?,
        config_hash: row.try_get("config_hash")?,
        ledger_version: ledger_version.cast_unsigned(),
        counts: stored::optional_from_json(row.try_get("counts")?, COUNTS)?,
        clean: row.try_get("clean")?,
    })
}
