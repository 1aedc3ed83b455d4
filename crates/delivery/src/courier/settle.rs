//! Settles what a crash, or another process, left open in the journal.
//!
//! What was sent is not known here, only which rows it was about; so nothing is sent again. Creates are found by their
//! key cells or noted as re-created; updates and deletes are looked up by id. Sending again is left to the plan they
//! belong to, or to the next one.

use std::time::Duration;

use convoke_core::journal::{Entry, Operation, RowOutcome};
use convoke_core::sink::JobState;

use super::desk::Desk;
use crate::protocol::{Evidence, Fate, MAX_POLLS, Verdict, poll_delay};
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
    let mut evidence = Evidence::new(desk.recreated().await?, &open);
    if !desk.halt.is_cancelled() {
        look(desk, &mut evidence, &open).await?;
        if open.iter().any(|entry| evidence.misses(entry)) {
            desk.wait(capabilities.settle, Duration::ZERO).await;
            look(desk, &mut evidence, &open).await?;
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

/// Looks up whatever has not been found yet.
async fn look(desk: &Desk<'_>, evidence: &mut Evidence, open: &[Entry]) -> Result<(), DeliveryError> {
    let (cells, ids) = evidence.wanted(open);
    evidence.add(desk.find_cells(&cells).await?, desk.find_ids(&ids).await?);
    Ok(())
}

async fn close(
    desk: &Desk<'_>,
    entry: &Entry,
    evidence: &Evidence,
    report: &mut SettleReport,
) -> Result<(), DeliveryError> {
    let Verdict { to_sweep, fates } = evidence.verdict(entry);
    report.found += fates.iter().filter(|fate| matches!(fate, Fate::Acknowledged(_))).count() as u64;
    report.not_applied += fates.iter().filter(|fate| matches!(fate, Fate::NotApplied | Fate::Unsure)).count() as u64;
    // A row without the id it should have was never a request.
    let outcomes = fates.into_iter().zip(&entry.intent.rows);
    let outcomes: Vec<RowOutcome> =
        outcomes.map(|(fate, row)| fate.outcome(row).unwrap_or(RowOutcome::NotApplied)).collect();
    let (state, lease) = (&desk.ports.state, desk.lease());
    if !to_sweep.is_empty() {
        let noted = state.note_recreated(&desk.audience.key, &to_sweep, &lease).await;
        noted.map_err(|error| desk.state_error(error))?;
    }
    state.close(entry.id, &outcomes, &lease).await.map_err(|error| desk.state_error(error))?;
    report.entries += 1;
    Ok(())
}
