//! Looks without touching: preview, explain, and whether both ends can be reached.

use convoke_core::ledger::{LedgerEntry, RowState};
use convoke_core::reject::NotedReject;
use convoke_core::sink::LookUp;
use convoke_core::source::{Discover, Discovery, Split, SplitContent, SplitItem, SplitStream};
use convoke_core::spec::RemovedRows;
use convoke_core::{KeyHash, RunId};
use convoke_delivery::provision::outlook;
use convoke_engine::{PreviewRecord, PreviewRequest, Spool, SpoolWriter};
use futures::StreamExt;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, chain};
use crate::{Pipeline, Services};

/// Open rejects that `explain` looks through.
const REJECTS_LOOKED_THROUGH: u32 = 10_000;

/// What is known of one record.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The forms the key may have: as typed, and as the mapping makes it.
    pub keys: Vec<KeyHash>,
    /// One line per fact, in the order of the record's way.
    pub facts: Vec<String>,
}

/// What a check found that reached out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// What is well, one line each.
    pub facts: Vec<String>,
    /// What is not, one line each.
    pub problems: Vec<String>,
}

impl Pipeline {
    /// Maps the first records of the source without touching anything.
    pub async fn preview(&self, count: usize) -> Result<Vec<PreviewRecord>, Error> {
        let run = RunId(Uuid::now_v7());
        let outcome = self.unless_cancelled(Box::pin(self.preview_in(run, count))).await;
        self.services.folders.remove("spool", &run.to_string());
        outcome?
    }

    async fn preview_in(&self, run: RunId, count: usize) -> Result<Vec<PreviewRecord>, Error> {
        let suppressions = self.load_suppressions()?;
        let spool = self.spool_first(run, count).await?;
        let request = PreviewRequest {
            spec: &self.sync.spec,
            spool: &spool,
            suppressions: &suppressions,
            count,
            now: self.services.clock.now(),
        };
        Ok(self.services.engine.preview(request).await?)
    }

    async fn spool_first(&self, run: RunId, count: usize) -> Result<Spool, Error> {
        let stored = self.services.state.checkpoint(&self.sync.spec.name).await?.position;
        let discovery = self.sync.source.discover(Discover { stored: stored.as_ref(), reread: true }).await?;
        self.spool_first_of(run, &discovery, count).await
    }

    /// Spools the first records of what was discovered.
    pub(crate) async fn spool_first_of(&self, run: RunId, discovery: &Discovery, count: usize) -> Result<Spool, Error> {
        let schema = self.sync.source.describe().await?.schema;
        let mut writer = SpoolWriter::create(&self.services.folders.spool(run), schema)?;
        let mut wanted = count;
        for split in &discovery.splits {
            if wanted == 0 {
                break;
            }
            wanted -= self.spool_head(&mut writer, split, wanted).await?;
        }
        Ok(writer.finish()?)
    }

    /// Takes at most `wanted` records of a split; returns how many there were.
    async fn spool_head(&self, writer: &mut SpoolWriter, split: &Split, wanted: usize) -> Result<usize, Error> {
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let content = match self.sync.source.read(split).await? {
            SplitContent::Stream(stream) => SplitContent::Stream(head(stream, wanted)),
            pinned @ SplitContent::Parquet(_) => pinned,
        };
        let count = |progress: convoke_engine::SpoolProgress| {
            let records = usize::try_from(progress.records).unwrap_or(usize::MAX);
            taken.store(records, std::sync::atomic::Ordering::Relaxed);
        };
        let outcome = writer.split(split, content, &count).await?;
        if let convoke_core::source::SplitResult::Broken { reason } = outcome.result {
            self.notice(format!("`{}` would be quarantined: {reason}", split.name));
        }
        Ok(taken.into_inner().min(wanted))
    }

