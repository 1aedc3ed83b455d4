//! The wide pass: values for what changes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt8Type};
use convoke_core::plan::{ChangeSample, PlanFile};
use futures::StreamExt;

use super::narrow::{CREATE, Changes, DELETE, OWNED_BY_OTHER, UPDATE};
use super::output::{ChangeHead, Output};
use super::schema::NARROW;
use super::{PlanRequest, blocking};
use crate::cell::CellProblem;
use crate::engine::{Engine, Prepared, table_of};
use crate::error::EngineError;
use crate::mapping::Mapping;
use crate::spool::{GroupRecords, SpoolGroup};

const SORTED: &str = "SELECT * FROM changes ORDER BY position NULLS LAST, key";
const ACTION: &str = "fetch the values of what changes";

const OWNED_BY_OTHER_SYNC: CellProblem = CellProblem {
    column: String::new(),
    code: "owned_by_other_sync",
    reason: "another sync owns the row with this key; let one sync own a key, or retire the other",
};

pub(super) async fn write_files(
    engine: &Engine,
    request: &PlanRequest<'_>,
    prepared: Prepared,
    changes: &Changes,
) -> Result<(Vec<PlanFile>, Vec<ChangeSample>), EngineError> {
    let fail = |cause| engine.query_failed(ACTION, &cause);
    let table = table_of(std::slice::from_ref(&changes.path), &NARROW, &[]).map_err(fail)?;
    prepared.context.register_table("changes", table).map_err(fail)?;
    let sorted = prepared.context.sql(SORTED).await.map_err(fail)?;
    let mut stream = sorted.execute_stream().await.map_err(fail)?;
    let mut pass = Pass::new(request, prepared.mapping, changes)?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(fail)?;
        pass = blocking(move || pass.take(&batch).map(|()| pass)).await?;
    }
    blocking(move || pass.finish()).await
}

/// One narrow change that waits for its values.
struct Pending {
    kind: u8,
    offset: usize,
    key: [u8; 16],
    content: [u8; 16],
    order: Vec<u8>,
    row_id: Option<String>,
}

struct Pass {
    sync: convoke_core::SyncName,
    mapping: Mapping,
    groups: std::vec::IntoIter<SpoolGroup>,
    current: Option<SpoolGroup>,
    pending: Vec<Pending>,
    creates_left: u64,
    updates_left: u64,
    output: Output,
}

impl Pass {
    fn new(request: &PlanRequest<'_>, mapping: Mapping, changes: &Changes) -> Result<Self, EngineError> {
        let names = mapping.active.columns.iter().map(|column| column.name.clone()).collect();
        let mut output = Output::new(request.folder, names)?;
        for (origin, reason) in request.spool.malformed_records() {
            output.malformed(&origin, reason)?;
        }
        Ok(Self {
            sync: request.spec.name.clone(),
            mapping,
            groups: request.spool.groups().into_iter(),
            current: None,
            pending: Vec::new(),
            creates_left: changes.counts.creates,
            updates_left: changes.counts.updates,
            output,
        })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), EngineError> {
        let kinds = batch.column(0).as_primitive::<UInt8Type>();
        let positions = batch.column(1).as_primitive::<Int64Type>();
        let (keys, contents, orders) = (
            batch.column(2).as_binary::<i32>(),
            batch.column(3).as_binary::<i32>(),
            batch.column(4).as_binary::<i32>(),
        );
        let row_ids = batch.column(5).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let row_id = row_ids.is_valid(row).then(|| row_ids.value(row));
            if kinds.value(row) == DELETE {
                let head =
                    ChangeHead { key: keys.value(row), content: contents.value(row), order: &[], row_id, origin: None };
                self.output.delete(&head)?;
                continue;
            }
            // Beyond `--limit` the record is held back.
            if !self.is_wanted(kinds.value(row)) {
                continue;
            }
            let offset = self.enter_group_of(positions.value(row).unsigned_abs())?;
            self.pending.push(Pending {
                kind: kinds.value(row),
                offset,
                // The stand-in key of an invalid record is of no more use here.
                key: keys.value(row).try_into().unwrap_or_default(),
                content: contents.value(row).try_into().unwrap_or_default(),
                order: orders.value(row).to_vec(),
                row_id: row_id.map(str::to_owned),
            });
        }
        Ok(())
    }

    fn is_wanted(&mut self, kind: u8) -> bool {
        let left = match kind {
            CREATE => &mut self.creates_left,
            UPDATE => &mut self.updates_left,
            _ => return true,
        };
        let is_wanted = *left > 0;
        *left = left.saturating_sub(1);
        is_wanted
    }

    /// Moves on to the group that holds the position; gives the offset in it.
    fn enter_group_of(&mut self, position: u64) -> Result<usize, EngineError> {
        loop {
            if let Some(group) = &self.current
                && position < group.first_position + group.rows
            {
                return Ok(usize::try_from(position - group.first_position).expect("a group is small"));
            }
            self.settle_group()?;
            self.current = Some(self.groups.next().expect("positions come from these groups"));
        }
    }

    /// Fetches and writes what is pending.
    fn settle_group(&mut self) -> Result<(), EngineError> {
        let pending = std::mem::take(&mut self.pending);
        let Some(group) = self.current.as_ref().filter(|_| !pending.is_empty()) else { return Ok(()) };
        let offsets: Vec<_> = pending.iter().map(|change| change.offset).collect();
        let fetched = group.read(&self.mapping.input, &offsets)?;
        let cells = self.mapping.evaluate(&fetched.records).map_err(|failed| EngineError::Evaluation {
            sync: self.sync.clone(),
            place: failed.place,
            origin: fetched.origin(failed.row),
        })?;
        for (row, change) in pending.iter().enumerate() {
            self.settle(change, row, &fetched, &cells)?;
        }
        Ok(())
    }

    fn settle(
        &mut self,
        change: &Pending,
        row: usize,
        fetched: &GroupRecords,
        cells: &[arrow::array::StringArray],
    ) -> Result<(), EngineError> {
        let origin = fetched.origin(row);
        let canonical = match self.mapping.canonical_row(cells, row) {
            Err(problem) => return self.output.invalid(&origin, &problem, cells, row),
            Ok(_) if change.kind == OWNED_BY_OTHER => {
                return self.output.invalid(&origin, &OWNED_BY_OTHER_SYNC, cells, row);
            }
            Ok(canonical) => canonical,
        };
        let head = ChangeHead {
            key: &change.key,
            content: &change.content,
            order: &change.order,
            row_id: change.row_id.as_deref(),
            origin: Some(&origin),
        };
        if change.kind == CREATE {
            self.output.create(&head, &canonical)
        } else {
            self.output.update(&head, &canonical)
        }
    }

    fn finish(mut self) -> Result<(Vec<PlanFile>, Vec<ChangeSample>), EngineError> {
        self.settle_group()?;
        self.output.finish()
    }
}
