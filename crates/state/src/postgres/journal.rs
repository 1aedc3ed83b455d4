//! The journal: intents and outcomes, packed, one row for each attempt at a batch.
//!
//! The ids of entries grow in the order in which they appear, as folding relies on: an entry gets its id while the row of
//! its audience's lease is locked, and the lock stays until it is committed. Writing an intent, or its outcome, is one
//! statement and so one trip to the server. Open and unfolded entries have indices of their own, so that finding them
//! costs as much as there are of them, however long the journal is.

use async_trait::async_trait;
use convoke_core::hash::KeyHash;
use convoke_core::ids::PlanId;
use convoke_core::journal::{Entry, EntryId, Intent, RowOutcome, pack_outcomes, pack_rows};
use convoke_core::sink::{AttemptTag, JobId};
use convoke_core::state::{Journal, Lease, Recreated};
use convoke_core::{AudienceKey, StateError};

use super::sql::{held, now};
use super::transaction::lost;
use super::{Asking, PostgresState};
use crate::columns::{EntryColumns, entry_from};
use crate::fault::Fault;

/// Entries deleted in one transaction, which is over before anybody waits for it.
const FORGOTTEN_AT_ONCE: usize = 500;

const INTEND: &str = concat!(
    "WITH held AS (",
    held!(),
    ") INSERT INTO entries (plan, sync, connection, audience_id, batch, operation, attempt, tag, intended_at, row_count,
           packed_rows, state)
       SELECT $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'open' FROM held RETURNING id"
);

const CLOSE: &str = concat!(
    "WITH held AS (",
    held!(),
    ") UPDATE entries SET state = 'closed', packed_outcomes = $6 FROM held
       WHERE id = $4 AND state = 'open' AND row_count = $5 RETURNING id"
);

const NOTE_JOB: &str =
    concat!("WITH held AS (", held!(), ") UPDATE entries SET job = $5 FROM held WHERE id = $4 RETURNING id");

/// Tells why nothing was changed: whether the lease is held, and the state and number of rows of the entry. `$4`: entry.
const DIAGNOSE: &str = concat!(
    "SELECT EXISTS (SELECT FROM leases
                    WHERE resource = $2 AND fence = $3 AND NOT released AND expires_at > ",
    now!(),
    "), (SELECT row_count FROM entries WHERE id = $4 AND state = 'open')"
);

/// Completes the reading of entries with a condition and an order.
macro_rules! select_entries {
    ($condition:literal) => {
        concat!(
            "SELECT id, plan, sync, connection, audience_id, batch, operation, attempt, tag, intended_at, row_count,
                 packed_rows, packed_outcomes
             FROM entries WHERE ",
            $condition
        )
    };
}

const OPEN_ENTRIES: &str = select_entries!("connection = $1 AND audience_id = $2 AND state = 'open' ORDER BY id");

const UNFOLDED_ENTRIES: &str =
    select_entries!("connection = $1 AND audience_id = $2 AND state = 'closed' AND id > $3 ORDER BY id LIMIT $4");

const ENTRIES_OF_PLAN: &str = select_entries!("plan = $1 AND id > $2 ORDER BY id LIMIT $3");

#[async_trait]
impl Journal for PostgresState {
    async fn intend(&self, intent: &Intent, lease: &Lease) -> Result<EntryId, StateError> {
        let query = self
            .under(INTEND, lease)
            .bind(intent.plan.to_string())
            .bind(intent.sync.as_str())
            .bind(intent.audience.connection.as_str())
            .bind(&intent.audience.audience_id)
            .bind(i64::from(intent.batch))
            .bind(intent.operation.as_str())
            .bind(i64::from(intent.attempt))
            .bind(i64::from(intent.tag.0))
            .bind(intent.intended_at.0)
            .bind(count(intent.rows.len()))
            .bind(pack_rows(&intent.rows));
        let added: Option<(i64,)> = self.change_under("noting an intent", lease, query).await?;
        added.map(|(id,)| EntryId(id)).ok_or_else(|| lost(lease))
    }

    async fn close(&self, entry: EntryId, outcomes: &[RowOutcome], lease: &Lease) -> Result<(), StateError> {
        let action = "closing a journal entry";
        let query = self.under(CLOSE, lease).bind(entry.0).bind(count(outcomes.len())).bind(pack_outcomes(outcomes));
        let closed: Option<(i64,)> = self.change_under(action, lease, query).await?;
        match closed {
            Some(_) => Ok(()),
            None => Err(self.reason_not_changed(action, entry, Some(outcomes.len()), lease).await?),
        }
    }

