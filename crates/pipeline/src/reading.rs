//! Reads a source into the run's spool.

use std::collections::BTreeSet;

use convoke_core::RunId;
use convoke_core::source::{Coverage, Discover, Discovery, SourcePosition, SplitOutcome, SplitResult};
use convoke_core::state::Checkpoint;
use convoke_engine::{Spool, SpoolProgress, SpoolWriter};

use crate::error::Error;
use crate::{Event, Pipeline};

/// What a source had to say.
pub(crate) enum Reading {
    /// Exactly what the checkpoint says; nothing was read.
    Unchanged {
        settled: Vec<SplitOutcome>,
        notices: Vec<String>,
    },
    Read(Box<ReadSource>),
}

pub(crate) struct ReadSource {
    pub(crate) spool: Spool,
    pub(crate) coverage: Coverage,
    /// False if a part could not be used; then absence of a record means nothing.
    pub(crate) complete: bool,
    pub(crate) proposed: SourcePosition,
    pub(crate) outcomes: Vec<SplitOutcome>,
    pub(crate) notices: Vec<String>,
}

impl Pipeline {
    pub(crate) async fn read_source(&self, run: RunId, stored: &Checkpoint, reread: bool) -> Result<Reading, Error> {
        let source = &self.sync.source;
        let position = stored.position.as_ref();
        let discovery = self.unless_cancelled(source.discover(Discover { stored: position, reread })).await??;
        if discovery.unchanged {
            return Ok(Reading::Unchanged { settled: discovery.settled, notices: discovery.notices });
        }
        let (spool, mut outcomes) = self.spool(run, &discovery, reread).await?;
        self.refuse_if_all_broken(&discovery, &outcomes).await?;
        let complete = outcomes.iter().all(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
        let proposed = source.propose(position, &outcomes);
        let Discovery { coverage, notices, settled, .. } = discovery;
        outcomes.extend(settled);
        Ok(Reading::Read(Box::new(ReadSource { spool, coverage, complete, proposed, outcomes, notices })))
    }

    async fn spool(
        &self,
        run: RunId,
        discovery: &Discovery,
        reread: bool,
    ) -> Result<(Spool, Vec<SplitOutcome>), Error> {
        let schema = self.unless_cancelled(self.sync.source.describe()).await??.schema;
        // What was read before may lack a column that the mapping names since: it is empty there.
        let required =
            if reread { BTreeSet::new() } else { self.services.engine.columns_read(&self.sync.spec, &schema) };
        let mut writer = SpoolWriter::create(&self.services.folders.spool(run), schema)?.requiring(required);
        let mut outcomes = Vec::with_capacity(discovery.splits.len());
        for split in &discovery.splits {
            self.stop_if_cancelled()?;
            let stream = self.sync.source.read(split).await?;
            let progress = |progress: SpoolProgress| {
                self.report(Event::Reading {
                    split: split.name.clone(),
                    bytes_total: split.bytes,
                    bytes_read: progress.bytes_read,
                    records: progress.records,
                });
            };
            // Dropped half-way, a spool is removed with the run's folder.
            outcomes.push(self.unless_cancelled(writer.split(split, stream, &progress)).await??);
        }
        let spool = writer.finish()?;
        self.report(Event::Comparing { records: spool.read() });
        Ok((spool, outcomes))
    }

    /// Quarantines broken splits and stops when nothing usable is left: an older file must not stand in for a broken
    /// newer one, and no file at all must not look like an empty source.
    async fn refuse_if_all_broken(&self, discovery: &Discovery, outcomes: &[SplitOutcome]) -> Result<(), Error> {
        let mut broken = Vec::new();
        for outcome in outcomes {
            if let SplitResult::Broken { reason } = &outcome.result {
                broken.push(format!("`{}`: {reason}", outcome.split.name));
            }
        }
        for text in &broken {
            self.notice(format!("quarantined {text}"));
        }
        if broken.is_empty() || broken.len() < discovery.splits.len() {
            return Ok(());
        }
        self.sync.source.acknowledge(outcomes).await?;
        let message = format!("nothing was planned, the audience is as it was; quarantined {}", broken.join("; "));
        Err(Error::Unusable { message })
    }
}
