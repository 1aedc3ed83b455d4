//! The narrow pass: dedupe and diff on hashes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayBuilder, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder, UInt8Builder};
use convoke_core::plan::PlanCounts;
use convoke_core::source::Coverage;
use convoke_core::{ContentHash, KeyHash};
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, ScalarUDF, lit};
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::PlanRequest;
use super::groups::{Found, Group, Partition};
use super::schema::{NARROW, PLACE};
use crate::digest::{DigestFunction, Recipe};
use crate::engine::{Engine, Prepared};
use crate::error::EngineError;
use crate::key_number::is_invalid;
use crate::ledger::segment::{self, Entries};
use crate::order_value::Criteria;
use crate::rank::{Rank, Ranking};
use crate::refusals::{RefusalFates, Refusals};
use crate::sorting;
use crate::spool::POSITION_COLUMN;
use crate::suppression::{ListedKeys, hash_lists};
use crate::verdict::{Decision, Fate, KnownRow, Policy, Winner, decide};

/// Kinds of narrow changes.
pub(super) const CREATE: u8 = 0;
pub(super) const UPDATE: u8 = 1;
pub(super) const INVALID: u8 = 2;
pub(super) const OWNED_BY_OTHER: u8 = 3;
pub(super) const DELETE: u8 = 4;
/// A record that is in the row already, from an earlier one, or that has none and says that it is deleted: the later order
/// value is kept.
pub(super) const CONFIRMED: u8 = 6;
/// A delete for want of a record; not made if an invalid record turns out to have the key, or too many cannot be read.
pub(super) const ABSENT: u8 = 5;

/// Changes that go into the sort at once: the fewer batches, the fewer have to be merged.
const SORTED_ROWS: usize = 32_768;

/// Where the places of what needs no record's values begin: beyond every position.
const FIRST_PLACE_WITHOUT_RECORD: u64 = 1 << 62;

const ACTION: &str = "compare the source with the ledger";

/// One row per mapped record that passed the filter, and one per key that only the ledger knows. Keys are brought together
/// by [`super::groups`]. [`diff_of`] adds the ledger's order value where it is needed.
const DIFF: &str = "
    WITH hashed AS (
        SELECT digest_key(digest) AS key, digest_rank(digest) AS rank, digest_suppressed(digest) AS suppressed
        FROM records
    )
    SELECT hashed.key AS key, hashed.rank AS rank, hashed.suppressed AS suppressed,
           ledger.key AS ledger_key, ledger.content AS ledger_content, ledger.row_id AS row_id,
           ledger.mine AS mine, ledger.state AS state{ledger_order}
    FROM hashed FULL OUTER JOIN ledger ON hashed.key = ledger.key";

/// Batches of a partition that are ready before they are asked for.
const BATCHES_AHEAD: usize = 2;

/// The diff's query. The ledger's order values are read only where they are compared.
fn diff_of(compares_order: bool) -> String {
    DIFF.replace("{ledger_order}", if compares_order { ", ledger.order_value AS ledger_order" } else { "" })
}

/// What the narrow pass found.
pub(super) struct Changes {
    /// Deletes as if nothing held them.
    pub(super) counts: PlanCounts,
    /// Keys of invalid records.
    pub(super) held: HashSet<KeyHash>,
    /// Records that are malformed or whose key cannot be read.
    pub(super) unreadable: u64,
    pub(super) refusals: RefusalFates,
    pub(super) notices: Vec<String>,
    first: Option<RecordBatch>,
    rest: SendableRecordBatchStream,
}

impl Changes {
    /// The next narrow changes, in the order of their places.
    pub(super) async fn next(&mut self) -> Option<Result<RecordBatch, DataFusionError>> {
        match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => self.rest.next().await,
        }
    }
}

