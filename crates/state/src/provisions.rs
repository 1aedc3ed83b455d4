//! Intents to make folders, audiences and columns.

use async_trait::async_trait;
use convoke_core::ids::ConnectionName;
use convoke_core::state::Provisions;
use convoke_core::{StateError, Timestamp};

use crate::sqlite::SqliteState;

#[async_trait]
impl Provisions for SqliteState {
    async fn intend_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
        at: Timestamp,
    ) -> Result<Option<Timestamp>, StateError> {
        let (connection, what) = (connection.clone(), what.to_owned());
        self.write("noting what is about to be made", move |transaction| {
            Box::pin(async move {
                let added = sqlx::query(
                    "INSERT INTO provisions (connection, what, intended_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(connection.as_str())
                .bind(&what)
                .bind(at.0)
                .execute(&mut transaction.connection)
                .await?;
                if added.rows_affected() > 0 {
                    return Ok(None);
                }
                let earlier =
                    sqlx::query_scalar("SELECT intended_at FROM provisions WHERE connection = ? AND what = ?")
                        .bind(connection.as_str())
                        .bind(&what)
                        .fetch_one(&mut transaction.connection)
                        .await?;
                Ok(Some(Timestamp(earlier)))
            })
        })
        .await
    }

    async fn close_provision(&self, connection: &ConnectionName, what: &str) -> Result<(), StateError> {
        let (connection, what) = (connection.clone(), what.to_owned());
        self.write("forgetting what was to be made", |transaction| {
            Box::pin(async move {
                sqlx::query("DELETE FROM provisions WHERE connection = ? AND what = ?")
                    .bind(connection.as_str())
                    .bind(&what)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
