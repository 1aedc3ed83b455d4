//! Which audience a sync writes, and until when requests sent earlier may still commit.

use async_trait::async_trait;
use convoke_core::sink::AudienceBinding;
use convoke_core::state::{Audiences, Lease};
use convoke_core::{AudienceKey, StateError, SyncName, Timestamp};

use super::PostgresState;
use super::sql::held;
use super::transaction::lost;
use crate::columns::BINDING;
use crate::stored;

const BIND: &str = concat!(
    "WITH held AS (",
    held!(),
    ") INSERT INTO bindings (sync, connection, audience_id, binding) SELECT $4, $5, $6, $7 FROM held
       ON CONFLICT (sync) DO UPDATE SET connection = excluded.connection, audience_id = excluded.audience_id,
           binding = excluded.binding
       RETURNING sync"
);

const EXTEND_QUIET: &str = concat!(
    "WITH held AS (",
    held!(),
    ") INSERT INTO quiet_periods AS stored (connection, audience_id, until) SELECT $4, $5, $6 FROM held
       ON CONFLICT (connection, audience_id) DO UPDATE SET until = greatest(stored.until, excluded.until)
       RETURNING until"
);

#[async_trait]
impl Audiences for PostgresState {
    async fn binding(&self, sync: &SyncName) -> Result<Option<AudienceBinding>, StateError> {
        let action = "looking up the audience of a sync";
        let query = sqlx::query_as("SELECT binding FROM bindings WHERE sync = $1").bind(sync.as_str());
        let text: Option<(String,)> = self.find(action, query).await?;
        let binding = stored::optional_from_json(text.map(|(text,)| text), BINDING);
        binding.map_err(|fault| self.explain(action, fault))
    }

    async fn bind(&self, sync: &SyncName, binding: &AudienceBinding, lease: &Lease) -> Result<(), StateError> {
        let action = "binding a sync to its audience";
        let text = stored::to_json(binding, BINDING).map_err(|fault| self.explain(action, fault))?;
        let query = self
            .under(BIND, lease)
            .bind(sync.as_str())
            .bind(binding.key.connection.as_str())
            .bind(&binding.key.audience_id)
            .bind(text);
        let bound: Option<(String,)> = self.change_under(action, lease, query).await?;
        bound.map(drop).ok_or_else(|| lost(lease))
    }

    async fn syncs_of(&self, audience: &AudienceKey) -> Result<Vec<SyncName>, StateError> {
        let query =
            sqlx::query_as("SELECT sync FROM bindings WHERE connection = $1 AND audience_id = $2 ORDER BY sync");
        let query = query.bind(audience.connection.as_str()).bind(&audience.audience_id);
        let names: Vec<(String,)> = self.list("looking up the syncs of an audience", query).await?;
        Ok(names.into_iter().map(|(name,)| SyncName::new(name)).collect())
    }

    async fn quiet_until(&self, audience: &AudienceKey) -> Result<Option<Timestamp>, StateError> {
        let query = sqlx::query_as("SELECT until FROM quiet_periods WHERE connection = $1 AND audience_id = $2");
        let query = query.bind(audience.connection.as_str()).bind(&audience.audience_id);
        let until: Option<(i64,)> = self.find("looking up the quiet period of an audience", query).await?;
        Ok(until.map(|(until,)| Timestamp(until)))
    }

    async fn extend_quiet(&self, audience: &AudienceKey, until: Timestamp, lease: &Lease) -> Result<(), StateError> {
        let query = self.under(EXTEND_QUIET, lease);
        let query = query.bind(audience.connection.as_str()).bind(&audience.audience_id).bind(until.0);
        let extended: Option<(i64,)> =
            self.change_under("extending the quiet period of an audience", lease, query).await?;
        extended.map(drop).ok_or_else(|| lost(lease))
    }
}
