//! What becomes of the records of a key, each by itself: for whoever asks why somebody is not in the audience.
//!
//! Goes over the whole spool and decides as a plan does, from the same parts; it writes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use convoke_core::hash::encode_part;
use convoke_core::ledger::{LedgerEntry, RowState};
use convoke_core::source::Coverage;
use convoke_core::spec::SyncSpec;
use convoke_core::{HashKey, KeyHash, Timestamp};

use crate::cell::{CellProblem, canonical_cell};
use crate::digest::Recipe;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::mapping::{CanonicalColumns, Failed, Mapping};
use crate::order_value::Criteria;
use crate::plan::read_nothing;
use crate::rank::Ranking;
use crate::refusals::Refusals;
use crate::spool::{GroupRecords, Spool};
use crate::suppression::{ListedKeys, Suppressed, SuppressionList, hash_lists};
use crate::text_column::text_at;
use crate::verdict::{Fate, KnownRow, Policy, Winner, decide};

/// Places that are named of each kind; the others are counted.
const PLACES_NAMED: usize = 5;

/// What a trace is made from.
#[derive(Clone, Copy)]
pub struct TraceRequest<'a> {
    pub spec: &'a SyncSpec,
    pub spool: &'a Spool,
    pub coverage: Coverage,
    /// False if a part of the source could not be used.
    pub complete: bool,
    /// The forms that the key may have.
    pub keys: &'a [KeyHash],
    /// What the ledger holds for these keys, also of rows that were deleted.
    pub entries: &'a [LedgerEntry],
    pub hash_key: &'a HashKey,
    /// The lists of `spec.suppressions`, loaded, in their order.
    pub suppressions: &'a [SuppressionList],
    /// What the destination refused before, and what of it is not sent again.
    pub refusals: &'a Refusals,
    pub now: Timestamp,
}

/// What a trace found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// One for each form of the key, in their order.
    pub keys: Vec<TracedKey>,
    /// Records that cannot be read, or whose key cannot: each may be the one that is looked for.
    pub unreadable: u64,
}

/// What becomes of the records of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracedKey {
    /// Those that the filter leaves out.
    pub filtered: Places,
    pub invalid: Places,
    /// The first of what is wrong with the first invalid one.
    pub problem: Option<CellProblem>,
    /// Those that lose against the one that stands for the key.
    pub superseded: Places,
    /// Place and fate of the record that stands for the key.
    pub winner: Option<(String, Fate)>,
    /// The suppression lists that name the key, or a record of it.
    pub lists: Vec<PathBuf>,
    /// Whether a plan deletes the row that the ledger has.
    pub deletes_row: bool,
}

/// Where records are: `file:line`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub count: u64,
    /// The first few.
    pub named: Vec<String>,
}

impl Places {
    pub(crate) fn add(&mut self, place: String) {
        self.count += 1;
        if self.named.len() < PLACES_NAMED {
            self.named.push(place);
        }
    }
}

/// Goes over the spool once.
pub(crate) async fn trace(engine: &Engine, request: TraceRequest<'_>) -> Result<Trace, EngineError> {
    let without_columns;
    let request = if request.spool.schema().fields().is_empty() {
        without_columns = read_nothing(request.spec);
        TraceRequest { spec: &without_columns, ..request }
    } else {
        request
    };
    let (spec, schema) = (request.spec, request.spool.schema());
    let fail = |cause| engine.query_failed("prepare the mapping", &cause);
    let prepared = engine.prepare(spec, schema, request.now)?;
    let mapping = Mapping::for_diagnosis(&prepared.context.state(), spec, &prepared.compiled, schema).map_err(fail)?;
    let criteria = Criteria::of(&spec.dedupe, &prepared.compiled.order, schema).map_err(fail)?;
    let ranking = Ranking::new(&spec.dedupe);
    let lists = hash_lists(request.suppressions, &mapping, request.hash_key)?;
    let recipe = Recipe::new(&mapping.active, request.hash_key, ranking.clone(), lists.clone());
    let unreadable = request.spool.malformed();
    let found = request.keys.iter().map(|key| Found::new(*key)).collect();
    let mut tracer = Tracer { request: &request, mapping, recipe, ranking, lists, found, unreadable };
    for group in request.spool.groups() {
        let offsets: Vec<_> = (0..usize::try_from(group.rows).unwrap_or(usize::MAX)).collect();
        let input = Arc::clone(&tracer.mapping.input);
        let take = |fetched: GroupRecords, range: std::ops::Range<usize>| {
            tracer.take(&fetched, group.first_position + range.start as u64)
        };
        group.read(&input, &offsets, take).await?;
    }
    Ok(tracer.finish(criteria))
}

