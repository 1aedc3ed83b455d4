//! Drives the protocol machine of one batch.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use convoke_core::boundary::Boundary;
use convoke_core::gate::QuotaExhausted;
use convoke_core::journal::{EntryId, Intent, IntentRow, Operation, RowOutcome};
use convoke_core::plan::{OperationCounts, PlannedBatch};
use convoke_core::sink::{Answer, AttemptTag, FoundRow, KeyCell, Request};
use convoke_core::state::RejectRecord;
use convoke_core::{RowId, SinkError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Terms;
use super::desk::Desk;
use super::reject::{RejectTally, reject_record};
use crate::protocol::{Action, Fact, Fate, Found, Machine, Reason, Stop};
use crate::report::{DeliveryError, DeliveryProgress};

/// What all batches of one plan share.
pub(super) struct Errand<'a> {
    pub(super) desk: Desk<'a>,
    pub(super) terms: &'a Terms,
    pub(super) progress: &'a dyn DeliveryProgress,
    pub(super) rejects: RejectTally,
    /// One for each request that may be in flight.
    pub(super) slots: Semaphore,
}

impl Errand<'_> {
    /// Waits until one request more may be in flight.
    pub(super) async fn slot(&self) -> SemaphorePermit<'_> {
        self.slots.acquire().await.expect("nobody closes it")
    }
}

/// How the work on a batch ended. What was settled counts also when it ended early.
pub(super) struct BatchOutcome {
    pub(super) operation: Operation,
    pub(super) counts: OperationCounts,
    pub(super) in_doubt: u64,
    /// Whether every row is settled or left in doubt.
    pub(super) result: Result<BatchEnd, DeliveryError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchEnd {
    Complete,
    Cancelled,
}

pub(super) struct BatchRun<'a> {
    errand: &'a Errand<'a>,
    batch: PlannedBatch,
    machine: Machine,
    /// Held from an intent until the fate of its rows is known.
    slot: Option<SemaphorePermit<'a>>,
    /// The entry being worked on: its id and its rows.
    entry: Option<(EntryId, Vec<u32>)>,
    /// The error of a send that failed, for when the machine has closed the entry.
    failure: Option<SinkError>,
    counts: OperationCounts,
    in_doubt: u64,
}

impl<'a> BatchRun<'a> {
    pub(super) fn new(errand: &'a Errand<'a>, batch: PlannedBatch, machine: Machine) -> Self {
        let counts = OperationCounts::default();
        Self { errand, batch, machine, slot: None, entry: None, failure: None, counts, in_doubt: 0 }
    }

    pub(super) async fn run(mut self, slot: SemaphorePermit<'a>) -> BatchOutcome {
        self.slot = Some(slot);
        let result = self.settle().await;
        BatchOutcome { operation: self.batch.operation, counts: self.counts, in_doubt: self.in_doubt, result }
    }

    async fn settle(&mut self) -> Result<BatchEnd, DeliveryError> {
        loop {
            if self.errand.desk.halt.is_cancelled() {
                self.machine.cancel();
            }
            let action = self.machine.next().clone();
            match action {
                Action::Done => return Ok(BatchEnd::Complete),
                Action::Stop(stop) => return self.stopped(stop),
                Action::Wait { at_least, jitter, why } => {
                    self.wait(at_least, jitter, why).await;
                    // A wait that was cut short proves nothing: the machine is told to stop instead.
                    if !self.errand.desk.halt.is_cancelled() {
                        self.machine.on(Fact::Done);
                    }
                }
                action => {
                    let fact = self.act(action).await?;
                    self.machine.on(fact);
                }
            }
        }
    }

