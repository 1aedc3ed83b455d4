//! Which audience a sync writes, and until when requests sent earlier may still commit.

use async_trait::async_trait;
use convoke_core::sink::AudienceBinding;
use convoke_core::state::{Audiences, Lease};
use convoke_core::{AudienceKey, StateError, SyncName, Timestamp};

use crate::columns::BINDING;
use crate::sqlite::SqliteState;
use crate::stored;

#[async_trait]
impl Audiences for SqliteState {
    async fn binding(&self, sync: &SyncName) -> Result<Option<AudienceBinding>, StateError> {
        let sync = sync.clone();
        self.read("looking up the audience of a sync", |connection| {
            Box::pin(async move {
                let text: Option<String> = sqlx::query_scalar("SELECT binding FROM bindings WHERE sync = ?")
                    .bind(sync.as_str())
                    .fetch_optional(connection)
                    .await?;
                stored::optional_from_json(text, BINDING)
            })
        })
        .await
    }

    async fn bind(&self, sync: &SyncName, binding: &AudienceBinding, lease: &Lease) -> Result<(), StateError> {
        let (sync, binding, lease) = (sync.clone(), binding.clone(), lease.clone());
        self.write("binding a sync to its audience", |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                sqlx::query(
                    "INSERT OR REPLACE INTO bindings (sync, connection, audience_id, binding) VALUES (?, ?, ?, ?)",
                )
                .bind(sync.as_str())
                .bind(binding.key.connection.as_str())
                .bind(&binding.key.audience_id)
                .bind(stored::to_json(&binding, BINDING)?)
                .execute(&mut transaction.connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    async fn syncs_of(&self, audience: &AudienceKey) -> Result<Vec<SyncName>, StateError> {
        let audience = audience.clone();
        self.read("looking up the syncs of an audience", |connection| {
            Box::pin(async move {
                let names: Vec<String> = sqlx::query_scalar(
                    "SELECT sync FROM bindings WHERE connection = ? AND audience_id = ? ORDER BY sync",
                )
                .bind(audience.connection.as_str())
                .bind(&audience.audience_id)
                .fetch_all(connection)
                .await?;
                Ok(names.into_iter().map(SyncName::new).collect())
            })
        })
        .await
    }

    async fn quiet_until(&self, audience: &AudienceKey) -> Result<Option<Timestamp>, StateError> {
        let audience = audience.clone();
        self.read("looking up the quiet period of an audience", |connection| {
            Box::pin(async move {
                let until: Option<i64> =
                    sqlx::query_scalar("SELECT until FROM quiet_periods WHERE connection = ? AND audience_id = ?")
                        .bind(audience.connection.as_str())
                        .bind(&audience.audience_id)
                        .fetch_optional(connection)
                        .await?;
                Ok(until.map(Timestamp))
            })
        })
        .await
    }

    async fn extend_quiet(&self, audience: &AudienceKey, until: Timestamp, lease: &Lease) -> Result<(), StateError> {
        let (audience, lease) = (audience.clone(), lease.clone());
        self.write("extending the quiet period of an audience", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                sqlx::query(
                    "INSERT INTO quiet_periods (connection, audience_id, until) VALUES (?, ?, ?)
                     ON CONFLICT (connection, audience_id) DO UPDATE SET until = max(until, excluded.until)",
                )
                .bind(audience.connection.as_str())
                .bind(&audience.audience_id)
                .bind(until.0)
                .execute(&mut transaction.connection)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