pub(super) async fn find_changes(
    engine: &Engine,
    request: &PlanRequest<'_>,
    prepared: &Prepared,
) -> Result<Changes, EngineError> {
    let ranking = Ranking::new(&request.spec.dedupe);
    let lists = hash_lists(request.suppressions, &prepared.mapping, request.hash_key)?;
    let notices = lists.iter().filter_map(|list| list.notice.clone()).collect();
    let may_delete = request.coverage == Coverage::Snapshot && request.complete;
    let policy = Policy {
        mode: request.spec.mode,
        may_delete,
        is_limited: request.limit.is_some(),
        restores_removed: !request.spec.removed_at_destination.are_respected(),
    };
    let criteria = Criteria::of(&request.spec.dedupe, &prepared.compiled.order, request.spool.schema());
    let listed = ListedKeys::new(&lists);
    let recipe = Recipe::new(&prepared.mapping.active, request.hash_key, ranking.clone(), lists);
    let fail = |cause: DataFusionError| engine.query_failed(ACTION, &cause);
    let criteria = criteria.map_err(fail)?;
    // Of a snapshot that is not whole, what is missing may be newer than what is there.
    let compares_order = criteria.is_some() && !may_delete;
    register_records(&prepared.context, request, prepared, recipe).map_err(fail)?;
    let entries = if compares_order { Entries::WithDeleted } else { Entries::Standing };
    let owner = request.spec.name.as_str();
    segment::register_ledger(&prepared.context, request.segments, owner, entries).await.map_err(fail)?;
    let diff = prepared.context.sql(&diff_of(compares_order)).await.map_err(fail)?;
    let partitions = diff.execute_stream_partitioned().await.map_err(fail)?;
    let mut groups: Vec<_> = partitions.iter().map(|_| Partition::default()).collect();
    // Each partition is computed by a task of its own.
    let numbered = partitions
        .into_iter()
        .enumerate()
        .map(|(number, partition)| spawn_buffered(partition, BATCHES_AHEAD).map(move |batch| (number, batch)));
    let mut diff = futures::stream::select_all(numbered);
    let (input, mut rest) = sorting::sort(&prepared.context, &NARROW, PLACE).await.map_err(fail)?;
    let mut sieve = Sieve { compares_order, ..Sieve::new(policy, (ranking, criteria), listed, request) };
    let compare = async move {
        while let Some((number, batch)) = diff.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(cause) => {
                    let explained = engine.explain_failure(ACTION, &cause, request.spec, request.spool, prepared);
                    return Err(explained.await);
                }
            };
            groups[number].take(&batch, |found| sieve.take(found));
            if sieve.kept.places.len() >= SORTED_ROWS {
                input.push(sieve.kept.finish()).await?;
            }
        }
        groups.iter_mut().for_each(|partition| partition.finish(|found| sieve.take(found)));
        input.push(sieve.kept.finish()).await?;
        Ok(sieve.finish())
    };
    // The sort gives its first batch once it has the last.
    let (compared, first) = tokio::join!(compare, rest.next());
    let first = first.transpose().map_err(fail)?;
    let Sieve { counts, held, unreadable, refusal_fates: refusals, .. } = compared?;
    Ok(Changes { counts, held, unreadable, refusals, notices, first, rest })
}

fn register_records(
    context: &SessionContext,
    request: &PlanRequest<'_>,
    prepared: &Prepared,
    recipe: Recipe,
) -> Result<(), DataFusionError> {
    let function = ScalarUDF::from(DigestFunction::new(recipe));
    for part in crate::digest::parts() {
        context.register_udf(part);
    }
    let deleted = prepared.compiled.deleted.as_ref().map_or_else(|| lit(false), |deleted| deleted.expr.clone());
    // A condition that is NULL has no type.
    let deleted = deleted.is_true();
    let mut arguments = vec![Expr::Column(Column::from_name(POSITION_COLUMN)), deleted];
    let columns = prepared.mapping.active.expressions(request.spec, &prepared.compiled);
    arguments.extend(columns.into_iter().chain(prepared.compiled.order.iter().cloned()).map(|placed| placed.expr));
    let filter = prepared.compiled.filter.as_ref().map(|filter| &filter.expr);
    let wanted = prepared.columns_read(request.spec, request.spool.schema());
    let mut records = request.spool.records(context, &wanted, filter)?;
    if let Some(filter) = filter {
        records = records.filter(filter.clone())?;
    }
    let digested = records.select(vec![function.call(arguments).alias("digest")])?;
    context.register_table("records", digested.into_view())?;
    Ok(())
}

/// Decides about each key, counts, and keeps what changes.
struct Sieve<'a> {
    policy: Policy,
    ranking: Ranking,
    criteria: Option<Criteria>,
    /// Whether the ledger's order values are there to be compared.
    compares_order: bool,
    listed: ListedKeys,
    keeps_unknown: bool,
    limit: Option<u64>,
    counts: PlanCounts,
    passed: u64,
    carried: u64,
    held: HashSet<KeyHash>,
    unreadable: u64,
    refusals: &'a Refusals,
    refusal_fates: RefusalFates,
    /// The order value under way, under its mark.
    marked: Vec<u8>,
    kept: NarrowBuilder,
}

