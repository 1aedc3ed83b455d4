//! Reads a source into the run's spool.

use convoke_core::RunId;
use convoke_core::error::{SourceError, SourceErrorKind};
use convoke_core::source::{
    Coverage, Discover, Discovery, Selection, Settling, SourcePosition, Split, SplitOutcome, SplitResult,
};
use convoke_core::spec::SyncMode;
use convoke_core::state::Checkpoint;
use convoke_engine::{ColumnGap, Lacking, Spool, SpoolProgress, SpoolWriter};

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
}

impl Pipeline {
    pub(crate) async fn read_source(
        &self,
        run: RunId,
        stored: &Checkpoint,
        reread: bool,
        will_acknowledge: bool,
    ) -> Result<Reading, Error> {
        let source = &self.sync.source;
        let position = stored.position.as_ref();
        self.tell_settling().await;
        let discovery = self.unless_cancelled(source.discover(Discover { stored: position, reread })).await??;
        if will_acknowledge {
            let settled = discovery.settled.iter().map(|outcome| &outcome.split);
            self.refuse_unmovable(discovery.splits.iter().chain(settled)).await?;
        }
        if discovery.unchanged {
            return Ok(Reading::Unchanged { settled: discovery.settled, notices: discovery.notices });
        }
        let (spool, mut outcomes) = self.spool(run, &discovery, reread).await?;
        let broken = self.tell_broken(&outcomes);
        if !broken.is_empty() && broken.len() == discovery.splits.len() {
            return Ok(Reading::Broken { outcomes, reasons: broken });
        }
        if discovery.coverage == Coverage::Snapshot {
            self.unless_cancelled(source.still_holds(&discovery.splits)).await??;
        }
        let complete = outcomes.iter().all(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
        let proposed = source.propose(position, &outcomes);
        let Discovery { coverage, mut notices, settled, .. } = discovery;
        notices.extend(spool.gaps().iter().map(describe_gap));
        outcomes.extend(settled);
        let proposed = Some(proposed);
        Ok(Reading::Read(Box::new(ReadSource { spool, coverage, complete, proposed, outcomes, notices })))
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

    /// Reads what a backfill asks for; the position stays where it is, and nothing is deleted for want of a record.
    pub(crate) async fn read_selection(&self, run: RunId, selection: &Selection) -> Result<ReadSource, Error> {
        self.tell_settling().await;
        let discovery = self.unless_cancelled(self.sync.source.select(selection)).await?.map_err(unselected)?;
        if discovery.unchanged {
            let told = discovery.notices.join("; ");
            let told = if told.is_empty() { "the source has nothing of that kind".to_owned() } else { told };
            return Err(Error::Request { message: format!("there is nothing to backfill: {told}") });
        }
        let (spool, outcomes) = self.spool(run, &discovery, true).await?;
        let broken = broken_splits(&outcomes);
        if !broken.is_empty() {
            let message = format!("nothing was planned: {} cannot be read", broken.join("; "));
            return Err(Error::Unusable { message });
        }
        let notices = discovery.notices.into_iter().chain(spool.gaps().iter().map(describe_gap)).collect();
        Ok(ReadSource { spool, coverage: Coverage::Delta, complete: true, proposed: None, outcomes, notices })
    }

    pub(crate) async fn spool(
        &self,
        run: RunId,
        discovery: &Discovery,
        reread: bool,
    ) -> Result<(Spool, Vec<SplitOutcome>), Error> {
        let schema = self.unless_cancelled(self.sync.source.describe()).await??.schema;
        let needed = self.services.engine.columns_read(&self.sync.spec, &schema);
        // What was read before may lack a column that the mapping names since: it is empty there. A column that nothing of
        // what is read has is a problem of the mapping, which planning tells.
        let lacking = if reread { Lacking::Told } else { Lacking::Refused };
        let mut writer = SpoolWriter::create(&self.services.folders.spool(run), schema)?.needing(needed, lacking);
        let mut outcomes = Vec::with_capacity(discovery.splits.len());
        for split in &discovery.splits {
            self.stop_if_cancelled()?;
            let content = self.unless_cancelled(self.sync.source.read(split)).await??;
            let progress = |progress: SpoolProgress| {
                self.report(Event::Reading {
                    split: split.name.clone(),
                    bytes_total: split.bytes,
                    bytes_read: progress.bytes_read,
                    records: progress.records,
                });
            };
            // Dropped half-way, a spool is removed with the run's folder.
            outcomes.push(self.unless_cancelled(writer.split(split, content, &progress)).await??);
        }
        let spool = writer.finish()?;
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
