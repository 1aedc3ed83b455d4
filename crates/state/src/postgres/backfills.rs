//! How far backfills have come.

use async_trait::async_trait;
use convoke_core::backfill::{BackfillRecord, BackfillState, Backfills, OpenBackfill, PlannedWindow};
use convoke_core::ids::BackfillId;
use convoke_core::state::RunState;
use convoke_core::{StateError, SyncName};
use sqlx::PgConnection;

use super::PostgresState;
use crate::columns::{
    BackfillColumns, OpenBackfillColumns, backfill_from, backfill_selection, backfill_windows, open_backfill_from,
};
use crate::fault::Fault;

#[async_trait]
impl Backfills for PostgresState {
    async fn begin_backfill(&self, backfill: &OpenBackfill) -> Result<(), StateError> {
        let action = "beginning a backfill";
        let explain = |fault| self.explain(action, fault);
        let record = &backfill.record;
        let query = sqlx::query_as(
            "INSERT INTO backfills
                 (id, sync, selection, windows, window_count, settled, partial, config_hash, state, started_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(record.id.to_string())
        .bind(record.sync.as_str())
        .bind(backfill_selection(record).map_err(explain)?)
        .bind(backfill_windows(backfill).map_err(explain)?)
        .bind(i64::from(record.window_count))
        .bind(i64::from(record.settled))
        .bind(record.is_partial)
        .bind(&record.config_hash)
        .bind(record.state.as_str())
        .bind(record.started_at.0);
        let begun: Option<(String,)> = self.change(action, query).await?;
        begun.map(drop).ok_or_else(|| explain(Fault::conflict(format!("the backfill of `{}`", record.sync))))
    }

    async fn open_backfill(&self, sync: &SyncName) -> Result<Option<OpenBackfill>, StateError> {
        let action = "looking up an open backfill";
        let query = sqlx::query_as(
            "SELECT id, sync, selection, window_count, settled, partial, config_hash, state, started_at, windows
             FROM backfills WHERE sync = $1 AND state = 'open'",
        );
        let row: Option<OpenBackfillColumns> = self.find(action, query.bind(sync.as_str())).await?;
        row.map(open_backfill_from).transpose().map_err(|fault| self.explain(action, fault))
    }

    async fn backfill(&self, id: BackfillId) -> Result<Option<BackfillRecord>, StateError> {
        let action = "looking up a backfill";
        let query = sqlx::query_as(
            "SELECT id, sync, selection, window_count, settled, partial, config_hash, state, started_at
             FROM backfills WHERE id = $1",
        );
        let row: Option<BackfillColumns> = self.find(action, query.bind(id.to_string())).await?;
        row.map(backfill_from).transpose().map_err(|fault| self.explain(action, fault))
    }

    async fn backfills(&self, sync: &SyncName, limit: u32) -> Result<Vec<BackfillRecord>, StateError> {
        let action = "listing backfills";
        let query = sqlx::query_as(
            "SELECT id, sync, selection, window_count, settled, partial, config_hash, state, started_at
             FROM backfills WHERE sync = $1 ORDER BY number DESC LIMIT $2",
        );
        let query = query.bind(sync.as_str()).bind(i64::from(limit));
        let rows: Vec<BackfillColumns> = self.list(action, query).await?;
        let backfills: Result<Vec<_>, Fault> = rows.into_iter().map(backfill_from).collect();
        backfills.map_err(|fault| self.explain(action, fault))
    }

    async fn end_backfill(&self, id: BackfillId, state: BackfillState) -> Result<(), StateError> {
        let query = sqlx::query_as(
            "UPDATE backfills SET state = $2, windows = '[]' WHERE id = $1 AND state = 'open' RETURNING id",
        );
        let query = query.bind(id.to_string()).bind(state.as_str());
        let _ended: Option<(String,)> = self.change("ending a backfill", query).await?;
        Ok(())
    }
}

/// Notes a window as settled; one that is noted already stays so.
pub(super) async fn settle_window(
    connection: &mut PgConnection,
    window: PlannedWindow,
    ended: RunState,
) -> Result<(), Fault> {
    sqlx::query("UPDATE backfills SET settled = greatest(settled, $2), partial = partial OR $3 WHERE id = $1")
        .bind(window.backfill.to_string())
        .bind(i64::from(window.number))
        .bind(ended == RunState::Partial)
        .execute(connection)
        .await?;
    Ok(())
}
