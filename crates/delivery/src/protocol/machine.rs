//! The machine itself: parts, entries, answers. What a read-back concludes stands in [`super::read_back`].

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use convoke_core::RowId;
use convoke_core::journal::Operation;
use convoke_core::sink::{Answer, AppliedRow, AttemptTag, FailedCell, JobId, JobState, KEY_COLUMN, Refusal};

use super::read_back::{Doubt, Reading};
use super::refusal::{CELL_FAILED, Reason, Refused};
use super::{
    Action, Assumptions, Fact, Fate, LONGEST_RETRY_AFTER, MAX_POLLS, MAX_SENDS, MAX_UNKNOWN, Stop, backoff, poll_delay,
};

/// A batch, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchTask {
    pub operation: Operation,
    /// Indices of the rows that are not settled yet.
    pub rows: Vec<u32>,
    /// Attempts that earlier processes made at this batch.
    pub attempts_before: u32,
    /// The first so many of them are done with: no row can turn up for them that was not looked for already.
    pub attempts_swept: u32,
    /// Tag `n` of this batch is this plus `n`: a resumed batch knows the tags of its earlier attempts.
    pub tag_seed: u32,
    /// Of the rows: those an earlier attempt may yet turn up for.
    pub recreated: BTreeSet<u32>,
}

impl BatchTask {
    /// How many of the first attempts are done with, if these tags are noted for keys of the batch: all before the first
    /// that is.
    pub fn swept(noted: impl Iterator<Item = AttemptTag>, tag_seed: u32, attempts_before: u32) -> u32 {
        let attempts = noted.map(|tag| tag.0.wrapping_sub(tag_seed));
        let of_batch = attempts.filter(|attempt| (1..=attempts_before).contains(attempt));
        of_batch.min().map_or(attempts_before, |first| first - 1)
    }
}

/// The state of one batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub(super) assumptions: Assumptions,
    pub(super) operation: Operation,
    tag_seed: u32,
    pub(super) attempts_before: u32,
    pub(super) attempts_swept: u32,
    pub(super) attempt: u32,
    /// Rows that some earlier attempt may yet turn up for.
    pub(super) recreated: BTreeSet<u32>,
    /// Parts still to be sent, the next one last.
    pub(super) parts: Vec<Part>,
    pub(super) entry: Entry,
    /// What is due, the next thing first; never empty between two facts.
    pub(super) due: VecDeque<Action>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) rows: Vec<u32>,
    /// How often answers to creating these rows were lost.
    pub(super) rounds: u32,
    /// Attempts of this process that these rows were in.
    pub(super) attempts: Vec<u32>,
    /// Whether a refusal of more rows pointed at none of these.
    pub(super) cleared: bool,
    /// Set: nothing is sent any more, the row is rejected for this.
    pub(super) verdict: Option<Reason>,
}

/// The journal entry being worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Entry {
    pub(super) rows: Vec<u32>,
    pub(super) rounds: u32,
    /// Attempts of this process that these rows were in, this one last.
    pub(super) attempts: Vec<u32>,
    pub(super) cleared: bool,
    verdict: Option<Reason>,
    /// Whether the intent is durable and not closed.
    is_open: bool,
    /// One for each row, as far as it is known. Handed over as the entry is closed.
    fates: Vec<Option<Fate>>,
    /// Rejects of rows whose cells failed. That they failed is in the journal first: a crash in between loses the reason, and
    /// the next plan learns it anew.
    told: Vec<Action>,
    /// Answers so far that nothing was applied.
    not_applied: u32,
    /// Unknown answers so far.
    pub(super) unknown: u32,
    /// Whether a refusal may have left a part done.
    pub(super) in_part: bool,
    polls: u32,
    pub(super) reading: Option<Reading>,
}

impl Entry {
    /// Sets the fate of a row, unless it is known already.
    pub(super) fn settle(&mut self, row: u32, fate: Fate) {
        // The rows of a batch ascend, and so do those of its parts.
        let position = self.rows.binary_search(&row);
        if let Some(known) = position.ok().and_then(|position| self.fates.get_mut(position)) {
            known.get_or_insert(fate);
        }
    }
}

