//! What a backfill may do: bring back what was missed, and never put an older value over a newer one.
//!
//! A backfill is a run that reads what it is told to instead of what has come since. It delivers like every other run, and
//! leaves the live position where it is. Its records are an addition: none is deleted for want of one, and a record loses
//! against a row that was written from a later one.

use convoke_core::source::Selection;
use convoke_core::spec::{ScheduleSpec, SourceSpec, SyncMode};

use crate::Pipeline;
use crate::error::Error;
use crate::run::Extent;

impl Pipeline {
    /// Refuses a backfill that could do harm.
    pub(crate) async fn refuse_unsafe_backfill(&self, extent: &Extent) -> Result<(), Error> {
        let Some(selection) = &extent.backfill else { return Ok(()) };
        let spec = &self.sync.spec;
        if *selection != Selection::All && spec.source.is_snapshot() && matches!(spec.source, SourceSpec::Objects(_)) {
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
        let runs_live =
            spec.schedule != ScheduleSpec::Manual || self.services.state.checkpoint(&spec.name).await?.version > 0;
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
