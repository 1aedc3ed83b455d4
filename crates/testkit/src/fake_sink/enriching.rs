//! Enrichments of the fake account, as the test scripts them.

use std::collections::VecDeque;
use std::time::Duration;

use convoke_core::RowId;
use convoke_core::enrichment::{CellState, EnrichmentAnswer, EnrichmentJob, EnrichmentScope, RowStates};
use convoke_core::sink::JobId;

/// How long a job takes, unless a test says otherwise.
const USUAL: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Enriching {
    /// What the next requests are answered, in place of a job.
    answers: VecDeque<EnrichmentAnswer>,
    /// How long the next jobs take, and how they end.
    ends: VecDeque<(Duration, EnrichmentJob)>,
    jobs: Vec<Job>,
    /// Requests that arrived, whatever they were answered.
    pub(super) asked: Vec<EnrichmentScope>,
}

struct Job {
    scope: EnrichmentScope,
    ends_at: Duration,
    end: EnrichmentJob,
}

impl Enriching {
    pub(super) fn script(&mut self, answers: impl IntoIterator<Item = EnrichmentAnswer>) {
        self.answers.extend(answers);
    }

    pub(super) fn script_ends(&mut self, ends: impl IntoIterator<Item = (Duration, EnrichmentJob)>) {
        self.ends.extend(ends);
    }

    pub(super) fn start(&mut self, scope: &EnrichmentScope, rows: &[RowId], now: Duration) -> EnrichmentAnswer {
        self.asked.push(scope.clone());
        if let Some(answer) = self.answers.pop_front() {
            return answer;
        }
        if !rows.iter().any(|row| contains(scope, row)) {
            return EnrichmentAnswer::NothingToDo;
        }
        let (takes, end) = self.ends.pop_front().unwrap_or((USUAL, EnrichmentJob::Succeeded));
        self.jobs.push(Job { scope: scope.clone(), ends_at: now.saturating_add(takes), end });
        EnrichmentAnswer::Started(JobId(format!("enrichment-{}", self.jobs.len())))
    }

    pub(super) fn job(&self, id: &JobId, now: Duration) -> EnrichmentJob {
        let number = id.0.strip_prefix("enrichment-").and_then(|number| number.parse::<usize>().ok());
        let job = number.and_then(|number| self.jobs.get(number.checked_sub(1)?));
        job.map_or(EnrichmentJob::Unknown, |job| if now < job.ends_at { EnrichmentJob::Running } else { job.end })
    }

    /// The cells of a row: those of a job that succeeded hold a result; those of one that did so in part an error.
    pub(super) fn states(&self, row: &RowId, columns: usize, now: Duration) -> RowStates {
        let newest = self.jobs.iter().rfind(|job| contains(&job.scope, row));
        let cell = match newest {
            Some(job) if now < job.ends_at => CellState::Loading,
            Some(Job { end: EnrichmentJob::Succeeded, .. }) => CellState::Result,
            Some(Job { end: EnrichmentJob::PartiallySucceeded, .. }) => {
                CellState::Error { summary: "the fake does not know it".to_owned() }
            }
            _ => CellState::Blank,
        };
        RowStates { row_id: row.clone(), cells: vec![cell; columns] }
    }
}

pub(super) fn contains(scope: &EnrichmentScope, row: &RowId) -> bool {
    scope.rows().is_none_or(|rows| rows.contains(row))
}
