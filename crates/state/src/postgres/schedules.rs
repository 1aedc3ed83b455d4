//! How far each sync's schedule is served.

use async_trait::async_trait;
use convoke_core::state::{Lease, ScheduleMark, Schedules};
use convoke_core::{StateError, SyncName, Timestamp};

use super::PostgresState;
use super::sql::held;
use super::transaction::lost;

const SET_MARK: &str = concat!(
    "WITH held AS (",
    held!(),
    ") INSERT INTO schedule_marks (sync, schedule, served_to) SELECT $4, $5, $6 FROM held
       ON CONFLICT (sync) DO UPDATE SET schedule = excluded.schedule, served_to = excluded.served_to
       RETURNING sync"
);

#[async_trait]
impl Schedules for PostgresState {
    async fn schedule_mark(&self, sync: &SyncName) -> Result<Option<ScheduleMark>, StateError> {
        let query = sqlx::query_as("SELECT schedule, served_to FROM schedule_marks WHERE sync = $1");
        let mark: Option<(String, i64)> =
            self.find("looking up how far a schedule is served", query.bind(sync.as_str())).await?;
        Ok(mark.map(|(schedule, served_to)| ScheduleMark { schedule, served_to: Timestamp(served_to) }))
    }

    async fn set_schedule_mark(&self, sync: &SyncName, mark: &ScheduleMark, lease: &Lease) -> Result<(), StateError> {
        let query = self.under(SET_MARK, lease).bind(sync.as_str()).bind(&mark.schedule).bind(mark.served_to.0);
        let set: Option<(String,)> = self.change_under("noting how far a schedule is served", lease, query).await?;
        set.map(drop).ok_or_else(|| lost(lease))
    }
}
