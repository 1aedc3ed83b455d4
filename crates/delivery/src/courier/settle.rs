//! Settles what a crash, or another process, left open in the journal.
//!
//! What was sent is not known here, only which rows it was about; so nothing is sent again. Creates are found by their
//! key cells or noted as re-created; updates and deletes are looked up by id. Sending again is left to the plan they
//! belong to, or to the next one.
//!
//! It goes on in growing portions. What became of a portion is written before the next one; when look-ups end early,
//! because the rate budget is used up or the destination is gone, an entry that was looked up in part is cut in two. So
//! the next run does not begin with the same look-ups again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use convoke_core::journal::{Entry, EntryId, Intent, Operation, RowOutcome};
use convoke_core::sink::{AttemptTag, JobId, JobState, KeyCell};
use convoke_core::{KeyHash, RowId, StateError};

use super::desk::Desk;
use super::portions::growing;
use crate::protocol::{Evidence, Fate, MAX_POLLS, Verdict, poll_delay};
use crate::report::{DeliveryError, SettleReport};

pub(super) async fn settle_open(desk: &Desk<'_>) -> Result<SettleReport, DeliveryError> {
    let (open, blind): (Vec<Entry>, Vec<Entry>) =
        desk.open_entries().await?.into_iter().partition(|entry| can_look_up(desk, entry));
    let in_doubt = blind.iter().map(|entry| entry.intent.rows.len() as u64).sum();
    let report = SettleReport { in_doubt, ..SettleReport::default() };
    if open.is_empty() {
        return Ok(report);
    }
    let capabilities = desk.ports.sink.capabilities();
    let request_timeout = if desk.lease().taken_over { capabilities.request_timeout } else { Duration::ZERO };
    let first_look = request_timeout + capabilities.max_commit_delay + capabilities.settle;
    desk.wait(first_look, Duration::ZERO).await;
    let evidence = Evidence::new(desk.recreated().await?, &open);
    let held_later = rows_held_later(&open);
    let mut settling = Settling { desk, evidence, open, held_later, report };
    let pages = settling.pages().await?;
    match settling.settle(&pages).await {
        Ok(()) => Ok(settling.report),
        Err(error @ DeliveryError::Sink { .. }) => {
            settling.keep_what_is_known().await?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Rows that a later entry holds as well: a process died after it had cut an entry in two, and before it closed it. What
/// became of them is for the later entry to say, or they would be acknowledged twice.
fn rows_held_later(open: &[Entry]) -> HashSet<(EntryId, KeyHash)> {
    let mut newest: HashMap<(AttemptTag, KeyHash), EntryId> = HashMap::new();
    let mut held_later = HashSet::new();
    for entry in open {
        for row in &entry.intent.rows {
            if let Some(earlier) = newest.insert((entry.intent.tag, row.key), entry.id) {
                held_later.insert((earlier, row.key));
            }
        }
    }
    held_later
}

fn can_look_up(desk: &Desk<'_>, entry: &Entry) -> bool {
    entry.intent.operation != Operation::Create || desk.audience.key_look_up.is_some()
}

/// What one look-up asks about.
struct Page {
    /// The delete job that has to end before, and the batch it is for: one that is still running may delete later what
    /// is there now.
    job: Option<(JobId, u32)>,
    cells: Vec<KeyCell>,
    ids: Vec<RowId>,
}

impl Page {
    fn of_cells(cells: &[KeyCell]) -> Self {
        Self { job: None, cells: cells.to_vec(), ids: Vec::new() }
    }

    fn of_ids(ids: &[RowId]) -> Self {
        Self { job: None, cells: Vec::new(), ids: ids.to_vec() }
    }
}

struct Settling<'a> {
    desk: &'a Desk<'a>,
    evidence: Evidence,
    /// Entries that are not closed yet.
    open: Vec<Entry>,
    /// See [`rows_held_later`].
    held_later: HashSet<(EntryId, KeyHash)>,
    report: SettleReport,
}

impl Settling<'_> {
    async fn settle(&mut self, pages: &[Page]) -> Result<(), DeliveryError> {
        let halt = &self.desk.halt;
        for portion in growing(pages, 1, |_| 1) {
            for page in portion {
                self.await_job(page).await?;
            }
            if !halt.is_cancelled() {
                self.look_twice(portion).await?;
            }
            // A wait that was cut short proves nothing: the entries stay open.
            if halt.is_cancelled() {
                self.report.interrupted = true;
                return Ok(());
            }
            self.close_known().await?;
        }
        // Of what was never a request there is nothing to look up.
        self.close_known().await
    }

    /// All that is to be looked up, each value once. Where a job is to be waited for, its rows come with it.
    async fn pages(&self) -> Result<Vec<Page>, DeliveryError> {
        let (mut of_jobs, mut others) = (Vec::new(), Vec::new());
        for entry in &self.open {
            match self.job_of(entry).await? {
                Some(job) => of_jobs.push((job, entry)),
                None => others.push(entry.clone()),
            }
        }
        let ids_per_page = self.desk.ids_per_look_up();
        let (mut pages, mut seen) = (Vec::new(), HashSet::new());
        for (job, entry) in of_jobs {
            let (_, mut ids) = self.evidence.wanted(std::slice::from_ref(entry));
            ids.retain(|row_id| seen.insert(row_id.clone()));
            let rest = ids.split_off(ids_per_page.min(ids.len()));
            pages.push(Page { job: Some((job, entry.intent.batch)), cells: Vec::new(), ids });
            pages.extend(rest.chunks(ids_per_page).map(Page::of_ids));
        }
        let (mut cells, mut ids) = self.evidence.wanted(&others);
        ids.retain(|row_id| seen.insert(row_id.clone()));
        let mut seen = HashSet::new();
        cells.retain(|cell| seen.insert(*cell));
        pages.extend(cells.chunks(self.desk.values_per_look_up()).map(Page::of_cells));
        pages.extend(ids.chunks(ids_per_page).map(Page::of_ids));
        Ok(pages)
    }

    async fn job_of(&self, entry: &Entry) -> Result<Option<JobId>, DeliveryError> {
        if entry.intent.operation != Operation::Delete {
            return Ok(None);
        }
        self.desk.ports.state.job_of(entry.id).await.map_err(|error| self.desk.state_error(error))
    }

    async fn await_job(&self, page: &Page) -> Result<(), DeliveryError> {
        let desk = self.desk;
        let Some((job, batch)) = &page.job else { return Ok(()) };
        let mut polls = 0;
        while !desk.halt.is_cancelled() && desk.poll_job(job).await? == JobState::Running {
            polls += 1;
            if polls >= MAX_POLLS {
                let audience = desk.audience.name.clone();
                let reason = "the delete job of an earlier run did not end".to_owned();
                return Err(DeliveryError::GaveUp { audience, batch: *batch, attempts: polls, reason });
            }
            desk.wait(poll_delay(polls), Duration::ZERO).await;
        }
        Ok(())
    }

    /// Looks up what a portion asks about, and once more what was not found.
    async fn look_twice(&mut self, portion: &[Page]) -> Result<(), DeliveryError> {
        let cells: Vec<KeyCell> = portion.iter().flat_map(|page| &page.cells).copied().collect();
        let ids: Vec<RowId> = portion.iter().flat_map(|page| &page.ids).cloned().collect();
        self.look(&cells, &ids).await?;
        let (cells, ids) = self.evidence.missing(&cells, &ids);
        if cells.is_empty() && ids.is_empty() {
            return Ok(());
        }
        self.desk.wait(self.desk.ports.sink.capabilities().settle, Duration::ZERO).await;
        // Looked up at once, it would count as looked up twice.
        if self.desk.halt.is_cancelled() {
            return Ok(());
        }
        self.look(&cells, &ids).await
    }

    /// Each answer counts, also when a later one does not come.
    async fn look(&mut self, cells: &[KeyCell], ids: &[RowId]) -> Result<(), DeliveryError> {
        for part in cells.chunks(self.desk.values_per_look_up()) {
            let found = self.desk.find_cells(part).await?;
            self.evidence.add(found, Vec::new());
            self.evidence.asked(part, &[]);
        }
        for part in ids.chunks(self.desk.ids_per_look_up()) {
            let found = self.desk.find_ids(part).await?;
            self.evidence.add(Vec::new(), found);
            self.evidence.asked(&[], part);
        }
        Ok(())
    }

    /// Closes the entries of which everything is known.
    async fn close_known(&mut self) -> Result<(), DeliveryError> {
        for entry in std::mem::take(&mut self.open) {
            let verdict = self.evidence.verdict(&entry);
            match verdict.rest.is_empty() {
                true => self.close(&entry, verdict).await?,
                false => self.open.push(entry),
            }
        }
        Ok(())
    }

    /// Writes what is known of entries that were looked up in part; the rest of each stays open as an entry of its own.
    async fn keep_what_is_known(&mut self) -> Result<(), DeliveryError> {
        for entry in std::mem::take(&mut self.open) {
            let verdict = self.evidence.verdict(&entry);
            if verdict.rest.len() == entry.intent.rows.len() {
                continue;
            }
            if !verdict.rest.is_empty() {
                let rest = Intent { rows: verdict.rest.clone(), ..entry.intent.clone() };
                self.written(self.desk.ports.state.intend(&rest, &self.desk.lease()).await)?;
            }
            self.close(&entry, verdict).await?;
        }
        Ok(())
    }

    async fn close(&mut self, entry: &Entry, verdict: Verdict) -> Result<(), DeliveryError> {
        let Verdict { to_sweep, swept, mut fates, rest } = verdict;
        let mut twins = 0;
        for (fate, row) in fates.iter_mut().zip(&entry.intent.rows) {
            if self.held_later.contains(&(entry.id, row.key)) {
                *fate = Fate::NotApplied;
                twins += 1;
            }
        }
        self.report.found += fates.iter().filter(|fate| matches!(fate, Fate::Acknowledged(_))).count() as u64;
        let not_applied = fates.iter().filter(|fate| matches!(fate, Fate::NotApplied | Fate::Unsure)).count();
        self.report.not_applied += not_applied.saturating_sub(rest.len() + twins) as u64;
        // A row without the id it should have was never a request.
        let outcomes = fates.into_iter().zip(&entry.intent.rows);
        let outcomes: Vec<RowOutcome> =
            outcomes.map(|(fate, row)| fate.outcome(row).unwrap_or(RowOutcome::NotApplied)).collect();
        let (state, lease) = (&self.desk.ports.state, self.desk.lease());
        if !swept.is_empty() {
            self.written(state.count_sweep(&self.desk.audience.key, &swept, &lease).await)?;
        }
        if !to_sweep.is_empty() {
            self.written(state.note_recreated(&self.desk.audience.key, &to_sweep, &lease).await)?;
        }
        self.written(state.close(entry.id, &outcomes, &lease).await)?;
        self.report.entries += 1;
        Ok(())
    }

    fn written<T>(&self, result: Result<T, StateError>) -> Result<T, DeliveryError> {
        result.map_err(|error| self.desk.state_error(error))
    }
}
