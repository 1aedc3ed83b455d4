//! Runs: one row for each execution of a sync.

use async_trait::async_trait;
use convoke_core::ids::RunId;
use convoke_core::state::{RunRecord, RunState, Runs};
use convoke_core::{StateError, SyncName, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::stored;
use crate::writer::Transaction;

const COUNTS: &str = "the counts of a run";

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
                let row = sqlx::query("SELECT * FROM runs WHERE id = ?")
                    .bind(id.to_string())
                    .fetch_optional(connection)
                    .await?;
                row.as_ref().map(run_from).transpose()
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
                        sqlx::query("SELECT * FROM runs WHERE sync = ? ORDER BY started_at DESC, id DESC LIMIT ?")
                            .bind(sync.as_str())
                    }
                    None => sqlx::query("SELECT * FROM runs ORDER BY started_at DESC, id DESC LIMIT ?"),
                };
                let rows = query.bind(limit).fetch_all(connection).await?;
                rows.iter().map(run_from).collect()
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
    pub(crate) async fn replace_run(&mut self, run: &RunRecord) -> Result<(), Fault> {
        let replaced = sqlx::query(
            "UPDATE runs SET sync = ?, started_at = ?, ended_at = ?, state = ?, plan = ?, message = ?, counts = ?,
                 delivery = ?, ledger = ? WHERE id = ?",
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
        .bind(run.id.to_string())
        .execute(&mut self.connection)
        .await?;
        if replaced.rows_affected() == 0 {
            let message = format!("run {} is not in the state; see `convoke runs` for those that are", run.id);
            return Err(StateError::Missing { message }.into());
        }
        Ok(())
    }
}

fn run_from(row: &SqliteRow) -> Result<RunRecord, Fault> {
    let plan: Option<String> = row.try_get("plan")?;
    let ended_at: Option<i64> = row.try_get("ended_at")?;
    Ok(RunRecord {
        id: stored::run_id(row.try_get("id")?)?,
        sync: SyncName::new(row.try_get::<String, _>("sync")?),
        started_at: Timestamp(row.try_get("started_at")?),
        ended_at: ended_at.map(Timestamp),
        state: stored::known(RunState::parse(row.try_get("state")?), "the state of a run")?,
        plan: plan.as_deref().map(stored::plan_id).transpose()?,
        message: row.try_get("message")?,
        counts: stored::optional_from_json(row.try_get("counts")?, COUNTS)?,
        delivery: stored::optional_from_json(row.try_get("delivery")?, COUNTS)?,
        ledger: stored::optional_from_json(row.try_get("ledger")?, COUNTS)?,
    })
}
