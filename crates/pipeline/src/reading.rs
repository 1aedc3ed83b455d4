//! Reads a source into the run's spool.

mod taking;

use convoke_core::RunId;
use convoke_core::error::{SourceError, SourceErrorKind};
use convoke_core::source::{
    Coverage, Discover, Discovery, Selection, Settling, SourcePosition, Split, SplitOutcome, SplitResult, TimeSpan,
};
use convoke_core::spec::SyncMode;
use convoke_core::state::Checkpoint;
use convoke_engine::{ColumnGap, DamagedSplit, Spool, SpoolWriter};

use crate::error::{Error, chain};
use crate::{Event, Pipeline};

/// What a source had to say.
pub(crate) enum Reading {
    /// Exactly what the checkpoint says; nothing was read.
    Unchanged {
        settled: Vec<SplitOutcome>,
        notices: Vec<String>,
    },
    Read(Box<ReadSource>),
    /// Nothing of it can be used: an older file must not stand in for a broken newer one, and no file at all must not look
    /// like an empty source.
    Broken {
        outcomes: Vec<SplitOutcome>,
        /// Name and reason of each split.
        reasons: Vec<String>,
    },
}

pub(crate) struct ReadSource {
    pub(crate) spool: Spool,
    pub(crate) coverage: Coverage,
    /// False if a part could not be used; then absence of a record means nothing.
    pub(crate) complete: bool,
    /// None if the position stays where it is.
    pub(crate) proposed: Option<SourcePosition>,
    pub(crate) outcomes: Vec<SplitOutcome>,
    pub(crate) notices: Vec<String>,
    /// What a snapshot was split into: the truth together, or not at all.
    together: Vec<Split>,
}

impl Pipeline {
    pub(crate) async fn read_source(
        &self,
        run: RunId,
        stored: &Checkpoint,
        (reread, will_acknowledge): (bool, bool),
        damaged: &[DamagedSplit],
    ) -> Result<Reading, Error> {
        self.letting_go(self.read_held(run, stored, (reread, will_acknowledge), damaged)).await
    }

    /// Does what reads the source, and tells it when that is over, whichever way.
    pub(crate) async fn letting_go<T>(&self, reading: impl Future<Output = T>) -> T {
        let read = reading.await;
        self.sync.source.finished().await;
        read
    }

