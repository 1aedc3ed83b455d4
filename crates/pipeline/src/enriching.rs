//! What happens after a run: the destination is asked to enrich rows.
//!
//! Each job is noted in the checkpoint store before the plan's journal entries are forgotten, and moved to `starting`
//! before its request leaves. A request whose answer was lost, or whose process died, is told as unclear and never made
//! again: it costs credits. What a run leaves open is looked at by the next run of the sync. Nothing here changes how
//! the run itself ended: that is committed before.

use std::time::Duration;

use convoke_core::boundary::Boundary;
use convoke_core::enrichment::{
    EnrichedColumn, EnrichmentAnswer, EnrichmentId, EnrichmentJob, EnrichmentReport, EnrichmentScope, EnrichmentStage,
    NewEnrichment, OpenEnrichment,
};
use convoke_core::journal::{Entry, Operation, RowOutcome};
use convoke_core::plan::{DeliveryCounts, PlanManifest};
use convoke_core::sink::{AudienceBinding, JobId};
use convoke_core::spec::EnrichedRows;
use convoke_core::state::{PlanRecord, RunRecord};
use convoke_core::{RowId, RunId, SinkError};
use convoke_delivery::courier::tally;
use convoke_delivery::random_backoff;

use crate::Pipeline;
use crate::error::{Error, chain};
use crate::lease::LeaseKeeper;

/// Journal entries that are read in one go.
const ENTRIES_PER_READ: u32 = 50;

/// Of a whole audience the cells of so many rows are looked at.
const ROWS_OF_A_SAMPLE: usize = 5_000;

/// Requests that are made for one job at most, while each is certainly not applied.
const START_ATTEMPTS: u32 = 5;

/// Between two looks at jobs that go on; it begins with a tenth of this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The column type of columns that the destination fills by matching.
const MATCH_COLUMN: &str = "ZOOMINFO_MATCH";

/// Jobs that one run looks after, and what it tells of them.
#[derive(Default)]
struct Pursuit {
    report: EnrichmentReport,
    /// Their end is told with the report.
    ended: Vec<EnrichmentId>,
    going_on: Vec<(EnrichmentId, JobId)>,
    /// Done, so that their cells tell something.
    done: Vec<EnrichmentId>,
}

/// What asking for a job means for those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// The account has no credits: the others are not asked for any more.
    NoCredits,
    /// Not now: the others wait for the next run.
    Later,
}

impl Pipeline {
    /// Notes what of a plan is to be enriched, before its entries are forgotten.
    pub(crate) async fn note_enrichments(
        &self,
        run: RunId,
        manifest: &PlanManifest,
        counts: &DeliveryCounts,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        let Some(after) = self.sync.spec.after else { return Ok(()) };
        let written = [counts.creates, counts.updates].map(|counts| counts.acknowledged + counts.incomplete);
        if written.iter().sum::<u64>() == 0 {
            return Ok(());
        }
        let Some(rows_per_job) = self.sync.destination.capabilities().enrich_rows else {
            self.notice("the destination cannot enrich rows; leave `after` out");
            return Ok(());
        };
        let Some(binding) = self.services.state.binding(&manifest.sync).await? else { return Ok(()) };
        let mut notes = Notes { pipeline: self, run, manifest, binding, keeper, number: 0 };
        match after.enrich {
            EnrichedRows::All => notes.add(EnrichmentScope::Audience).await,
            EnrichedRows::Changed => notes.add_changed(rows_per_job).await,
        }
    }

    /// Gives a plan up, and notes what of it is to be enriched: what was written stays.
    pub(crate) async fn abandon_enriched(
        &self,
        run: RunId,
        plan: &PlanRecord,
        reason: &str,
        keeper: &LeaseKeeper,
    ) -> Result<DeliveryCounts, Error> {
        let written = tally(self.services.state.as_ref(), plan.manifest.id).await?;
        Box::pin(self.note_enrichments(run, &plan.manifest, &written, keeper)).await?;
        self.abandon(plan, reason).await
    }

