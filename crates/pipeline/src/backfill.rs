//! A backfill: bring back what was missed, window by window, and never put an older value over a newer one.
//!
//! A backfill reads what it is told to instead of what has come since. It is cut into windows; each is a run of its own that
//! delivers like every other run, under the lease of the audience, and leaves the live position where it is. Its records
//! are an addition: none is deleted for want of one, and a record loses against a row that was written from a later one.
//! Its own position, how many windows are settled, moves with the plan of a window, whoever finishes that.
//!
//! Between two windows it makes room: who found the audience taken meanwhile comes first.

mod room;
mod windows;

use std::time::Duration;

use convoke_core::StateError;
use convoke_core::backfill::{BackfillRecord, BackfillState, WindowSize};
use convoke_core::ids::BackfillId;
use convoke_core::source::Selection;
use convoke_core::spec::{ScheduleSpec, SourceSpec, SyncMode};
use convoke_core::state::RunState;
use uuid::Uuid;

use crate::error::Error;
use crate::run::{Ended, Extent};
use crate::{Event, Pipeline};

/// How long a backfill waits before it asks again for an audience that a live run holds.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Backfills that are looked through for one that is open: there is one at most, and it is among the newest.
const LOOK_BACK: u32 = 20;

/// What a backfill is asked to do.
#[derive(Clone, Debug)]
pub enum BackfillRequest {
    /// Begin one, or go on with the one that reads just this.
    Begin { selection: Selection, window: Option<WindowSize> },
    /// Go on with the one that is under way.
    Resume,
}

/// How far a backfill came.
#[derive(Debug)]
pub struct Backfilled {
    /// None if a plan that was left half applied could not be finished, and none is under way.
    pub backfill: Option<BackfillRecord>,
    /// Windows that were settled now.
    pub settled_now: u32,
    /// Whether one of them ended as partial.
    pub is_partial: bool,
    /// The last run of it; none if all windows were settled already.
    pub last: Option<Ended>,
}

impl Pipeline {
    /// Goes through the windows of a backfill until all are settled or one is not.
    pub async fn backfill(&self, request: &BackfillRequest) -> Result<Backfilled, Error> {
        if let BackfillRequest::Begin { selection, .. } = request {
            self.refuse_unsafe_backfill(selection).await?;
        }
        // The plan of a window that was cut short counts first: it may settle the last one.
        let last = self.finish_leftover().await?;
        if last.as_ref().is_some_and(|ended| ended.error.is_some()) {
            return Ok(Backfilled { backfill: self.open_backfill().await?, settled_now: 0, is_partial: false, last });
        }
        let begun = self.begin_or_go_on(request).await?;
        self.settle_windows(begun, last).await
    }

    async fn settle_windows(&self, mut backfill: BackfillRecord, mut last: Option<Ended>) -> Result<Backfilled, Error> {
        let (mut settled_now, mut is_partial) = (0, is_partial_end(last.as_ref()));
        while let Some((window, selection)) = backfill.next_window() {
            self.refuse_other_configuration(&backfill)?;
            self.report(Event::Window { number: window.number, of: window.of });
            let extent = Extent { backfill: Some(selection.clone()), window: Some(window), ..Extent::default() };
            let ended = last.insert(self.run_window(&extent, settled_now > 0).await?);
            is_partial |= is_partial_end(Some(ended));
            if ended.error.is_some() {
                return Ok(Backfilled { backfill: Some(backfill), settled_now, is_partial, last });
            }
            backfill = self.known_backfill(backfill.id).await?;
            if backfill.settled < window.number {
                let message = format!("window {} was applied and is not noted as settled", window.number);
                return Err(Error::Unbalanced { message });
            }
            settled_now += 1;
        }
        self.services.state.end_backfill(backfill.id, BackfillState::Done).await?;
        backfill.state = BackfillState::Done;
        Ok(Backfilled { backfill: Some(backfill), settled_now, is_partial, last })
    }

    /// The backfill of this sync that is under way.
    pub async fn open_backfill(&self) -> Result<Option<BackfillRecord>, Error> {
        let backfills = self.services.state.backfills(&self.sync.spec.name, LOOK_BACK).await?;
        Ok(backfills.into_iter().find(|backfill| backfill.state == BackfillState::Open))
    }

    /// Ends the backfill that is under way; what is settled of it stays.
    pub async fn cancel_backfill(&self) -> Result<BackfillRecord, Error> {
        let open = self.open_backfill().await?.ok_or_else(|| self.nothing_open())?;
        self.services.state.end_backfill(open.id, BackfillState::Cancelled).await?;
        Ok(BackfillRecord { state: BackfillState::Cancelled, ..open })
    }

    /// Finishes what was left half applied; a plan that can no longer go on is planned anew with its window.
    async fn finish_leftover(&self) -> Result<Option<Ended>, Error> {
        let finished = self.finish().await?;
        Ok(finished.filter(|ended| !matches!(ended.error, Some(Error::Stopped { .. }))))
    }