    /// Tells what source, ledger and audience know of one key, as the user types it.
    pub async fn explain(&self, cells: &[String]) -> Result<Explanation, Error> {
        let key_columns = &self.sync.spec.key;
        if cells.len() != key_columns.len() {
            let message = format!(
                "the key has {} parts ({}), and {} were given",
                key_columns.len(),
                key_columns.join(", "),
                cells.len()
            );
            return Err(Error::Request { message });
        }
        let keys = self.keys_of(cells).await?;
        let mut facts = self.explain_rejects(&keys).await?;
        let Some(binding) = self.services.state.binding(&self.sync.spec.name).await? else {
            facts.push("this sync has not filled an audience yet".to_owned());
            return Ok(Explanation { keys, facts });
        };
        let Some(ledger) = self.services.state.ledger(&binding.key).await? else {
            facts.push(format!("audience `{}` ({}) has no ledger yet", binding.name, binding.key));
            return Ok(Explanation { keys, facts });
        };
        let segments = self.open_segments(&ledger).await?;
        let entries = self.services.engine.look_up(&segments, &keys).await?;
        let Some(entry) = entries.first() else {
            facts.push(format!("not in the ledger of audience `{}`: never sent, or deleted since", binding.name));
            return Ok(Explanation { keys, facts });
        };
        facts.push(describe_entry(entry, self.sync.spec.removed_at_destination));
        let found = self.sync.destination.look_up(&binding, &LookUp::RowIds(vec![entry.row_id.clone()])).await;
        facts.push(match found {
            Ok(rows) if rows.is_empty() => "the audience does not hold that row any more".to_owned(),
            Ok(_) => format!("the audience `{}` holds that row", binding.name),
            Err(error) => format!("the audience could not be asked: {}", chain(&error)),
        });
        Ok(Explanation { keys, facts })
    }

    /// Hashes of the key as it was typed, and as the mapping would make it of what the source writes.
    pub(crate) async fn keys_of(&self, cells: &[String]) -> Result<Vec<KeyHash>, Error> {
        let Services { engine, hash_key, .. } = &self.services;
        // Without a source the key is taken as it was typed.
        let schema = self.sync.source.describe().await.ok().map(|described| described.schema);
        Ok(engine.keys_of(&self.sync.spec, hash_key, schema.as_ref(), cells)?)
    }

    async fn explain_rejects(&self, keys: &[KeyHash]) -> Result<Vec<String>, Error> {
        let rejects = self.services.state.rejects(&self.sync.spec.name, None, None, REJECTS_LOOKED_THROUGH).await?;
        let of_key = rejects.iter().filter(|noted| noted.record.key.is_some_and(|key| keys.contains(&key)));
        Ok(of_key.map(describe_reject).collect())
    }

    /// Reaches both ends and holds the expressions against the source's real columns.
    pub async fn check_connections(&self) -> CheckReport {
        let mut report = CheckReport::default();
        match self.sync.source.describe().await {
            Ok(schema) => {
                let columns = schema.schema.fields().len();
                report.facts.push(format!("source: {columns} columns in {}", schema.origin));
                for problem in self.services.engine.check(&self.sync.spec, &schema.schema).await {
                    report.problems.push(format!("`{}`: {}", problem.place, problem.message));
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

fn describe_entry(entry: &LedgerEntry, removed: RemovedRows) -> String {
    let state = match entry.state {
        RowState::Live => "live",
        RowState::RemovedAtDestination if removed.are_respected() => "removed at the destination; not made again",
        RowState::RemovedAtDestination => "removed at the destination; made again once its record is read",
        RowState::Deleted => "deleted by us",
    };
    let owner = match entry.owner.is_nobody() {
        true => "left by a sync that was retired; `convoke adopt` takes it over".to_owned(),
        false => format!("owned by sync `{}`", entry.owner),
    };
    format!("ledger: row {}, {state}, {owner}", entry.row_id)
}

fn describe_reject(noted: &NotedReject) -> String {
    let NotedReject { record, attempts, .. } = noted;
    let origin = record.origin.as_deref().unwrap_or("an unknown place");
    let times = if *attempts == 1 { String::new() } else { format!(", {attempts} times since {}", noted.first_at) };
    format!("rejected at {}{times} (from {origin}): {}: {}", record.at, record.code, record.reason)
}