    /// Starts what is noted, waits for what was started, and tells in the run's record what came of it.
    pub(crate) async fn enrich(&self, run: &mut RunRecord, keeper: &LeaseKeeper) {
        let mut pursuit = Pursuit::default();
        let open = match self.services.state.open_enrichments(&run.sync).await {
            Ok(open) if open.is_empty() => return,
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "enrichments could not be looked up");
                return;
            }
        };
        if let Err(error) = self.pursue(run, open, &mut pursuit, keeper).await {
            pursuit.report.tell(chain(&error));
        }
        if !pursuit.report.is_complete() {
            self.notice(format!("not all was enriched; `convoke show {}` tells", run.id));
        }
        run.enrichment = Some(pursuit.report);
        if let Err(error) = self.services.state.update_run(run).await {
            // They stay open, so the next run tells them.
            tracing::warn!(error = %chain(&error), "the report of the enrichments could not be kept");
            return;
        }
        for id in pursuit.ended {
            if let Err(error) = self.services.state.close_enrichment(id, &keeper.lease()).await {
                tracing::warn!(error = %chain(&error), "an enrichment could not be closed");
            }
        }
    }

    async fn pursue(
        &self,
        run: &RunRecord,
        open: Vec<OpenEnrichment>,
        pursuit: &mut Pursuit,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        let deadline = self.services.clock.elapsed() + self.sync.spec.after.map_or(Duration::ZERO, |after| after.wait);
        pursuit.report.from_earlier_runs = open.iter().filter(|one| one.run != run.id).count() as u64;
        let Some(binding) = self.services.state.binding(&run.sync).await? else { return Ok(()) };
        let mut next = Next::GoOn;
        for one in open {
            if one.audience != binding.key {
                pursuit.report.jobs.unclear += 1;
                pursuit
                    .report
                    .tell("the sync fills another audience now, so what was asked for before is not looked at");
                pursuit.ended.push(one.id);
                continue;
            }
            match one.stage {
                EnrichmentStage::Started(job) => pursuit.going_on.push((one.id, job)),
                EnrichmentStage::Starting => {
                    pursuit.report.jobs.unclear += 1;
                    pursuit.report.tell("a process ended while it asked for an enrichment: it may go on");
                    pursuit.ended.push(one.id);
                }
                EnrichmentStage::Noted => match next {
                    Next::GoOn => next = self.start(one.id, &binding, pursuit, deadline, keeper).await?,
                    Next::NoCredits => {
                        pursuit.report.jobs.no_credits += 1;
                        pursuit.ended.push(one.id);
                    }
                    Next::Later => pursuit.report.jobs.not_started += 1,
                },
            }
        }
        let ended = self.wait_for_enrichments(&binding, pursuit, deadline).await;
        self.read_cells(&binding, pursuit).await?;
        ended
    }

    /// Asks for one job. Only what is certainly not started is asked for again.
    async fn start(
        &self,
        id: EnrichmentId,
        binding: &AudienceBinding,
        pursuit: &mut Pursuit,
        deadline: Duration,
        keeper: &LeaseKeeper,
    ) -> Result<Next, Error> {
        let state = &self.services.state;
        if self.sync.spec.after.is_none() {
            pursuit.report.jobs.cancelled += 1;
            pursuit.report.tell("`after` was taken out of the configuration before all was asked for");
            pursuit.ended.push(id);
            return Ok(Next::GoOn);
        }
        if self.cancel.is_cancelled() {
            pursuit.report.jobs.not_started += 1;
            return Ok(Next::Later);
        }
        let Some(scope) = state.enrichment_scope(id).await? else { return Ok(Next::GoOn) };
        self.refuse_lost_lease(keeper).await?;
        state.move_enrichment(id, &EnrichmentStage::Noted, &EnrichmentStage::Starting, &keeper.lease()).await?;
        self.reached(Boundary::BeforeEnrichment);
        let answer = self.ask(binding, &scope, deadline).await;
        self.reached(Boundary::AfterEnrichment);
        match settled(answer) {
            Asked::Started(job) => {
                let started = EnrichmentStage::Started(job.clone());
                state.move_enrichment(id, &EnrichmentStage::Starting, &started, &keeper.lease()).await?;
                pursuit.going_on.push((id, job));
                Ok(Next::GoOn)
            }
            Asked::PutOff { reason } => {
                state.move_enrichment(id, &EnrichmentStage::Starting, &EnrichmentStage::Noted, &keeper.lease()).await?;
                pursuit.report.jobs.not_started += 1;
                pursuit.report.tell(reason);
                Ok(Next::Later)
            }
            Asked::Ended { count, reason, next } => {
                *count.of(&mut pursuit.report) += 1;
                reason.into_iter().for_each(|reason| pursuit.report.tell(reason));
                pursuit.ended.push(id);
                Ok(next)
            }
        }
    }

    /// Makes the request, and again after a wait while it is certainly not applied.
    async fn ask(
        &self,
        binding: &AudienceBinding,
        scope: &EnrichmentScope,
        deadline: Duration,
    ) -> Result<EnrichmentAnswer, SinkError> {
        let mut attempt = 1;
        loop {
            let answer = self.sync.destination.enrich(binding, scope).await;
            let Ok(EnrichmentAnswer::NotStarted { retry_after, .. }) = &answer else { return answer };
            let wait = retry_after.unwrap_or_default() + random_backoff(attempt);
            let is_too_long = self.services.clock.elapsed() + wait > deadline;
            if attempt == START_ATTEMPTS || is_too_long || !self.waited(wait).await {
                return answer;
            }
            attempt += 1;
        }
    }

    /// False if the wait was cut short.
    async fn waited(&self, pause: Duration) -> bool {
        self.unless_cancelled(self.services.clock.sleep(pause)).await.is_ok()
    }

    /// Asks how jobs stand until all have ended, the time is over, or the run is cancelled.
    async fn wait_for_enrichments(
        &self,
        binding: &AudienceBinding,
        pursuit: &mut Pursuit,
        deadline: Duration,
    ) -> Result<(), Error> {
        let mut pause = LONGEST_PAUSE / 10;
        if !pursuit.going_on.is_empty() {
            self.notice("waiting for the destination to enrich rows");
        }
        loop {
            let mut going_on = std::mem::take(&mut pursuit.going_on).into_iter();
            while let Some((id, job)) = going_on.next() {
                match self.sync.destination.enrichment(binding, &job).await {
                    Ok(EnrichmentJob::Running) => pursuit.going_on.push((id, job)),
                    Ok(ended) => pursuit.end(id, ended),
                    Err(error) => {
                        pursuit.report.jobs.running += (pursuit.going_on.len() + 1 + going_on.len()) as u64;
                        return Err(error.into());
                    }
                }
            }
            if pursuit.going_on.is_empty() {
                return Ok(());
            }
            let left = deadline.saturating_sub(self.services.clock.elapsed());
            if left.is_zero() || !self.waited(pause.min(left)).await {
                pursuit.report.jobs.running += pursuit.going_on.len() as u64;
                return Ok(());
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads what became of the cells of what is done.
    async fn read_cells(&self, binding: &AudienceBinding, pursuit: &mut Pursuit) -> Result<(), Error> {
        if pursuit.done.is_empty() {
            return Ok(());
        }
        let survey = self.sync.destination.survey(&self.target(), Some(&binding.key.audience_id)).await?;
        let rows_in_all = survey.audiences.first().and_then(|audience| audience.record_count);
        let filled = survey.columns.into_iter().filter(|column| column.column_type == MATCH_COLUMN);
        let (ids, names): (Vec<String>, Vec<String>) = filled.map(|column| (column.id, column.name)).unzip();
        let report = &mut pursuit.report;
        report.columns = names.into_iter().map(|name| EnrichedColumn { name, ..EnrichedColumn::default() }).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for id in &pursuit.done {
            let Some(scope) = self.services.state.enrichment_scope(*id).await? else { continue };
            let rows = self.sync.destination.cell_states(binding, &ids, &scope, ROWS_OF_A_SAMPLE).await?;
            report.is_sample |= scope == EnrichmentScope::Audience && rows_in_all > Some(rows.len() as u64);
            rows.iter().for_each(|row| report.add(row));
        }
        Ok(())
    }
}

impl Pursuit {
    fn end(&mut self, id: EnrichmentId, ended: EnrichmentJob) {
        let jobs = &mut self.report.jobs;
        match ended {
            EnrichmentJob::Running => return,
            EnrichmentJob::Succeeded => jobs.succeeded += 1,
            EnrichmentJob::PartiallySucceeded => jobs.partially_succeeded += 1,
            EnrichmentJob::Failed => jobs.failed += 1,
            EnrichmentJob::Cancelled => jobs.cancelled += 1,
            EnrichmentJob::Unknown => {
                jobs.unclear += 1;
                self.report.tell("the destination does not know a job of ours any more, or not how it stands");
            }
        }
        self.ended.push(id);
        if matches!(ended, EnrichmentJob::Succeeded | EnrichmentJob::PartiallySucceeded) {
            self.done.push(id);
        }
    }
}

/// What came of asking for a job.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Started(JobId),
    /// Certainly not started; the next run asks again.
    PutOff {
        reason: String,
    },
    Ended {
        count: Count,
        reason: Option<String>,
        next: Next,
    },
}

/// Where a job that did not start is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    NothingToDo,
    NoCredits,
    Refused,
    Unclear,
}

