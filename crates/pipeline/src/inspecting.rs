//! Looks without touching: preview, and whether both ends can be reached.

use convoke_core::RunId;
use convoke_core::source::{Discover, Discovery, Split, SplitContent, SplitItem, SplitStream};
use convoke_delivery::provision::outlook;
use convoke_engine::{PreviewRecord, PreviewRequest, Spool, SpoolWriter};
use futures::StreamExt;
use serde::Serialize;
use uuid::Uuid;

use crate::Pipeline;
use crate::error::{Error, chain};

/// What a check found that reached out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// What is well, one line each.
    pub facts: Vec<String>,
    /// What is not, one line each.
    pub problems: Vec<String>,
    /// Whether any of it is wrong configuration, whatever the other end is like.
    pub is_misconfigured: bool,
}

impl Pipeline {
    /// Maps the first records of the source without touching anything.
    pub async fn preview(&self, count: usize) -> Result<Vec<PreviewRecord>, Error> {
        let run = RunId(Uuid::now_v7());
        let outcome = self.letting_go(self.unless_cancelled(Box::pin(self.preview_in(run, count)))).await;
        self.services.folders.remove("spool", &run.to_string());
        outcome?
    }

    async fn preview_in(&self, run: RunId, count: usize) -> Result<Vec<PreviewRecord>, Error> {
        let suppressions = self.load_suppressions()?;
        let (spool, broken) = self.spool_first(run, count).await?;
        if spool.read() == 0 && !broken.is_empty() {
            return Err(Error::Unusable { message: format!("there is nothing to show: {}", broken.join("; ")) });
        }
        let request = PreviewRequest {
            spec: &self.sync.spec,
            spool: &spool,
            suppressions: &suppressions,
            count,
            now: self.services.clock.now(),
        };
        let shown = self.services.engine.preview(request).await?;
        self.tell_quarantined(&broken);
        Ok(shown)
    }

    async fn spool_first(&self, run: RunId, count: usize) -> Result<(Spool, Vec<String>), Error> {
        let stored = self.services.state.checkpoint(&self.sync.spec.name).await?.position;
        self.tell_settling().await;
        let discovery = self.sync.source.discover(Discover { stored: stored.as_ref(), reread: true }).await?;
        self.spool_first_of(run, &discovery, count).await
    }

    /// Spools the first records of what was discovered; also tells which splits would be quarantined, and why.
    pub(crate) async fn spool_first_of(
        &self,
        run: RunId,
        discovery: &Discovery,
        count: usize,
    ) -> Result<(Spool, Vec<String>), Error> {
        let schema = self.sync.source.describe().await?.schema;
        let needed = self.services.engine.columns_read(&self.sync.spec, &schema);
        let mut writer = SpoolWriter::create(&self.services.folders.spool(run), schema)?.needing(needed);
        let mut wanted = count;
        let mut broken = Vec::new();
        for split in &discovery.splits {
            if wanted == 0 {
                break;
            }
            wanted -= self.spool_head(&mut writer, split, wanted, &mut broken).await?;
        }
        Ok((writer.finish().await?, broken))
    }

    /// Says which splits a run would quarantine, where there is more to show than that.
    pub(crate) fn tell_quarantined(&self, broken: &[String]) {
        broken.iter().for_each(|told| self.notice(told));
    }

    /// Takes at most `wanted` records of a split; returns how many there were.
    async fn spool_head(
        &self,
        writer: &mut SpoolWriter,
        split: &Split,
        wanted: usize,
        broken: &mut Vec<String>,
    ) -> Result<usize, Error> {
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let content = match self.sync.source.read(split).await? {
            SplitContent::Stream(stream) => SplitContent::Stream(head(stream, wanted)),
            pinned @ SplitContent::Parquet(_) => pinned,
        };
        let count = |progress: convoke_engine::SpoolProgress| {
            let records = usize::try_from(progress.records).unwrap_or(usize::MAX);
            taken.store(records, std::sync::atomic::Ordering::Relaxed);
        };
        let head = self.begin(writer, split)?.take(content, &count).await?;
        let outcome = writer.keep(head).await?;
        if let convoke_core::source::SplitResult::Broken { reason } = outcome.result {
            let what = if self.sync.source.quarantines() { "would be quarantined" } else { "cannot be used" };
            broken.push(format!("`{}` {what}: {reason}", split.name));
        }
        Ok(taken.into_inner().min(wanted))
    }

    /// Reaches both ends and holds the expressions against the source's real columns.
    pub async fn check_connections(&self) -> CheckReport {
        let mut report = CheckReport::default();
        self.tell_settling().await;
        match self.sync.source.describe().await {
            Ok(schema) => {
                let columns = schema.schema.fields().len();
                report.facts.push(format!("source: {columns} columns in {}", schema.origin));
                for problem in self.services.engine.check(&self.sync.spec, &schema.schema).await {
                    report.problems.push(format!("`{}`: {}", problem.place, problem.message));
                    report.is_misconfigured = true;
                }
            }
            Err(error) => report.problems.push(format!("source: {}", chain(&error))),
        }
        if let Err(error) = self.load_suppressions() {
            report.problems.push(chain(&error));
        }
        if let Err(error) = self.check_destination(&mut report).await {
            report.problems.push(format!("destination: {}", chain(&error)));
        }
        report
    }

    async fn check_destination(&self, report: &mut CheckReport) -> Result<(), Error> {
        let binding = self.services.state.binding(&self.sync.spec.name).await?;
        let survey = self.survey(binding.as_ref()).await?;
        let known_id = binding.as_ref().map(|binding| binding.key.audience_id.as_str());
        match outlook(&self.target(), &survey, known_id) {
            Ok(steps) if steps.is_empty() => report.facts.push("destination: the audience is ready".to_owned()),
            Ok(steps) => report.facts.push(format!("destination: reached; a run would {}", steps.join(", "))),
            Err(problem) => report.problems.push(format!("destination: {problem}")),
        }
        Ok(())
    }
}

/// The beginning of a split: at most `wanted` records, then a regular end.
fn head(stream: SplitStream, wanted: usize) -> SplitStream {
    let limited = stream.scan(wanted, |left, item| {
        let cut = match item {
            _ if *left == 0 => None,
            Ok(SplitItem::Records(mut batch)) => {
                let rows = batch.records.num_rows().min(*left);
                *left -= rows;
                batch.records = batch.records.slice(0, rows);
                batch.positions.truncate(rows);
                Some(Ok(SplitItem::Records(batch)))
            }
            Ok(SplitItem::Malformed(record)) => {
                *left -= 1;
                Some(Ok(SplitItem::Malformed(record)))
            }
            Ok(SplitItem::End { .. }) => None,
            other => Some(other),
        };
        futures::future::ready(cut)
    });
    let end = futures::stream::once(async { Ok(SplitItem::End { fingerprint: String::new() }) });
    limited.chain(end).boxed()
}
