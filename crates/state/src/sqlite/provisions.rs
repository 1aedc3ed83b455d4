//! Intents to make folders, audiences and columns.

use async_trait::async_trait;
use convoke_core::ids::ConnectionName;
use convoke_core::state::{OpenProvision, Provisions};
use convoke_core::{StateError, Timestamp};
use sqlx::SqliteConnection;

use crate::sqlite::SqliteState;

#[async_trait]
impl Provisions for SqliteState {
    async fn intend_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
        at: Timestamp,
    ) -> Result<Option<OpenProvision>, StateError> {
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
                Ok(stored_provision(&mut transaction.connection, &connection, &what).await?)
            })
        })
        .await
    }

    async fn note_made(
        &self,
        connection: &ConnectionName,
        what: &str,
        intended_at: Timestamp,
        id: &str,
    ) -> Result<(), StateError> {
        let (connection, what, id) = (connection.clone(), what.to_owned(), id.to_owned());
        self.write("noting what was made", move |transaction| {
            Box::pin(async move {
                sqlx::query("UPDATE provisions SET made_id = ? WHERE connection = ? AND what = ? AND intended_at = ?")
                    .bind(id)
                    .bind(connection.as_str())
                    .bind(&what)
                    .bind(intended_at.0)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn open_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
    ) -> Result<Option<OpenProvision>, StateError> {
        let (connection, what) = (connection.clone(), what.to_owned());
        self.read("looking up what is about to be made", move |reader| {
            Box::pin(async move { Ok(stored_provision(reader, &connection, &what).await?) })
        })
        .await
    }

    async fn close_provision(
        &self,
        connection: &ConnectionName,
        what: &str,
        intended_at: Timestamp,
    ) -> Result<(), StateError> {
        let (connection, what) = (connection.clone(), what.to_owned());
        self.write("forgetting what was to be made", move |transaction| {
            Box::pin(async move {
                sqlx::query("DELETE FROM provisions WHERE connection = ? AND what = ? AND intended_at = ?")
                    .bind(connection.as_str())
                    .bind(&what)
                    .bind(intended_at.0)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}

async fn stored_provision(
    reader: &mut SqliteConnection,
    connection: &ConnectionName,
    what: &str,
) -> Result<Option<OpenProvision>, sqlx::Error> {
    let row: Option<(i64, Option<String>)> =
        sqlx::query_as("SELECT intended_at, made_id FROM provisions WHERE connection = ? AND what = ?")
            .bind(connection.as_str())
            .bind(what)
            .fetch_optional(reader)
            .await?;
    Ok(row.map(|(intended_at, made_id)| OpenProvision { intended_at: Timestamp(intended_at), made_id }))
}