impl Count {
    fn of(self, report: &mut EnrichmentReport) -> &mut u64 {
        let jobs = &mut report.jobs;
        match self {
            Self::NothingToDo => &mut jobs.nothing_to_do,
            Self::NoCredits => &mut jobs.no_credits,
            Self::Refused => &mut jobs.refused,
            Self::Unclear => &mut jobs.unclear,
        }
    }
}

/// What an answer means. Whatever may have started a job is unclear, and never asked for again.
fn settled(answer: Result<EnrichmentAnswer, SinkError>) -> Asked {
    let ended = |count, reason: String, next| Asked::Ended { count, reason: Some(reason), next };
    match answer {
        Ok(EnrichmentAnswer::Started(job)) => Asked::Started(job),
        Ok(EnrichmentAnswer::NothingToDo) => Asked::Ended { count: Count::NothingToDo, reason: None, next: Next::GoOn },
        Ok(EnrichmentAnswer::NoCredits { reason }) => {
            let reason = format!("the account has no credits: {reason}");
            ended(Count::NoCredits, reason, Next::NoCredits)
        }
        Ok(EnrichmentAnswer::Refused { reason }) => ended(Count::Refused, reason, Next::GoOn),
        Ok(EnrichmentAnswer::NotStarted { reason, .. }) => Asked::PutOff { reason },
        Ok(EnrichmentAnswer::Unknown { reason }) => ended(Count::Unclear, reason, Next::GoOn),
        // Nothing was applied, and the next request would fare alike.
        Err(error @ (SinkError::Unauthorized { .. } | SinkError::Quota(_))) => Asked::PutOff { reason: chain(&error) },
        Err(error @ (SinkError::NotFound { .. } | SinkError::Forbidden { .. })) => {
            ended(Count::Refused, chain(&error), Next::GoOn)
        }
        Err(error @ (SinkError::Unavailable { .. } | SinkError::Protocol { .. })) => {
            ended(Count::Unclear, chain(&error), Next::GoOn)
        }
    }
}

