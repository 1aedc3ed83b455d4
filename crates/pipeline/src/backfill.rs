//! A backfill: bring back what was missed, window by window, and never put an older value over a newer one.
//!
//! A backfill reads what it is told to instead of what has come since. It is cut into windows; each is a run of its own that
//! delivers like every other run, under the lease of the audience, and leaves the live position where it is. Its records
//! are an addition: none is deleted for want of one, and a record loses against a row that was written from a later one.
//! Its own position, how many windows are settled, moves with the plan of a window, whoever finishes that.
//!
//! Who goes through the windows holds a lease for as long as that takes: a second command would take what the first has only
//! begun for what was left. Between two windows it makes room: who found the audience taken meanwhile comes first.

mod refusing;
mod room;
mod windows;

use std::time::Duration;

use convoke_core::StateError;
use convoke_core::backfill::{BackfillRecord, BackfillState, OpenBackfill, WindowSize};
use convoke_core::ids::BackfillId;
use convoke_core::source::Selection;
use convoke_core::spec::{Guards, SyncSpec};
use convoke_core::state::{RunState, backfill_resource};
use uuid::Uuid;

use crate::error::Error;
use crate::lease::LeaseKeeper;
use crate::run::{Ended, Extent, Finished};
use crate::{Event, Pipeline};

/// How long a backfill waits before it asks again for an audience that a live run holds.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

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
    /// Windows that were settled now, also those of a plan that was left half applied.
    pub settled_now: u32,
    /// Whether one of them, or one that was settled before, ended as partial.
    pub is_partial: bool,
    /// The last run of it; none if all windows were settled already.
    pub last: Option<Ended>,
    /// What ended it between two windows; what ended it within one is in `last`.
    pub error: Option<Error>,
}

impl Backfilled {
    /// Takes in how far the backfill is by now.
    fn look_at(&mut self, found: &BackfillRecord) {
        let before = self.backfill.as_ref().filter(|known| known.id == found.id);
        self.settled_now += before.map_or(0, |known| found.settled.saturating_sub(known.settled));
        self.is_partial |= found.is_partial;
        self.backfill = Some(found.clone());
    }

    fn take(&mut self, ended: Ended) {
        self.is_partial |= ended.run.state == RunState::Partial;
        self.last = Some(ended);
    }

    /// Whether the last run ended early.
    fn is_over(&self) -> bool {
        self.last.as_ref().is_some_and(|ended| ended.error.is_some())
    }
}

impl Pipeline {
    /// Goes through the windows of a backfill until all are settled or one is not.
    pub async fn backfill(&self, request: &BackfillRequest) -> Result<Backfilled, Error> {
        if let BackfillRequest::Begin { selection, .. } = request {
            self.refuse_unsafe_backfill(selection).await?;
        }
        let keeper = LeaseKeeper::acquire(&self.services, &backfill_resource(&self.sync.spec.name)).await?;
        let backfilled = Box::pin(self.backfill_alone(request, &keeper)).await;
        keeper.release().await;
        backfilled
    }

    /// Goes through the windows while nobody else does.
    async fn backfill_alone(&self, request: &BackfillRequest, keeper: &LeaseKeeper) -> Result<Backfilled, Error> {
        let backfill = self.newest_open_backfill().await?;
        let mut so_far = Backfilled { backfill, settled_now: 0, is_partial: false, last: None, error: None };
        if let BackfillRequest::Begin { selection, .. } = request {
            self.refuse_beside_another(so_far.backfill.as_ref(), selection).await?;
        }
        // The plan of a window that was cut short counts first: it may settle the last one.
        if let Some(ended) = self.finish_leftover().await? {
            so_far.take(ended);
        }
        if so_far.is_over() {
            if let Some(open) = self.newest_open_backfill().await? {
                so_far.look_at(&open);
            }
            return Ok(so_far);
        }
        let open = self.begin_or_go_on(request).await?;
        self.refuse_other_configuration(&open.record)?;
        so_far.look_at(&open.record);
        // Whatever ends it from here on is told with how far it came.
        so_far.error = Box::pin(self.settle_windows(open, &mut so_far, keeper)).await.err();
        Ok(so_far)
    }