    async fn read_held(
        &self,
        run: RunId,
        stored: &Checkpoint,
        (reread, will_acknowledge): (bool, bool),
        damaged: &[DamagedSplit],
    ) -> Result<Reading, Error> {
        let source = &self.sync.source;
        let position = stored.position.as_ref();
        self.tell_settling().await;
        let request = Discover { stored: position, reread };
        let discovery = self.ask_source("listing the source", async || Ok(source.discover(request).await?)).await?;
        if will_acknowledge {
            let settled = discovery.settled.iter().map(|outcome| &outcome.split);
            self.refuse_unmovable(discovery.splits.iter().chain(settled)).await?;
        }
        if discovery.unchanged {
            return Ok(Reading::Unchanged { settled: discovery.settled, notices: discovery.notices });
        }
        let (spool, mut outcomes) = self.spool(run, &discovery, damaged).await?;
        let broken = self.tell_broken(&outcomes);
        // An addition that nobody puts away is remembered as broken, like one among others.
        let is_remembered = discovery.coverage == Coverage::Delta && !source.puts_away();
        if !broken.is_empty() && broken.len() == discovery.splits.len() && !is_remembered {
            return Ok(Reading::Broken { outcomes, reasons: broken });
        }
        if discovery.coverage == Coverage::Snapshot {
            self.refuse_torn(&discovery.splits).await?;
        }
        let complete = outcomes.iter().all(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
        let proposed = source.propose(position, &outcomes);
        let Discovery { coverage, mut notices, settled, splits, .. } = discovery;
        notices.extend(spool.gaps().iter().map(describe_gap));
        outcomes.extend(settled);
        let proposed = Some(proposed);
        let together = if coverage == Coverage::Snapshot { splits } else { Vec::new() };
        Ok(Reading::Read(Box::new(ReadSource { spool, coverage, complete, proposed, outcomes, notices, together })))
    }

    /// Refuses a snapshot that is not as it was listed. What is read where it is was not read until it was compared.
    pub(crate) async fn refuse_torn_since(&self, read: &ReadSource) -> Result<(), Error> {
        if read.coverage == Coverage::Snapshot && read.spool.is_read_in_place() {
            self.refuse_torn(&read.together).await?;
        }
        Ok(())
    }

    async fn refuse_torn(&self, splits: &[Split]) -> Result<(), Error> {
        let listing_again = async || Ok(self.sync.source.still_holds(splits).await?);
        self.ask_source("listing the source again", listing_again).await
    }

    /// Refuses to begin what could be delivered, and then not be put away at the source.
    pub(crate) async fn refuse_unmovable(&self, splits: impl Iterator<Item = &Split>) -> Result<(), Error> {
        let splits: Vec<_> = splits.cloned().collect();
        let told = self.sync.source.can_acknowledge(&splits).await;
        told.map_err(|error| Error::Unusable { message: format!("nothing was sent: {}", chain(&error)) })
    }

    /// Says what the source is about to wait for. What it cannot say now, whoever reads it says.
    pub(crate) async fn tell_settling(&self) {
        if let Ok(Some(Settling { what, wait })) = self.sync.source.settling().await {
            self.report(Event::Settling { what, wait });
        }
    }

    /// Lists what a backfill asks for.
    pub(crate) async fn select(&self, selection: &Selection) -> Result<Discovery, Error> {
        let select = async || self.sync.source.select(selection).await.map_err(unselected);
        self.ask_source("listing the source", select).await
    }

    /// Asks between which times the records of a backfill lie.
    pub(crate) async fn time_span(&self, selection: &Selection) -> Result<Option<TimeSpan>, Error> {
        let span = async || self.sync.source.time_span(selection).await.map_err(unselected);
        self.ask_source("asking the source for its times", span).await
    }

    /// Reads what a backfill asks for; the position stays where it is, and nothing is deleted for want of a record.
    pub(crate) async fn read_selection(
        &self,
        run: RunId,
        selection: &Selection,
        damaged: &[DamagedSplit],
    ) -> Result<ReadSource, Error> {
        self.letting_go(self.read_selected(run, selection, damaged)).await
    }

    async fn read_selected(
        &self,
        run: RunId,
        selection: &Selection,
        damaged: &[DamagedSplit],
    ) -> Result<ReadSource, Error> {
        self.tell_settling().await;
        let mut discovery = self.select(selection).await?;
        if let Selection::Named(names) = selection {
            // They were there when the backfill was cut into windows.
            let gone = names.len().saturating_sub(discovery.splits.len());
            if gone > 0 {
                let told = format!("{gone} of the {} files of this window are gone, or not settled again", names.len());
                discovery.notices.push(told);
            }
        } else if discovery.unchanged {
            return Err(nothing_to_backfill(&discovery));
        }
        let (spool, outcomes) = self.spool(run, &discovery, damaged).await?;
        let broken = broken_splits(&outcomes);
        if !broken.is_empty() {
            let message = format!("nothing was planned: {} cannot be read", broken.join("; "));
            return Err(Error::Unusable { message });
        }
        let notices = discovery.notices.into_iter().chain(spool.gaps().iter().map(describe_gap)).collect();
        let (coverage, together) = (Coverage::Delta, Vec::new());
        Ok(ReadSource { spool, coverage, complete: true, proposed: None, outcomes, notices, together })
    }

    /// Spools every split but those that are known to be damaged.
    pub(crate) async fn spool(
        &self,
        run: RunId,
        discovery: &Discovery,
        damaged: &[DamagedSplit],
    ) -> Result<(Spool, Vec<SplitOutcome>), Error> {
        let describe = async || Ok(self.sync.source.describe().await?.schema);
        let schema = self.ask_source("asking the source for its columns", describe).await?;
        // A column that nothing of what is described has is a problem of the mapping, which planning tells.
        let needed = self.services.engine.columns_read(&self.sync.spec, &schema);
        let mut writer = SpoolWriter::create(&self.services.folders.spool(run), schema)?.needing(needed);
        let known = |split: &Split| damaged.iter().find(|known| known.split == split.name);
        let whole: Vec<_> = discovery.splits.iter().filter(|split| known(split).is_none()).cloned().collect();
        let mut taken = self.take_splits(&mut writer, &whole).await?.into_iter();
        let outcomes = discovery.splits.iter().map(|split| match known(split) {
            Some(DamagedSplit { reason, .. }) => {
                SplitOutcome { split: split.clone(), result: SplitResult::Broken { reason: reason.clone() } }
            }
            None => taken.next().expect("each split that is taken has an outcome"),
        });
        let outcomes = outcomes.collect();
        let spool = writer.finish().await?;
        self.report(Event::Comparing { records: spool.read() });
        Ok((spool, outcomes))
    }

    /// Names the splits that cannot be used, with the reason.
    fn tell_broken(&self, outcomes: &[SplitOutcome]) -> Vec<String> {
        let broken = broken_splits(outcomes);
        for text in &broken {
            self.notice(format!("left out {text}"));
        }
        if !broken.is_empty() && self.sync.spec.mode == SyncMode::Mirror {
            self.notice("until all of the source can be read, no row is deleted for want of a record");
        }
        broken
    }
}

/// What was asked for is not there.
pub(crate) fn nothing_to_backfill(discovery: &Discovery) -> Error {
    let told = discovery.notices.join("; ");
    let told = if told.is_empty() { "the source has nothing of that kind".to_owned() } else { told };
    Error::Request { message: format!("there is nothing to backfill: {told}") }
}

/// A selection that the source cannot make was asked for by somebody; nothing has failed.
fn unselected(error: SourceError) -> Error {
    match error.kind {
        SourceErrorKind::Selection => Error::Request { message: chain(&error) },
        _ => Error::Source(error),
    }
}

/// Splits that are named for a column that they lack; the others are counted.
const GAPS_NAMED: usize = 3;

fn describe_gap(gap: &ColumnGap) -> String {
    let ColumnGap { column, splits } = gap;
    let mut named: Vec<_> = splits.iter().take(GAPS_NAMED).map(|split| format!("`{split}`")).collect();
    if splits.len() > GAPS_NAMED {
        named.push(format!("{} more", splits.len() - GAPS_NAMED));
    }
    format!("column `{column}`, which the sync reads, is missing in {}: it is empty in their records", named.join(", "))
}

/// Name and reason of each split that cannot be used.
pub(crate) fn broken_splits(outcomes: &[SplitOutcome]) -> Vec<String> {
    let broken = outcomes.iter().filter_map(|outcome| match &outcome.result {
        SplitResult::Broken { reason } => Some(format!("`{}`: {reason}", outcome.split.name)),
        SplitResult::Read { .. } => None,
    });
    broken.collect()
}
