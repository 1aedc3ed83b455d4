//! Into which windows a backfill is cut.

use convoke_core::backfill::{WindowSize, cut_splits, cut_time};
use convoke_core::source::Selection;
use convoke_core::spec::SourceSpec;

use crate::Pipeline;
use crate::error::Error;
use crate::reading::nothing_to_backfill;

/// Windows of a told length at most: each costs a plan.
const MOST_WINDOWS: u64 = 10_000;

impl Pipeline {
    /// Files and objects are grouped as the source lists them. A table is cut by time where one is asked for, and is one
    /// window where not: it has nothing else by which to cut that is cheap to read by.
    pub(super) async fn windows_of(
        &self,
        selection: &Selection,
        size: Option<WindowSize>,
    ) -> Result<Vec<Selection>, Error> {
        self.tell_settling().await;
        let discovery = self.select(selection).await?;
        if discovery.unchanged {
            return Err(nothing_to_backfill(&discovery));
        }
        let is_table = matches!(self.sync.spec.source, SourceSpec::Postgres(_));
        match (size, selection) {
            (Some(WindowSize::Time(step)), Selection::Between { from: Some(from), to }) if is_table => {
                let now = self.services.clock.now();
                let span = to.unwrap_or(now).since(*from);
                if span.as_millis() > step.as_millis().saturating_mul(u128::from(MOST_WINDOWS)) {
                    return Err(refused("these are more than ten thousand windows; make `--window` longer"));
                }
                Ok(cut_time(Some(*from), *to, Some(step), now))
            }
            (None, Selection::Between { from, to }) if is_table => {
                Ok(cut_time(*from, *to, None, self.services.clock.now()))
            }
            (None, _) if is_table => Ok(vec![selection.clone()]),
            (Some(_), _) if is_table => {
                Err(refused("a table is cut by time; give `--from`, and a time such as `1d` as `--window`"))
            }
            (Some(WindowSize::Time(_)), _) => {
                Err(refused("files are grouped by number; give one as `--window`, such as `500`"))
            }
            (Some(WindowSize::Splits(count)), _) => Ok(cut_splits(selection, &discovery.splits, Some(count))),
            (None, _) => Ok(cut_splits(selection, &discovery.splits, None)),
        }
    }
}

fn refused(message: &str) -> Error {
    Error::Request { message: message.to_owned() }
}
