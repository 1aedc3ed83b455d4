//! Settles what a crash, or another process, left open in the journal.
//!
//! What was sent is not known here, only which rows it was about; so nothing is sent again. Creates are found by their
//! key cells or noted as re-created; updates and deletes are looked up by id. Sending again is left to the plan they
//! belong to, or to the next one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use convoke_core::KeyHash;
use convoke_core::RowId;
use convoke_core::journal::{Entry, IntentRow, Operation, RowOutcome};
use convoke_core::sink::{AttemptTag, FoundRow, JobState, KeyCell};

use super::desk::Desk;
use crate::protocol::{Fate, MAX_POLLS, poll_delay, settled_fate};
use crate::report::{DeliveryError, SettleReport};

pub(super) async fn settle_open(desk: &Desk<'_>) -> Result<SettleReport, DeliveryError> {
    let mut report = SettleReport::default();
    let (open, blind): (Vec<Entry>, Vec<Entry>) =
        desk.open_entries().await?.into_iter().partition(|entry| can_look_up(desk, entry));
    report.in_doubt = blind.iter().map(|entry| entry.intent.rows.len() as u64).sum();
    if open.is_empty() {
        return Ok(report);
    }
    let capabilities = desk.ports.sink.capabilities();
    let request_timeout = if desk.lease().taken_over { capabilities.request_timeout } else { Duration::ZERO };
    let first_look = request_timeout + capabilities.max_commit_delay + capabilities.settle;
    desk.wait(first_look, Duration::ZERO).await;
    await_jobs(desk, &open).await?;
    let mut evidence = Evidence::new(desk, &open).await?;
    if !desk.halt.is_cancelled() {
        evidence.look(desk, &open).await?;
        if open.iter().any(|entry| evidence.misses(entry)) {
            desk.wait(capabilities.settle, Duration::ZERO).await;
            evidence.look(desk, &open).await?;
        }
    }
    // A wait that was cut short proves nothing: the entries stay open.
    if desk.halt.is_cancelled() {
        report.interrupted = true;
        return Ok(report);
    }
    for entry in open {
        close(desk, &entry, &evidence, &mut report).await?;
    }
    Ok(report)
}

/// Waits for the end of delete jobs: one that is still running may delete later what is there now.
async fn await_jobs(desk: &Desk<'_>, open: &[Entry]) -> Result<(), DeliveryError> {
    for entry in open.iter().filter(|entry| entry.intent.operation == Operation::Delete) {
        let job = desk.ports.state.job_of(entry.id).await.map_err(|error| desk.state_error(error))?;
        let Some(job) = job else { continue };
        let mut polls = 0;
        while !desk.halt.is_cancelled() && desk.poll_job(&job).await? == JobState::Running {
            polls += 1;
            if polls >= MAX_POLLS {
                let (audience, batch) = (desk.audience.name.clone(), entry.intent.batch);
                let reason = "the delete job of an earlier run did not end".to_owned();
                return Err(DeliveryError::GaveUp { audience, batch, attempts: polls, reason });
            }
            desk.wait(poll_delay(polls), Duration::ZERO).await;
        }
    }
    Ok(())
}

fn can_look_up(desk: &Desk<'_>, entry: &Entry) -> bool {
    entry.intent.operation != Operation::Create || desk.audience.key_look_up.is_some()
}

/// What the audience holds of the rows in question.
struct Evidence {
    /// Tags that a key may exist under, besides its entry's.
    tags: HashMap<KeyHash, Vec<AttemptTag>>,
    /// By key cell: the rows found.
    created: HashMap<KeyCell, Vec<RowId>>,
    ids: HashSet<RowId>,
}

impl Evidence {
    async fn new(desk: &Desk<'_>, open: &[Entry]) -> Result<Self, DeliveryError> {
        let mut tags: HashMap<KeyHash, Vec<AttemptTag>> = HashMap::new();
        for known in desk.recreated().await? {
            tags.insert(known.key, known.tags);
        }
        for entry in open.iter().filter(|entry| entry.intent.operation == Operation::Create) {
            for row in &entry.intent.rows {
                let of_key = tags.entry(row.key).or_default();
                of_key.retain(|tag| *tag != entry.intent.tag);
                of_key.push(entry.intent.tag);
            }
        }
        Ok(Self { tags, created: HashMap::new(), ids: HashSet::new() })
    }

    /// Looks up whatever has not been found yet.
    async fn look(&mut self, desk: &Desk<'_>, open: &[Entry]) -> Result<(), DeliveryError> {
        let mut cells = Vec::new();
        let mut ids = Vec::new();
        for entry in open {
            for row in entry.intent.rows.iter().filter(|row| self.found(entry, row).is_none()) {
                match (entry.intent.operation, &row.row_id) {
                    (Operation::Create, _) => cells.extend(self.cells(row.key)),
                    (_, Some(row_id)) => ids.push(row_id.clone()),
                    (_, None) => {}
                }
            }
        }
        for FoundRow { row_id, key_cell } in desk.find_cells(&cells).await? {
            if let Some(cell) = key_cell {
                self.created.entry(cell).or_default().push(row_id);
            }
        }
        self.ids.extend(desk.find_ids(&ids).await?.into_iter().map(|found| found.row_id));
        Ok(())
    }

    /// Key cells a key may stand under, the newest attempt last.
    fn cells(&self, key: KeyHash) -> impl Iterator<Item = KeyCell> {
        let tags = self.tags.get(&key).map(Vec::as_slice).unwrap_or_default();
        tags.iter().map(move |tag| KeyCell { key, tag: *tag })
    }

    fn found(&self, entry: &Entry, row: &IntentRow) -> Option<RowId> {
        if entry.intent.operation != Operation::Create {
            return row.row_id.clone().filter(|row_id| self.ids.contains(row_id));
        }
        let mut newest = None;
        for cell in self.cells(row.key) {
            newest = self.created.get(&cell).and_then(|rows| rows.first().cloned()).or(newest);
        }
        newest
    }

    /// Rows of ours that stand under this key.
    fn copies(&self, key: KeyHash) -> usize {
        self.cells(key).filter_map(|cell| self.created.get(&cell)).map(Vec::len).sum()
    }

    fn misses(&self, entry: &Entry) -> bool {
        entry.intent.rows.iter().any(|row| self.found(entry, row).is_none())
    }
}

async fn close(
    desk: &Desk<'_>,
    entry: &Entry,
    evidence: &Evidence,
    report: &mut SettleReport,
) -> Result<(), DeliveryError> {
    let mut outcomes = Vec::with_capacity(entry.intent.rows.len());
    let mut to_sweep = Vec::new();
    for row in &entry.intent.rows {
        let fate = settled_fate(entry.intent.operation, evidence.found(entry, row));
        report.found += u64::from(matches!(fate, Fate::Acknowledged(_)));
        report.not_applied += u64::from(matches!(fate, Fate::NotApplied | Fate::Unsure));
        if entry.intent.operation == Operation::Create && evidence.copies(row.key) != 1 {
            to_sweep.push((row.key, entry.intent.tag));
        }
        // A row without the id it should have was never a request.
        outcomes.push(fate.outcome(row).unwrap_or(RowOutcome::NotApplied));
    }
    let (state, lease) = (&desk.ports.state, desk.lease());
    if !to_sweep.is_empty() {
        let noted = state.note_recreated(&desk.audience.key, &to_sweep, &lease).await;
        noted.map_err(|error| desk.state_error(error))?;
    }
    state.close(entry.id, &outcomes, &lease).await.map_err(|error| desk.state_error(error))?;
    report.entries += 1;
    Ok(())
}
