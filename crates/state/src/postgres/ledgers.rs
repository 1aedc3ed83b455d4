//! Ledger manifests, the one transaction that folds the journal in, and the key of all hashes.

use async_trait::async_trait;
use convoke_core::journal::EntryId;
use convoke_core::ledger::LedgerManifest;
use convoke_core::state::{Lease, Ledgers};
use convoke_core::{AudienceKey, HashKey, StateError};
use sqlx::PgConnection;

use super::PostgresState;
use super::sql::now;
use crate::columns::LEDGER_MANIFEST;
use crate::fault::Fault;
use crate::stored;

const MAKE_HASH_KEY: &str =
    concat!("INSERT INTO hash_key (singleton, key, made_at) VALUES (true, $2, ", now!(), ") ON CONFLICT DO NOTHING");

#[async_trait]
impl Ledgers for PostgresState {
    async fn ledger(&self, audience: &AudienceKey) -> Result<Option<LedgerManifest>, StateError> {
        let action = "looking up a ledger";
        let query = sqlx::query_as("SELECT manifest FROM ledgers WHERE connection = $1 AND audience_id = $2");
        let query = query.bind(audience.connection.as_str()).bind(&audience.audience_id);
        let text: Option<(String,)> = self.find(action, query).await?;
        let manifest = stored::optional_from_json(text.map(|(text,)| text), LEDGER_MANIFEST);
        manifest.map_err(|fault| self.explain(action, fault))
    }

    /// Nothing that was closed since the caller read the entries is marked: closing takes the same lease, its holder
    /// folds after it has closed, and a closing that was not confirmed rules out folding under this lease.
    async fn commit_fold(
        &self,
        manifest: &LedgerManifest,
        folded_to: Option<EntryId>,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let mut transaction = self.begin_under("committing a fold", lease).await?;
        let worked = self.in_time(async {
            replace_ledger(transaction.connection(), manifest).await?;
            match folded_to {
                Some(last) => mark_folded(transaction.connection(), &manifest.audience, last).await,
                None => Ok(()),
            }
        });
        let worked = worked.await;
        transaction.end(worked).await
    }

    async fn hash_key(&self) -> Result<HashKey, StateError> {
        let action = "reading the hash key";
        let query = sqlx::query_as("SELECT key FROM hash_key");
        let key: Option<(Vec<u8>,)> = self.find(action, query).await?;
        match key {
            Some((key,)) => stored::hash_key(&key).map_err(|fault| self.explain(action, fault)),
            None => self.make_hash_key().await,
        }
    }
}

impl PostgresState {
    /// Makes the key unless another caller was faster; all get the same one.
    async fn make_hash_key(&self) -> Result<HashKey, StateError> {
        let ahead = self.clock.ahead();
        let mut transaction = self.begin("making the hash key").await?;
        let worked = self.in_time(async {
            let fresh = stored::fresh_hash_key()?;
            // Waits for whoever makes one at the same time.
            sqlx::query(MAKE_HASH_KEY).bind(ahead).bind(&fresh[..]).execute(transaction.connection()).await?;
            let (kept,): (Vec<u8>,) =
                sqlx::query_as("SELECT key FROM hash_key").fetch_one(transaction.connection()).await?;
            stored::hash_key(&kept)
        });
        let worked = worked.await;
        transaction.end(worked).await
    }
}

/// Replaces a manifest if it is the next after the stored one; none is stored before version 1.
pub(super) async fn replace_ledger(connection: &mut PgConnection, manifest: &LedgerManifest) -> Result<(), Fault> {
    let statement = match manifest.version {
        1 => {
            "INSERT INTO ledgers (connection, audience_id, version, manifest) VALUES ($1, $2, $3, $4)
             ON CONFLICT (connection, audience_id) DO NOTHING"
        }
        _ => {
            "UPDATE ledgers SET version = $3, manifest = $4
             WHERE connection = $1 AND audience_id = $2 AND version = $3 - 1"
        }
    };
    let audience = &manifest.audience;
    let replaced = sqlx::query(statement)
        .bind(audience.connection.as_str())
        .bind(&audience.audience_id)
        .bind(manifest.version.cast_signed())
        .bind(stored::to_json(manifest, LEDGER_MANIFEST)?)
        .execute(connection)
        .await?;
    match replaced.rows_affected() {
        0 => Err(Fault::conflict(format!("the ledger of `{audience}`"))),
        _ => Ok(()),
    }
}

async fn mark_folded(connection: &mut PgConnection, audience: &AudienceKey, last: EntryId) -> Result<(), Fault> {
    sqlx::query(
        "UPDATE entries SET state = 'folded'
         WHERE connection = $1 AND audience_id = $2 AND state = 'closed' AND id <= $3",
    )
    .bind(audience.connection.as_str())
    .bind(&audience.audience_id)
    .bind(last.0)
    .execute(connection)
    .await?;
    Ok(())
}
