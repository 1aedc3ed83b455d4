//! How far backfills have come.

use async_trait::async_trait;
use convoke_core::backfill::{BackfillRecord, BackfillState, Backfills, PlannedWindow};
use convoke_core::ids::BackfillId;
use convoke_core::{StateError, SyncName};

use crate::columns::{backfill_from, backfill_selection, backfill_windows};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;

#[async_trait]
impl Backfills for SqliteState {
    async fn begin_backfill(&self, backfill: &BackfillRecord) -> Result<(), StateError> {
        let backfill = backfill.clone();
        self.write("beginning a backfill", move |transaction| {
            Box::pin(async move {
                let begun = sqlx::query(
                    "INSERT INTO backfills (id, sync, selection, windows, settled, config_hash, state, started_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(backfill.id.to_string())
                .bind(backfill.sync.as_str())
                .bind(backfill_selection(&backfill)?)
                .bind(backfill_windows(&backfill)?)
                .bind(backfill.settled)
                .bind(&backfill.config_hash)
                .bind(backfill.state.as_str())
                .bind(backfill.started_at.0)
                .execute(&mut transaction.connection)
                .await?;
                if begun.rows_affected() == 0 {
                    return Err(Fault::conflict(format!("the backfill of `{}`", backfill.sync)));
                }
                Ok(())
            })
        })
        .await
    }

    async fn backfills(&self, sync: &SyncName, limit: u32) -> Result<Vec<BackfillRecord>, StateError> {
        let sync = sync.clone();
        self.read("listing backfills", move |connection| {
            Box::pin(async move {
                let rows = sqlx::query_as(
                    "SELECT id, sync, selection, windows, settled, config_hash, state, started_at
                     FROM backfills WHERE sync = ? ORDER BY number DESC LIMIT ?",
                )
                .bind(sync.as_str())
                .bind(limit)
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(backfill_from).collect()
            })
        })
        .await
    }

    async fn end_backfill(&self, id: BackfillId, state: BackfillState) -> Result<(), StateError> {
        self.write("ending a backfill", move |transaction| {
            Box::pin(async move {
                sqlx::query("UPDATE backfills SET state = ? WHERE id = ? AND state = 'open'")
                    .bind(state.as_str())
                    .bind(id.to_string())
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}

impl Transaction {
    /// Notes a window as settled; one that is noted already stays so.
    pub(super) async fn settle_window(&mut self, window: PlannedWindow) -> Result<(), Fault> {
        sqlx::query("UPDATE backfills SET settled = max(settled, ?) WHERE id = ?")
            .bind(window.number)
            .bind(window.backfill.to_string())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