    async fn settle_windows(
        &self,
        mut open: OpenBackfill,
        so_far: &mut Backfilled,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        let mut told = 0;
        while open.next_window().is_some() {
            self.refuse_lost_lease(keeper).await?;
            // After the first run, who waits for the audience goes first, and is waited for.
            let makes_room = so_far.last.is_some();
            if makes_room {
                self.make_room().await?;
            }
            // Whoever had the audience may have settled a window.
            self.look_again(&mut open, so_far).await?;
            let Some((window, selection)) = open.next_window() else { break };
            if told < window.number {
                told = window.number;
                self.report(Event::Window { number: window.number, of: window.of });
            }
            let extent = Extent { backfill: Some(selection.clone()), window: Some(window), ..Extent::default() };
            let ended = self.run(extent).await?;
            if makes_room && ended.error.as_ref().is_some_and(Error::is_busy) {
                self.unless_cancelled(self.services.clock.sleep(BUSY_PAUSE)).await?;
                continue;
            }
            so_far.take(ended);
            if so_far.is_over() {
                return Ok(());
            }
            self.look_again(&mut open, so_far).await?;
            if open.record.settled < window.number {
                let message = format!("window {} was applied and is not noted as settled", window.number);
                return Err(Error::Unbalanced { message });
            }
        }
        self.services.state.end_backfill(open.record.id, BackfillState::Done).await?;
        so_far.look_at(&BackfillRecord { state: BackfillState::Done, ..open.record });
        Ok(())
    }

    /// Reads again how far the backfill is.
    async fn look_again(&self, open: &mut OpenBackfill, so_far: &mut Backfilled) -> Result<(), Error> {
        let id = open.record.id;
        let message = format!("backfill {id} is not in the checkpoint store any more");
        let missing = || StateError::Missing { message };
        open.record = self.services.state.backfill(id).await?.ok_or_else(missing)?;
        so_far.look_at(&open.record);
        match open.record.state {
            BackfillState::Cancelled => Err(self.cancelled_meanwhile(&open.record)),
            BackfillState::Open | BackfillState::Done => Ok(()),
        }
    }

    /// How far the backfill is that is under way; one that is open is the newest.
    async fn newest_open_backfill(&self) -> Result<Option<BackfillRecord>, Error> {
        let newest = self.services.state.backfills(&self.sync.spec.name, 1).await?.pop();
        Ok(newest.filter(|backfill| backfill.state == BackfillState::Open))
    }

    /// Ends the backfill that is under way; what is settled of it stays.
    pub async fn cancel_backfill(&self) -> Result<BackfillRecord, Error> {
        let open = self.newest_open_backfill().await?.ok_or_else(|| self.nothing_open())?;
        let half_sent = self.half_sent(&open).await?;
        self.services.state.end_backfill(open.id, BackfillState::Cancelled).await?;
        if let Some(plan) = half_sent {
            let name = &self.sync.spec.name;
            self.notice(format!(
                "plan {plan} of one of its windows is half sent; unless a command is still at it, `convoke run {name}` sends \
                 the rest, and `convoke plan {name}` gives it up and looks at the source anew"
            ));
        }
        Ok(BackfillRecord { state: BackfillState::Cancelled, ..open })
    }

    /// Finishes what was left half applied; a plan that can no longer go on is planned anew with its window.
    async fn finish_leftover(&self) -> Result<Option<Ended>, Error> {
        Ok(match self.finish().await? {
            Some(Finished::Ended(ended)) => Some(ended),
            Some(Finished::GivenUp(_)) | None => None,
        })
    }

    async fn begin_or_go_on(&self, request: &BackfillRequest) -> Result<OpenBackfill, Error> {
        let open = self.services.state.open_backfill(&self.sync.spec.name).await?;
        let BackfillRequest::Begin { selection, window } = request else {
            return open.ok_or_else(|| self.nothing_open());
        };
        match open {
            Some(OpenBackfill { record, .. }) if record.settled == 0 => {
                self.services.state.end_backfill(record.id, BackfillState::Cancelled).await?;
            }
            Some(open) if open.record.selection == *selection => {
                let BackfillRecord { settled, window_count: of, started_at: begun, .. } = open.record;
                self.notice(format!("going on with the backfill of {begun}: {settled} of {of} windows are settled"));
                return Ok(open);
            }
            Some(open) => return Err(self.other_under_way(&open.record)),
            None => {}
        }
        let windows = self.letting_go(self.windows_of(selection, *window)).await?;
        let record = BackfillRecord {
            id: BackfillId(Uuid::now_v7()),
            sync: self.sync.spec.name.clone(),
            selection: selection.clone(),
            window_count: u32::try_from(windows.len()).unwrap_or(u32::MAX),
            settled: 0,
            is_partial: false,
            config_hash: self.backfill_config_hash(),
            state: BackfillState::Open,
            started_at: self.services.clock.now(),
        };
        let backfill = OpenBackfill { record, windows };
        self.services.state.begin_backfill(&backfill).await?;
        Ok(backfill)
    }

    /// Hash of what has to be the same for all windows. Suppression lists are read again for each, and may change. So may
    /// what decides whether a plan is sent and not what is in it: that is how a window is let through that a guard stopped.
    fn backfill_config_hash(&self) -> String {
        let spec = SyncSpec { guards: Guards::default(), resend_for: Duration::ZERO, ..self.sync.spec.clone() };
        (self.sync.config_hash)(&spec, &[])
    }
}
