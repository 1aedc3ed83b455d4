//! Jobs: work that is answered before it is reported as done.
//!
//! Finished jobs are kept as long as their audience, so that a client may ask late.

use convoke_core::Timestamp;
use sqlx::{Row, SqliteConnection};

use crate::audience;
use crate::error::{Error, Result};
use crate::tenant::{Tenant, new_id};

/// A job as its owner may ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    pub status: JobStatus,
    pub percent: Option<u8>,
}

/// How a job stands, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    Scheduled,
    Running,
    Succeeded,
    PartiallySucceeded,
    Failed,
    Cancelled,
}

impl JobStatus {
    const ALL: [Self; 6] =
        [Self::Scheduled, Self::Running, Self::Succeeded, Self::PartiallySucceeded, Self::Failed, Self::Cancelled];

    /// The name the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::PartiallySucceeded => "PARTIALLY_SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    RowDelete,
    Enrich,
}

impl JobKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::RowDelete => "ROW_DELETE",
            Self::Enrich => "AUDIENCE_ENRICH",
        }
    }
}

impl Tenant {
    /// Returns one job.
    pub async fn job(&self, audience_id: &str, job_id: &str) -> Result<Job> {
        let mut reading = self.store.read().await?;
        let audience = audience::find(&mut reading, self, audience_id).await?;
        let row = sqlx::query("SELECT status, percent FROM jobs WHERE id = ? AND audience = ?")
            .bind(job_id)
            .bind(audience.number)
            .fetch_optional(&mut *reading)
            .await?
            .ok_or_else(|| Error::not_found("job", job_id))?;
        let status = JobStatus::parse(row.try_get(0)?)
            .ok_or_else(|| Error::Unusable { message: format!("job `{job_id}` has an unknown status") })?;
        Ok(Job { id: job_id.to_owned(), status, percent: row.try_get(1)? })
    }
}

/// Adds a job whose work is part of the same transaction.
pub(crate) async fn add_finished(
    connection: &mut SqliteConnection,
    audience: i64,
    kind: JobKind,
    now: Timestamp,
) -> Result<Job> {
    let job = Job { id: new_id(), status: JobStatus::Succeeded, percent: Some(100) };
    sqlx::query(
        "INSERT INTO jobs (id, audience, kind, status, percent, created_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&job.id)
    .bind(audience)
    .bind(kind.as_str())
    .bind(job.status.as_str())
    .bind(job.percent)
    .bind(now.0)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(job)
}
