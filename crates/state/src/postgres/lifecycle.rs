//! Syncs that get another name, or come to an end.

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::lifecycle::{self, Lifecycle, Renaming, Retirement};
use convoke_core::state::Lease;
use sqlx::PgConnection;

use super::PostgresState;
use super::ledgers::replace_ledger;
use super::plans::SUPERSEDE;
use super::sql::{now, storable};
use crate::fault::Fault;
use crate::lifecycle::{CHECKPOINT, RENAME, RETIRE, TAKEN};

const NOTE_DEED: &str =
    concat!("INSERT INTO audit_trail (at, actor, action, detail) VALUES (", now!(), ", $2, $3, $4)");

#[async_trait]
impl Lifecycle for PostgresState {
    async fn rename_sync(&self, renaming: &Renaming, lease: &Lease) -> Result<(), StateError> {
        let ahead = self.clock.ahead();
        let mut transaction = self.begin_under("renaming a sync", lease).await?;
        let worked = self.in_time(rename_sync(transaction.connection(), ahead, renaming)).await;
        transaction.end(worked).await
    }

    async fn retire_sync(&self, retirement: &Retirement, lease: &Lease) -> Result<(), StateError> {
        let ahead = self.clock.ahead();
        let mut transaction = self.begin_under("retiring a sync", lease).await?;
        let worked = self.in_time(retire_sync(transaction.connection(), ahead, retirement)).await;
        transaction.end(worked).await
    }
}

async fn rename_sync(connection: &mut PgConnection, ahead: i64, renaming: &Renaming) -> Result<(), Fault> {
    let Renaming { from, to, ledger, checkpoint, actor } = renaming;
    let (taken,): (i64,) = sqlx::query_as(TAKEN).bind(to.as_str()).fetch_one(&mut *connection).await?;
    if taken > 0 {
        return Err(Fault::conflict(format!("sync `{to}`")));
    }
    for sync in [from, to] {
        sqlx::query(SUPERSEDE).bind(ahead).bind(sync.as_str()).execute(&mut *connection).await?;
    }
    for statement in RENAME {
        sqlx::query(statement).bind(to.as_str()).bind(from.as_str()).execute(&mut *connection).await?;
    }
    if let Some(checkpoint) = checkpoint {
        sqlx::query(CHECKPOINT)
            .bind(to.as_str())
            .bind(&checkpoint.config_hash)
            .bind(checkpoint.ledger_version.cast_signed())
            .execute(&mut *connection)
            .await?;
    }
    if let Some(ledger) = ledger {
        replace_ledger(connection, ledger).await?;
    }
    note_deed(connection, ahead, [actor, lifecycle::RENAME, &renaming.detail()]).await
}

async fn retire_sync(connection: &mut PgConnection, ahead: i64, retirement: &Retirement) -> Result<(), Fault> {
    let Retirement { sync, ledger, actor, .. } = retirement;
    sqlx::query(SUPERSEDE).bind(ahead).bind(sync.as_str()).execute(&mut *connection).await?;
    for statement in RETIRE {
        sqlx::query(statement).bind(sync.as_str()).execute(&mut *connection).await?;
    }
    if let Some(ledger) = ledger {
        replace_ledger(connection, ledger).await?;
    }
    note_deed(connection, ahead, [actor, lifecycle::RETIRE, &retirement.detail()]).await
}

async fn note_deed(connection: &mut PgConnection, ahead: i64, deed: [&str; 3]) -> Result<(), Fault> {
    let [actor, action, detail] = deed.map(storable);
    sqlx::query(NOTE_DEED).bind(ahead).bind(actor).bind(action).bind(detail).execute(connection).await?;
    Ok(())
}
