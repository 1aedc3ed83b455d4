//! Refused records. Their cells are personal data, so they are forgotten after a time.

use async_trait::async_trait;
use convoke_core::hash::KeyHash;
use convoke_core::ids::{PlanId, RunId};
use convoke_core::reject::{KeptRejects, NotedReject, OpenReject, RejectId};
use convoke_core::state::{Lease, RejectRecord, Rejects};
use convoke_core::{StateError, SyncName, Timestamp};
use sqlx::{QueryBuilder, Sqlite};

use crate::fault::Fault;
use crate::rejects::{CELLS, TAKE_PLACES, after, open_from, reject_from, stage_name, subject_of};
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;
use crate::stored;

/// Rejects written or deleted in one transaction: intents of live runs get in between.
const AT_ONCE: usize = 500;

/// Completes the reading of rejects with a condition.
macro_rules! select_rejects {
    ($condition:literal) => {
        concat!(
            "SELECT id, sync, run, plan, at, stage, key, content, origin, code, column_name, reason, cells, attempts, first_at, state
             FROM rejects WHERE sync = ? AND id > ? AND ",
            $condition,
            " ORDER BY id LIMIT ?"
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
        last: Option<RejectId>,
        limit: u32,
    ) -> Result<Vec<NotedReject>, StateError> {
        let sync = sync.clone();
        self.read("reading rejects", move |connection| {
            Box::pin(async move {
                let statement = match run {
                    Some(_) => select_rejects!("run = ?"),
                    None => select_rejects!("state = 'open'"),
                };
                let mut query = sqlx::query_as(statement).bind(sync.as_str()).bind(after(last));
                if let Some(run) = run {
                    query = query.bind(run.to_string());
                }
                let rows = query.bind(limit).fetch_all(connection).await?;
                rows.into_iter().map(reject_from).collect()
            })
        })
        .await
    }

    async fn open_rejects(
        &self,
        sync: &SyncName,
        last: Option<RejectId>,
        limit: u32,
    ) -> Result<Vec<OpenReject>, StateError> {
        let sync = sync.clone();
        self.read("reading open rejects", move |connection| {
            Box::pin(async move {
                let query = sqlx::query_as(
                    "SELECT id, key, content, run, first_at FROM rejects
                     WHERE sync = ? AND id > ? AND state = 'open' AND key IS NOT NULL ORDER BY id LIMIT ?",
                );
                let query = query.bind(sync.as_str()).bind(after(last)).bind(limit);
                query.fetch_all(connection).await?.into_iter().map(open_from).collect()
            })
        })
        .await
    }

    async fn keep_rejects(
        &self,
        sync: &SyncName,
        plan: PlanId,
        kept: &KeptRejects,
        lease: &Lease,
    ) -> Result<(), StateError> {
        let (keys, keeper) = match kept {
            KeptRejects::Only(keys) => (keys, Some(plan)),
            KeptRejects::AllBut(keys) => (keys, None),
        };
        let (of, under) = (sync.clone(), lease.clone());
        self.write("keeping rejects", move |transaction| {
            Box::pin(async move {
                transaction.demand(&under).await?;
                transaction.supersede_waiting(&of).await?;
                match keeper {
                    Some(_) => Ok(()),
                    None => transaction.keep_all_rejects(of, plan).await,
                }
            })
        })
        .await?;
        for part in keys.chunks(AT_ONCE) {
            let (sync, part, lease) = (sync.clone(), part.to_vec(), lease.clone());
            self.write("keeping rejects", move |transaction| {
                Box::pin(async move {
                    transaction.demand(&lease).await?;
                    transaction.keep_rejects(sync, keeper, part).await
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn close_rejects(&self, sync: &SyncName, plan: PlanId, lease: &Lease) -> Result<(), StateError> {
        let (sync, lease) = (sync.clone(), lease.clone());
        self.write("closing rejects", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.close_rejects(sync, plan).await
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
            "INSERT INTO rejects (sync, run, plan, at, stage, key, content, subject, origin, code, column_name, reason, cells, first_at, state) ",
        );
        insert.push_values(rejects.into_iter().zip(cells?), |mut columns, (reject, cells)| {
            let subject = subject_of(&reject).to_vec();
            columns
                .push_bind(reject.sync.as_str().to_owned())
                .push_bind(reject.run.to_string())
                .push_bind(reject.plan.to_string())
                .push_bind(reject.at.0)
                .push_bind(stage_name(reject.stage))
                .push_bind(reject.key.map(|key| key.0.to_vec()))
                .push_bind(reject.content.map(|content| content.0.to_vec()))
                .push_bind(subject)
                .push_bind(reject.origin)
                .push_bind(reject.code)
                .push_bind(reject.column)
                .push_bind(reject.reason)
                .push_bind(cells)
                .push_bind(reject.at.0)
                .push_bind("new");
        });
        insert.push(" ON CONFLICT DO NOTHING");
        let inserted = insert.build().execute(&mut self.connection).await?;
        if inserted.rows_affected() > 0 {
            for statement in TAKE_PLACES {
                sqlx::query(statement).execute(&mut self.connection).await?;
            }
        }
        Ok(())
    }

    async fn keep_all_rejects(&mut self, sync: SyncName, plan: PlanId) -> Result<(), Fault> {
        let query = sqlx::query("UPDATE rejects SET kept_by = ? WHERE sync = ? AND state = 'open'");
        query.bind(plan.to_string()).bind(sync.as_str()).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn keep_rejects(&mut self, sync: SyncName, plan: Option<PlanId>, keys: Vec<KeyHash>) -> Result<(), Fault> {
        let mut update = QueryBuilder::<Sqlite>::new("UPDATE rejects SET kept_by = ");
        update.push_bind(plan.map(|plan| plan.to_string()));
        update.push(" WHERE state = 'open' AND sync = ").push_bind(sync.as_str().to_owned());
        update.push(" AND subject IN (");
        let mut listed = update.separated(", ");
        for key in keys {
            listed.push_bind(key.0.to_vec());
        }
        update.push(")").build().execute(&mut self.connection).await?;
        Ok(())
    }

    async fn close_rejects(&mut self, sync: SyncName, plan: PlanId) -> Result<(), Fault> {
        sqlx::query(
            "UPDATE rejects SET state = 'closed'
             WHERE sync = ? AND state = 'open' AND plan <> ? AND kept_by IS DISTINCT FROM ?",
        )
        .bind(sync.as_str())
        .bind(plan.to_string())
        .bind(plan.to_string())
        .execute(&mut self.connection)
        .await?;
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
