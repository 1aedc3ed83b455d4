//! How far backfills have come.

use async_trait::async_trait;
use convoke_core::backfill::{BackfillRecord, BackfillState, Backfills, OpenBackfill, PlannedWindow};
use convoke_core::ids::BackfillId;
use convoke_core::state::RunState;
use convoke_core::{StateError, SyncName};

use crate::columns::{backfill_from, backfill_selection, backfill_windows, open_backfill_from};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;

#[async_trait]
impl Backfills for SqliteState {
    async fn begin_backfill(&self, backfill: &OpenBackfill) -> Result<(), StateError> {
        let backfill = backfill.clone();
        self.write("beginning a backfill", move |transaction| {
            Box::pin(async move {
                let record = &backfill.record;
                let begun = sqlx::query(
                    "INSERT INTO backfills
                         (id, sync, selection, windows, window_count, settled, partial, config_hash, state, started_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(record.id.to_string())
                .bind(record.sync.as_str())
                .bind(backfill_selection(record)?)
                .bind(backfill_windows(&backfill)?)
                .bind(record.window_count)
                .bind(record.settled)
                .bind(record.is_partial)
                .bind(&record.config_hash)
                .bind(record.state.as_str())
                .bind(record.started_at.0)
                .execute(&mut transaction.connection)
                .await?;
                if begun.rows_affected() == 0 {
                    return Err(Fault::conflict(format!("the backfill of `{}`", record.sync)));
                }
                Ok(())
            })
        })
        .await
    }

    async fn open_backfill(&self, sync: &SyncName) -> Result<Option<OpenBackfill>, StateError> {
        let sync = sync.clone();
        self.read("looking up an open backfill", move |connection| {
            Box::pin(async move {
                let row = sqlx::query_as(
                    "SELECT id, sync, selection, window_count, settled, partial, config_hash, state, started_at, windows
                     FROM backfills WHERE sync = ? AND state = 'open'",
                )
                .bind(sync.as_str())
                .fetch_optional(connection)
                .await?;
                row.map(open_backfill_from).transpose()
            })
        })
        .await
    }

    async fn backfill(&self, id: BackfillId) -> Result<Option<BackfillRecord>, StateError> {
        self.read("looking up a backfill", move |connection| {
            Box::pin(async move {
                let row = sqlx::query_as(
                    "SELECT id, sync, selection, window_count, settled, partial, config_hash, state, started_at
                     FROM backfills WHERE id = ?",
                )
                .bind(id.to_string())
                .fetch_optional(connection)
                .await?;
                row.map(backfill_from).transpose()
            })
        })
        .await
    }

    async fn backfills(&self, sync: &SyncName, limit: u32) -> Result<Vec<BackfillRecord>, StateError> {
        let sync = sync.clone();
        self.read("listing backfills", move |connection| {
            Box::pin(async move {
                let rows = sqlx::query_as(
                    "SELECT id, sync, selection, window_count, settled, partial, config_hash, state, started_at
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
                sqlx::query("UPDATE backfills SET state = ?, windows = '[]' WHERE id = ? AND state = 'open'")
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
    pub(super) async fn settle_window(&mut self, window: PlannedWindow, ended: RunState) -> Result<(), Fault> {
        sqlx::query("UPDATE backfills SET settled = max(settled, ?), partial = partial OR ? WHERE id = ?")
            .bind(window.number)
            .bind(ended == RunState::Partial)
            .bind(window.backfill.to_string())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
