//! How far each sync's schedule is served.

use async_trait::async_trait;
use convoke_core::state::{Lease, ScheduleMark, Schedules};
use convoke_core::{StateError, SyncName, Timestamp};

use crate::sqlite::SqliteState;

#[async_trait]
impl Schedules for SqliteState {
    async fn schedule_mark(&self, sync: &SyncName) -> Result<Option<ScheduleMark>, StateError> {
        let sync = sync.clone();
        self.read("looking up how far a schedule is served", |connection| {
            Box::pin(async move {
                let row: Option<(String, i64)> =
                    sqlx::query_as("SELECT schedule, served_to FROM schedule_marks WHERE sync = ?")
                        .bind(sync.as_str())
                        .fetch_optional(connection)
                        .await?;
                Ok(row.map(|(schedule, served_to)| ScheduleMark { schedule, served_to: Timestamp(served_to) }))
            })
        })
        .await
    }

    async fn set_schedule_mark(&self, sync: &SyncName, mark: &ScheduleMark, lease: &Lease) -> Result<(), StateError> {
        let (sync, mark, lease) = (sync.clone(), mark.clone(), lease.clone());
        self.write("noting how far a schedule is served", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                sqlx::query("INSERT OR REPLACE INTO schedule_marks (sync, schedule, served_to) VALUES (?, ?, ?)")
                    .bind(sync.as_str())
                    .bind(mark.schedule)
                    .bind(mark.served_to.0)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
