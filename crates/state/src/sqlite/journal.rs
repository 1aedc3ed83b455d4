//! The journal: intents and outcomes, packed, one entry for each attempt at a batch.
//!
//! Open and unfolded entries have indices of their own, so that finding them costs as much as there are of them,
//! however long the journal is.

use async_trait::async_trait;
use convoke_core::hash::KeyHash;
use convoke_core::ids::PlanId;
use convoke_core::journal::{Entry, EntryId, Intent, RowOutcome, pack_outcomes, pack_rows};
use convoke_core::sink::{AttemptTag, JobId};
use convoke_core::state::{Journal, Lease, Recreated};
use convoke_core::{AudienceKey, StateError};
use sqlx::Sqlite;
use sqlx::query::QueryAs;
use sqlx::sqlite::SqliteArguments;

use crate::columns::{EntryColumns, entry_from};
use crate::fault::Fault;
use crate::sqlite::SqliteState;
use crate::sqlite::writer::Transaction;

/// Entries deleted in one transaction: intents of live runs get in between.
const FORGOTTEN_AT_ONCE: i64 = 500;

/// Completes the reading of entries with a condition and an order.
macro_rules! select_entries {
    ($condition:literal) => {
        concat!(
            "SELECT entries.id, plan, sync, connection, audience_id, batch, operation, attempt, tag, intended_at,
                 row_count, entry_rows.packed, entry_outcomes.packed
             FROM entries
             JOIN entry_rows ON entry_rows.entry = entries.id
             LEFT JOIN entry_outcomes ON entry_outcomes.entry = entries.id
             WHERE ",
            $condition
        )
    };
}

const OPEN_ENTRIES: &str = select_entries!(
    "entries.connection = ? AND entries.audience_id = ? AND entries.state = 'open' ORDER BY entries.id"
);

const UNFOLDED_ENTRIES: &str = select_entries!(
    "entries.connection = ? AND entries.audience_id = ? AND entries.state = 'closed' AND entries.id > ?
     ORDER BY entries.id LIMIT ?"
);

const ENTRIES_OF_PLAN: &str = select_entries!("entries.plan = ? AND entries.id > ? ORDER BY entries.id LIMIT ?");

