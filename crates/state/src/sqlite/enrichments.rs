//! Enrichments whose end nobody has told yet.

use async_trait::async_trait;
use convoke_core::enrichment::{
    EnrichmentId, EnrichmentScope, EnrichmentStage, Enrichments, NewEnrichment, OpenEnrichment,
};
use convoke_core::state::Lease;
use convoke_core::{StateError, SyncName};

use crate::columns::{enrichment_from, job_of, scope_from, scope_to_json};
use crate::fault::Fault;
use crate::sqlite::SqliteState;

#[async_trait]
impl Enrichments for SqliteState {
    async fn note_enrichment(&self, enrichment: &NewEnrichment, lease: &Lease) -> Result<(), StateError> {
        let (enrichment, lease) = (enrichment.clone(), lease.clone());
        self.write("noting what is to be enriched", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                sqlx::query(
                    "INSERT INTO enrichments (plan, number, sync, run, connection, audience_id, row_ids, stage)
                     VALUES (?, ?, ?, ?, ?, ?, ?, 'noted') ON CONFLICT (plan, number) DO NOTHING",
                )
                .bind(enrichment.plan.to_string())
                .bind(enrichment.number)
                .bind(enrichment.sync.as_str())
                .bind(enrichment.run.to_string())
                .bind(enrichment.audience.connection.as_str())
                .bind(&enrichment.audience.audience_id)
                .bind(scope_to_json(&enrichment.scope)?)
                .execute(&mut transaction.connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    async fn open_enrichments(&self, sync: &SyncName) -> Result<Vec<OpenEnrichment>, StateError> {
        let sync = sync.clone();
        self.read("listing enrichments", move |connection| {
            Box::pin(async move {
                let rows = sqlx::query_as(
                    "SELECT id, run, connection, audience_id, stage, job FROM enrichments WHERE sync = ? ORDER BY id",
                )
                .bind(sync.as_str())
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(enrichment_from).collect()
            })
        })
        .await
    }

    async fn enrichment_scope(&self, id: EnrichmentId) -> Result<Option<EnrichmentScope>, StateError> {
        self.read("looking up what is to be enriched", move |connection| {
            Box::pin(async move {
                let row: Option<(Option<String>,)> = sqlx::query_as("SELECT row_ids FROM enrichments WHERE id = ?")
                    .bind(id.0)
                    .fetch_optional(connection)
                    .await?;
                row.map(|(row_ids,)| scope_from(row_ids)).transpose()
            })
        })
        .await
    }

    async fn move_enrichment(
        &self,
        id: EnrichmentId,
        from: &EnrichmentStage,
        to: &EnrichmentStage,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let (from, to, lease) = (from.clone(), to.clone(), lease.clone());
        self.write("noting how an enrichment stands", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                let moved = sqlx::query("UPDATE enrichments SET stage = ?, job = ? WHERE id = ? AND stage = ?")
                    .bind(to.as_str())
                    .bind(job_of(&to))
                    .bind(id.0)
                    .bind(from.as_str())
                    .execute(&mut transaction.connection)
                    .await?;
                if moved.rows_affected() == 0 {
                    return Err(Fault::conflict(format!("enrichment {}", id.0)));
                }
                Ok(())
            })
        })
        .await
    }

    async fn close_enrichment(&self, id: EnrichmentId, lease: &Lease) -> Result<(), StateError> {
        let lease = lease.clone();
        self.write("closing an enrichment", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                sqlx::query("DELETE FROM enrichments WHERE id = ?")
                    .bind(id.0)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