/// The records of a key, as far as they were read.
struct Found {
    key: KeyHash,
    traced: TracedKey,
    /// Rank and place of the greatest of those that are valid.
    best: Option<(Vec<u8>, String)>,
}

impl Found {
    fn new(key: KeyHash) -> Self {
        Self { key, traced: TracedKey::default(), best: None }
    }

    fn compete(&mut self, rank: &[u8], place: String) {
        match &mut self.best {
            Some((best, best_place)) if best.as_slice() < rank => {
                self.traced.superseded.add(std::mem::replace(best_place, place));
                rank.clone_into(best);
            }
            Some(_) => self.traced.superseded.add(place),
            None => self.best = Some((rank.to_owned(), place)),
        }
    }

    fn name_list(&mut self, list: &Suppressed) {
        if !self.traced.lists.contains(&list.path) {
            self.traced.lists.push(list.path.clone());
        }
    }
}

struct Tracer<'a> {
    request: &'a TraceRequest<'a>,
    mapping: Mapping,
    recipe: Recipe,
    ranking: Ranking,
    lists: Vec<Suppressed>,
    found: Vec<Found>,
    unreadable: u64,
}

/// A record that is looked at more closely.
struct Candidate {
    row: usize,
    /// Which of the keys it has; none if its key cannot be read.
    key: Option<usize>,
}

impl Tracer<'_> {
    fn take(&mut self, fetched: &GroupRecords, first_position: u64) -> Result<(), EngineError> {
        let mut candidates = self.candidates(&fetched.records);
        if candidates.is_empty() {
            return Ok(());
        }
        let chosen = rows_of(&fetched.records, &candidates);
        let passes = self.mapping.passes(&chosen).map_err(|failed| self.failed(failed, fetched, &candidates))?;
        for (candidate, _) in candidates.iter().zip(&passes).filter(|(_, passes)| !**passes) {
            if let Some(key) = candidate.key {
                self.found[key].traced.filtered.add(fetched.origin(candidate.row));
            }
        }
        let mut verdicts = passes.into_iter();
        candidates.retain(|_| verdicts.next().unwrap_or(false));
        self.judge(fetched, &candidates, first_position)
    }

    /// The records with one of the keys, and those whose key cannot be read.
    fn candidates(&self, records: &RecordBatch) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let as_whole = self.key_cells(records);
        for row in 0..records.num_rows() {
            // An expression may fail on a record that the filter leaves out: only that one has no key then.
            let key = match &as_whole {
                Some(cells) => self.key_at(cells, row),
                None => self.key_cells(&records.slice(row, 1)).and_then(|cells| self.key_at(&cells, 0)),
            };
            match key {
                None => candidates.push(Candidate { row, key: None }),
                Some(key) => {
                    let index = self.found.iter().position(|found| found.key == key);
                    candidates.extend(index.map(|index| Candidate { row, key: Some(index) }));
                }
            }
        }
        candidates
    }

    fn key_cells(&self, records: &RecordBatch) -> Option<Vec<StringArray>> {
        self.mapping.active.key.iter().map(|column| self.mapping.evaluate_one(*column, records).ok()).collect()
    }

    fn key_at(&self, cells: &[StringArray], row: usize) -> Option<KeyHash> {
        let mut encoded = Vec::new();
        for (column, cells) in self.mapping.active.key.iter().zip(cells) {
            let data_type = self.mapping.active.columns[*column].data_type;
            let cell = canonical_cell(data_type, text_at(cells, row)?).ok()??;
            encode_part(&mut encoded, Some(&cell));
        }
        Some(self.request.hash_key.hash_key(&encoded))
    }

    /// Judges records that the filter lets through.
    fn judge(
        &mut self,
        fetched: &GroupRecords,
        candidates: &[Candidate],
        first_position: u64,
    ) -> Result<(), EngineError> {
        let chosen = rows_of(&fetched.records, candidates);
        let fail = |failed| self.failed(failed, fetched, candidates);
        let cells = self.mapping.evaluate(&chosen).map_err(fail)?;
        let criteria = self.mapping.criteria(&chosen).map_err(fail)?;
        let canonical = self.mapping.canonical_columns(&cells);
        let position = |candidate: &Candidate| (first_position + candidate.row as u64).cast_signed();
        let positions: Vec<_> = candidates.iter().map(position).collect();
        let cells = &cells[..self.mapping.active.columns.len()];
        let deleted = self.mapping.deleted(&chosen).map_err(fail)?;
        let digests = self.recipe.digest(&positions, &|row| deleted[row], cells, &criteria);
        let digests = digests.map_err(|_| fail(Failed { place: "dedupe.by".to_owned(), row: 0 }))?;
        let ranks = digests.as_struct().column(1).as_binary::<i32>();
        for (row, candidate) in candidates.iter().enumerate() {
            let Some(key) = candidate.key else {
                self.unreadable += 1;
                continue;
            };
            let place = fetched.origin(candidate.row);
            if let Some(problem) = canonical.problems.get(&row).filter(|_| !deleted[row]) {
                self.found[key].traced.problem.get_or_insert_with(|| problem.clone());
                self.found[key].traced.invalid.add(place);
                continue;
            }
            for list in &self.lists {
                if names(list, &canonical, row, self.request.hash_key) {
                    self.found[key].name_list(list);
                }
            }
            self.found[key].compete(ranks.value(row), place);
        }
        Ok(())
    }

    fn failed(&self, failed: Failed, fetched: &GroupRecords, candidates: &[Candidate]) -> EngineError {
        let origin = candidates.get(failed.row).map_or_else(String::new, |candidate| fetched.origin(candidate.row));
        EngineError::Evaluation { sync: self.request.spec.name.clone(), place: failed.place, origin }
    }

    fn finish(self, criteria: Option<Criteria>) -> Trace {
        let Self { request, ranking, lists, found, unreadable, .. } = self;
        let may_delete = request.coverage == Coverage::Snapshot && request.complete;
        let judge = Judge {
            policy: Policy {
                mode: request.spec.mode,
                may_delete,
                is_limited: false,
                restores_removed: !request.spec.removed_at_destination.are_respected(),
            },
            criteria: criteria.filter(|_| !may_delete),
            withholds: request.spec.guards.max_unreadable.is_passed(unreadable, request.spool.read()),
            listed: ListedKeys::new(&lists),
            request,
            ranking,
            lists,
        };
        Trace { keys: found.into_iter().map(|found| judge.decide(found)).collect(), unreadable }
    }
}

