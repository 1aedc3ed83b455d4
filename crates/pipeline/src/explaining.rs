//! Why a record is in the audience, or is not. Changes nothing.

mod no_key;

use convoke_core::ledger::{LedgerEntry, RowState};
use convoke_core::reject::NotedReject;
use convoke_core::sink::LookUp;
use convoke_core::source::{Discover, Discovery, Selection};
use convoke_core::spec::RemovedRows;
use convoke_core::{KeyHash, RunId};
use convoke_engine::{EngineError, Fate, Places, Trace, TraceRequest, TracedKey};
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, chain};
use crate::reading::broken_splits;
use crate::run::Extent;
use crate::{Pipeline, Services};

/// Open rejects that are looked through.
const REJECTS_LOOKED_THROUGH: u32 = 10_000;

/// Splits that are named when the source has no such record.
const SPLITS_NAMED: usize = 3;

const NEXT_RUN_DELETES: &str = "the next run deletes its row, unless a guard holds that up";

/// Whether the source is read to explain a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceUse {
    /// All of it, as `--full` does.
    Read,
    Unread,
}

/// What is known of one record.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The forms the key may have: as typed, and as the mapping makes it.
    pub keys: Vec<KeyHash>,
    /// One line per fact, in the order of the record's way.
    pub facts: Vec<String>,
}

impl Pipeline {
    /// Tells what source, rejects, ledger and audience know of one key, as the user types it.
    pub async fn explain(&self, cells: &[String], source: SourceUse) -> Result<Explanation, Error> {
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
        // To know the source's columns may be to wait for them.
        self.tell_settling().await;
        let keys = match self.keys_of(cells).await {
            Err(Error::Engine(error @ EngineError::Key(_))) => {
                return self.explain_no_key(cells, error.to_string(), source).await;
            }
            keys => keys?,
        };
        let (entries, mut known) = self.explain_row(&keys).await?;
        let mut facts = match source {
            SourceUse::Read => self.explain_source(&keys, &entries).await?,
            SourceUse::Unread => Vec::new(),
        };
        facts.extend(self.explain_rejects(&keys).await?);
        facts.append(&mut known);
        Ok(Explanation { keys, facts })
    }

    /// What ledger and audience know.
    async fn explain_row(&self, keys: &[KeyHash]) -> Result<(Vec<LedgerEntry>, Vec<String>), Error> {
        let nothing = |fact: String| Ok((Vec::new(), vec![fact]));
        let Some(binding) = self.services.state.binding(&self.sync.spec.name).await? else {
            return nothing("this sync has not filled an audience yet".to_owned());
        };
        let Some(ledger) = self.services.state.ledger(&binding.key).await? else {
            return nothing(format!("audience `{}` ({}) has no ledger yet", binding.name, binding.key));
        };
        let segments = self.open_segments(&ledger).await?;
        let entries = self.services.engine.look_up_all(&segments, keys).await?;
        let Some(entry) = entries.iter().find(|entry| entry.state != RowState::Deleted) else {
            let audience = &binding.name;
            let fact = format!("not in the ledger of audience `{audience}`: never sent, or deleted since");
            return Ok((entries, vec![fact]));
        };
        let mut facts = vec![describe_entry(entry, self.sync.spec.removed_at_destination)];
        let found = self.sync.destination.look_up(&binding, &LookUp::RowIds(vec![entry.row_id.clone()])).await;
        facts.push(match found {
            Ok(rows) if rows.is_empty() => "the audience does not hold that row any more".to_owned(),
            Ok(_) => {
                let (audience, sync) = (&binding.name, &self.sync.spec.name);
                format!("the audience `{audience}` holds that row; `convoke verify {sync}` compares its cells")
            }
            Err(error) => format!("the audience could not be asked: {}", chain(&error)),
        });
        Ok((entries, facts))
    }

    /// What the source has, and what a plan makes of it. A source that cannot be read is a fact as well.
    async fn explain_source(&self, keys: &[KeyHash], entries: &[LedgerEntry]) -> Result<Vec<String>, Error> {
        let run = RunId(Uuid::now_v7());
        let outcome = self.letting_go(Box::pin(self.trace(run, keys, entries))).await;
        self.services.folders.remove("spool", &run.to_string());
        match outcome {
            Err(error @ Error::Interrupted) => Err(error),
            Err(error) => Ok(vec![format!("source: could not be read: {}", chain(&error))]),
            Ok(facts) => Ok(facts),
        }
    }