#[async_trait]
impl Journal for SqliteState {
    async fn intend(&self, intent: &Intent, lease: &Lease) -> Result<EntryId, StateError> {
        // Packed here, so that the one task that writes does nothing but write.
        let packed = pack_rows(&intent.rows);
        let row_count = intent.rows.len();
        let intent = clone_without_rows(intent);
        let lease = lease.clone();
        self.write("noting an intent", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.add_entry(&intent, row_count, packed).await
            })
        })
        .await
    }

    async fn close(&self, entry: EntryId, outcomes: &[RowOutcome], lease: &Lease) -> Result<(), StateError> {
        let (packed, outcome_count, lease) = (pack_outcomes(outcomes), outcomes.len(), lease.clone());
        self.write("closing a journal entry", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.close_entry(entry, outcome_count, packed).await
            })
        })
        .await
    }

    async fn note_job(&self, entry: EntryId, job: &JobId, lease: &Lease) -> Result<(), StateError> {
        let (job, lease) = (job.0.clone(), lease.clone());
        self.write("noting the job of a delete", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                sqlx::query("INSERT OR REPLACE INTO entry_jobs (entry, job) VALUES (?, ?)")
                    .bind(entry.0)
                    .bind(job)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn job_of(&self, entry: EntryId) -> Result<Option<JobId>, StateError> {
        self.read("looking up the job of a delete", move |connection| {
            Box::pin(async move {
                let job: Option<String> = sqlx::query_scalar("SELECT job FROM entry_jobs WHERE entry = ?")
                    .bind(entry.0)
                    .fetch_optional(connection)
                    .await?;
                Ok(job.map(JobId))
            })
        })
        .await
    }

    async fn open_entries(&self, audience: &AudienceKey) -> Result<Vec<Entry>, StateError> {
        let query = sqlx::query_as(OPEN_ENTRIES)
            .bind(audience.connection.as_str().to_owned())
            .bind(audience.audience_id.clone());
        self.read_entries("reading open journal entries", query).await
    }

    async fn unfolded(
        &self,
        audience: &AudienceKey,
        after: Option<EntryId>,
        limit: u32,
    ) -> Result<Vec<Entry>, StateError> {
        let query = sqlx::query_as(UNFOLDED_ENTRIES)
            .bind(audience.connection.as_str().to_owned())
            .bind(audience.audience_id.clone())
            .bind(after.map_or(i64::MIN, |after| after.0))
            .bind(limit);
        self.read_entries("reading unfolded journal entries", query).await
    }

    async fn entries_of(&self, plan: PlanId, after: Option<EntryId>, limit: u32) -> Result<Vec<Entry>, StateError> {
        let query = sqlx::query_as(ENTRIES_OF_PLAN)
            .bind(plan.to_string())
            .bind(after.map_or(i64::MIN, |after| after.0))
            .bind(limit);
        self.read_entries("reading the journal of a plan", query).await
    }

    async fn forget_entries(&self, plan: PlanId) -> Result<(), StateError> {
        loop {
            let forgotten = self
                .write("forgetting folded journal entries", move |transaction| {
                    Box::pin(transaction.forget_some_entries(plan))
                })
                .await?;
            if forgotten < FORGOTTEN_AT_ONCE.cast_unsigned() {
                return Ok(());
            }
        }
    }

    async fn note_recreated(
        &self,
        audience: &AudienceKey,
        keys: &[(KeyHash, AttemptTag)],
        lease: &Lease,
    ) -> Result<(), StateError> {
        self.note_recreated_keys(audience.clone(), keys.to_vec(), lease.clone()).await
    }

    async fn recreated(&self, audience: &AudienceKey) -> Result<Vec<Recreated>, StateError> {
        self.recreated_keys(audience.clone()).await
    }

    async fn count_sweep(&self, audience: &AudienceKey, keys: &[KeyHash], lease: &Lease) -> Result<(), StateError> {
        self.count_sweep_of_keys(audience.clone(), keys.to_vec(), lease.clone()).await
    }
}

impl SqliteState {
    async fn read_entries(
        &self,
        action: &'static str,
        query: QueryAs<'static, Sqlite, EntryColumns, SqliteArguments>,
    ) -> Result<Vec<Entry>, StateError> {
        self.read(action, move |connection| {
            Box::pin(async move {
                let rows = query.fetch_all(connection).await?;
                rows.into_iter().map(entry_from).collect()
            })
        })
        .await
    }
}

impl Transaction {
    async fn add_entry(&mut self, intent: &Intent, row_count: usize, packed: Vec<u8>) -> Result<EntryId, Fault> {
        let added = sqlx::query(
            "INSERT INTO entries (plan, sync, connection, audience_id, batch, operation, attempt, tag, intended_at,
                 row_count, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open');
             INSERT INTO entry_rows (entry, packed) VALUES (last_insert_rowid(), ?)",
        )
        .bind(intent.plan.to_string())
        .bind(intent.sync.as_str())
        .bind(intent.audience.connection.as_str())
        .bind(&intent.audience.audience_id)
        .bind(intent.batch)
        .bind(intent.operation.as_str())
        .bind(intent.attempt)
        .bind(intent.tag.0)
        .bind(intent.intended_at.0)
        .bind(i64::try_from(row_count).unwrap_or(i64::MAX))
        .bind(packed)
        .execute(&mut self.connection)
        .await?;
        // The rows' own row id is that of their entry.
        Ok(EntryId(added.last_insert_rowid()))
    }

    async fn close_entry(&mut self, entry: EntryId, outcome_count: usize, packed: Vec<u8>) -> Result<(), Fault> {
        let closed: Option<i64> = sqlx::query_scalar(
            "INSERT INTO entry_outcomes (entry, packed) SELECT id, ? FROM entries WHERE id = ? AND state = 'open';
             UPDATE entries SET state = 'closed' WHERE id = ? AND state = 'open' RETURNING row_count",
        )
        .bind(packed)
        .bind(entry.0)
        .bind(entry.0)
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(row_count) = closed else {
            return Err(Fault::conflict(format!("journal entry {} (no longer open)", entry.0)));
        };
        if usize::try_from(row_count) != Ok(outcome_count) {
            let message = format!(
                "journal entry {} has {row_count} rows and was to be closed with {outcome_count} outcomes; \
                 it stays open: report this as a bug in Convoke",
                entry.0
            );
            return Err(StateError::Storage { message, cause: None }.into());
        }
        Ok(())
    }

    async fn forget_some_entries(&mut self, plan: PlanId) -> Result<u64, Fault> {
        let deleted = sqlx::query(
            "DELETE FROM entries WHERE id IN
                 (SELECT id FROM entries WHERE plan = ? AND state = 'folded' ORDER BY id LIMIT ?)",
        )
        .bind(plan.to_string())
        .bind(FORGOTTEN_AT_ONCE)
        .execute(&mut self.connection)
        .await?;
        Ok(deleted.rows_affected())
    }
}

fn clone_without_rows(intent: &Intent) -> Intent {
    Intent {
        plan: intent.plan,
        sync: intent.sync.clone(),
        audience: intent.audience.clone(),
        batch: intent.batch,
        operation: intent.operation,
        attempt: intent.attempt,
        tag: intent.tag,
        intended_at: intent.intended_at,
        rows: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