    fn stopped(&mut self, stop: Stop) -> Result<BatchEnd, DeliveryError> {
        let desk = &self.errand.desk;
        match (stop, self.failure.take()) {
            (_, Some(failure)) => Err(desk.sink_error(failure)),
            (Stop::Quota { retry_after }, None) => {
                let until = desk.ports.clock.now().after(retry_after);
                Err(desk.sink_error(SinkError::Quota(QuotaExhausted { until })))
            }
            (Stop::GaveUp { attempts, reason }, None) => {
                let audience = desk.audience.name.clone();
                Err(DeliveryError::GaveUp { audience, batch: self.batch.number, attempts, reason })
            }
            (Stop::Cancelled | Stop::Failed, None) => Ok(BatchEnd::Cancelled),
        }
    }

    async fn act(&mut self, action: Action) -> Result<Fact, DeliveryError> {
        match action {
            Action::NoteRecreated { rows, tag } => self.note_recreated(&rows, tag).await?,
            Action::Journal { rows, attempt, tag } => self.journal(rows, attempt, tag).await?,
            Action::Send { rows, tag } => return self.send(&rows, tag).await,
            Action::LookUpKeys { cells } => return self.look_up_keys(&cells).await,
            Action::LookUpIds { rows } => return self.look_up_ids(&rows).await,
            Action::Poll { job } => return Ok(Fact::Polled(self.errand.desk.poll_job(&job).await?)),
            Action::ExtendQuiet { by } => self.extend_quiet(by).await?,
            Action::Reject { row, reason } => self.reject(row, reason).await?,
            Action::Close { fates } => self.close(fates).await?,
            Action::LeaveInDoubt { rows, attempt, tag, fates } => {
                self.leave_in_doubt(rows, attempt, tag, fates).await?
            }
            Action::Wait { .. } | Action::Done | Action::Stop(_) => {}
        }
        Ok(Fact::Done)
    }

    fn row(&self, row: u32) -> &IntentRow {
        &self.batch.rows[row as usize]
    }

    fn reached(&self, boundary: Boundary) {
        self.errand.desk.ports.boundaries.reached(boundary);
    }

    async fn wait(&self, at_least: Duration, jitter: Duration, why: &'static str) {
        let desk = &self.errand.desk;
        self.errand.progress.waiting(why, desk.ports.clock.now().after(at_least));
        desk.wait(at_least, jitter).await;
    }

    async fn note_recreated(&self, rows: &[u32], tag: AttemptTag) -> Result<(), DeliveryError> {
        let desk = &self.errand.desk;
        let keys: Vec<_> = rows.iter().map(|row| (self.row(*row).key, tag)).collect();
        let noted = desk.ports.state.note_recreated(&desk.audience.key, &keys, &desk.lease()).await;
        noted.map_err(|error| desk.state_error(error))
    }

    async fn journal(&mut self, rows: Vec<u32>, attempt: u32, tag: AttemptTag) -> Result<(), DeliveryError> {
        if self.slot.is_none() {
            self.slot = Some(self.errand.slot().await);
        }
        self.reached(Boundary::BeforeIntent);
        let id = self.intend(&rows, attempt, tag).await?;
        self.entry = Some((id, rows));
        self.reached(Boundary::AfterIntent);
        Ok(())
    }

    async fn intend(&self, rows: &[u32], attempt: u32, tag: AttemptTag) -> Result<EntryId, DeliveryError> {
        let desk = &self.errand.desk;
        let intent = Intent {
            plan: self.errand.terms.plan,
            sync: self.errand.terms.sync.clone(),
            audience: desk.audience.key.clone(),
            batch: self.batch.number,
            operation: self.batch.operation,
            attempt,
            tag,
            intended_at: desk.ports.clock.now(),
            rows: rows.iter().map(|row| self.row(*row).clone()).collect(),
        };
        desk.ports.state.intend(&intent, &desk.lease()).await.map_err(|error| desk.state_error(error))
    }

