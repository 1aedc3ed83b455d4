//! The narrow pass: dedupe and diff on hashes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array, Int64Builder, RecordBatch,
    StringArray, StringBuilder, UInt8Builder,
};
use arrow::datatypes::UInt8Type;
use convoke_core::plan::PlanCounts;
use convoke_core::source::Coverage;
use convoke_core::{ContentHash, KeyHash};
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::PlanRequest;
use super::schema::{NARROW, PLACE};
use crate::digest::{DigestFunction, Recipe};
use crate::engine::{Engine, Prepared};
use crate::error::EngineError;
use crate::key_number::{is_invalid, key_of};
use crate::ledger::segment;
use crate::order_value::Criteria;
use crate::rank::{Rank, Ranking};
use crate::sorting;
use crate::spool::POSITION_COLUMN;
use crate::suppression::{ListedKeys, hash_lists};
use crate::verdict::{Decision, Fate, KnownRow, Policy, Winner, decide};
use crate::winner::{self, WinnerColumns};

/// Kinds of narrow changes.
pub(super) const CREATE: u8 = 0;
pub(super) const UPDATE: u8 = 1;
pub(super) const INVALID: u8 = 2;
pub(super) const OWNED_BY_OTHER: u8 = 3;
pub(super) const DELETE: u8 = 4;
/// A record that is in the row already, from an earlier one: the later order value is kept.
pub(super) const CONFIRMED: u8 = 6;
/// A delete for want of a record; not made if an invalid record turns out to have the key, or too many cannot be read.
pub(super) const ABSENT: u8 = 5;

/// Changes that go into the sort at once: the fewer batches, the fewer have to be merged.
const SORTED_ROWS: usize = 32_768;

/// Where the places of what needs no record's values begin: beyond every position.
const FIRST_PLACE_WITHOUT_RECORD: u64 = 1 << 62;

const ACTION: &str = "compare the source with the ledger";

/// One row per key that the source or the ledger knows. `records` has one row per mapped record that passed the filter.
/// [`diff_of`] adds the ledger's order value where it is needed.
const DIFF: &str = "
    WITH winners AS (
        SELECT digest_key(digest) AS key,
               winner(digest_rank(digest), digest_suppressed(digest)) AS winner
        FROM records
        GROUP BY digest_key(digest)
    )
    SELECT winners.key AS key, winners.winner AS winner,
           ledger.key AS ledger_key, ledger.content AS ledger_content, ledger.row_id AS row_id,
           ledger.mine AS mine, ledger.state AS state{ledger_order}
    FROM winners FULL OUTER JOIN ledger ON winners.key = ledger.key";

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
    let may_delete = request.coverage == Coverage::Snapshot && request.complete;
    let policy = Policy { mode: request.spec.mode, may_delete, is_limited: request.limit.is_some() };
    let criteria = Criteria::of(&request.spec.dedupe, &prepared.compiled.order, request.spool.schema());
    let listed = ListedKeys::new(&lists);
    let recipe = Recipe::new(&prepared.mapping.active, request.hash_key, ranking.clone(), lists);
    let fail = |cause: DataFusionError| engine.query_failed(ACTION, &cause);
    let criteria = criteria.map_err(fail)?;
    // Of a snapshot that is not whole, what is missing may be newer than what is there.
    let compares_order = criteria.is_some() && !may_delete;
    register_records(&prepared.context, request, prepared, recipe).map_err(fail)?;
    segment::register_ledger(&prepared.context, request.segments, request.spec.name.as_str()).await.map_err(fail)?;
    let diff = prepared.context.sql(&diff_of(compares_order)).await.map_err(fail)?;
    let mut diff = diff.execute_stream().await.map_err(fail)?;
    let (input, mut rest) = sorting::sort(&prepared.context, &NARROW, PLACE).await.map_err(fail)?;
    let mut sieve = Sieve::new(policy, (ranking, criteria), listed, request);
    let compare = async move {
        while let Some(batch) = diff.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(cause) => {
                    let explained = engine.explain_failure(ACTION, &cause, request.spec, request.spool, prepared);
                    return Err(explained.await);
                }
            };
            sieve.take(&batch);
            if sieve.kept.places.len() >= SORTED_ROWS {
                input.push(sieve.kept.finish()).await?;
            }
        }
        input.push(sieve.kept.finish()).await?;
        Ok(sieve.finish())
    };
    // The sort gives its first batch once it has the last.
    let (compared, first) = tokio::join!(compare, rest.next());
    let first = first.transpose().map_err(fail)?;
    let Sieve { counts, held, unreadable, .. } = compared?;
    Ok(Changes { counts, held, unreadable, first, rest })
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
    context.register_udaf(winner::winner());
    let mut arguments = vec![Expr::Column(Column::from_name(POSITION_COLUMN))];
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
struct Sieve {
    policy: Policy,
    ranking: Ranking,
    criteria: Option<Criteria>,
    listed: ListedKeys,
    keeps_unknown: bool,
    limit: Option<u64>,
    counts: PlanCounts,
    passed: u64,
    carried: u64,
    held: HashSet<KeyHash>,
    unreadable: u64,
    /// The order value under way, under its mark.
    marked: Vec<u8>,
    kept: NarrowBuilder,
}

