//! What is known about syncs beyond this process: it outlives a restart, and counts the work of others, too.

use async_trait::async_trait;
use convoke_core::enrichment::{EnrichmentReport, JobCounts};
use convoke_core::gate::Window;
use convoke_core::state::{PlanState, RunState, StateStore};
use convoke_core::{ConnectionName, StateError, SyncName, Timestamp};

/// How many runs are looked through for the last one that went well.
const LOOK_BACK: u32 = 100;

/// Where figures come from that the daemon does not count itself. Asked when somebody scrapes, at most once in some
/// seconds; [`SyncFacts::of`] answers the first question from the store.
#[async_trait]
pub trait Facts: Send + Sync {
    /// What is known about one sync.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    async fn of_sync(&self, sync: &SyncName) -> Result<SyncFacts, StateError>;

    /// What is left of the rate budgets.
    async fn quotas(&self) -> Vec<Quota>;
}

/// What is known about one sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncFacts {
    /// When the last run ended that brought the audience up to date as a whole: not one that left records out, be they
    /// rejected or unreadable. None if no such run is among the newest.
    pub last_success_at: Option<Timestamp>,
    /// When the last run ended, whichever way.
    pub last_run_at: Option<Timestamp>,
    /// Rows of requests that have no known outcome; those in flight are among them.
    pub rows_in_doubt: u64,
    /// Live rows of the audience that this sync owns.
    pub ledger_rows: u64,
    /// Of the newest run that looked at enrichments; none if no such run is among the newest.
    pub enrichment: Option<EnrichmentFacts>,
}

/// How the enrichments stand that a run looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrichmentFacts {
    pub jobs: JobCounts,
    /// Cells of all columns together, of the rows that were looked at.
    pub cells: CellCounts,
}

/// Cells that the destination fills, by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellCounts {
    pub result: u64,
    pub no_result: u64,
    pub error: u64,
    pub loading: u64,
    pub blank: u64,
    pub other: u64,
}

impl From<&EnrichmentReport> for EnrichmentFacts {
    fn from(report: &EnrichmentReport) -> Self {
        let mut cells = CellCounts::default();
        for column in &report.columns {
            cells.result += column.result;
            cells.no_result += column.no_result;
            cells.error += column.error;
            cells.loading += column.loading;
            cells.blank += column.blank;
            cells.other += column.other;
        }
        Self { jobs: report.jobs, cells }
    }
}

impl SyncFacts {
    /// Reads the facts from the store: a few rows of each table, and no personal data.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    pub async fn of(state: &dyn StateStore, sync: &SyncName) -> Result<Self, StateError> {
        let runs = state.runs(Some(sync), LOOK_BACK).await?;
        let is_success = |state: RunState| state == RunState::Succeeded;
        let mut facts = Self {
            last_success_at: runs.iter().filter(|run| is_success(run.state)).find_map(|run| run.ended_at),
            last_run_at: runs.iter().find_map(|run| run.ended_at),
            enrichment: runs.iter().find_map(|run| run.enrichment.as_ref()).map(EnrichmentFacts::from),
            ..Self::default()
        };
        if let Some(binding) = state.binding(sync).await? {
            let open = state.open_entries(&binding.key).await?;
            let own = open.iter().filter(|entry| entry.intent.sync == *sync);
            facts.rows_in_doubt = own.map(|entry| entry.intent.rows.len() as u64).sum();
            facts.ledger_rows = state.ledger(&binding.key).await?.map_or(0, |ledger| ledger.live_of(sync));
        }
        Ok(facts)
    }
}

/// Names those of the syncs that have a plan which was begun and cut short: the run died, was drained, or waits for quota.
/// A plan whose run failed by itself is not among them: it waits for the sync's next time.
///
/// # Errors
///
/// The store did not answer.
pub async fn unfinished(state: &dyn StateStore, syncs: &[SyncName]) -> Result<Vec<SyncName>, StateError> {
    let mut unfinished = Vec::new();
    for sync in syncs {
        let Some(plan) = state.plans_in(sync, PlanState::Applying).await?.into_iter().next() else { continue };
        let runs = state.runs(Some(sync), LOOK_BACK).await?;
        let last = runs.into_iter().find(|run| run.plan == Some(plan.manifest.id));
        let is_cut_short = last.is_none_or(|run| {
            matches!(run.state, RunState::Running | RunState::Interrupted | RunState::WaitingForQuota)
        });
        if is_cut_short {
            unfinished.push(sync.clone());
        }
    }
    Ok(unfinished)
}

/// What is left of a connection's rate budget in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub connection: ConnectionName,
    pub window: Window,
    /// Requests.
    pub left: u64,
    /// Requests.
    pub limit: u64,
}