    async fn send(&mut self, rows: &[u32], tag: AttemptTag) -> Result<Fact, DeliveryError> {
        let request = self.request(rows, tag)?;
        self.reached(Boundary::BeforeSend);
        let answer = self.errand.desk.send(&request).await?;
        self.reached(Boundary::AfterSend);
        self.reached(Boundary::BeforeAnswer);
        let fact = match answer {
            Ok(answer) => {
                self.note_job(&answer).await?;
                Fact::Answered(answer)
            }
            Err(error @ SinkError::Unavailable { .. }) => Fact::Answered(Answer::Unknown { reason: error.to_string() }),
            // In doubt, and not a thing that asking again explains: the entry stays open.
            Err(error) if self.may_be_applied(&error) => return Err(self.errand.desk.sink_error(error)),
            Err(error) => {
                self.failure = Some(error);
                Fact::SendFailed
            }
        };
        self.reached(Boundary::AfterAnswer);
        Ok(fact)
    }

    /// Whether a request that ended in this error may have been applied, if only in part.
    fn may_be_applied(&self, error: &SinkError) -> bool {
        match error {
            SinkError::Unauthorized { .. } | SinkError::Quota(_) => false,
            SinkError::Forbidden { .. } | SinkError::NotFound { .. } => {
                !self.errand.desk.ports.sink.capabilities().atomic_refusals
            }
            SinkError::Unavailable { .. } | SinkError::Protocol { .. } => true,
        }
    }

    /// Keeps which job a delete became: whoever settles its entry must see the job's end first.
    async fn note_job(&self, answer: &Answer) -> Result<(), DeliveryError> {
        let (Answer::Accepted(job), Some((entry, _))) = (answer, &self.entry) else { return Ok(()) };
        let desk = &self.errand.desk;
        desk.ports.state.note_job(*entry, job, &desk.lease()).await.map_err(|error| desk.state_error(error))
    }

    fn request(&self, rows: &[u32], tag: AttemptTag) -> Result<Request, DeliveryError> {
        if self.batch.operation == Operation::Delete {
            return Ok(Request::Delete { row_ids: self.row_ids(rows)? });
        }
        let cells = self.cells(rows)?;
        if self.batch.operation == Operation::Update {
            return Ok(Request::Update { cells, row_ids: self.row_ids(rows)? });
        }
        let key_cells = rows.iter().map(|row| KeyCell { key: self.row(*row).key, tag }).collect();
        Ok(Request::Create { cells, key_cells })
    }

    fn cells(&self, rows: &[u32]) -> Result<RecordBatch, DeliveryError> {
        let cells = &self.batch.cells;
        // Rows are named once each and in order, so as many as there are means all.
        if rows.len() == cells.num_rows() && rows.is_sorted() {
            return Ok(cells.clone());
        }
        take_record_batch(cells, &UInt32Array::from(rows.to_vec())).map_err(|error| self.damaged(error.into()))
    }

    fn row_ids(&self, rows: &[u32]) -> Result<Vec<RowId>, DeliveryError> {
        let ids: Option<Vec<RowId>> = rows.iter().map(|row| self.row(*row).row_id.clone()).collect();
        ids.ok_or_else(|| self.damaged("an update or delete lacks its row id".into()))
    }

    fn damaged(&self, source: Box<dyn std::error::Error + Send + Sync>) -> DeliveryError {
        DeliveryError::Plan { number: u64::from(self.batch.number), source }
    }

    async fn look_up_keys(&self, cells: &[(u32, AttemptTag)]) -> Result<Fact, DeliveryError> {
        let wanted: Vec<KeyCell> =
            cells.iter().map(|(row, tag)| KeyCell { key: self.row(*row).key, tag: *tag }).collect();
        let rows: HashMap<KeyCell, u32> = wanted.iter().copied().zip(cells.iter().map(|(row, _)| *row)).collect();
        let hits = self.errand.desk.find_cells(&wanted).await?;
        let found = hits.into_iter().filter_map(|FoundRow { row_id, key_cell }| {
            let cell = key_cell?;
            Some(Found { row: *rows.get(&cell)?, row_id, tag: Some(cell.tag) })
        });
        Ok(Fact::LookedUp(found.collect()))
    }