impl Machine {
    /// A machine whose first action is due.
    pub fn new(assumptions: Assumptions, task: BatchTask) -> Self {
        let mut machine = Self {
            assumptions,
            operation: task.operation,
            tag_seed: task.tag_seed,
            attempts_before: task.attempts_before,
            attempts_swept: task.attempts_swept,
            attempt: task.attempts_before,
            recreated: task.recreated,
            parts: vec![Part { rows: task.rows, rounds: 0, attempts: Vec::new(), cleared: false, verdict: None }],
            entry: Entry::default(),
            due: VecDeque::new(),
        };
        machine.begin_part();
        machine
    }

    /// What to do next. Stays the same until a fact is handed in.
    pub fn next(&self) -> &Action {
        self.due.front().expect("every fact leaves something to do, if only `Done`")
    }

    /// Takes the outcome of the action that [`Machine::next`] named. A fact of another kind changes nothing.
    pub fn on(&mut self, fact: Fact) {
        let Some(action) = self.due.pop_front() else { return };
        match (action, fact) {
            (Action::Send { rows, .. }, Fact::Answered(answer)) => self.answered(&rows, answer),
            (Action::Send { .. }, Fact::SendFailed) => self.give_up(Stop::Failed),
            (Action::LookUpKeys { .. } | Action::LookUpIds { .. }, Fact::LookedUp(found)) => self.looked_up(found),
            (Action::Poll { job }, Fact::Polled(state)) => self.polled(job, state),
            (Action::Journal { .. }, Fact::Done) => {
                self.entry.is_open = true;
                match self.entry.verdict.take() {
                    Some(reason) => self.reject_all(&reason),
                    None => self.send(),
                }
            }
            (Action::Close { .. } | Action::LeaveInDoubt { .. }, Fact::Done) => self.entry = Entry::default(),
            (
                Action::NoteRecreated { .. } | Action::Wait { .. } | Action::ExtendQuiet { .. } | Action::Reject { .. },
                Fact::Done,
            ) => {}
            (action, fact) => {
                debug_assert!(false, "{fact:?} is no outcome of {action:?}");
                self.due.push_front(action);
            }
        }
        if self.due.is_empty() {
            self.begin_part();
        }
    }

    /// Starts nothing new from here on: what is in flight is finished, waits are cut short.
    pub fn cancel(&mut self) {
        let in_doubt = self.entry.reading.is_some() || self.entry.unknown > 0;
        match self.next() {
            Action::NoteRecreated { .. } | Action::Journal { .. } if !self.entry.is_open => self.stop(Stop::Cancelled),
            Action::Poll { .. } => self.stop(Stop::Cancelled),
            Action::Send { .. } => self.give_up(Stop::Cancelled),
            Action::Wait { .. } if in_doubt || self.entry.polls > 0 => self.stop(Stop::Cancelled),
            Action::Wait { .. } => self.give_up(Stop::Cancelled),
            _ => {}
        }
    }

    pub(super) fn tag(&self, attempt: u32) -> AttemptTag {
        AttemptTag(self.tag_seed.wrapping_add(attempt))
    }

    fn begin_part(&mut self) {
        let Some(part) = self.parts.pop() else {
            self.due.push_back(Action::Done);
            return;
        };
        if part.rows.is_empty() {
            return self.begin_part();
        }
        self.attempt += 1;
        let tag = self.tag(self.attempt);
        let again: Vec<u32> = part.rows.iter().copied().filter(|row| self.recreated.contains(row)).collect();
        if !again.is_empty() {
            self.due.push_back(Action::NoteRecreated { rows: again, tag });
        }
        self.due.push_back(Action::Journal { rows: part.rows.clone(), attempt: self.attempt, tag });
        let Part { rows, rounds, mut attempts, cleared, verdict } = part;
        attempts.push(self.attempt);
        let fates = vec![None; rows.len()];
        self.entry = Entry { rows, fates, rounds, attempts, cleared, verdict, ..Entry::default() };
    }

    /// Rows of the open entry whose fate is not known.
    pub(super) fn open_rows(&self) -> Vec<u32> {
        let rows = self.entry.rows.iter().zip(&self.entry.fates);
        rows.filter(|(_, fate)| fate.is_none()).map(|(row, _)| *row).collect()
    }

    pub(super) fn send(&mut self) {
        self.entry.reading = None;
        self.entry.polls = 0;
        self.due.push_back(Action::Send { rows: self.open_rows(), tag: self.tag(self.attempt) });
    }

