//! Enrichment: what a destination adds to rows once they stand in the audience.
//!
//! It costs credits and no request of it is idempotent. So each job is noted before it is started, and one whose answer
//! was lost is told and never started again: nothing at the destination says which job was started for what.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::ids::{AudienceKey, PlanId, RowId, RunId, SyncName};
use crate::sink::JobId;
use crate::state::Lease;

/// What is to be enriched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrichmentScope {
    /// Every row of the audience.
    Audience,
    Rows(Vec<RowId>),
}

impl EnrichmentScope {
    /// The rows that are named; none: the whole audience.
    pub fn rows(&self) -> Option<&[RowId]> {
        match self {
            Self::Audience => None,
            Self::Rows(rows) => Some(rows),
        }
    }
}

/// How the start of an enrichment ended, by certainty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrichmentAnswer {
    Started(JobId),
    /// No row or no column matches what was asked for: nothing was started.
    NothingToDo,
    /// The account has no credits: nothing was started.
    NoCredits {
        reason: String,
    },
    /// Refused for what it asks: nothing was started.
    Refused {
        reason: String,
    },
    /// Certainly not started; may be asked for again.
    NotStarted {
        reason: String,
        retry_after: Option<std::time::Duration>,
    },
    /// May have been started, or may yet be.
    Unknown {
        reason: String,
    },
}

/// How an enrichment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrichmentJob {
    Running,
    Succeeded,
    /// Ended; the cells tell for which rows.
    PartiallySucceeded,
    /// Ended with nothing done.
    Failed,
    Cancelled,
    /// The destination does not know it any more, or tells a state that the API does not declare.
    Unknown,
}

/// The state of a cell that the destination fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellState {
    Result,
    NoResult,
    Error {
        /// The destination's summary, without values.
        summary: String,
    },
    Loading,
    Blank,
    /// One that the API does not declare.
    Other,
}

/// The cells of a row, in the order of the columns that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowStates {
    pub row_id: RowId,
    pub cells: Vec<CellState>,
}

/// Identifies a noted enrichment; grows with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnrichmentId(pub i64);

/// An enrichment that a run wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEnrichment {
    pub plan: PlanId,
    /// Counts the enrichments of a plan.
    pub number: u32,
    pub sync: SyncName,
    pub run: RunId,
    pub audience: AudienceKey,
    pub scope: EnrichmentScope,
}

/// How far a noted enrichment has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrichmentStage {
    /// Not asked for yet.
    Noted,
    /// The request is about to leave, or has left.
    Starting,
    Started(JobId),
}

impl EnrichmentStage {
    /// The name under which it is stored.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Noted => "noted",
            Self::Starting => "starting",
            Self::Started(_) => "started",
        }
    }

    /// Reads the name that `as_str` gives.
    pub fn parse(text: &str, job: Option<String>) -> Option<Self> {
        match (text, job) {
            ("noted", None) => Some(Self::Noted),
            ("starting", None) => Some(Self::Starting),
            ("started", Some(job)) => Some(Self::Started(JobId(job))),
            _ => None,
        }
    }
}

/// An enrichment whose end nobody has told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEnrichment {
    pub id: EnrichmentId,
    /// The run that wanted it.
    pub run: RunId,
    pub audience: AudienceKey,
    pub stage: EnrichmentStage,
}

/// Enrichments from before they are asked for until their end is told.
#[async_trait]
pub trait Enrichments: Send + Sync {
    /// Notes what is to be enriched. What is noted already under this plan and number stays as it is.
    async fn note_enrichment(&self, enrichment: &NewEnrichment, lease: &Lease) -> Result<(), StateError>;
    /// Enrichments of a sync that are not closed, oldest first.
    async fn open_enrichments(&self, sync: &SyncName) -> Result<Vec<OpenEnrichment>, StateError>;
    /// What an enrichment is about; none if it is closed.
    async fn enrichment_scope(&self, id: EnrichmentId) -> Result<Option<EnrichmentScope>, StateError>;
    /// Moves an enrichment from one stage to another; [`StateError::Conflict`] if it is not in `from`.
    async fn move_enrichment(
        &self,
        id: EnrichmentId,
        from: &EnrichmentStage,
        to: &EnrichmentStage,
        lease: &Lease,
    ) -> Result<(), StateError>;
    /// Forgets an enrichment whose end was told.
    async fn close_enrichment(&self, id: EnrichmentId, lease: &Lease) -> Result<(), StateError>;
}

/// What became of the enrichments that a run looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrichmentReport {
    pub jobs: JobCounts,
    /// Of the jobs, those that earlier runs had left.
    pub from_earlier_runs: u64,
    /// Rows whose cells were looked at after their job had ended.
    pub rows_looked_at: u64,
    /// Whether there were more rows than were looked at.
    pub is_sample: bool,
    /// The columns that the destination fills.
    pub columns: Vec<EnrichedColumn>,
    /// What went wrong, without values of records; each sentence once.
    pub messages: Vec<String>,
}

/// Enrichments by how they ended, or stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    pub succeeded: u64,
    pub partially_succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Asked for, and the destination found no row or column to enrich.
    pub nothing_to_do: u64,
    /// Not started, because the account has no credits. Not asked for again.
    pub no_credits: u64,
    /// Not started, because the destination refused it. Not asked for again.
    pub refused: u64,
    /// Perhaps started: its answer was lost, or the process ended before it came. Not asked for again.
    pub unclear: u64,
    /// Going on when the run ended waiting; the next run looks again.
    pub running: u64,
    /// Not asked for yet; the next run does.
    pub not_started: u64,
}

