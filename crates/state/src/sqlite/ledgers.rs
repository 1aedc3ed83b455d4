//! Ledger manifests, and the one transaction that folds the journal in.

use async_trait::async_trait;
use convoke_core::journal::EntryId;
use convoke_core::ledger::LedgerManifest;
use convoke_core::state::{Lease, Ledgers};
use convoke_core::{AudienceKey, HashKey, StateError};

use crate::columns::LEDGER_MANIFEST;
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
use crate::stored;

#[async_trait]
impl Ledgers for SqliteState {
    async fn ledger(&self, audience: &AudienceKey) -> Result<Option<LedgerManifest>, StateError> {
        let audience = audience.clone();
        self.read("looking up a ledger", |connection| {
            Box::pin(async move {
                let text: Option<String> =
                    sqlx::query_scalar("SELECT manifest FROM ledgers WHERE connection = ? AND audience_id = ?")
                        .bind(audience.connection.as_str())
                        .bind(&audience.audience_id)
                        .fetch_optional(connection)
                        .await?;
                stored::optional_from_json(text, LEDGER_MANIFEST)
            })
        })
        .await
    }

    async fn commit_fold(
        &self,
        manifest: &LedgerManifest,
        folded_to: Option<EntryId>,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let (manifest, lease) = (manifest.clone(), lease.clone());
        self.write("committing a fold", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.replace_ledger(&manifest).await?;
                match folded_to {
                    Some(last) => transaction.mark_folded(&manifest.audience, last).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }

    async fn hash_key(&self) -> Result<HashKey, StateError> {
        self.stored_hash_key().await
    }
}

impl Transaction {
    /// Replaces a manifest if it is the next after the stored one.
    pub(super) async fn replace_ledger(&mut self, manifest: &LedgerManifest) -> Result<(), Fault> {
        let audience = &manifest.audience;
        let stored: Option<i64> =
            sqlx::query_scalar("SELECT version FROM ledgers WHERE connection = ? AND audience_id = ?")
                .bind(audience.connection.as_str())
                .bind(&audience.audience_id)
                .fetch_optional(&mut self.connection)
                .await?;
        if stored.unwrap_or(0).cast_unsigned().checked_add(1) != Some(manifest.version) {
            return Err(Fault::conflict(format!("the ledger of `{audience}`")));
        }
        sqlx::query("INSERT OR REPLACE INTO ledgers (connection, audience_id, version, manifest) VALUES (?, ?, ?, ?)")
            .bind(audience.connection.as_str())
            .bind(&audience.audience_id)
            .bind(manifest.version.cast_signed())
            .bind(stored::to_json(manifest, LEDGER_MANIFEST)?)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn mark_folded(&mut self, audience: &AudienceKey, last: EntryId) -> Result<(), Fault> {
        sqlx::query(
            "UPDATE entries SET state = 'folded'
             WHERE connection = ? AND audience_id = ? AND state = 'closed' AND id <= ?",
        )
        .bind(audience.connection.as_str())
        .bind(&audience.audience_id)
        .bind(last.0)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}