    pub(super) fn wait(&mut self, at_least: Duration, why: &'static str) {
        if !at_least.is_zero() {
            self.due.push_back(Action::Wait { at_least, jitter: Duration::ZERO, why });
        }
    }

    fn stop(&mut self, stop: Stop) {
        self.due.clear();
        self.due.push_back(Action::Stop(stop));
    }

    /// Closes the entry where what was applied is certain, and stops.
    fn give_up(&mut self, stop: Stop) {
        self.due.clear();
        if self.entry.unknown == 0 {
            self.set_fates(&self.open_rows(), &self.unapplied());
            self.close();
        }
        self.due.push_back(Action::Stop(stop));
    }

    /// The fate of rows that are sent no more under this entry, and that no answer acknowledged.
    pub(super) fn unapplied(&self) -> Fate {
        let may_hold_new_cells = self.entry.unknown > 0 || self.entry.in_part;
        if self.operation == Operation::Update && may_hold_new_cells { Fate::Unsure } else { Fate::NotApplied }
    }

    fn reject_all(&mut self, reason: &Reason) {
        let rows = self.open_rows();
        self.due.extend(rows.iter().map(|row| Action::Reject { row: *row, reason: reason.clone() }));
        self.set_fates(&rows, &Fate::Rejected);
        self.close();
    }

    pub(super) fn set_fates(&mut self, rows: &[u32], fate: &Fate) {
        rows.iter().for_each(|row| self.entry.settle(*row, fate.clone()));
    }

    pub(super) fn close(&mut self) {
        let fates = std::mem::take(&mut self.entry.fates).into_iter();
        let fates = fates.map(|fate| fate.expect("an entry is closed once the fate of each row is set"));
        self.due.push_back(Action::Close { fates: fates.collect() });
        self.due.extend(std::mem::take(&mut self.entry.told));
    }

    fn answered(&mut self, sent: &[u32], answer: Answer) {
        match answer {
            Answer::Applied(rows) => self.applied(sent, rows),
            Answer::Accepted(job) if self.operation == Operation::Delete => self.poll_later(job),
            Answer::Accepted(_) => {
                self.unknown(Doubt::Lost, "accepted as a job, which it should not be".to_owned());
            }
            Answer::Refused(refusal) => self.refused(sent, &refusal),
            Answer::NotApplied { reason, retry_after } => self.not_applied(reason, retry_after),
            Answer::Unknown { reason } => self.unknown(Doubt::Lost, reason),
        }
    }

    fn applied(&mut self, sent: &[u32], rows: Vec<AppliedRow>) {
        let repeated = repeated_ids(&rows);
        for applied in rows {
            // An id that stands for two rows proves neither.
            let is_proof = !repeated.contains(&applied.row_id);
            let Some(row) = sent.get(applied.index).copied().filter(|_| is_proof) else { continue };
            let (fate, reason) = match self.operation {
                Operation::Delete => (Fate::Deleted, None),
                Operation::Create | Operation::Update => self.held_by(applied),
            };
            self.entry.told.extend(reason.map(|reason| Action::Reject { row, reason }));
            self.entry.settle(row, fate);
        }
        match self.open_rows().is_empty() {
            true => self.close(),
            false => self.unknown(Doubt::Short, "the answer does not hold every row".to_owned()),
        }
    }

    /// What an answer tells of a row that is there: its fate, and why it lacks cells, if it does.
    fn held_by(&self, applied: AppliedRow) -> (Fate, Option<Reason>) {
        let AppliedRow { row_id, mut failed_cells, .. } = applied;
        let before = failed_cells.len();
        failed_cells.retain(|cell| cell.column != KEY_COLUMN);
        let has_lost_key = failed_cells.len() < before;
        // Without its key cell a new row may be another of those that were sent: nothing can be said of its record. Updates
        // go by the id, and write no key cell.
        if has_lost_key && self.operation == Operation::Create {
            return (Fate::Incomplete(row_id), None);
        }
        let others = failed_cells.len().saturating_sub(1);
        let Some(FailedCell { column, summary }) = failed_cells.into_iter().next() else {
            return (Fate::Acknowledged(row_id), None);
        };
        let detail = if others == 0 { summary } else { format!("{summary} (and {others} more columns)") };
        (Fate::Failed(row_id), Some(Reason { code: CELL_FAILED.to_owned(), column: Some(column), detail }))
    }