impl JobCounts {
    /// How many there are, each with its words, in the order in which they are told.
    pub fn parts(&self) -> [(&'static str, u64); 10] {
        [
            ("succeeded", self.succeeded),
            ("partially succeeded", self.partially_succeeded),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
            ("had nothing to do", self.nothing_to_do),
            ("not started for want of credits", self.no_credits),
            ("refused", self.refused),
            ("unclear", self.unclear),
            ("still running", self.running),
            ("not started yet", self.not_started),
        ]
    }
}

/// The states of one column's cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrichedColumn {
    pub name: String,
    pub result: u64,
    pub no_result: u64,
    pub error: u64,
    pub loading: u64,
    pub blank: u64,
    /// States that the API does not declare.
    pub other: u64,
    /// The first few cells in `ERROR`.
    pub samples: Vec<FailedRow>,
}

/// A row whose cell could not be enriched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRow {
    pub row_id: String,
    pub summary: String,
}

/// Cells in `ERROR` that are shown of each column.
const SAMPLES: usize = 3;

impl EnrichmentReport {
    /// Adds the cells of a row, one per column of the report.
    pub fn add(&mut self, row: &RowStates) {
        self.rows_looked_at += 1;
        for (column, cell) in self.columns.iter_mut().zip(&row.cells) {
            match cell {
                CellState::Result => column.result += 1,
                CellState::NoResult => column.no_result += 1,
                CellState::Loading => column.loading += 1,
                CellState::Blank => column.blank += 1,
                CellState::Other => column.other += 1,
                CellState::Error { summary } => {
                    column.error += 1;
                    if column.samples.len() < SAMPLES {
                        let row_id = row.row_id.as_str().to_owned();
                        column.samples.push(FailedRow { row_id, summary: summary.clone() });
                    }
                }
            }
        }
    }

    /// Adds a sentence, unless it stands there already.
    pub fn tell(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.messages.contains(&message) {
            self.messages.push(message);
        }
    }

    /// Whether everything that was asked for was enriched, as far as the destination can: a cell without a result is no
    /// failure.
    pub fn is_complete(&self) -> bool {
        let JobCounts { succeeded, nothing_to_do, .. } = self.jobs;
        let jobs: u64 = self.jobs.parts().iter().map(|(_, count)| count).sum();
        let unfilled: u64 = self.columns.iter().map(|column| column.error + column.loading).sum();
        jobs == succeeded + nothing_to_do && unfilled == 0 && self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> EnrichmentReport {
        let columns = vec![EnrichedColumn { name: "Match".to_owned(), ..EnrichedColumn::default() }];
        EnrichmentReport { columns, ..EnrichmentReport::default() }
    }

    fn row(cell: CellState) -> RowStates {
        RowStates { row_id: RowId::new("r"), cells: vec![cell] }
    }

    #[test]
    fn every_state_of_a_cell_is_counted_once() {
        let mut told = report();
        let error = || CellState::Error { summary: "no such domain".to_owned() };
        let states = [
            CellState::Result,
            CellState::NoResult,
            CellState::Loading,
            CellState::Blank,
            CellState::Other,
            error(),
            error(),
            error(),
            error(),
        ];
        states.into_iter().for_each(|state| told.add(&row(state)));
        let column = &told.columns[0];
        let counts = [column.result, column.no_result, column.loading, column.blank, column.other, column.error];
        assert_eq!((counts, told.rows_looked_at), ([1, 1, 1, 1, 1, 4], 9));
        assert_eq!(column.samples.len(), SAMPLES);
    }

    #[test]
    fn only_what_succeeded_or_had_nothing_to_do_is_complete() {
        assert!(report().is_complete());
        let with = |jobs: JobCounts| EnrichmentReport { jobs, ..report() }.is_complete();
        let none = JobCounts::default();
        assert!(with(JobCounts { succeeded: 2, nothing_to_do: 1, ..none }));
        let incomplete = [
            JobCounts { partially_succeeded: 1, ..none },
            JobCounts { failed: 1, ..none },
            JobCounts { cancelled: 1, ..none },
            JobCounts { no_credits: 1, ..none },
            JobCounts { refused: 1, ..none },
            JobCounts { unclear: 1, ..none },
            JobCounts { running: 1, ..none },
            JobCounts { not_started: 1, ..none },
        ];
        for jobs in incomplete {
            assert!(!with(jobs), "{jobs:?}");
        }
    }

    #[test]
    fn a_cell_without_a_result_is_complete_and_one_in_error_or_loading_is_not() {
        let complete = |cell| {
            let mut told = report();
            told.add(&row(cell));
            told.is_complete()
        };
        assert!(complete(CellState::NoResult) && complete(CellState::Result) && complete(CellState::Blank));
        assert!(!complete(CellState::Loading) && !complete(CellState::Error { summary: String::new() }));
    }

    #[test]
    fn a_stage_is_read_as_it_is_stored() {
        for stage in [EnrichmentStage::Noted, EnrichmentStage::Starting, EnrichmentStage::Started(JobId("j".into()))] {
            let job = match &stage {
                EnrichmentStage::Started(job) => Some(job.0.clone()),
                _ => None,
            };
            assert_eq!(EnrichmentStage::parse(stage.as_str(), job), Some(stage));
        }
        assert_eq!(EnrichmentStage::parse("started", None), None);
    }
}
