//! What happens to everything that is kept of a sync when it gets another name, or comes to an end.

use async_trait::async_trait;

use crate::error::StateError;
use crate::ids::SyncName;
use crate::ledger::LedgerManifest;
use crate::state::Lease;

/// The deed of the audit trail that a sync got another name.
pub const RENAME: &str = "sync_rename";
/// The deed of the audit trail that a sync came to its end.
pub const RETIRE: &str = "sync_retire";

/// A sync gets another name.
#[derive(Clone, Debug, PartialEq)]
pub struct Renaming {
    pub from: SyncName,
    pub to: SyncName,
    /// The audience's ledger with the rows under the new name; none if there is none.
    pub ledger: Option<LedgerManifest>,
    /// What the checkpoint says from now on, if there is one.
    pub checkpoint: Option<RenamedCheckpoint>,
    /// Who did it, for the audit trail.
    pub actor: String,
}

impl Renaming {
    /// What the audit trail says of it.
    pub fn detail(&self) -> String {
        renamed(&self.from, &self.to)
    }
}

/// What the audit trail says of a renaming.
pub fn renamed(from: &SyncName, to: &SyncName) -> String {
    format!("sync {from} to {to}")
}

/// What of a checkpoint follows from the name of its sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenamedCheckpoint {
    pub config_hash: Option<String>,
    pub ledger_version: u64,
}

/// A sync comes to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Retirement {
    pub sync: SyncName,
    /// The audience's ledger with the sync's rows released; none if it changes nothing there.
    pub ledger: Option<LedgerManifest>,
    /// Who did it, for the audit trail.
    pub actor: String,
    /// What became of the rows, for the audit trail: `3 rows kept`.
    pub rows: String,
}

impl Retirement {
    /// What the audit trail says of it.
    pub fn detail(&self) -> String {
        format!("{}: {}", retired(&self.sync), self.rows)
    }
}

/// How the audit trail begins what it says of a retirement.
pub fn retired(sync: &SyncName) -> String {
    format!("sync {sync}")
}

/// What the audit trail says of a retirement's rows that stay.
pub fn rows_kept(rows: u64) -> String {
    format!("{rows} rows kept")
}

/// How many rows a retirement left behind, by what the audit trail says of it; none if it left none.
pub fn left_behind(detail: &str) -> Option<u64> {
    let (_, rows) = detail.rsplit_once(": ")?;
    rows.strip_suffix(" rows kept")?.parse().ok().filter(|rows| *rows > 0)
}

/// Moves and removes what the checkpoint store has under a sync's name. Each call is one transaction, audit trail included:
/// it happens as a whole or not at all.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Puts everything of `from` under `to`: binding, checkpoint, runs, plans, journal, rejects, and the schedule's mark
    /// unless `to` has one; and replaces the ledger. Plans of either that wait are superseded. Manifests of plans stay as
    /// they were hashed. [`StateError::Conflict`] if `to` has a binding or a checkpoint, or the ledger has moved.
    async fn rename_sync(&self, renaming: &Renaming, lease: &Lease) -> Result<(), StateError>;

    /// Removes binding, checkpoint and schedule mark, supersedes plans that wait, and replaces the ledger. Runs, plans and
    /// rejects stay. [`StateError::Conflict`] if the ledger has moved.
    async fn retire_sync(&self, retirement: &Retirement, lease: &Lease) -> Result<(), StateError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_retirement_left_behind_is_told_by_the_audit_trail() {
        let told = |rows: String| {
            let retirement =
                Retirement { sync: SyncName::new("people"), ledger: None, actor: "uid 0".to_owned(), rows };
            left_behind(&retirement.detail())
        };
        assert_eq!(told(rows_kept(12)), Some(12));
        assert_eq!(told(rows_kept(0)), None);
        assert_eq!(told("12 rows deleted".to_owned()), None);
        assert_eq!(told("it had filled no audience".to_owned()), None);
    }
}
