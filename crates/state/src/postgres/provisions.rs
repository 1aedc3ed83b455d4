//! Intents to make folders, audiences and columns.
//!
//! Each statement may be repeated without harm: an intent is told from another one by its time.

use async_trait::async_trait;
use convoke_core::ids::ConnectionName;
use convoke_core::state::{OpenProvision, Provisions};
use convoke_core::{StateError, Timestamp};
use sqlx::PgConnection;

use super::PostgresState;
use crate::fault::Fault;

#[async_trait]
impl Provisions for PostgresState {
    async fn intend_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
        at: Timestamp,
    ) -> Result<Option<OpenProvision>, StateError> {
        let mut transaction = self.begin("noting what is about to be made").await?;
        let worked = self.in_time(intend(transaction.connection(), connection, what, at)).await;
        transaction.end(worked).await
    }

    async fn note_made(
        &self,
        connection: &ConnectionName,
        what: &str,
        intended_at: Timestamp,
        id: &str,
    ) -> Result<(), StateError> {
        let query = sqlx::query_as(
            "UPDATE provisions SET made_id = $4 WHERE connection = $1 AND what = $2 AND intended_at = $3
             RETURNING intended_at",
        );
        let query = query.bind(connection.as_str()).bind(what).bind(intended_at.0).bind(id);
        let _noted: Option<(i64,)> = self.change("noting what was made", query).await?;
        Ok(())
    }

    async fn open_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
    ) -> Result<Option<OpenProvision>, StateError> {
        let query = sqlx::query_as("SELECT intended_at, made_id FROM provisions WHERE connection = $1 AND what = $2");
        let query = query.bind(connection.as_str()).bind(what);
        let open = self.find("looking up what is about to be made", query).await?;
        Ok(open.map(provision_from))
    }

    async fn close_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
        intended_at: Timestamp,
    ) -> Result<(), StateError> {
        let query = sqlx::query_as(
            "DELETE FROM provisions WHERE connection = $1 AND what = $2 AND intended_at = $3 RETURNING intended_at",
        );
        let query = query.bind(connection.as_str()).bind(what).bind(intended_at.0);
        let _closed: Option<(i64,)> = self.change("forgetting what was to be made", query).await?;
        Ok(())
    }
}

/// Adds an intent unless there is one, which is given then.
async fn intend(
    transaction: &mut PgConnection,
    connection: &ConnectionName,
    what: &str,
    at: Timestamp,
) -> Result<Option<OpenProvision>, Fault> {
    // Twice, since two may find none at once; the second to add one finds that of the first.
    for _ in 0..2 {
        let open: Option<ProvisionColumns> = sqlx::query_as(
            "SELECT intended_at, made_id FROM provisions WHERE connection = $1 AND what = $2 FOR UPDATE",
        )
        .bind(connection.as_str())
        .bind(what)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(open) = open {
            return Ok(Some(provision_from(open)));
        }
        let added = sqlx::query(
            "INSERT INTO provisions (connection, what, intended_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(connection.as_str())
        .bind(what)
        .bind(at.0)
        .execute(&mut *transaction)
        .await?;
        if added.rows_affected() > 0 {
            return Ok(None);
        }
    }
    Err(Fault::conflict(format!("the intent to make {what}")))
}

/// Time of the intent, and what was made.
type ProvisionColumns = (i64, Option<String>);

fn provision_from((intended_at, made_id): ProvisionColumns) -> OpenProvision {
    OpenProvision { intended_at: Timestamp(intended_at), made_id }
}