impl Sieve {
    fn new(
        policy: Policy,
        (ranking, criteria): (Ranking, Option<Criteria>),
        listed: ListedKeys,
        request: &PlanRequest<'_>,
    ) -> Self {
        let counts =
            PlanCounts { read: request.spool.read(), invalid: request.spool.malformed(), ..PlanCounts::default() };
        Self {
            policy,
            ranking,
            criteria,
            listed,
            keeps_unknown: request.keeps_unknown,
            limit: request.limit,
            counts,
            passed: 0,
            carried: request.spool.carried(),
            held: HashSet::new(),
            unreadable: request.spool.malformed(),
            marked: Vec::new(),
            kept: NarrowBuilder::default(),
        }
    }

    fn take(&mut self, batch: &RecordBatch) {
        let joined = Joined::new(batch);
        for row in 0..batch.num_rows() {
            self.take_key(&joined, row);
        }
    }

    fn take_key(&mut self, joined: &Joined<'_>, row: usize) {
        let known = joined.known_row(row);
        let Some(rank) = joined.rank(row) else {
            let key = key_of(joined.ledger_key.value(row));
            let listed = self.listed.existing(key);
            let decision = decide(self.policy, None, known, listed);
            let kind = if listed.is_some() { DELETE } else { ABSENT };
            self.note_row(decision, kind, key, joined.row_id(row));
            return;
        };
        let records = joined.records(row);
        self.passed += records;
        let rank = self.ranking.decode(rank).expect("this process encoded it");
        let key = key_of(joined.key.value(row));
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
        let stored_order = joined.ledger_order(row).unwrap_or_default();
        let outdated = |criteria: Criteria| {
            let is_unknown = known.is_some() && !criteria.knows(stored_order);
            criteria.wins(stored_order, rank.order) || (self.keeps_unknown && is_unknown)
        };
        let winner = Winner {
            content: rank.content,
            is_suppressed: joined.winner.suppressed.value(row),
            is_outdated: self.criteria.is_some_and(outdated),
        };
        let decision = decide(self.policy, Some(winner), known, self.listed.existing(key));
        self.note_row(decision, DELETE, key, joined.row_id(row));
        let Some(kind) = self.count(decision.fate) else {
            if decision.fate == Some(Fate::Unchanged) {
                self.confirm(key, &rank, joined.ledger_order(row));
            }
            return;
        };
        self.marked.clear();
        if let Some(criteria) = self.criteria {
            criteria.mark(rank.order, &mut self.marked);
        }
        let hashes = NarrowHashes { key, content: rank.content, order: &self.marked };
        self.kept.push(kind, position, &hashes, joined.row_id(row).filter(|_| kind == UPDATE));
    }

