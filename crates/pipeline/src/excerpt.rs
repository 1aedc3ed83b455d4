//! Reads the first records of the source, for a rehearsal on a copy of them. Leaves the source as it is.

use convoke_core::RunId;
use convoke_core::source::{Discover, Discovery, Selection};
use convoke_engine::Excerpt;
use uuid::Uuid;

use crate::Pipeline;
use crate::error::Error;

impl Pipeline {
    /// Takes the first `count` records of what a run without any state would read; where there is nothing new, of what
    /// the source still has.
    pub async fn excerpt(&self, count: usize) -> Result<Excerpt, Error> {
        let run = RunId(Uuid::now_v7());
        let outcome = self.letting_go(self.unless_cancelled(Box::pin(self.excerpt_in(run, count)))).await;
        self.services.folders.remove("spool", &run.to_string());
        outcome?
    }

    async fn excerpt_in(&self, run: RunId, count: usize) -> Result<Excerpt, Error> {
        let discovery = self.whatever_there_is().await?;
        let (spool, broken) = self.spool_first_of(run, &discovery, count).await?;
        self.tell_quarantined(&broken);
        Ok(spool.excerpt(count).await?)
    }

    async fn whatever_there_is(&self) -> Result<Discovery, Error> {
        let source = &self.sync.source;
        let discovered = source.discover(Discover { stored: None, reread: true }).await;
        if discovered.as_ref().is_ok_and(|discovery| !discovery.splits.is_empty()) {
            return Ok(discovered?);
        }
        let selected = source.select(&Selection::All).await?;
        // What a discovery says of an empty source is more to the point.
        if selected.splits.is_empty() { Ok(discovered?) } else { Ok(selected) }
    }
}
