//! The wide pass: values for what changes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Int64Type, UInt8Type};
use convoke_core::KeyHash;
use convoke_core::journal::Operation;
use convoke_core::plan::{PlanCounts, WithheldDeletes};
use tokio::runtime::Handle;

use super::narrow::{ABSENT, CONFIRMED, CREATE, Changes, DELETE, INVALID, OWNED_BY_OTHER, UPDATE, is_unreadable};
use super::output::Output;
use super::schema::{self, NARROW};
use super::{PlanRequest, Planned, blocking};
use crate::cell::CellProblem;
use crate::engine::{Engine, Prepared};
use crate::error::EngineError;
use crate::mapping::Mapping;
use crate::refusals::RefusalFates;
use crate::spool::{GroupRecords, MalformedOrigin, SpoolGroup};

const ACTION: &str = "sort what changes";

static OWNED_BY_OTHER_SYNC: CellProblem = CellProblem {
    column: String::new(),
    code: "owned_by_other_sync",
    reason: "another sync owns the row with this key; let one sync own a key, or retire the other",
};

pub(super) async fn write_files(
    engine: &Engine,
    request: &PlanRequest<'_>,
    prepared: Prepared,
    mut changes: Changes,
) -> Result<Planned, EngineError> {
    let mut pass = Pass::new(request, prepared.mapping, &mut changes)?;
    while let Some(batch) = changes.next().await {
        let batch = batch.map_err(|cause| engine.query_failed(ACTION, &cause))?;
        pass = blocking(move || pass.take(&batch).map(|()| pass)).await?;
    }
    blocking(move || pass.finish()).await
}

/// Goes over the spool along with the sorted narrow changes.
struct Pass {
    sync: convoke_core::SyncName,
    mapping: Mapping,
    groups: std::vec::IntoIter<SpoolGroup>,
    current: Option<SpoolGroup>,
    /// Narrow changes of the current group that wait for their values.
    pending: Vec<RecordBatch>,
    /// With `--limit`: how many creates and updates may still be written.
    left: Option<Left>,
    /// Keys whose rows are not deleted for want of a record.
    held: HashSet<KeyHash>,
    unreadable: Unreadable,
    counts: PlanCounts,
    refusals: RefusalFates,
    notices: Vec<String>,
    output: Output,
}

/// Records that cannot be read, or whose key cannot: each may be the record for want of which a row would be deleted.
struct Unreadable {
    records: u64,
    first: Option<String>,
    /// Whether there are so many that no row is deleted for want of a record.
    withhold: bool,
}

struct Left {
    creates: u64,
    updates: u64,
}

impl Left {
    /// Whether a change is within the limit; beyond it the record is held back.
    fn admit(&mut self, kind: u8) -> bool {
        let left = match kind {
            CREATE => &mut self.creates,
            UPDATE => &mut self.updates,
            _ => return true,
        };
        let is_admitted = *left > 0;
        *left = left.saturating_sub(1);
        is_admitted
    }
}

impl Pass {
    fn new(request: &PlanRequest<'_>, mapping: Mapping, changes: &mut Changes) -> Result<Self, EngineError> {
        let counts = changes.counts;
        let names = mapping.active.columns.iter().map(|column| column.name.clone()).collect();
        let mut output = Output::new(request.folder, names)?;
        let limit = request.spec.guards.max_unreadable;
        let withhold = limit.is_passed(changes.unreadable, counts.read);
        let mut unreadable = Unreadable { records: changes.unreadable, first: None, withhold };
        for malformed in request.spool.malformed_records() {
            let MalformedOrigin { origin, reason } = malformed?;
            output.malformed(&origin, &reason)?;
            unreadable.first.get_or_insert(origin);
        }
        Ok(Self {
            sync: request.spec.name.clone(),
            mapping,
            groups: request.spool.groups().into_iter(),
            current: None,
            pending: Vec::new(),
            left: request.limit.map(|_| Left { creates: counts.creates, updates: counts.updates }),
            held: std::mem::take(&mut changes.held),
            unreadable,
            counts,
            refusals: std::mem::take(&mut changes.refusals),
            notices: std::mem::take(&mut changes.notices),
            output,
        })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), EngineError> {
        let batch = self.within_limit(batch);
        let kinds = batch.column(0).as_primitive::<UInt8Type>().values();
        let places = batch.column(1).as_primitive::<Int64Type>().values();
        let needs_no_values = |kind: &u8| matches!(*kind, DELETE | ABSENT | CONFIRMED);
        let records = kinds.iter().position(needs_no_values).unwrap_or(kinds.len());
        let mut start = 0;
        while start < records {
            let end_of_group = self.enter_group_of(places[start])?;
            let rows = places[start..records].partition_point(|place| *place < end_of_group);
            self.pending.push(batch.slice(start, rows));
            start += rows;
        }
        let (confirmed, deletes) = without_values(&batch.slice(records, kinds.len() - records));
        self.output.confirmed(&confirmed)?;
        let deletes = self.without_held(deletes);
        self.output.deletes(&deletes)
    }

    /// Takes out deletes for want of a record that is there but invalid, or may be among those that cannot be read.
    fn without_held(&mut self, deletes: RecordBatch) -> RecordBatch {
        if self.held.is_empty() && !self.unreadable.withhold {
            return deletes;
        }
        let kinds = deletes.column(0).as_primitive::<UInt8Type>().values().iter();
        let keys = deletes.column(2).as_binary::<i32>().iter().flatten();
        let is_held = |key: &[u8]| key.try_into().is_ok_and(|key| self.held.contains(&KeyHash(key)));
        let mut stays = Vec::with_capacity(deletes.num_rows());
        for (kind, key) in kinds.zip(keys) {
            let lacks_record = *kind == ABSENT && !is_held(key);
            self.counts.withheld += u64::from(lacks_record && self.unreadable.withhold);
            stays.push(*kind == DELETE || (lacks_record && !self.unreadable.withhold));
        }
        let stays = BooleanArray::from(stays);
        self.counts.deletes -= (stays.len() - stays.true_count()) as u64;
        filter_record_batch(&deletes, &stays).expect("there is a verdict for each row")
    }

