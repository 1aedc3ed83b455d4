//! Records refused for good. Their cells are personal data, so they are forgotten after a time.

use async_trait::async_trait;
use convoke_core::ids::RunId;
use convoke_core::state::{RejectRecord, Rejects};
use convoke_core::{StateError, SyncName, Timestamp};
use sqlx::{QueryBuilder, Sqlite};

use crate::columns::{CELLS, reject_from, stage_name};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
use crate::stored;

/// Rejects written or deleted in one transaction: intents of live runs get in between.
const AT_ONCE: usize = 500;

/// Completes the reading of rejects with a condition.
macro_rules! select_rejects {
    ($condition:literal) => {
        concat!(
            "SELECT sync, run, plan, at, stage, key, origin, code, column_name, reason, cells FROM rejects WHERE ",
            $condition,
            " ORDER BY id LIMIT ? OFFSET ?"
        )
    };
}

#[async_trait]
impl Rejects for SqliteState {
    async fn add_rejects(&self, rejects: &[RejectRecord]) -> Result<(), StateError> {
        for part in rejects.chunks(AT_ONCE) {
            let part = part.to_vec();
            self.write("adding rejects", |transaction| Box::pin(transaction.add_rejects(part))).await?;
        }
        Ok(())
    }

    async fn rejects(
        &self,
        sync: &SyncName,
        run: Option<RunId>,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<RejectRecord>, StateError> {
        let sync = sync.clone();
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.read("reading rejects", move |connection| {
            Box::pin(async move {
                let query = match run {
                    Some(run) => sqlx::query_as(select_rejects!("sync = ? AND run = ?"))
                        .bind(sync.as_str())
                        .bind(run.to_string()),
                    // Plan ids are ordered by time.
                    None => sqlx::query_as(select_rejects!(
                        "sync = ? AND plan = (SELECT max(plan) FROM rejects WHERE sync = ?)"
                    ))
                    .bind(sync.as_str())
                    .bind(sync.as_str()),
                };
                let rows = query.bind(limit).bind(offset).fetch_all(connection).await?;
                rows.into_iter().map(reject_from).collect()
            })
        })
        .await
    }

    async fn forget_rejects(&self, before: Timestamp) -> Result<(), StateError> {
        loop {
            let forgotten = self
                .write("forgetting rejects", move |transaction| Box::pin(transaction.forget_some_rejects(before)))
                .await?;
            if usize::try_from(forgotten).is_ok_and(|forgotten| forgotten < AT_ONCE) {
                return Ok(());
            }
        }
    }
}

impl Transaction {
    async fn add_rejects(&mut self, rejects: Vec<RejectRecord>) -> Result<(), Fault> {
        let cells: Result<Vec<String>, Fault> =
            rejects.iter().map(|reject| stored::to_json(&reject.cells, CELLS)).collect();
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO rejects (sync, run, plan, at, stage, key, origin, code, column_name, reason, cells) ",
        );
        insert.push_values(rejects.into_iter().zip(cells?), |mut columns, (reject, cells)| {
            columns
                .push_bind(reject.sync.as_str().to_owned())
                .push_bind(reject.run.to_string())
                .push_bind(reject.plan.to_string())
                .push_bind(reject.at.0)
                .push_bind(stage_name(reject.stage))
                .push_bind(reject.key.map(|key| key.0.to_vec()))
                .push_bind(reject.origin)
                .push_bind(reject.code)
                .push_bind(reject.column)
                .push_bind(reject.reason)
                .push_bind(cells);
        });
        insert.push(" ON CONFLICT DO NOTHING");
        insert.build().execute(&mut self.connection).await?;
        Ok(())
    }

    async fn forget_some_rejects(&mut self, before: Timestamp) -> Result<u64, Fault> {
        let deleted = sqlx::query("DELETE FROM rejects WHERE id IN (SELECT id FROM rejects WHERE at < ? LIMIT ?)")
            .bind(before.0)
            .bind(i64::try_from(AT_ONCE).unwrap_or(i64::MAX))
            .execute(&mut self.connection)
            .await?;
        Ok(deleted.rows_affected())
    }
}