    async fn begin_or_go_on(&self, request: &BackfillRequest) -> Result<BackfillRecord, Error> {
        let open = self.open_backfill().await?;
        let BackfillRequest::Begin { selection, window } = request else {
            return open.ok_or_else(|| self.nothing_open());
        };
        match open {
            Some(open) if open.settled == 0 => {
                self.services.state.end_backfill(open.id, BackfillState::Cancelled).await?;
            }
            Some(open) if open.selection == *selection => {
                let (settled, of, begun) = (open.settled, open.windows.len(), open.started_at);
                self.notice(format!("going on with the backfill of {begun}: {settled} of {of} windows are settled"));
                return Ok(open);
            }
            Some(open) => return Err(self.other_under_way(&open)),
            None => {}
        }
        let windows = self.letting_go(self.windows_of(selection, *window)).await?;
        let backfill = BackfillRecord {
            id: BackfillId(Uuid::now_v7()),
            sync: self.sync.spec.name.clone(),
            selection: selection.clone(),
            windows,
            settled: 0,
            config_hash: self.backfill_config_hash(),
            state: BackfillState::Open,
            started_at: self.services.clock.now(),
        };
        self.services.state.begin_backfill(&backfill).await?;
        Ok(backfill)
    }

    /// Runs one window. After the first, who waits for the audience goes first, and is waited for.
    async fn run_window(&self, extent: &Extent, makes_room: bool) -> Result<Ended, Error> {
        if makes_room {
            self.make_room().await?;
        }
        loop {
            let ended = self.run(extent.clone()).await?;
            if !makes_room || !ended.error.as_ref().is_some_and(Error::is_busy) {
                return Ok(ended);
            }
            self.unless_cancelled(self.services.clock.sleep(BUSY_PAUSE)).await?;
        }
    }

    async fn known_backfill(&self, id: BackfillId) -> Result<BackfillRecord, Error> {
        let backfills = self.services.state.backfills(&self.sync.spec.name, LOOK_BACK).await?;
        let message = format!("backfill {id} is not in the checkpoint store any more");
        let missing = || StateError::Missing { message };
        let found = backfills.into_iter().find(|backfill| backfill.id == id).ok_or_else(missing)?;
        match found.state {
            BackfillState::Cancelled => Err(Error::Stopped { message: "the backfill was cancelled".to_owned() }),
            BackfillState::Open | BackfillState::Done => Ok(found),
        }
    }

    /// Suppression lists are read again for each window, so they may change.
    fn backfill_config_hash(&self) -> String {
        (self.sync.config_hash)(&self.sync.spec, &[])
    }

    fn refuse_other_configuration(&self, backfill: &BackfillRecord) -> Result<(), Error> {
        if backfill.config_hash == self.backfill_config_hash() {
            return Ok(());
        }
        let name = &self.sync.spec.name;
        let (settled, of) = (backfill.settled, backfill.windows.len());
        let message = format!(
            "the configuration of `{name}` has changed since {settled} of {of} windows of its backfill were settled, and the \
             others would not fit to them; put it back and go on with `convoke backfill {name} --resume`, or end the \
             backfill with `convoke backfill {name} --cancel` and begin it anew"
        );
        Err(Error::Request { message })
    }

    fn nothing_open(&self) -> Error {
        let message = format!("no backfill of `{}` is under way", self.sync.spec.name);
        Error::Request { message }
    }

    fn other_under_way(&self, open: &BackfillRecord) -> Error {
        let (name, settled, of) = (&self.sync.spec.name, open.settled, open.windows.len());
        let message = format!(
            "another backfill of `{name}` is under way, with {settled} of {of} windows settled; go on with `convoke backfill \
             {name} --resume`, or end it with `convoke backfill {name} --cancel`"
        );
        Error::Request { message }
    }

    /// Refuses a backfill that could do harm.
    pub(crate) async fn refuse_unsafe_backfill(&self, selection: &Selection) -> Result<(), Error> {
        let spec = &self.sync.spec;
        let is_part = matches!(selection, Selection::Objects(_) | Selection::Between { .. });
        if is_part && spec.source.is_snapshot() && matches!(spec.source, SourceSpec::Objects(_)) {
            let message = format!(
                "the objects of `{name}` are the truth only together; `convoke run {name} --full` reads them all again",
                name = spec.name
            );
            return Err(Error::Request { message });
        }
        if spec.mode == SyncMode::DeleteList {
            let message = "a list of deletes is not backfilled: it would delete what was created again since; drop the list \
                           again if that is meant";
            return Err(Error::Request { message: message.to_owned() });
        }
        if !spec.dedupe.by.is_empty() {
            return Ok(());
        }
        let is_scheduled = spec.schedule != ScheduleSpec::Manual || spec.arrival.is_some();
        let runs_live = is_scheduled || self.services.state.checkpoint(&spec.name).await?.version > 0;
        if runs_live {
            let message = format!(
                "sync `{}` runs live and has no `dedupe.by`, so nothing tells older values from newer ones and a backfill \
                 could put the older ones back; set `dedupe: {{ by: … }}` to a column that grows with each change",
                spec.name
            );
            return Err(Error::Request { message });
        }
        Ok(())
    }
}

fn is_partial_end(ended: Option<&Ended>) -> bool {
    ended.is_some_and(|ended| ended.run.state == RunState::Partial)
}