    fn within_limit(&mut self, batch: &RecordBatch) -> RecordBatch {
        let Some(left) = &mut self.left else { return batch.clone() };
        let kinds = batch.column(0).as_primitive::<UInt8Type>().values();
        let admitted: BooleanArray = kinds.iter().map(|kind| Some(left.admit(*kind))).collect();
        filter_record_batch(batch, &admitted).expect("there is a verdict for each row")
    }

    /// Moves on to the group that holds the position; gives the first position behind it.
    fn enter_group_of(&mut self, position: i64) -> Result<i64, EngineError> {
        loop {
            if let Some(group) = &self.current {
                let end = (group.first_position + group.rows).cast_signed();
                if position < end {
                    return Ok(end);
                }
            }
            self.settle_group()?;
            self.current = Some(self.groups.next().expect("positions come from these groups"));
        }
    }

    /// Fetches the values of what is pending and writes it. Runs on a thread that may block.
    fn settle_group(&mut self) -> Result<(), EngineError> {
        let pending = std::mem::take(&mut self.pending);
        let Some(group) = self.current.clone().filter(|_| !pending.is_empty()) else { return Ok(()) };
        let narrow = concat_batches(&NARROW, &pending).expect("all have this schema");
        let places = narrow.column(1).as_primitive::<Int64Type>().values();
        let offset_of = |place: &i64| usize::try_from(place.cast_unsigned() - group.first_position);
        let offsets: Vec<_> = places.iter().map(|place| offset_of(place).expect("a group has fewer rows")).collect();
        let input = Arc::clone(&self.mapping.input);
        let written = group
            .read(&input, &offsets, |fetched, range| self.write(&fetched, &narrow.slice(range.start, range.len())));
        Handle::current().block_on(written)
    }

    /// Writes changes, each with the record that it is about.
    fn write(&mut self, fetched: &GroupRecords, narrow: &RecordBatch) -> Result<(), EngineError> {
        let cells = self.mapping.evaluate(&fetched.records).map_err(|failed| EngineError::Evaluation {
            sync: self.sync.clone(),
            place: failed.place,
            origin: fetched.origin(failed.row),
        })?;
        let canonical = self.mapping.canonical_columns(&cells);
        let (mut creates, mut updates) = (Vec::new(), Vec::new());
        let (keys, contents) = (narrow.column(2).as_binary::<i32>(), narrow.column(3).as_binary::<i32>());
        for (row, kind) in narrow.column(0).as_primitive::<UInt8Type>().values().iter().enumerate() {
            if *kind == INVALID && is_unreadable(contents.value(row)) {
                self.unreadable.first.get_or_insert_with(|| fetched.origin(row));
            }
            let foreign = (*kind == OWNED_BY_OTHER).then_some(&OWNED_BY_OTHER_SYNC);
            match canonical.problems.get(&row).or(foreign) {
                Some(problem) => {
                    let key = if foreign.is_some() { keys.value(row) } else { contents.value(row) };
                    self.output.invalid((&fetched.origin(row), readable_key(key)), problem, &cells, row)?;
                }
                None if *kind == CREATE => creates.push(row as u32),
                None => updates.push(row as u32),
            }
        }
        let head = narrow.columns()[2..].iter().cloned().chain([Arc::new(fetched.origins()) as ArrayRef]);
        let values = canonical.columns.into_iter().map(|column| Arc::new(column) as ArrayRef);
        let names = self.mapping.active.columns.iter().map(|column| column.name.as_str());
        let changes = RecordBatch::try_new(schema::changes(names), head.chain(values).collect());
        let changes = changes.expect("there is a value for each row");
        self.output.changes(Operation::Create, &rows_of(&changes, creates))?;
        self.output.changes(Operation::Update, &rows_of(&changes, updates))
    }

    fn finish(mut self) -> Result<Planned, EngineError> {
        self.settle_group()?;
        let (files, samples) = self.output.finish()?;
        let Unreadable { records: unreadable, first, .. } = self.unreadable;
        let deletes = self.counts.withheld;
        let withheld = first.filter(|_| deletes > 0).map(|first| WithheldDeletes { deletes, unreadable, first });
        Ok(Planned { counts: self.counts, files, samples, withheld, refusals: self.refusals, notices: self.notices })
    }
}

/// The key that an invalid record would have, as it is written; none if it has none that can be read.
fn readable_key(key: &[u8]) -> Option<String> {
    key.try_into().ok().filter(|_| !is_unreadable(key)).map(|key| KeyHash(key).to_hex())
}

/// Parts what needs no record's values into confirmed records and deletes.
fn without_values(batch: &RecordBatch) -> (RecordBatch, RecordBatch) {
    let kinds = batch.column(0).as_primitive::<UInt8Type>().values();
    let of = |wanted: bool| {
        let kept: BooleanArray = kinds.iter().map(|kind| Some((*kind == CONFIRMED) == wanted)).collect();
        filter_record_batch(batch, &kept).expect("there is a verdict for each row")
    };
    (of(true), of(false))
}

fn rows_of(batch: &RecordBatch, rows: Vec<u32>) -> RecordBatch {
    if rows.len() == batch.num_rows() {
        return batch.clone();
    }
    take_record_batch(batch, &UInt32Array::from(rows)).expect("the rows are of this batch")
}