    /// Notes that a row's record was seen again under a later order value, so that none in between overwrites it.
    fn confirm(&mut self, key: KeyHash, rank: &Rank<'_>, stored_order: Option<&[u8]>) {
        let (Some(criteria), Some(stored)) = (self.criteria, stored_order) else { return };
        // What is unknown protects its row from a backfill, which an older value would not.
        if self.keeps_unknown && !criteria.knows(stored) {
            return;
        }
        if criteria.raises(stored, rank.order) {
            self.marked.clear();
            criteria.mark(rank.order, &mut self.marked);
            let hashes = NarrowHashes { key, content: rank.content, order: &self.marked };
            self.kept.push(CONFIRMED, place_without_record(key), &hashes, None);
        }
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
            Fate::Listed => (&mut counts.listed, None),
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
fn place_without_record(key: KeyHash) -> u64 {
    let head = key.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
    FIRST_PLACE_WITHOUT_RECORD | head >> 2
}

/// A batch of the diff, column by column.
struct Joined<'a> {
    key: &'a Decimal128Array,
    winner: WinnerColumns<'a>,
    ledger_key: &'a Decimal128Array,
    ledger_content: &'a BinaryArray,
    row_id: &'a StringArray,
    mine: &'a BooleanArray,
    state: &'a arrow::array::UInt8Array,
    /// There if order values are compared.
    ledger_order: Option<&'a BinaryArray>,
}

impl<'a> Joined<'a> {
    fn new(batch: &'a RecordBatch) -> Self {
        Self {
            key: batch.column(0).as_primitive(),
            winner: WinnerColumns::new(batch.column(1)),
            ledger_key: batch.column(2).as_primitive(),
            ledger_content: batch.column(3).as_binary(),
            row_id: batch.column(4).as_string(),
            mine: batch.column(5).as_boolean(),
            state: batch.column(6).as_primitive::<UInt8Type>(),
            ledger_order: batch.columns().get(7).map(|column| column.as_binary()),
        }
    }

    fn rank(&self, row: usize) -> Option<&'a [u8]> {
        self.winner.is_some(row).then(|| self.winner.ranks.value(row))
    }

    fn records(&self, row: usize) -> u64 {
        self.winner.records.value(row).unsigned_abs()
    }

    fn row_id(&self, row: usize) -> Option<&'a str> {
        self.row_id.is_valid(row).then(|| self.row_id.value(row))
    }

    fn ledger_order(&self, row: usize) -> Option<&'a [u8]> {
        let orders = self.ledger_order.filter(|orders| orders.is_valid(row))?;
        Some(orders.value(row))
    }

    fn known_row(&self, row: usize) -> Option<KnownRow> {
        if self.ledger_key.is_null(row) {
            return None;
        }
        if self.state.value(row) != segment::LIVE {
            return Some(KnownRow::RemovedAtDestination);
        }
        // A content of another length is damaged, and compares as unknown: the row is updated.
        let content = self.ledger_content.value(row).try_into().map_or(ContentHash::UNKNOWN, ContentHash);
        Some(KnownRow::Live { content, is_mine: self.mine.value(row) })
    }
}

struct NarrowHashes<'a> {
    key: KeyHash,
    content: ContentHash,
    order: &'a [u8],
}

#[derive(Default)]
struct NarrowBuilder {
    kinds: UInt8Builder,
    places: Int64Builder,
    keys: BinaryBuilder,
    contents: BinaryBuilder,
    orders: BinaryBuilder,
    row_ids: StringBuilder,
}

impl NarrowBuilder {
    fn push(&mut self, kind: u8, place: u64, hashes: &NarrowHashes<'_>, row_id: Option<&str>) {
        self.kinds.append_value(kind);
        self.places.append_value(place.cast_signed());
        self.keys.append_value(hashes.key.0);
        self.contents.append_value(hashes.content.0);
        self.orders.append_value(hashes.order);
        self.row_ids.append_option(row_id);
    }

    fn finish(&mut self) -> RecordBatch {
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
