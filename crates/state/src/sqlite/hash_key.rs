//! The secret key of all hashes: made once, from the operating system's randomness.

use convoke_core::{HashKey, StateError};

use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
use crate::stored;

impl SqliteState {
    pub(super) async fn stored_hash_key(&self) -> Result<HashKey, StateError> {
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
                bytes.as_deref().map(stored::hash_key).transpose()
            })
        })
        .await
    }
}

impl Transaction {
    /// Makes the key unless another caller was faster; all get the same one.
    async fn make_hash_key(&mut self) -> Result<HashKey, Fault> {
        let fresh = stored::fresh_hash_key()?;
        sqlx::query("INSERT INTO hash_key (only, key, made_at) VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&fresh[..])
            .bind(self.now.0)
            .execute(&mut self.connection)
            .await?;
        let kept: Vec<u8> = sqlx::query_scalar("SELECT key FROM hash_key").fetch_one(&mut self.connection).await?;
        stored::hash_key(&kept)
    }
}