/// Decides about keys whose records are all known.
struct Judge<'a> {
    request: &'a TraceRequest<'a>,
    policy: Policy,
    ranking: Ranking,
    criteria: Option<Criteria>,
    /// Whether so many records cannot be read that no row is deleted for want of one.
    withholds: bool,
    listed: ListedKeys,
    lists: Vec<Suppressed>,
}

impl Judge<'_> {
    fn decide(&self, mut found: Found) -> TracedKey {
        let key = found.key;
        self.lists.iter().filter(|list| list.names_key(key)).for_each(|list| found.name_list(list));
        let entry = self.request.entries.iter().find(|entry| entry.key == key);
        let winner = found.best.as_ref().map(|(rank, _)| {
            let rank = self.ranking.decode(rank).expect("this process encoded it");
            let counts =
                |entry: &&LedgerEntry| entry.state != RowState::Deleted || entry.owner == self.request.spec.name;
            let stored = entry.filter(counts).map(|entry| entry.order.as_slice()).unwrap_or_default();
            Winner {
                content: rank.content,
                is_suppressed: !found.traced.lists.is_empty(),
                is_deleted: rank.is_deleted,
                is_outdated: self.criteria.is_some_and(|criteria| criteria.wins(stored, rank.order)),
                held: self.request.refusals.of(key).flatten(),
            }
        });
        let listed = self.listed.existing(key);
        let decision = decide(self.policy, winner, entry.and_then(|entry| self.known(entry)), listed);
        let lacks_record = winner.is_none() && listed.is_none();
        let is_kept = lacks_record && (found.traced.invalid.count > 0 || self.withholds);
        found.traced.deletes_row = decision.deletes_row && !is_kept;
        found.traced.winner = found.best.and_then(|(_, place)| Some((place, decision.fate?)));
        found.traced
    }

    fn known(&self, entry: &LedgerEntry) -> Option<KnownRow> {
        let is_mine = entry.owner == self.request.spec.name;
        match entry.state {
            RowState::Live => Some(KnownRow::Live { content: entry.content, is_mine }),
            RowState::RemovedAtDestination => {
                Some(KnownRow::RemovedAtDestination { is_mine: is_mine || entry.owner.is_nobody() })
            }
            RowState::Deleted => None,
        }
    }
}

fn names(list: &Suppressed, canonical: &CanonicalColumns, row: usize, hash_key: &HashKey) -> bool {
    let mut part = Vec::new();
    encode_part(&mut part, text_at(&canonical.columns[list.column], row));
    list.names_part(&part, hash_key)
}

fn rows_of(records: &RecordBatch, candidates: &[Candidate]) -> RecordBatch {
    let rows = UInt32Array::from_iter_values(candidates.iter().map(|candidate| candidate.row as u32));
    take_record_batch(records, &rows).expect("the rows are of this batch")
}