    async fn note_job(&self, entry: EntryId, job: &JobId, lease: &Lease) -> Result<(), StateError> {
        let action = "noting the job of a delete";
        let query = self.under(NOTE_JOB, lease).bind(entry.0).bind(&job.0);
        let noted: Option<(i64,)> = self.change_under(action, lease, query).await?;
        match noted {
            Some(_) => Ok(()),
            None => Err(self.reason_not_changed(action, entry, None, lease).await?),
        }
    }

    async fn job_of(&self, entry: EntryId) -> Result<Option<JobId>, StateError> {
        let query = sqlx::query_as("SELECT job FROM entries WHERE id = $1").bind(entry.0);
        let job: Option<(Option<String>,)> = self.find("looking up the job of a delete", query).await?;
        Ok(job.and_then(|(job,)| job).map(JobId))
    }

    async fn open_entries(&self, audience: &AudienceKey) -> Result<Vec<Entry>, StateError> {
        let query = sqlx::query_as(OPEN_ENTRIES).bind(audience.connection.as_str()).bind(&audience.audience_id);
        self.entries("reading open journal entries", query).await
    }

    async fn unfolded(
        &self,
        audience: &AudienceKey,
        after: Option<EntryId>,
        limit: u32,
    ) -> Result<Vec<Entry>, StateError> {
        let query = sqlx::query_as(UNFOLDED_ENTRIES)
            .bind(audience.connection.as_str())
            .bind(&audience.audience_id)
            .bind(after.map_or(i64::MIN, |after| after.0))
            .bind(i64::from(limit));
        self.entries("reading unfolded journal entries", query).await
    }

    async fn entries_of(&self, plan: PlanId, after: Option<EntryId>, limit: u32) -> Result<Vec<Entry>, StateError> {
        let query = sqlx::query_as(ENTRIES_OF_PLAN)
            .bind(plan.to_string())
            .bind(after.map_or(i64::MIN, |after| after.0))
            .bind(i64::from(limit));
        self.entries("reading the journal of a plan", query).await
    }

    async fn forget_entries(&self, plan: PlanId) -> Result<(), StateError> {
        loop {
            let query = sqlx::query_as(
                "WITH forgotten AS (
                     DELETE FROM entries WHERE id IN
                         (SELECT id FROM entries WHERE plan = $1 AND state = 'folded' ORDER BY id LIMIT $2)
                     RETURNING id)
                 SELECT count(*) FROM forgotten",
            );
            let query = query.bind(plan.to_string()).bind(count(FORGOTTEN_AT_ONCE));
            let forgotten: Option<(i64,)> = self.change("forgetting folded journal entries", query).await?;
            if forgotten.is_none_or(|(forgotten,)| forgotten < count(FORGOTTEN_AT_ONCE)) {
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
        self.note_recreated_keys(audience, keys, lease).await
    }

    async fn recreated(&self, audience: &AudienceKey) -> Result<Vec<Recreated>, StateError> {
        self.recreated_keys(audience).await
    }

    async fn count_sweep(&self, audience: &AudienceKey, keys: &[KeyHash], lease: &Lease) -> Result<(), StateError> {
        self.count_sweep_of_keys(audience, keys, lease).await
    }
}

impl PostgresState {
    /// Begins a statement with the parameters of `held!`.
    pub(super) fn under<'q, T>(&self, sql: &'static str, lease: &Lease) -> Asking<'q, T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        sqlx::query_as(sql).bind(self.clock.ahead()).bind(lease.resource.clone()).bind(lease.fence.cast_signed())
    }

    async fn entries(&self, action: &'static str, query: Asking<'_, EntryColumns>) -> Result<Vec<Entry>, StateError> {
        let rows = self.list(action, query).await?;
        let entries: Result<Vec<Entry>, Fault> = rows.into_iter().map(entry_from).collect();
        entries.map_err(|fault| self.explain(action, fault))
    }

    /// Tells why an entry was not changed. Nothing was, so whatever moved since then does no harm.
    async fn reason_not_changed(
        &self,
        action: &'static str,
        entry: EntryId,
        outcomes: Option<usize>,
        lease: &Lease,
    ) -> Result<StateError, StateError> {
        let found: Option<(bool, Option<i64>)> = self.find(action, self.under(DIAGNOSE, lease).bind(entry.0)).await?;
        Ok(match (found, outcomes) {
            (Some((true, Some(row_count))), Some(outcomes)) => StateError::Storage {
                message: format!(
                    "journal entry {} has {row_count} rows and was to be closed with {outcomes} outcomes; it stays open: \
                     report this as a bug in Convoke",
                    entry.0
                ),
                cause: None,
            },
            (Some((true, _)), _) => {
                StateError::Conflict { what: format!("journal entry {} (no longer open)", entry.0) }
            }
            _ => lost(lease),
        })
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