    fn not_applied(&mut self, reason: String, retry_after: Option<Duration>) {
        self.entry.not_applied += 1;
        let at_least = retry_after.unwrap_or_default();
        if at_least > LONGEST_RETRY_AFTER {
            return self.give_up(Stop::Quota { retry_after: at_least });
        }
        if self.entry.not_applied >= MAX_SENDS {
            return self.give_up(Stop::GaveUp { attempts: self.entry.not_applied, reason });
        }
        let jitter = backoff(self.entry.not_applied);
        self.due.push_back(Action::Wait { at_least, jitter, why: "the destination asks to try later" });
        self.send();
    }

    fn unknown(&mut self, doubt: Doubt, reason: String) {
        self.entry.unknown += 1;
        match self.operation {
            Operation::Create if !self.assumptions.key_look_up => self.leave_in_doubt(),
            Operation::Create => {
                self.wait(self.assumptions.max_commit_delay + self.assumptions.settle, "an answer was lost");
                self.read_back(doubt);
            }
            Operation::Update | Operation::Delete => {
                // The bound itself leaves no room: it is kept by the wall clock, maybe that of another machine.
                let by = self.assumptions.max_commit_delay + self.assumptions.settle;
                self.due.push_back(Action::ExtendQuiet { by });
                if self.entry.unknown >= MAX_UNKNOWN {
                    let attempts = self.entry.unknown;
                    self.due.push_back(Action::Stop(Stop::GaveUp { attempts, reason }));
                } else {
                    self.repeat(doubt);
                }
            }
        }
    }

    /// An update whose answer was lost goes out again after a while; of a delete, and of an update whose answer lacks
    /// rows, what is still there.
    fn repeat(&mut self, doubt: Doubt) {
        if self.operation == Operation::Delete || doubt == Doubt::Short {
            self.wait(self.assumptions.settle, "an answer was lost");
            return self.read_back(doubt);
        }
        let jitter = backoff(self.entry.unknown);
        self.due.push_back(Action::Wait { at_least: Duration::ZERO, jitter, why: "an answer was lost" });
        self.send();
    }

    fn leave_in_doubt(&mut self) {
        let rows = self.open_rows();
        let tag = self.tag(self.attempt);
        self.attempt += 1;
        let fates = self.entry.fates.iter().map(|fate| fate.clone().unwrap_or(Fate::NotApplied)).collect();
        self.due.push_back(Action::LeaveInDoubt { rows, attempt: self.attempt, tag, fates });
        self.due.extend(std::mem::take(&mut self.entry.told));
    }

    fn poll_later(&mut self, job: JobId) {
        self.entry.polls += 1;
        if self.entry.polls > MAX_POLLS {
            // It may delete at any time: nothing is sent beside it, and whoever settles the entry asks for its end first.
            let reason = "the delete job did not end".to_owned();
            return self.stop(Stop::GaveUp { attempts: MAX_POLLS, reason });
        }
        self.wait(poll_delay(self.entry.polls), "a delete job is running");
        self.due.push_back(Action::Poll { job });
    }

    fn polled(&mut self, job: JobId, state: JobState) {
        match state {
            JobState::Running => self.poll_later(job),
            JobState::Succeeded => {
                self.set_fates(&self.open_rows(), &Fate::Deleted);
                self.close();
            }
            JobState::Incomplete => self.unknown(Doubt::Short, "the delete job was not done in full".to_owned()),
        }
    }

    fn refused(&mut self, sent: &[u32], refusal: &Refusal) {
        let refused = Refused::new(refusal, sent);
        let is_create = self.operation == Operation::Create;
        let size_only = refused.too_large && !is_create;
        self.entry.in_part |= !self.assumptions.atomic_refusals;
        if size_only || (is_create && self.assumptions.atomic_refusals) {
            return self.split(refused);
        }
        if is_create && !self.assumptions.key_look_up {
            return self.leave_in_doubt();
        }
        // A refusal is an answer: what the request did, it has done; only search may lag behind.
        self.wait(self.assumptions.settle, "a refused batch is looked up");
        self.read_back(Doubt::Refused(refused));
    }
}

fn repeated_ids(rows: &[AppliedRow]) -> HashSet<RowId> {
    let mut ids: Vec<&RowId> = rows.iter().map(|row| &row.row_id).collect();
    ids.sort_unstable();
    ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect()
}
