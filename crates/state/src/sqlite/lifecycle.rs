//! Syncs that get another name, or come to an end.

use async_trait::async_trait;
use convoke_core::lifecycle::{self, Lifecycle, Renaming, Retirement};
use convoke_core::state::Lease;
use convoke_core::{StateError, SyncName};

use crate::fault::Fault;
use crate::lifecycle::{CHECKPOINT, RENAME, RETIRE, TAKEN};
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;

#[async_trait]
impl Lifecycle for SqliteState {
    async fn rename_sync(&self, renaming: &Renaming, lease: &Lease) -> Result<(), StateError> {
        let (renaming, lease) = (renaming.clone(), lease.clone());
        self.write("renaming a sync", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.rename_sync(&renaming).await
            })
        })
        .await
    }

    async fn retire_sync(&self, retirement: &Retirement, lease: &Lease) -> Result<(), StateError> {
        let (retirement, lease) = (retirement.clone(), lease.clone());
        self.write("retiring a sync", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.retire_sync(&retirement).await
            })
        })
        .await
    }
}

impl Transaction {
    async fn rename_sync(&mut self, renaming: &Renaming) -> Result<(), Fault> {
        let Renaming { from, to, ledger, checkpoint, actor } = renaming;
        let taken: i64 = sqlx::query_scalar(TAKEN).bind(to.as_str()).fetch_one(&mut self.connection).await?;
        if taken > 0 {
            return Err(Fault::conflict(format!("sync `{to}`")));
        }
        for sync in [from, to] {
            self.supersede_waiting(sync).await?;
        }
        for statement in RENAME {
            sqlx::query(statement).bind(to.as_str()).bind(from.as_str()).execute(&mut self.connection).await?;
        }
        if let Some(checkpoint) = checkpoint {
            sqlx::query(CHECKPOINT)
                .bind(to.as_str())
                .bind(&checkpoint.config_hash)
                .bind(checkpoint.ledger_version.cast_signed())
                .execute(&mut self.connection)
                .await?;
        }
        if let Some(ledger) = ledger {
            self.replace_ledger(ledger).await?;
        }
        self.note_deed(actor, lifecycle::RENAME, &renaming.detail()).await
    }

    async fn retire_sync(&mut self, retirement: &Retirement) -> Result<(), Fault> {
        let Retirement { sync, ledger, actor, .. } = retirement;
        self.supersede_waiting(sync).await?;
        for statement in RETIRE {
            sqlx::query(statement).bind(sync.as_str()).execute(&mut self.connection).await?;
        }
        if let Some(ledger) = ledger {
            self.replace_ledger(ledger).await?;
        }
        self.note_deed(actor, lifecycle::RETIRE, &retirement.detail()).await
    }

    pub(super) async fn supersede_waiting(&mut self, sync: &SyncName) -> Result<(), Fault> {
        sqlx::query("UPDATE plans SET state = 'superseded', moved_at = ? WHERE sync = ? AND state = 'waiting'")
            .bind(self.now.0)
            .bind(sync.as_str())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn note_deed(&mut self, actor: &str, action: &str, detail: &str) -> Result<(), Fault> {
        sqlx::query("INSERT INTO audit_trail (at, actor, action, detail) VALUES (?, ?, ?, ?)")
            .bind(self.now.0)
            .bind(actor)
            .bind(action)
            .bind(detail)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenMode;

    #[tokio::test]
    async fn every_table_that_names_a_sync_is_moved_by_a_rename() {
        let folder = tempfile::tempdir().unwrap();
        let state = SqliteState::open(&folder.path().join("state/state.sqlite"), OpenMode::ReadWrite).await.unwrap();
        let tables = state.read("listing tables", |connection| {
            Box::pin(async move {
                let naming: Vec<String> = sqlx::query_scalar(
                    "SELECT tables.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
                     WHERE tables.type = 'table' AND columns.name = 'sync'",
                )
                .fetch_all(connection)
                .await?;
                Ok(naming)
            })
        });
        let tables = tables.await.unwrap();
        assert!(tables.len() >= 6, "{tables:?}");
        for table in tables {
            let update = format!("UPDATE {table} SET sync = $1");
            assert!(RENAME.iter().any(|statement| statement.starts_with(&update)), "{table} is left behind");
        }
    }
}
