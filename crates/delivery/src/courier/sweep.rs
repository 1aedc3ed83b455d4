//! Looks keys that were created again up once more, and removes late doubles.
//!
//! It goes on in growing portions, so that a run which is cut short by a used-up rate budget leaves less to the next one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use convoke_core::journal::EntryId;
use convoke_core::sink::{Answer, Capabilities, FoundRow, JobState, KeyCell, Request};
use convoke_core::state::Recreated;
use convoke_core::{KeyHash, RowId};

use super::desk::Desk;
use super::portions::growing;
use crate::protocol::{MAX_POLLS, MAX_SENDS, MAX_UNKNOWN, Surplus, backoff, poll_delay, rows_named_by};
use crate::report::{DeliveryError, SweepReport};

/// Journal entries per read.
const ENTRIES_PER_PAGE: u32 = 64;

pub(super) async fn sweep(
    desk: &Desk<'_>,
    named: &(dyn Fn(KeyHash) -> Option<RowId> + Sync),
) -> Result<SweepReport, DeliveryError> {
    let mut report = SweepReport::default();
    let keys = settled_keys(desk).await?;
    if keys.is_empty() || desk.audience.key_look_up.is_none() {
        return Ok(report);
    }
    let in_journal = named_in_journal(desk, &keys).await?;
    let named = |key: KeyHash| in_journal.get(&key).cloned().unwrap_or_else(|| named(key));
    let is_by_prefix = looks_up_by_prefix(desk);
    let values = |known: &Recreated| if is_by_prefix { 1 } else { known.tags.len() };
    for portion in growing(&keys, desk.values_per_look_up(), values) {
        if desk.halt.is_cancelled() {
            break;
        }
        sweep_portion(desk, portion, &named, &mut report).await?;
    }
    Ok(report)
}

/// Sweeps some keys to the end: what is done is counted, and not begun again by the next run.
async fn sweep_portion(
    desk: &Desk<'_>,
    keys: &[Recreated],
    named: &(dyn Fn(KeyHash) -> Option<RowId> + Sync),
    report: &mut SweepReport,
) -> Result<(), DeliveryError> {
    let rows = find(desk, keys).await?;
    let Surplus { ours: surplus, doubled } = Surplus::of(keys, rows, &named);
    report.doubled.extend(doubled);
    let left = remove(desk, &surplus).await?;
    report.removed += (surplus.len() - left.len()) as u64;
    report.keys += keys.len() as u64;
    let left: HashSet<RowId> = left.into_iter().collect();
    let unfinished: HashSet<KeyHash> =
        surplus.iter().filter(|(row_id, _)| left.contains(row_id)).map(|(_, key)| *key).collect();
    let swept: Vec<KeyHash> = keys.iter().map(|known| known.key).filter(|key| !unfinished.contains(key)).collect();
    let counted = desk.ports.state.count_sweep(&desk.audience.key, &swept, &desk.lease()).await;
    counted.map_err(|error| desk.state_error(error))
}

fn looks_up_by_prefix(desk: &Desk<'_>) -> bool {
    desk.audience.key_look_up.is_some_and(|look_up| look_up.by_prefix)
}

/// Keys to sweep, but for those of open entries: which row is the right one is not known yet.
async fn settled_keys(desk: &Desk<'_>) -> Result<Vec<Recreated>, DeliveryError> {
    let mut keys = desk.recreated().await?;
    if keys.is_empty() {
        return Ok(keys);
    }
    let open = desk.open_entries().await?;
    let open: HashSet<KeyHash> = open.iter().flat_map(|entry| &entry.intent.rows).map(|row| row.key).collect();
    keys.retain(|known| !open.contains(&known.key));
    Ok(keys)
}

