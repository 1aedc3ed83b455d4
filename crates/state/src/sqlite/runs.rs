//! Runs: one row for each execution of a sync.

use async_trait::async_trait;
use convoke_core::ids::RunId;
use convoke_core::state::{RunRecord, Runs};
use convoke_core::{StateError, SyncName};

use crate::columns::{COUNTS, ENRICHMENT, run_from};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
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
impl Runs for SqliteState {
    async fn start_run(&self, run: &RunRecord) -> Result<(), StateError> {
        let run = run.clone();
        self.write("starting a run", |transaction| Box::pin(transaction.insert_run(run))).await
    }

    async fn update_run(&self, run: &RunRecord) -> Result<(), StateError> {
        let run = run.clone();
        self.write("recording a run", |transaction| Box::pin(async move { transaction.replace_run(&run).await })).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StateError> {
        self.read("looking up a run", move |connection| {
            Box::pin(async move {
                let row = sqlx::query_as(select_runs!("WHERE id = ?"))
                    .bind(id.to_string())
                    .fetch_optional(connection)
                    .await?;
                row.map(run_from).transpose()
            })
        })
        .await
    }

    async fn runs(&self, sync: Option<&SyncName>, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        let sync = sync.cloned();
        self.read("listing runs", move |connection| {
            Box::pin(async move {
                let query = match &sync {
                    Some(sync) => {
                        sqlx::query_as(select_runs!("WHERE sync = ? ORDER BY started_at DESC, id DESC LIMIT ?"))
                            .bind(sync.as_str())
                    }
                    None => sqlx::query_as(select_runs!("ORDER BY started_at DESC, id DESC LIMIT ?")),
                };
                let rows = query.bind(limit).fetch_all(connection).await?;
                rows.into_iter().map(run_from).collect()
            })
        })
        .await
    }
}

impl Transaction {
    async fn insert_run(&mut self, run: RunRecord) -> Result<(), Fault> {
        let inserted = sqlx::query(
            "INSERT INTO runs (id, sync, started_at, state) VALUES (?, ?, ?, 'running') ON CONFLICT (id) DO NOTHING",
        )
        .bind(run.id.to_string())
        .bind(run.sync.as_str())
        .bind(run.started_at.0)
        .execute(&mut self.connection)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(Fault::conflict(format!("run {}", run.id)));
        }
        self.replace_run(&run).await
    }

    /// Replaces a run's record, all but its id.
    pub(super) async fn replace_run(&mut self, run: &RunRecord) -> Result<(), Fault> {
        let replaced = sqlx::query(
            "UPDATE runs SET sync = ?, started_at = ?, ended_at = ?, state = ?, plan = ?, message = ?, counts = ?,
                 delivery = ?, ledger = ?, enrichment = ? WHERE id = ?",
        )
        .bind(run.sync.as_str())
        .bind(run.started_at.0)
        .bind(run.ended_at.map(|at| at.0))
        .bind(run.state.as_str())
        .bind(run.plan.map(|plan| plan.to_string()))
        .bind(&run.message)
        .bind(stored::optional_to_json(run.counts.as_ref(), COUNTS)?)
        .bind(stored::optional_to_json(run.delivery.as_ref(), COUNTS)?)
        .bind(stored::optional_to_json(run.ledger.as_ref(), COUNTS)?)
        .bind(stored::optional_to_json(run.enrichment.as_ref(), ENRICHMENT)?)
        .bind(run.id.to_string())
        .execute(&mut self.connection)
        .await?;
        if replaced.rows_affected() == 0 {
            return Err(stored::no_run(run.id).into());
        }
        Ok(())
    }
}
