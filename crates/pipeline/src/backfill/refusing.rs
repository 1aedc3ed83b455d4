//! What a backfill is refused for, and in which words.

use convoke_core::backfill::{BackfillRecord, PlannedWindow};
use convoke_core::ids::PlanId;
use convoke_core::source::Selection;
use convoke_core::spec::{ScheduleSpec, SourceSpec, SyncMode};
use convoke_core::state::PlanState;

use crate::Pipeline;
use crate::error::Error;

impl Pipeline {
    pub(super) fn refuse_other_configuration(&self, backfill: &BackfillRecord) -> Result<(), Error> {
        if backfill.config_hash == self.backfill_config_hash() {
            return Ok(());
        }
        let name = &self.sync.spec.name;
        let BackfillRecord { settled, window_count: of, .. } = backfill;
        let message = format!(
            "the configuration of `{name}` has changed since {settled} of {of} windows of its backfill were settled, and the \
             others would not fit to them; put it back and go on with `convoke backfill {name} --resume`, or end the \
             backfill with `convoke backfill {name} --cancel` and begin it anew"
        );
        Err(Error::Request { message })
    }

    pub(super) fn nothing_open(&self) -> Error {
        let message = format!("no backfill of `{}` is under way", self.sync.spec.name);
        Error::Request { message }
    }

    pub(super) fn other_under_way(&self, open: &BackfillRecord) -> Error {
        let (name, settled, of) = (&self.sync.spec.name, open.settled, open.window_count);
        let message = format!(
            "another backfill of `{name}` is under way, with {settled} of {of} windows settled; go on with `convoke backfill \
             {name} --resume`, or end it with `convoke backfill {name} --cancel`"
        );
        Error::Request { message }
    }

    pub(super) fn cancelled_meanwhile(&self, backfill: &BackfillRecord) -> Error {
        let (name, settled, of) = (&self.sync.spec.name, backfill.settled, backfill.window_count);
        let message = format!(
            "the backfill of `{name}` was cancelled meanwhile, with {settled} of {of} windows settled, which stay; what it \
             read is listed by `convoke backfill {name} --list`, and can be backfilled anew"
        );
        Error::Stopped { message }
    }

    /// Refuses a backfill beside another one that has begun to send, before anything more of that is sent.
    pub(super) async fn refuse_beside_another(
        &self,
        open: Option<&BackfillRecord>,
        selection: &Selection,
    ) -> Result<(), Error> {
        let Some(open) = open.filter(|open| open.selection != *selection) else { return Ok(()) };
        if open.settled > 0 || self.half_sent(open).await?.is_some() {
            return Err(self.other_under_way(open));
        }
        Ok(())
    }

    /// The plan of one of its windows, of which something was sent and not all.
    pub(super) async fn half_sent(&self, open: &BackfillRecord) -> Result<Option<PlanId>, Error> {
        let plans = self.services.state.plans_in(&self.sync.spec.name, PlanState::Applying).await?;
        let is_of_it = |window: &PlannedWindow| window.backfill == open.id;
        let plan = plans.into_iter().find(|plan| plan.manifest.window.as_ref().is_some_and(is_of_it));
        Ok(plan.map(|plan| plan.manifest.id))
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
