//! The statements by which a sync's name changes or ends: the same on both databases.

/// Puts what stands under `$2` under `$1`.
pub(crate) const RENAME: [&str; 10] = [
    "UPDATE bindings SET sync = $1 WHERE sync = $2",
    "UPDATE checkpoints SET sync = $1 WHERE sync = $2",
    "UPDATE runs SET sync = $1 WHERE sync = $2",
    "UPDATE plans SET sync = $1 WHERE sync = $2",
    "UPDATE entries SET sync = $1 WHERE sync = $2",
    "UPDATE rejects SET sync = $1 WHERE sync = $2",
    "UPDATE enrichments SET sync = $1 WHERE sync = $2",
    "UPDATE backfills SET sync = $1 WHERE sync = $2",
    // A daemon may have begun to serve the new name already.
    "DELETE FROM schedule_marks WHERE sync = $2 AND EXISTS (SELECT 1 FROM schedule_marks WHERE sync = $1)",
    "UPDATE schedule_marks SET sync = $1 WHERE sync = $2",
];

/// Counts what keeps `$1` from being another sync's new name.
pub(crate) const TAKEN: &str =
    "SELECT (SELECT count(*) FROM bindings WHERE sync = $1) + (SELECT count(*) FROM checkpoints WHERE sync = $1)";

/// What a renamed checkpoint says: `$1` the sync, `$2` the configuration hash, `$3` the ledger's version.
pub(crate) const CHECKPOINT: &str = "UPDATE checkpoints SET config_hash = $2, ledger_version = $3 WHERE sync = $1";

/// Removes what makes `$1` go on from where it stopped.
pub(crate) const RETIRE: [&str; 6] = [
    "DELETE FROM bindings WHERE sync = $1",
    "DELETE FROM checkpoints WHERE sync = $1",
    "DELETE FROM schedule_marks WHERE sync = $1",
    // Nobody would look at them any more.
    "DELETE FROM enrichments WHERE sync = $1",
    "UPDATE backfills SET state = 'cancelled', windows = '[]' WHERE sync = $1 AND state = 'open'",
    // A sync that gets the name again sends to another audience, which has refused nothing yet.
    "UPDATE rejects SET state = 'closed' WHERE sync = $1 AND state = 'open'",
];
