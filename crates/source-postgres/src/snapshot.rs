//! The snapshot of a read, and what of it tells where the next one begins.

use convoke_core::SourceError;
use sqlx::PgConnection;

use crate::failure::Failures;
use crate::running::Running;

const SNAPSHOT: &str = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8, \
     floor(extract(epoch FROM statement_timestamp()) * 1000000)::int8";

/// What is known of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The first transaction that had not ended: all before it are seen, or came to nothing.
    pub(crate) first_running: i64,
    /// When it was opened, by the server's clock, in microseconds since 1970.
    pub(crate) opened_at: i64,
    /// What ran just before; looked at only where a column tells changes.
    pub(crate) running: Option<Running>,
    /// The greatest number in the column that tells changes; asked for before all else, where the column is of numbers.
    pub(crate) number: Option<Numbered>,
}

/// The greatest of the numbers that were given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// When it was known. Microseconds since 1970, by the server's clock.
    pub(crate) at: i64,
    /// None if there is no row with one.
    pub(crate) greatest: Option<i64>,
}

impl Snapshot {
    /// Asks within the transaction.
    pub(crate) async fn of(
        connection: &mut PgConnection,
        (running, number): (Option<Running>, Option<Numbered>),
        failures: &Failures,
    ) -> Result<Self, SourceError> {
        let asked = sqlx::query_as(SNAPSHOT).persistent(false).fetch_one(connection).await;
        let (first_running, opened_at) = asked.map_err(|error| failures.asking(error))?;
        Ok(Self { first_running, opened_at, running, number })
    }
}