impl<'a> Sieve<'a> {
    fn new(
        policy: Policy,
        (ranking, criteria): (Ranking, Option<Criteria>),
        listed: ListedKeys,
        request: &PlanRequest<'a>,
    ) -> Self {
        let counts =
            PlanCounts { read: request.spool.read(), invalid: request.spool.malformed(), ..PlanCounts::default() };
        Self {
            policy,
            ranking,
            criteria,
            compares_order: false,
            listed,
            keeps_unknown: request.keeps_unknown,
            limit: request.limit,
            counts,
            passed: 0,
            carried: request.spool.carried(),
            held: HashSet::new(),
            unreadable: request.spool.malformed(),
            refusals: request.refusals,
            refusal_fates: RefusalFates::default(),
            marked: Vec::new(),
            kept: NarrowBuilder::default(),
        }
    }

    fn take(&mut self, found: &Found<'_>) {
        let Found { key, known, row_id, .. } = *found;
        let Some(Group { rank, records, is_suppressed }) = found.group else {
            let listed = self.listed.existing(key);
            let decision = decide(self.policy, None, known, listed);
            let kind = if listed.is_some() { DELETE } else { ABSENT };
            self.note_row(decision, kind, key, row_id);
            return;
        };
        let rank = self.ranking.decode(rank).expect("this process encoded it");
        self.passed += records;
        let position = rank.position;
        if is_invalid(key) {
            self.counts.invalid += records;
            if is_unreadable(&rank.content.0) {
                self.unreadable += records;
            } else {
                self.held.insert(KeyHash(rank.content.0));
            }
            self.kept.push(INVALID, position, &NarrowHashes { key, content: rank.content, order: &[] }, None);
            return;
        }
        self.counts.superseded += records - 1;
        let stored_order = found.order.unwrap_or_default();
        let outdated = |criteria: Criteria| {
            let is_unknown = (known.is_some() || found.order.is_some()) && !criteria.knows(stored_order);
            criteria.wins(stored_order, rank.order) || (self.keeps_unknown && is_unknown)
        };
        let is_outdated = self.criteria.is_some_and(outdated);
        let refused = self.refusals.of(key);
        let is_deleted = rank.is_deleted;
        let winner = Winner { content: rank.content, is_suppressed, is_outdated, is_deleted, held: refused.flatten() };
        let decision = decide(self.policy, Some(winner), known, self.listed.existing(key));
        if refused.is_some() {
            self.note_refused(key, decision.fate);
        }
        match decision.fate {
            Some(Fate::Deleted) => self.note_deleted(decision, &rank, found),
            _ => self.note_row(decision, DELETE, key, row_id),
        }
        let Some(kind) = self.count(decision.fate) else {
            if decision.fate == Some(Fate::Unchanged) {
                self.confirm(key, &rank, found.order);
            }
            return;
        };
        self.mark(rank.order);
        let hashes = NarrowHashes { key, content: rank.content, order: &self.marked };
        self.kept.push(kind, position, &hashes, row_id.filter(|_| kind == UPDATE));
    }

    /// Notes that a row's record was seen again under a later order value, so that none in between overwrites it.
    fn confirm(&mut self, key: KeyHash, rank: &Rank<'_>, stored_order: Option<&[u8]>) {
        if stored_order.is_some_and(|stored| self.tells_more(stored, rank)) {
            self.mark(rank.order);
            let hashes = NarrowHashes { key, content: rank.content, order: &self.marked };
            self.kept.push(CONFIRMED, place_without_record(key), &hashes, None);
        }
    }

    fn tells_more(&self, stored: &[u8], rank: &Rank<'_>) -> bool {
        let Some(criteria) = self.criteria else { return false };
        // What is unknown protects its row from a backfill, which an older value would not.
        let protects = self.keeps_unknown && !criteria.knows(stored);
        !protects && criteria.raises(stored, rank.order)
    }

    /// Deletes the row of a record that says it is deleted, and keeps how new that is, also where there is no row: no older
    /// record makes one then.
    fn note_deleted(&mut self, decision: Decision, rank: &Rank<'_>, found: &Found<'_>) {
        let Found { key, known, row_id, order, .. } = *found;
        self.mark(rank.order);
        let hashes = NarrowHashes { key, content: ContentHash::UNKNOWN, order: &self.marked };
        if decision.deletes_row {
            self.counts.deletes += 1;
            self.kept.push(DELETE, place_without_record(key), &hashes, row_id);
            return;
        }
        let is_of_others =
            matches!(known, Some(KnownRow::Live { .. } | KnownRow::RemovedAtDestination { is_mine: false }));
        let is_news = self.criteria.is_some() && order.is_none_or(|stored| self.tells_more(stored, rank));
        if self.compares_order && !is_of_others && is_news {
            self.kept.push(CONFIRMED, place_without_record(key), &hashes, None);
        }
    }

