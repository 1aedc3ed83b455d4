//! The secret key of all hashes: made once, from the operating system's randomness.

use convoke_core::{HashKey, StateError};
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::stored;
use crate::writer::Transaction;

impl SqliteState {
    pub(crate) async fn stored_hash_key(&self) -> Result<HashKey, StateError> {
        if let Some(key) = self.existing_hash_key().await? {
            return Ok(key);
        }
        self.write("making the hash key", |transaction| Box::pin(transaction.make_hash_key())).await
    }

    async fn existing_hash_key(&self) -> Result<Option<HashKey>, StateError> {
        self.read("reading the hash key", |connection| {
            Box::pin(async move {
                let bytes: Option<Vec<u8>> =
                    sqlx::query_scalar("SELECT key FROM hash_key").fetch_optional(connection).await?;
                bytes.as_deref().map(key_from).transpose()
            })
        })
        .await
    }
}

impl Transaction {
    /// Makes the key unless another caller was faster; all get the same one.
    async fn make_hash_key(&mut self) -> Result<HashKey, Fault> {
        let mut fresh = [0; 32];
        OsRng.try_fill_bytes(&mut fresh).map_err(|error| {
            StateError::storage("making the hash key failed: the operating system gave no random bytes", error)
        })?;
        sqlx::query("INSERT INTO hash_key (only, key, made_at) VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&fresh[..])
            .bind(self.now.0)
            .execute(&mut self.connection)
            .await?;
        let kept: Vec<u8> = sqlx::query_scalar("SELECT key FROM hash_key").fetch_one(&mut self.connection).await?;
        key_from(&kept)
    }
}

fn key_from(bytes: &[u8]) -> Result<HashKey, Fault> {
    Ok(HashKey::from_bytes(stored::known(bytes.try_into().ok(), "a hash key")?))
}
