//! Enrichments whose end nobody has told yet.

use async_trait::async_trait;
use convoke_core::enrichment::{
    EnrichmentId, EnrichmentScope, EnrichmentStage, Enrichments, NewEnrichment, OpenEnrichment,
};
use convoke_core::state::Lease;
use convoke_core::{StateError, SyncName};

use super::PostgresState;
use crate::columns::{EnrichmentColumns, enrichment_from, job_of, scope_from, scope_to_json};
use crate::fault::Fault;

#[async_trait]
impl Enrichments for PostgresState {
    async fn note_enrichment(&self, enrichment: &NewEnrichment, lease: &Lease) -> Result<(), StateError> {
        let mut transaction = self.begin_under("noting what is to be enriched", lease).await?;
        let noted = async {
            sqlx::query(
                "INSERT INTO enrichments (plan, number, sync, run, connection, audience_id, row_ids, stage)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 'noted') ON CONFLICT (plan, number) DO NOTHING",
            )
            .bind(enrichment.plan.to_string())
            .bind(i64::from(enrichment.number))
            .bind(enrichment.sync.as_str())
            .bind(enrichment.run.to_string())
            .bind(enrichment.audience.connection.as_str())
            .bind(&enrichment.audience.audience_id)
            .bind(scope_to_json(&enrichment.scope)?)
            .execute(transaction.connection())
            .await?;
            Ok(())
        };
        let worked = self.in_time(noted).await;
        transaction.end(worked).await
    }

    async fn open_enrichments(&self, sync: &SyncName) -> Result<Vec<OpenEnrichment>, StateError> {
        let action = "listing enrichments";
        let query = sqlx::query_as(
            "SELECT id, run, connection, audience_id, stage, job FROM enrichments WHERE sync = $1 ORDER BY id",
        );
        let rows: Vec<EnrichmentColumns> = self.list(action, query.bind(sync.as_str())).await?;
        let open: Result<Vec<OpenEnrichment>, Fault> = rows.into_iter().map(enrichment_from).collect();
        open.map_err(|fault| self.explain(action, fault))
    }

    async fn enrichment_scope(&self, id: EnrichmentId) -> Result<Option<EnrichmentScope>, StateError> {
        let action = "looking up what is to be enriched";
        let query = sqlx::query_as("SELECT row_ids FROM enrichments WHERE id = $1").bind(id.0);
        let row: Option<(Option<String>,)> = self.find(action, query).await?;
        row.map(|(row_ids,)| scope_from(row_ids)).transpose().map_err(|fault| self.explain(action, fault))
    }

    async fn move_enrichment(
        &self,
        id: EnrichmentId,
        from: &EnrichmentStage,
        to: &EnrichmentStage,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let mut transaction = self.begin_under("noting how an enrichment stands", lease).await?;
        let moved = async {
            let moved = sqlx::query("UPDATE enrichments SET stage = $1, job = $2 WHERE id = $3 AND stage = $4")
                .bind(to.as_str())
                .bind(job_of(to))
                .bind(id.0)
                .bind(from.as_str())
                .execute(transaction.connection())
                .await?;
            if moved.rows_affected() == 0 {
                return Err(Fault::conflict(format!("enrichment {}", id.0)));
            }
            Ok(())
        };
        let worked = self.in_time(moved).await;
        transaction.end(worked).await
    }

    async fn close_enrichment(&self, id: EnrichmentId, lease: &Lease) -> Result<(), StateError> {
        let mut transaction = self.begin_under("closing an enrichment", lease).await?;
        let closed = async {
            sqlx::query("DELETE FROM enrichments WHERE id = $1").bind(id.0).execute(transaction.connection()).await?;
            Ok(())
        };
        let worked = self.in_time(closed).await;
        transaction.end(worked).await
    }
}
