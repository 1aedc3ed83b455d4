//! Takes the splits of a discovery into the spool, as many at a time as their source allows.

use std::collections::BTreeMap;
use std::sync::Mutex;

use convoke_core::source::{Split, SplitOutcome};
use convoke_engine::{SplitIntake, SpoolProgress, SpoolWriter, TakenSplit};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::error::Error;
use crate::{Event, Pipeline};

/// Splits that may be begun for each that is read at the same time, counted from the first that has not ended: what small
/// ones hold waits for it in memory.
const BEGUN_AHEAD: usize = 4;

impl Pipeline {
    /// Reads all splits into the spool; their outcomes are in their order.
    pub(super) async fn take_splits(
        &self,
        writer: &mut SpoolWriter,
        splits: &[Split],
    ) -> Result<Vec<SplitOutcome>, Error> {
        let at_once = self.sync.source.splits_at_once().get();
        let told = Told::of(splits);
        let mut outcomes = Vec::with_capacity(splits.len());
        let (mut begun, mut running, mut ended) = (splits.iter(), FuturesUnordered::new(), BTreeMap::new());
        while outcomes.len() < splits.len() {
            let furthest = splits.len().min(outcomes.len() + at_once * BEGUN_AHEAD);
            while running.len() < at_once && splits.len() - begun.len() < furthest {
                let number = splits.len() - begun.len();
                let Some(split) = begun.next() else { break };
                let (intake, told) = (self.begin(writer, split)?, &told);
                running.push(async move { (number, self.take_split(split, &intake, told).await) });
            }
            let Some((number, taken)) = running.next().await else { break };
            ended.insert(number, taken?);
            while let Some(taken) = ended.remove(&outcomes.len()) {
                outcomes.push(writer.keep(taken).await?);
            }
        }
        Ok(outcomes)
    }

    pub(crate) fn begin(&self, writer: &mut SpoolWriter, split: &Split) -> Result<SplitIntake, Error> {
        let intake = writer.begin(split)?;
        Ok(if self.sync.source.may_lack_columns(split) { intake } else { intake.refusing_gaps() })
    }

    async fn take_split(&self, split: &Split, intake: &SplitIntake, told: &Told) -> Result<TakenSplit, Error> {
        let what = format!("reading `{}`", split.name);
        let take = async || {
            let content = self.sync.source.read(split).await?;
            let before = Mutex::new(SpoolProgress::default());
            let progress = |progress: SpoolProgress| self.report(told.after(split, &before, progress));
            let taken = intake.take(content, &progress).await;
            if taken.is_err() {
                // What was read will be read again.
                told.after(split, &before, SpoolProgress::default());
            }
            Ok(taken?)
        };
        self.ask_source(&what, take).await
    }
}

/// How far all splits together have been read.
struct Told {
    bytes_total: Option<u64>,
    read: Mutex<SpoolProgress>,
}

impl Told {
    fn of(splits: &[Split]) -> Self {
        Self { bytes_total: splits.iter().map(|split| split.bytes).sum(), read: Mutex::default() }
    }

    /// What there is to tell once a split has come from `before` to `now`.
    fn after(&self, split: &Split, before: &Mutex<SpoolProgress>, now: SpoolProgress) -> Event {
        let mut read = self.read.lock().expect("nobody panics while holding it");
        let before = std::mem::replace(&mut *before.lock().expect("nobody panics while holding it"), now);
        read.records = read.records + now.records - before.records;
        read.bytes_read = read.bytes_read + now.bytes_read - before.bytes_read;
        Event::Reading {
            split: split.name.clone(),
            bytes_total: self.bytes_total,
            bytes_read: read.bytes_read,
            records: read.records,
        }
    }
}
