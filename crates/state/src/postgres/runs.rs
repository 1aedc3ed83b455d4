//! Runs: one row for each execution of a sync.

use async_trait::async_trait;
use convoke_core::ids::RunId;
use convoke_core::state::{RunRecord, Runs};
use convoke_core::{StateError, SyncName};
use sqlx::PgConnection;

use super::PostgresState;
use super::sql::storable;
use crate::columns::{COUNTS, ENRICHMENT, RunColumns, run_from};
use crate::fault::Fault;
use crate::stored;

/// Completes the reading of runs with a condition and an order.
macro_rules! select_runs {
    ($rest:literal) => {
        concat!(
            "SELECT id, sync, started_at, ended_at, state, plan, message, counts, delivery, ledger, enrichment FROM runs ",
            $rest
        )
    };
}

#[async_trait]
impl Runs for PostgresState {
    async fn start_run(&self, run: &RunRecord) -> Result<(), StateError> {
        let mut transaction = self.begin("starting a run").await?;
        let worked = self.in_time(insert_run(transaction.connection(), run)).await;
        transaction.end(worked).await
    }

    async fn update_run(&self, run: &RunRecord) -> Result<(), StateError> {
        let mut transaction = self.begin("recording a run").await?;
        let worked = self.in_time(replace_run(transaction.connection(), run)).await;
        transaction.end(worked).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StateError> {
        let action = "looking up a run";
        let query = sqlx::query_as(select_runs!("WHERE id = $1")).bind(id.to_string());
        let columns: Option<RunColumns> = self.find(action, query).await?;
        columns.map(run_from).transpose().map_err(|fault| self.explain(action, fault))
    }

    async fn runs(&self, sync: Option<&SyncName>, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        let action = "listing runs";
        let query = match sync {
            Some(sync) => sqlx::query_as(select_runs!("WHERE sync = $2 ORDER BY started_at DESC, id DESC LIMIT $1"))
                .bind(i64::from(limit))
                .bind(sync.as_str()),
            None => sqlx::query_as(select_runs!("ORDER BY started_at DESC, id DESC LIMIT $1")).bind(i64::from(limit)),
        };
        let rows: Vec<RunColumns> = self.list(action, query).await?;
        let runs: Result<Vec<RunRecord>, Fault> = rows.into_iter().map(run_from).collect();
        runs.map_err(|fault| self.explain(action, fault))
    }
}

async fn insert_run(connection: &mut PgConnection, run: &RunRecord) -> Result<(), Fault> {
    let inserted = sqlx::query(
        "INSERT INTO runs (id, sync, started_at, state) VALUES ($1, $2, $3, 'running') ON CONFLICT (id) DO NOTHING",
    )
    .bind(run.id.to_string())
    .bind(run.sync.as_str())
    .bind(run.started_at.0)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(Fault::conflict(format!("run {}", run.id)));
    }
    replace_run(connection, run).await
}

/// Replaces a run's record, all but its id.
pub(super) async fn replace_run(connection: &mut PgConnection, run: &RunRecord) -> Result<(), Fault> {
    let replaced = sqlx::query(
        "UPDATE runs SET sync = $2, started_at = $3, ended_at = $4, state = $5, plan = $6, message = $7, counts = $8,
             delivery = $9, ledger = $10, enrichment = $11 WHERE id = $1",
    )
    .bind(run.id.to_string())
    .bind(run.sync.as_str())
    .bind(run.started_at.0)
    .bind(run.ended_at.map(|at| at.0))
    .bind(run.state.as_str())
    .bind(run.plan.map(|plan| plan.to_string()))
    .bind(run.message.as_deref().map(storable))
    .bind(stored::optional_to_json(run.counts.as_ref(), COUNTS)?)
    .bind(stored::optional_to_json(run.delivery.as_ref(), COUNTS)?)
    .bind(stored::optional_to_json(run.ledger.as_ref(), COUNTS)?)
    .bind(stored::optional_to_json(run.enrichment.as_ref(), ENRICHMENT)?)
    .execute(connection)
    .await?;
    if replaced.rows_affected() == 0 {
        return Err(stored::no_run(run.id).into());
    }
    Ok(())
}