    /// Puts an order value under its mark; empty where none is compared.
    fn mark(&mut self, order: &[u8]) {
        self.marked.clear();
        if let Some(criteria) = self.criteria {
            criteria.mark(order, &mut self.marked);
        }
    }

    fn note_refused(&mut self, key: KeyHash, fate: Option<Fate>) {
        let fates = &mut self.refusal_fates;
        let keys = match fate {
            Some(Fate::RefusedBefore) => &mut fates.held,
            Some(Fate::Create | Fate::Update) => &mut fates.sent,
            // It is older than what is in the row, and may be older than what was refused.
            Some(Fate::Superseded) => return,
            _ => &mut fates.settled,
        };
        keys.push(key);
    }

    fn note_row(&mut self, decision: Decision, kind: u8, key: KeyHash, row_id: Option<&str>) {
        if decision.deletes_row {
            self.counts.deletes += 1;
            let hashes = NarrowHashes { key, content: ContentHash::UNKNOWN, order: &[] };
            self.kept.push(kind, place_without_record(key), &hashes, row_id);
        }
    }

    /// Counts a record's fate; gives the kind of change to keep, if it is one.
    fn count(&mut self, fate: Option<Fate>) -> Option<u8> {
        let counts = &mut self.counts;
        let (counter, kind) = match fate? {
            Fate::Create => (&mut counts.creates, Some(CREATE)),
            Fate::Update => (&mut counts.updates, Some(UPDATE)),
            Fate::OwnedByOtherSync => (&mut counts.invalid, Some(OWNED_BY_OTHER)),
            Fate::Unchanged => (&mut counts.unchanged, None),
            Fate::Superseded => (&mut counts.superseded, None),
            Fate::Suppressed => (&mut counts.suppressed, None),
            Fate::SkippedByMode => (&mut counts.skipped_by_mode, None),
            Fate::RemovedRespected => (&mut counts.removed_respected, None),
            Fate::HeldBack => (&mut counts.held_back, None),
            Fate::RefusedBefore => (&mut counts.refused_before, None),
            Fate::Listed => (&mut counts.listed, None),
            Fate::Deleted => (&mut counts.deleted, None),
        };
        *counter += 1;
        kind
    }

    fn finish(mut self) -> Self {
        self.counts.filtered = self.carried - self.passed;
        if let Some(limit) = self.limit {
            let creates = self.counts.creates.min(limit);
            let updates = self.counts.updates.min(limit - creates);
            self.counts.held_back += self.counts.creates - creates + self.counts.updates - updates;
            (self.counts.creates, self.counts.updates) = (creates, updates);
        }
        debug_assert!(self.counts.is_balanced());
        self
    }
}

/// Whether an invalid record's content, which stands for its key, tells that it has none that can be read.
pub(super) fn is_unreadable(content: &[u8]) -> bool {
    content == ContentHash::UNKNOWN.0
}

/// What needs no values comes in the order of keys, so that the same plan has the same order.
pub(super) fn place_without_record(key: KeyHash) -> u64 {
    let head = key.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
    FIRST_PLACE_WITHOUT_RECORD | head >> 2
}

pub(super) struct NarrowHashes<'a> {
    pub(super) key: KeyHash,
    pub(super) content: ContentHash,
    pub(super) order: &'a [u8],
}

#[derive(Default)]
pub(super) struct NarrowBuilder {
    kinds: UInt8Builder,
    places: Int64Builder,
    keys: BinaryBuilder,
    contents: BinaryBuilder,
    orders: BinaryBuilder,
    row_ids: StringBuilder,
}

impl NarrowBuilder {
    pub(super) fn push(&mut self, kind: u8, place: u64, hashes: &NarrowHashes<'_>, row_id: Option<&str>) {
        self.kinds.append_value(kind);
        self.places.append_value(place.cast_signed());
        self.keys.append_value(hashes.key.0);
        self.contents.append_value(hashes.content.0);
        self.orders.append_value(hashes.order);
        self.row_ids.append_option(row_id);
    }

    pub(super) fn finish(&mut self) -> RecordBatch {
        let batch = RecordBatch::try_new(
            Arc::clone(&NARROW),
            vec![
                Arc::new(self.kinds.finish()),
                Arc::new(self.places.finish()),
                Arc::new(self.keys.finish()),
                Arc::new(self.contents.finish()),
                Arc::new(self.orders.finish()),
                Arc::new(self.row_ids.finish()),
            ],
        );
        batch.expect("the builders grow together")
    }
}

#[cfg(test)]
mod tests;
