//! How an entry is read back from its columns.

use convoke_core::ids::ConnectionName;
use convoke_core::journal::{Entry, EntryId, Intent, Operation, unpack_outcomes, unpack_rows};
use convoke_core::sink::AttemptTag;
use convoke_core::{AudienceKey, SyncName, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::fault::Fault;
use crate::stored;

const DAMAGED: &str = "a damaged journal entry";

pub(super) fn entry_from(row: &SqliteRow) -> Result<Entry, Fault> {
    let packed_outcomes: Option<&[u8]> = row.try_get("packed_outcomes")?;
    let outcomes = packed_outcomes.map(|packed| stored::known(unpack_outcomes(packed), DAMAGED)).transpose()?;
    let intent = intent_from(row)?;
    let row_count: i64 = row.try_get("row_count")?;
    let is_whole = usize::try_from(row_count) == Ok(intent.rows.len())
        && outcomes.as_ref().is_none_or(|outcomes| outcomes.len() == intent.rows.len());
    stored::known(is_whole.then_some(()), DAMAGED)?;
    Ok(Entry { id: EntryId(row.try_get("id")?), intent, outcomes })
}

fn intent_from(row: &SqliteRow) -> Result<Intent, Fault> {
    let audience = AudienceKey {
        connection: ConnectionName::new(row.try_get::<String, _>("connection")?),
        audience_id: row.try_get("audience_id")?,
    };
    Ok(Intent {
        plan: stored::plan_id(row.try_get("plan")?)?,
        sync: SyncName::new(row.try_get::<String, _>("sync")?),
        audience,
        batch: row.try_get("batch")?,
        operation: stored::known(Operation::parse(row.try_get("operation")?), DAMAGED)?,
        attempt: row.try_get("attempt")?,
        tag: AttemptTag(row.try_get("tag")?),
        intended_at: Timestamp(row.try_get("intended_at")?),
        rows: stored::known(unpack_rows(row.try_get("packed_rows")?), DAMAGED)?,
    })
}