    async fn look_up_ids(&self, rows: &[u32]) -> Result<Fact, DeliveryError> {
        let wanted = self.row_ids(rows)?;
        let by_id: HashMap<&RowId, u32> = wanted.iter().zip(rows.iter().copied()).collect();
        let hits = self.errand.desk.find_ids(&wanted).await?;
        let found = hits.into_iter().filter_map(|FoundRow { row_id, .. }| {
            let row = *by_id.get(&row_id)?;
            Some(Found { row, row_id, tag: None })
        });
        Ok(Fact::LookedUp(found.collect()))
    }

    async fn extend_quiet(&self, by: Duration) -> Result<(), DeliveryError> {
        self.errand.desk.extend_quiet(by).await
    }

    async fn reject(&self, row: u32, reason: Reason) -> Result<(), DeliveryError> {
        let Errand { desk, terms, rejects, .. } = self.errand;
        let at = desk.ports.clock.now();
        let record: RejectRecord = reject_record(terms, desk.audience, &self.batch, row as usize, (reason, at));
        let stored = desk.ports.state.add_rejects(std::slice::from_ref(&record)).await;
        stored.map_err(|error| desk.state_error(error))?;
        if rejects.add(record, terms) {
            desk.halt.cancel();
        }
        Ok(())
    }

    fn outcomes(&self, rows: &[u32], fates: Vec<Fate>) -> Result<Vec<RowOutcome>, DeliveryError> {
        let outcomes: Option<Vec<RowOutcome>> =
            rows.iter().zip(fates).map(|(row, fate)| fate.outcome(self.row(*row))).collect();
        outcomes.ok_or_else(|| self.damaged("an update or delete lacks its row id".into()))
    }

    async fn close(&mut self, fates: Vec<Fate>) -> Result<(), DeliveryError> {
        let Some((id, rows)) = self.entry.take() else { return Ok(()) };
        let desk = &self.errand.desk;
        let counts = count(&fates);
        let outcomes = self.outcomes(&rows, fates)?;
        self.slot = None;
        self.reached(Boundary::BeforeAcknowledge);
        desk.ports.state.close(id, &outcomes, &desk.lease()).await.map_err(|error| desk.state_error(error))?;
        self.reached(Boundary::AfterAcknowledge);
        self.add(counts);
        Ok(())
    }

    fn add(&mut self, counts: OperationCounts) {
        let before = self.counts.settled();
        self.counts.acknowledged += counts.acknowledged;
        self.counts.incomplete += counts.incomplete;
        self.counts.failed += counts.failed;
        self.counts.rejected += counts.rejected;
        self.counts.found_removed += counts.found_removed;
        let settled = self.counts.settled() - before;
        if settled > 0 {
            self.errand.progress.settled(self.batch.operation, settled);
        }
    }

    /// Rows whose answer was lost stay in an open entry; ids that were answered for others are kept by closing theirs.
    async fn leave_in_doubt(
        &mut self,
        rows: Vec<u32>,
        attempt: u32,
        tag: AttemptTag,
        fates: Vec<Fate>,
    ) -> Result<(), DeliveryError> {
        self.in_doubt += rows.len() as u64;
        if fates.iter().all(|fate| *fate == Fate::NotApplied) {
            self.entry = None;
            return Ok(());
        }
        self.intend(&rows, attempt, tag).await?;
        self.close(fates).await
    }
}

/// What the fates of an entry's rows add to the counts.
fn count(fates: &[Fate]) -> OperationCounts {
    let mut counts = OperationCounts::default();
    for fate in fates {
        match fate {
            Fate::Acknowledged(_) | Fate::Deleted => counts.acknowledged += 1,
            Fate::Incomplete(_) => {
                counts.acknowledged += 1;
                counts.incomplete += 1;
            }
            Fate::Failed(_) => {
                counts.acknowledged += 1;
                counts.incomplete += 1;
                counts.failed += 1;
            }
            Fate::Rejected => counts.rejected += 1,
            Fate::Removed => counts.found_removed += 1,
            Fate::Unsure | Fate::NotApplied => {}
        }
    }
    counts
}