    async fn trace(&self, run: RunId, keys: &[KeyHash], entries: &[LedgerEntry]) -> Result<Vec<String>, Error> {
        let suppressions = self.load_suppressions()?;
        let discovery = self.all_there_is().await?;
        let (spool, outcomes) = self.spool(run, &discovery, &[]).await?;
        let broken = broken_splits(&outcomes);
        let refusals = self.refusals(&Extent::default(), self.services.clock.now()).await?;
        let request = TraceRequest {
            spec: &self.sync.spec,
            spool: &spool,
            coverage: discovery.coverage,
            complete: broken.is_empty(),
            keys,
            entries,
            hash_key: &self.services.hash_key,
            suppressions: &suppressions,
            refusals: &refusals,
            now: self.services.clock.now(),
        };
        let trace = self.unless_cancelled(Box::pin(self.services.engine.trace(request))).await??;
        let absent_is_found = if self.sync.spec.source.reads_changes() {
            let sync = &self.sync.spec.name;
            format!(
                "the next run that reads everything, as `convoke run {sync} --full` does, deletes its row, unless a guard holds that up"
            )
        } else {
            NEXT_RUN_DELETES.to_owned()
        };
        let mut facts = describe_trace(&trace, &absent_is_found, || describe_read(&discovery, spool.read()));
        facts.extend(broken.iter().map(|broken| format!("source: cannot be used: {broken}")));
        Ok(facts)
    }

    /// What `--full` reads; where nothing is left of that, what the source still has.
    async fn all_there_is(&self) -> Result<Discovery, Error> {
        let source = &self.sync.source;
        let stored = self.services.state.checkpoint(&self.sync.spec.name).await?.position;
        let request = Discover { stored: stored.as_ref(), reread: true };
        let discovered = self.unless_cancelled(source.discover(request)).await?;
        if discovered.as_ref().is_ok_and(|discovery| !discovery.splits.is_empty()) {
            return Ok(discovered?);
        }
        let selected = self.unless_cancelled(source.select(&Selection::All)).await??;
        // What a discovery says of an empty source is more to the point.
        if selected.splits.is_empty() { Ok(discovered?) } else { Ok(selected) }
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
}

/// What was read, for somebody who looks for a record that is not in it.
fn describe_read(discovery: &Discovery, records: u64) -> String {
    let names = discovery.splits.iter().map(|split| format!("`{}`", split.name));
    let mut named = names.take(SPLITS_NAMED).collect::<Vec<_>>().join(", ");
    if discovery.splits.len() > SPLITS_NAMED {
        named.push_str(&format!(" and {} more", discovery.splits.len() - SPLITS_NAMED));
    }
    if named.is_empty() { "nothing was there to read".to_owned() } else { format!("{records} records in {named}") }
}

/// `absent_is_found`: when the row goes of which the source has no record.
fn describe_trace(trace: &Trace, absent_is_found: &str, read: impl Fn() -> String) -> Vec<String> {
    let mut facts: Vec<_> = trace.keys.iter().flat_map(|key| describe_key(key, absent_is_found)).collect();
    let has_record = |key: &TracedKey| key.winner.is_some() || key.filtered.count > 0 || key.invalid.count > 0;
    if !trace.keys.iter().any(has_record) {
        let unreadable = match trace.unreadable {
            0 => String::new(),
            count => format!("; {count} records cannot be read or have no key that can, and may hold it"),
        };
        facts.insert(0, format!("source: not in it as far as it was read ({}){unreadable}", read()));
    }
    facts
}

fn describe_key(key: &TracedKey, absent_is_found: &str) -> Vec<String> {
    let TracedKey { filtered, invalid, problem, superseded, winner, lists, deletes_row } = key;
    let mut facts = Vec::new();
    if filtered.count > 0 {
        facts.push(format!("source: {} filtered out by `where`", describe_places(filtered)));
    }
    if let Some(problem) = problem {
        let reason = format!("`{}`: {}: {}", problem.column, problem.code, problem.reason);
        facts.push(format!("source: {} invalid: {reason}", describe_places(invalid)));
    }
    if let Some((place, _)) = winner.as_ref().filter(|_| superseded.count > 0) {
        facts.push(format!("source: {} superseded by {place}, which has the same key", describe_places(superseded)));
    }
    facts.extend(winner.as_ref().map(|(place, fate)| format!("source: {place} {}", describe_fate(*fate))));
    facts.extend(lists.iter().map(|list| format!("suppressed: list `{}` names it", list.display())));
    if *deletes_row {
        let lacks_record = winner.is_none() && lists.is_empty();
        facts.push(if lacks_record { absent_is_found } else { NEXT_RUN_DELETES }.to_owned());
    }
    facts
}

fn describe_places(places: &Places) -> String {
    format!("{} {}", name_places(places), if places.count == 1 { "is" } else { "are" })
}

fn name_places(places: &Places) -> String {
    let mut text = places.named.join(", ");
    let more = places.count - places.named.len() as u64;
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn describe_fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Create => "is to be sent: the next run creates its row",
        Fate::Update => "is to be sent: the next run updates its row",
        Fate::Unchanged => "is unchanged since it was written, as the ledger has it",
        Fate::Superseded => "is older than what its row holds, or than what deleted it, and is not sent",
        Fate::Suppressed => "is suppressed, and is not sent",
        Fate::SkippedByMode => "is left out by the sync's `mode`",
        Fate::RemovedRespected => "is not sent again: its row was removed at the destination",
        Fate::HeldBack => "is held back by a limit",
        Fate::RefusedBefore => {
            "is held back: the destination refused it for too long; `convoke rejects resend` sends it"
        }
        Fate::Listed => "is on the list of deletes",
        Fate::Deleted => "says that it is deleted, and is not sent",
        Fate::OwnedByOtherSync => "is not sent: another sync owns the row with this key",
    }
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