/// The rows that an entry wrote.
fn written_rows(entry: Entry) -> Vec<RowId> {
    if entry.intent.operation == Operation::Delete {
        return Vec::new();
    }
    let outcomes = entry.outcomes.into_iter().flatten();
    let row_of = |outcome| match outcome {
        RowOutcome::Acknowledged { row_id } | RowOutcome::Incomplete { row_id } | RowOutcome::Failed { row_id } => {
            Some(row_id)
        }
        RowOutcome::NotApplied | RowOutcome::Rejected | RowOutcome::RemovedAtDestination => None,
    };
    outcomes.filter_map(row_of).collect()
}

/// Notes the enrichments of one plan.
struct Notes<'a> {
    pipeline: &'a Pipeline,
    run: RunId,
    manifest: &'a PlanManifest,
    binding: AudienceBinding,
    keeper: &'a LeaseKeeper,
    number: u32,
}

impl Notes<'_> {
    async fn add(&mut self, scope: EnrichmentScope) -> Result<(), Error> {
        let enrichment = NewEnrichment {
            plan: self.manifest.id,
            number: self.number,
            sync: self.manifest.sync.clone(),
            run: self.run,
            audience: self.binding.key.clone(),
            scope,
        };
        self.number += 1;
        Ok(self.pipeline.services.state.note_enrichment(&enrichment, &self.keeper.lease()).await?)
    }

    /// A plan that is delivered has all its entries, so a run that goes on here after a crash notes the same.
    async fn add_changed(&mut self, rows_per_job: usize) -> Result<(), Error> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let state = &self.pipeline.services.state;
            let entries = state.entries_of(self.manifest.id, after, ENTRIES_PER_READ).await?;
            let Some(last) = entries.last() else { break };
            after = Some(last.id);
            rows.extend(entries.into_iter().flat_map(written_rows));
            while rows.len() >= rows_per_job {
                let rest = rows.split_off(rows_per_job);
                self.add(EnrichmentScope::Rows(std::mem::replace(&mut rows, rest))).await?;
            }
        }
        if rows.is_empty() { Ok(()) } else { self.add(EnrichmentScope::Rows(rows)).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason() -> String {
        "r".to_owned()
    }

    #[test]
    fn only_what_is_certainly_not_started_is_asked_for_again() {
        let message = reason();
        let not_now = Ok(EnrichmentAnswer::NotStarted { reason: reason(), retry_after: None });
        let put_off = [not_now, Err(SinkError::Unauthorized { message: message.clone() })];
        for answer in put_off {
            assert!(matches!(settled(answer), Asked::PutOff { .. }));
        }
        let unclear = [
            Ok(EnrichmentAnswer::Unknown { reason: reason() }),
            Err(SinkError::Protocol { message: message.clone() }),
            Err(SinkError::Unavailable { message, retry_after: None, cause: None }),
        ];
        for answer in unclear {
            let asked = settled(answer);
            assert!(matches!(asked, Asked::Ended { count: Count::Unclear, next: Next::GoOn, .. }), "{asked:?}");
        }
    }

    #[test]
    fn without_credits_nothing_more_is_asked_for() {
        let asked = settled(Ok(EnrichmentAnswer::NoCredits { reason: reason() }));
        assert!(matches!(asked, Asked::Ended { count: Count::NoCredits, next: Next::NoCredits, .. }), "{asked:?}");
    }

    #[test]
    fn each_end_of_a_job_is_counted_as_what_it_is() {
        let ends = [
            EnrichmentJob::Succeeded,
            EnrichmentJob::PartiallySucceeded,
            EnrichmentJob::Failed,
            EnrichmentJob::Cancelled,
            EnrichmentJob::Unknown,
        ];
        let mut pursuit = Pursuit::default();
        for (number, end) in (0..).zip(ends) {
            pursuit.end(EnrichmentId(number), end);
        }
        let jobs = pursuit.report.jobs;
        let counts = [jobs.succeeded, jobs.partially_succeeded, jobs.failed, jobs.cancelled, jobs.unclear];
        assert_eq!(counts, [1; 5]);
        assert_eq!(pursuit.ended.len(), 5);
        assert_eq!(pursuit.done, [EnrichmentId(0), EnrichmentId(1)], "only what did something shows in cells");
    }
}
