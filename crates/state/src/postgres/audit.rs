//! The audit trail: who overrode a safeguard, when, and over what.

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::state::{Audit, AuditRecord};

use super::PostgresState;
use super::sql::{now, storable};
use crate::columns::{AuditColumns, audit_from};

const ADD: &str =
    concat!("INSERT INTO audit_trail (at, actor, action, detail) VALUES (", now!(), ", $2, $3, $4) RETURNING id");

#[async_trait]
impl Audit for PostgresState {
    async fn audit(&self, actor: &str, action: &str, detail: &str) -> Result<(), StateError> {
        let query = sqlx::query_as(ADD).bind(self.clock.ahead()).bind(storable(actor)).bind(action);
        let _id: Option<(i64,)> = self.change("writing the audit trail", query.bind(storable(detail))).await?;
        Ok(())
    }

    async fn audit_trail(&self, limit: u32) -> Result<Vec<AuditRecord>, StateError> {
        let query = sqlx::query_as("SELECT at, actor, action, detail FROM audit_trail ORDER BY id DESC LIMIT $1");
        let rows: Vec<AuditColumns> = self.list("reading the audit trail", query.bind(i64::from(limit))).await?;
        Ok(rows.into_iter().map(audit_from).collect())
    }
}
