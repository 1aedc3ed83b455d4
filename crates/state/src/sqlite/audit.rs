//! The audit trail: who overrode a safeguard, when, and over what.

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::state::{Audit, AuditRecord};

use crate::columns::{AuditColumns, audit_from};
use crate::sqlite::SqliteState;

#[async_trait]
impl Audit for SqliteState {
    async fn audit(&self, actor: &str, action: &str, detail: &str) -> Result<(), StateError> {
        let (actor, action, detail) = (actor.to_owned(), action.to_owned(), detail.to_owned());
        self.write("writing the audit trail", |transaction| {
            Box::pin(async move {
                sqlx::query("INSERT INTO audit_trail (at, actor, action, detail) VALUES (?, ?, ?, ?)")
                    .bind(transaction.now.0)
                    .bind(actor)
                    .bind(action)
                    .bind(detail)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn audit_trail(&self, limit: u32) -> Result<Vec<AuditRecord>, StateError> {
        self.read("reading the audit trail", move |connection| {
            Box::pin(async move {
                let rows: Vec<AuditColumns> =
                    sqlx::query_as("SELECT at, actor, action, detail FROM audit_trail ORDER BY id DESC LIMIT ?")
                        .bind(limit)
                        .fetch_all(connection)
                        .await?;
                Ok(rows.into_iter().map(audit_from).collect())
            })
        })
        .await
    }
}
