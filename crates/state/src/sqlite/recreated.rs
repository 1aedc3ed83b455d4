//! Keys that were created again after a look-up found them absent.
//!
//! A request that commits late would double them, so each is looked up again: at the end of the run, and, for the last
//! time, at the start of a later one. Each run has a lease of its own, so its fence tells the runs apart.

use convoke_core::hash::KeyHash;
use convoke_core::sink::AttemptTag;
use convoke_core::state::{Lease, Recreated};
use convoke_core::{AudienceKey, StateError};

use crate::columns::recreated_from;
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;

impl SqliteState {
    pub(super) async fn note_recreated_keys(
        &self,
        audience: AudienceKey,
        keys: Vec<(KeyHash, AttemptTag)>,
        lease: Lease,
    ) -> Result<(), StateError> {
        self.write("noting keys that are created again", |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                for (key, tag) in keys {
                    transaction.note_recreated(&audience, key, tag, lease.fence).await?;
                }
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn recreated_keys(&self, audience: AudienceKey) -> Result<Vec<Recreated>, StateError> {
        self.read("looking up keys that were created again", |connection| {
            Box::pin(async move {
                let rows: Vec<(Vec<u8>, i64, i64)> = sqlx::query_as(
                    "SELECT recreated_keys.key, sweeps, tag FROM recreated_keys
                     JOIN recreated_tags USING (connection, audience_id, key)
                     WHERE connection = ? AND audience_id = ? ORDER BY recreated_keys.key, tag",
                )
                .bind(audience.connection.as_str())
                .bind(&audience.audience_id)
                .fetch_all(connection)
                .await?;
                recreated_from(rows)
            })
        })
        .await
    }

    pub(super) async fn count_sweep_of_keys(
        &self,
        audience: AudienceKey,
        keys: Vec<KeyHash>,
        lease: Lease,
    ) -> Result<(), StateError> {
        self.write("counting a sweep of keys", |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                for key in keys {
                    transaction.count_sweep(&audience, key, lease.fence).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

impl Transaction {
    async fn note_recreated(
        &mut self,
        audience: &AudienceKey,
        key: KeyHash,
        tag: AttemptTag,
        fence: u64,
    ) -> Result<(), Fault> {
        // Created once more, so what was swept before says nothing about the new request.
        sqlx::query(
            "INSERT INTO recreated_keys (connection, audience_id, key, sweeps, noted_fence) VALUES (?, ?, ?, 0, ?)
             ON CONFLICT DO UPDATE SET sweeps = 0, noted_fence = excluded.noted_fence",
        )
        .bind(audience.connection.as_str())
        .bind(&audience.audience_id)
        .bind(&key.0[..])
        .bind(fence.cast_signed())
        .execute(&mut self.connection)
        .await?;
        sqlx::query(
            "INSERT INTO recreated_tags (connection, audience_id, key, tag) VALUES (?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(audience.connection.as_str())
        .bind(&audience.audience_id)
        .bind(&key.0[..])
        .bind(tag.0)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    async fn count_sweep(&mut self, audience: &AudienceKey, key: KeyHash, fence: u64) -> Result<(), Fault> {
        let noted: Option<i64> = sqlx::query_scalar(
            "UPDATE recreated_keys SET sweeps = sweeps + 1 WHERE connection = ? AND audience_id = ? AND key = ?
             RETURNING noted_fence",
        )
        .bind(audience.connection.as_str())
        .bind(&audience.audience_id)
        .bind(&key.0[..])
        .fetch_optional(&mut self.connection)
        .await?;
        if noted.is_some_and(|noted| noted.cast_unsigned() < fence) {
            sqlx::query("DELETE FROM recreated_keys WHERE connection = ? AND audience_id = ? AND key = ?")
                .bind(audience.connection.as_str())
                .bind(&audience.audience_id)
                .bind(&key.0[..])
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }
}
