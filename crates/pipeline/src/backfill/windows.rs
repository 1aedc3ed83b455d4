//! Into which windows a backfill is cut.

use std::time::Duration;

use convoke_core::backfill::{WindowSize, cut_span, cut_splits, cut_time};
use convoke_core::source::{Selection, TimeSpan};
use convoke_core::spec::{PostgresSpec, SourceSpec};

use crate::Pipeline;
use crate::error::Error;
use crate::reading::nothing_to_backfill;

/// Windows of a told length at most: each costs a plan.
const MOST_WINDOWS: u64 = 10_000;

impl Pipeline {
    /// Files and objects are grouped as the source lists them. A table is cut by time: between the times that were asked for,
    /// or those that its rows have. Without a column of times it is one window: it has nothing else by which to cut that is
    /// cheap to read by.
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
        if let SourceSpec::Postgres(table) = &self.sync.spec.source {
            return self.windows_of_table(table, selection, size).await;
        }
        match size {
            Some(WindowSize::Time(_)) => {
                Err(refused("files are grouped by number; give one as `--window`, such as `500`"))
            }
            Some(WindowSize::Splits(count)) => Ok(cut_splits(selection, &discovery.splits, Some(count))),
            None => Ok(cut_splits(selection, &discovery.splits, None)),
        }
    }

    async fn windows_of_table(
        &self,
        table: &PostgresSpec,
        selection: &Selection,
        size: Option<WindowSize>,
    ) -> Result<Vec<Selection>, Error> {
        let step = match size {
            Some(WindowSize::Time(_)) if table.time_column.is_none() => {
                return Err(refused(
                    "a table is cut by time; set `time_column` of the source, or leave `--window` out",
                ));
            }
            Some(WindowSize::Time(step)) => Some(step),
            Some(WindowSize::Splits(_)) => {
                return Err(refused("a table is cut by time; give a time such as `1d` as `--window`"));
            }
            None => None,
        };
        if let Selection::Between { from: Some(from), to } = selection {
            let now = self.services.clock.now();
            refuse_many(step, TimeSpan { first: *from, last: to.unwrap_or(now) })?;
            return Ok(cut_time(Some(*from), *to, step, now));
        }
        let Some(span) = self.time_span(selection).await? else { return Ok(vec![selection.clone()]) };
        refuse_many(step, span)?;
        Ok(cut_span(selection, span, step))
    }
}

fn refuse_many(step: Option<Duration>, span: TimeSpan) -> Result<(), Error> {
    let longest = step.map(|step| step.as_millis().saturating_mul(u128::from(MOST_WINDOWS)));
    if longest.is_some_and(|longest| span.last.since(span.first).as_millis() > longest) {
        return Err(refused("these are more than ten thousand windows; make `--window` longer"));
    }
    Ok(())
}

fn refused(message: &str) -> Error {
    Error::Request { message: message.to_owned() }
}