/// What closed entries that are not folded yet say about the keys: the row, or that there is none.
async fn named_in_journal(
    desk: &Desk<'_>,
    keys: &[Recreated],
) -> Result<HashMap<KeyHash, Option<RowId>>, DeliveryError> {
    let wanted: HashSet<KeyHash> = keys.iter().map(|known| known.key).collect();
    let mut named = HashMap::new();
    let mut after: Option<EntryId> = None;
    loop {
        let page = desk.ports.state.unfolded(&desk.audience.key, after, ENTRIES_PER_PAGE).await;
        let page = page.map_err(|error| desk.state_error(error))?;
        let Some(last) = page.last() else { return Ok(named) };
        after = Some(last.id);
        for entry in &page {
            named.extend(rows_named_by(entry).filter(|(key, _)| wanted.contains(key)));
        }
    }
}

async fn find(desk: &Desk<'_>, keys: &[Recreated]) -> Result<Vec<FoundRow>, DeliveryError> {
    if looks_up_by_prefix(desk) {
        let hashes: Vec<KeyHash> = keys.iter().map(|known| known.key).collect();
        return desk.find_keys(&hashes).await;
    }
    let cells = keys.iter().flat_map(|known| known.tags.iter().map(|tag| KeyCell { key: known.key, tag: *tag }));
    desk.find_cells(&cells.collect::<Vec<_>>()).await
}

/// Deletes rows; returns those that may still be there, for the next sweep.
///
/// What is in doubt is looked up and deleted again, a bounded number of times: a row that stays would look like somebody
/// else's to the guard of the next plan.
async fn remove(desk: &Desk<'_>, surplus: &[(RowId, KeyHash)]) -> Result<Vec<RowId>, DeliveryError> {
    let Capabilities { max_commit_delay, settle, delete_rows, .. } = desk.ports.sink.capabilities();
    let mut left: Vec<RowId> = surplus.iter().map(|(row_id, _)| row_id.clone()).collect();
    for round in 1..=MAX_UNKNOWN {
        let mut in_doubt = Vec::new();
        for row_ids in left.chunks(delete_rows.max(1)) {
            if !delete(desk, row_ids).await? {
                in_doubt.extend_from_slice(row_ids);
            }
        }
        if in_doubt.is_empty() {
            return Ok(in_doubt);
        }
        // Until it has come or never will, a read-back could adopt a row that such a delete then takes away.
        desk.extend_quiet(max_commit_delay + settle).await?;
        desk.wait(settle, backoff(round)).await;
        left = desk.find_ids(&in_doubt).await?.into_iter().map(|found| found.row_id).collect();
        if left.is_empty() || desk.halt.is_cancelled() {
            break;
        }
    }
    Ok(left)
}

/// Whether the rows are certainly gone.
async fn delete(desk: &Desk<'_>, row_ids: &[RowId]) -> Result<bool, DeliveryError> {
    for sends in 1..=MAX_SENDS {
        let request = Request::Delete { row_ids: row_ids.to_vec() };
        match desk.send(&request).await?.map_err(|error| desk.sink_error(error))? {
            Answer::Applied(rows) => return Ok(rows.len() == row_ids.len()),
            Answer::Accepted(job) => return job_succeeds(desk, &job).await,
            Answer::NotApplied { retry_after, .. } => desk.wait(retry_after.unwrap_or_default(), backoff(sends)).await,
            Answer::Refused(_) | Answer::Unknown { .. } => return Ok(false),
        }
        if desk.halt.is_cancelled() {
            return Ok(false);
        }
    }
    Ok(false)
}

async fn job_succeeds(desk: &Desk<'_>, job: &convoke_core::sink::JobId) -> Result<bool, DeliveryError> {
    for poll in 1..=MAX_POLLS {
        match desk.poll_job(job).await? {
            JobState::Succeeded => return Ok(true),
            JobState::Incomplete => return Ok(false),
            JobState::Running => desk.wait(poll_delay(poll), Duration::ZERO).await,
        }
        if desk.halt.is_cancelled() {
            return Ok(false);
        }
    }
    Ok(false)
}
