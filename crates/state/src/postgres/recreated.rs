//! Keys that were created again after a look-up found them absent.
//!
//! A request that commits late would double them, so each is looked up again: at the end of the run, and, for the last
//! time, at the start of a later one. Each run has a lease of its own, so its fence tells the runs apart.

use convoke_core::hash::KeyHash;
use convoke_core::sink::AttemptTag;
use convoke_core::state::{Lease, Recreated};
use convoke_core::{AudienceKey, StateError};

use super::PostgresState;
use crate::columns::recreated_from;

impl PostgresState {
    pub(super) async fn note_recreated_keys(
        &self,
        audience: &AudienceKey,
        keys: &[(KeyHash, AttemptTag)],
        lease: &Lease,
    ) -> Result<(), StateError> {
        let tags: Vec<i64> = keys.iter().map(|(_, tag)| i64::from(tag.0)).collect();
        let keys: Vec<Vec<u8>> = keys.iter().map(|(key, _)| key.0.to_vec()).collect();
        let mut transaction = self.begin_under("noting keys that are created again", lease).await?;
        let worked = self.in_time(async {
            // Created once more, so what was swept before says nothing about the new request.
            sqlx::query(
                "INSERT INTO recreated_keys (connection, audience_id, key, sweeps, noted_fence)
                 SELECT DISTINCT $1, $2, key, 0, $4::bigint FROM unnest($3::bytea[]) AS noted (key)
                 ON CONFLICT (connection, audience_id, key)
                     DO UPDATE SET sweeps = 0, noted_fence = excluded.noted_fence",
            )
            .bind(audience.connection.as_str())
            .bind(&audience.audience_id)
            .bind(&keys)
            .bind(lease.fence.cast_signed())
            .execute(transaction.connection())
            .await?;
            sqlx::query(
                "INSERT INTO recreated_tags (connection, audience_id, key, tag)
                 SELECT $1, $2, key, tag FROM unnest($3::bytea[], $4::bigint[]) AS noted (key, tag)
                 ON CONFLICT DO NOTHING",
            )
            .bind(audience.connection.as_str())
            .bind(&audience.audience_id)
            .bind(&keys)
            .bind(&tags)
            .execute(transaction.connection())
            .await?;
            Ok(())
        });
        let worked = worked.await;
        transaction.end(worked).await
    }

    pub(super) async fn recreated_keys(&self, audience: &AudienceKey) -> Result<Vec<Recreated>, StateError> {
        let action = "looking up keys that were created again";
        let query = sqlx::query_as(
            "SELECT key, sweeps, tag FROM recreated_keys JOIN recreated_tags USING (connection, audience_id, key)
             WHERE connection = $1 AND audience_id = $2 ORDER BY key, tag",
        );
        let query = query.bind(audience.connection.as_str()).bind(&audience.audience_id);
        let rows = self.list(action, query).await?;
        recreated_from(rows).map_err(|fault| self.explain(action, fault))
    }

    pub(super) async fn count_sweep_of_keys(
        &self,
        audience: &AudienceKey,
        keys: &[KeyHash],
        lease: &Lease,
    ) -> Result<(), StateError> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.0.to_vec()).collect();
        let mut transaction = self.begin_under("counting a sweep of keys", lease).await?;
        let worked = self.in_time(async {
            sqlx::query(
                "UPDATE recreated_keys SET sweeps = sweeps + 1
                 WHERE connection = $1 AND audience_id = $2 AND key = ANY ($3)",
            )
            .bind(audience.connection.as_str())
            .bind(&audience.audience_id)
            .bind(&keys)
            .execute(transaction.connection())
            .await?;
            sqlx::query(
                "DELETE FROM recreated_keys
                 WHERE connection = $1 AND audience_id = $2 AND key = ANY ($3) AND noted_fence < $4",
            )
            .bind(audience.connection.as_str())
            .bind(&audience.audience_id)
            .bind(&keys)
            .bind(lease.fence.cast_signed())
            .execute(transaction.connection())
            .await?;
            Ok(())
        });
        let worked = worked.await;
        transaction.end(worked).await
    }
}
