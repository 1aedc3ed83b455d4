//! The audit trail: who overrode a safeguard, when, and over what.

use convoke_core::{StateError, Timestamp};

use crate::sqlite::SqliteState;

/// One deed of a person: an approval, an adoption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// By the database's clock.
    pub at: Timestamp,
    /// Who did it, as the operating system names them.
    pub actor: String,
    /// Stable short name of the deed: `approve`, `adopt`, `fresh_start`.
    pub action: String,
    /// What it was done to, without values of records.
    pub detail: String,
}

impl SqliteState {
    /// Adds a deed to the audit trail.
    pub async fn audit(&self, actor: &str, action: &str, detail: &str) -> Result<(), StateError> {
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

    /// Returns the audit trail, newest first, at most `limit` deeds.
    pub async fn audit_trail(&self, limit: u32) -> Result<Vec<AuditRecord>, StateError> {
        self.read("reading the audit trail", |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, String, String, String)> =
                    sqlx::query_as("SELECT at, actor, action, detail FROM audit_trail ORDER BY id DESC LIMIT ?")
                        .bind(limit)
                        .fetch_all(connection)
                        .await?;
                let records = rows.into_iter().map(|(at, actor, action, detail)| AuditRecord {
                    at: Timestamp(at),
                    actor,
                    action,
                    detail,
                });
                Ok(records.collect())
            })
        })
        .await
    }
}
