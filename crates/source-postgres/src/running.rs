//! Which transactions run: what a snapshot does not see and will be there later.

use convoke_core::SourceError;
use sqlx::PgConnection;

use crate::failure::Failures;

/// Transactions of this database that may write, when the first of them began, and how many do not tell when. The time of
/// the statement is from before the look: whoever begins during it is not older. Vacuum and the senders of replication write
/// no rows.
///
/// A session with `track_activities = off` never shows when its transaction began, also if it is switched on within it. That
/// a transaction is under way is then told by the lock on its own number, which it holds from its start to its end. A
/// session that is seen in the moment of its start counts as well, in vain.
const RUNNING: &str = "SELECT floor(extract(epoch FROM statement_timestamp()) * 1000000)::int8, \
     floor(extract(epoch FROM min(xact_start)) * 1000000)::int8, \
     count(*) FILTER (WHERE xact_start IS NULL AND state IS DISTINCT FROM 'idle' AND EXISTS (SELECT FROM \
     pg_catalog.pg_locks WHERE pg_locks.pid = pg_stat_activity.pid AND locktype = 'virtualxid' \
     AND mode = 'ExclusiveLock')), \
     pg_catalog.pg_is_in_recovery(), pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') \
     FROM pg_catalog.pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid() \
     AND backend_type NOT IN ('autovacuum worker', 'walsender')";

/// When a prepared transaction began is kept nowhere: there is only the time at which it was prepared.
const PREPARED: &str = "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()";

/// What runs just before a snapshot is opened. Times are microseconds since 1970 by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// No dated transaction that the snapshot does not see began before this time.
    pub(crate) since: i64,
    /// Transactions of which it is not known when they began: prepared ones, and those of sessions that do not tell.
    pub(crate) undated: i64,
}

impl Running {
    /// Looks outside of a transaction, before the snapshot. First at what runs and then at what is prepared: what is
    /// prepared in between is seen twice, and in the other order would not be seen at all.
    pub(crate) async fn look(connection: &mut PgConnection, failures: &Failures) -> Result<Self, SourceError> {
        let failed = |error| failures.asking(error);
        let running = sqlx::query_as(RUNNING).persistent(false).fetch_one(&mut *connection).await.map_err(failed)?;
        let (now, oldest, untold, is_standby, sees_all): (i64, Option<i64>, i64, bool, bool) = running;
        if is_standby {
            return Err(failures.standby());
        }
        if !sees_all {
            return Err(failures.blind());
        }
        let prepared = sqlx::query_scalar(PREPARED).persistent(false).fetch_one(connection).await.map_err(failed)?;
        let running =
            Self { since: oldest.map_or(now, |oldest| oldest.min(now)), undated: untold.saturating_add(prepared) };
        if running.undated > 0 {
            tracing::warn!(
                prepared,
                untold,
                relation = failures.relation(),
                "transactions are prepared, or of sessions with `track_activities = off`, so that nothing tells when they \
                 began; until they have ended, later runs read from where this one did"
            );
        }
        Ok(running)
    }
}
